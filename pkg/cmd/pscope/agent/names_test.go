//go:build linux

package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/top"
)

// hostile is a file name as any local user may choose it: no UTF-8, sequences that drive a terminal, a row of its own,
// text from right to left.
const hostile = "pscope-named\xff\x1b[2J\r\nforged pid 1 \u202etxt.exe"

// shown is what it is shown as.
const shown = `pscope-named\xff\x1b[2J\x0d\x0aforged pid 1 \u202etxt.exe`

// hostileGroup is a cgroup's name, longer than those of other v1 hierarchies: of these the longest path counts.
const (
	hostileGroup = "pscope-test\xff\x1b[2J-long-long-long-long-long-long-long-long-long-long-long-long-long-long"
	shownGroup   = `pscope-test\xff\x1b[2J-long-long-long-long-long-long-long-long-long-long-long-long-long-long`
)

// startHostile runs a program with that name, with threads and arguments of that kind, in a cgroup of that name where
// one can be made.
func startHostile(t *testing.T, dir string) (pid int, cgroup bool) {
	t.Helper()
	bin := filepath.Join(dir, hostile)
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, "named"),
		"./testdata/named").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(dir, "named"), bin); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "thr\xff\x1b[31m\n", "argument\xfe\x1b[0m")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue // not the root of a hierarchy
		}
		group := filepath.Join(root, hostileGroup)
		if os.Mkdir(group, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = os.Remove(group) })
		cgroup = os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0) == nil
		if cgroup {
			break
		}
	}
	return cmd.Process.Pid, cgroup
}

// clean fails the test if text holds anything that is no UTF-8 or doesn't show.
func clean(t *testing.T, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is no UTF-8: %q", what, text)
	}
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%s holds %U: %q", what, r, text)
			return
		}
	}
}

// TestHostileNames: names that are no UTF-8 or drive a terminal once made ListTargets, Watch and Diagnose fail for the
// whole host.
func TestHostileNames(t *testing.T) {
	dir := t.TempDir()
	pid, inGroup := startHostile(t, dir)
	socket := filepath.Join(dir, "s")
	log, _ := start(t, "--socket", socket, "--listen", "", "--data-dir", filepath.Join(dir, "data"), "--mode", "auto",
		"--include", "pscope-named")
	log.wait(t, "mode=")
	log.wait(t, "msg=observing process=")
	ask, err := (&client.Options{Socket: socket}).Dial()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	sel := &pb.Selector{Process: regexp.QuoteMeta(shown)}
	list, err := ask.ListTargets(ctx, connect.NewRequest(&pb.ListTargetsRequest{Selector: sel}))
	if err != nil {
		t.Fatal("ListTargets: ", err)
	}
	if n := len(list.Msg.GetTargets()); n != 1 {
		t.Fatalf("%d targets are selected by the name, want 1: %v", n, list.Msg)
	}
	target := list.Msg.GetTargets()[0]
	if target.GetKey().GetPid() != int32(pid) || target.GetProcess() != shown ||
		!strings.HasSuffix(target.GetExe(), shown) {
		t.Errorf("process %q, exe %q, want %q", target.GetProcess(), target.GetExe(), shown)
	}
	if strings.Contains(target.GetCmdline(), "argument") || !strings.HasSuffix(target.GetCmdline(), shown) {
		t.Errorf("the command line, without --show-arguments, is %q", target.GetCmdline())
	}
	for what, text := range map[string]string{"exe": target.GetExe(), "command line": target.GetCmdline(),
		"cgroup": target.GetCgroup(), "reason": target.GetReason()} {
		clean(t, what, text)
	}
	if group := target.GetCgroup(); inGroup && group != "/"+shownGroup {
		t.Errorf("its cgroup is %q", group)
	}

	watch, err := ask.Watch(ctx, connect.NewRequest(&pb.WatchRequest{Selector: sel, RateHz: 10}))
	if err != nil {
		t.Fatal("Watch: ", err)
	}
	if !watch.Receive() || len(watch.Msg().GetTargets()) != 1 {
		t.Fatalf("Watch: %v, %v", watch.Msg(), watch.Err())
	}
	_ = watch.Close()

	ebpf := list.Msg.GetAgent().GetMode() == "ebpf"
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		d, err := ask.Diagnose(ctx, connect.NewRequest(&pb.DiagnoseRequest{Selector: sel, TopThreads: 100}))
		if err != nil {
			t.Fatal("Diagnose: ", err)
		}
		found := false
		for _, b := range d.Msg.GetBlocked() {
			clean(t, "thread name", b.GetComm())
			found = found || b.GetComm() == `thr\xff\x1b[31m\x0a`
		}
		if found || !ebpf { // snapshots alone know no threads
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the thread is not among those blocked: %v", d.Msg.GetBlocked())
		}
	}

	metrics := body(t, socket, "/metrics")
	clean(t, "/metrics", metrics)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(metrics))
	if err != nil {
		t.Fatal("/metrics: ", err)
	}
	named := false
	for _, m := range families["pscope_target_info"].GetMetric() {
		for _, l := range m.GetLabel() {
			named = named || l.GetName() == "process" && l.GetValue() == shown
		}
	}
	if !named {
		t.Error("/metrics does not name the process")
	}

	table := topOnce(t, ctx, "--socket", socket)
	clean(t, "top --once", table)
	if !strings.Contains(table, `pscope-named\xff`) || strings.Contains(table, "\nforged") {
		t.Errorf("top --once prints\n%s", table)
	}
}

// body gives what an agent answers over its socket.
func body(t *testing.T, socket, path string) string {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	r, err := c.Get("http://agent" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// topOnce gives what `pscope top --once` prints.
func topOnce(t *testing.T, ctx context.Context, args ...string) string {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stdout := os.Stdout
	os.Stdout = f
	_, err = top.Run(ctx, append([]string{"--once"}, args...))
	os.Stdout = stdout
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
