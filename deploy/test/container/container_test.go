package container

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The agent in a real container: crun, with the capabilities, the seccomp profile and the masked paths that
// docker-compose.yaml and the Kubernetes base give it.

const (
	targetName = "pscope-box-target"
	nobody     = 65534
)

var documented = []string{"CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}

// needsCrun skips where no container can be started.
func needsCrun(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"crun", "unshare", "setpriv"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed (Debian: apt-get install crun util-linux)", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can give a container capabilities that hold outside of it")
	}
}

// binaries builds the agent and a Go program to observe, without libraries, and gives their folder.
func binaries(t *testing.T) string {
	t.Helper()
	dir := open(t, t.TempDir())
	for name, source := range map[string]string{"pscope": "./pkg/cmd/pscope",
		targetName: "./pkg/collector/testdata/target"} {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", filepath.Join(dir, name), source)
		cmd.Dir = filepath.Join("..", "..", "..")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return dir
}

// open lets every user into a folder and those above it that the test made.
func open(t *testing.T, dir string) string {
	t.Helper()
	for d := dir; strings.HasPrefix(d, os.TempDir()) && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// profile reads the shipped profile as the runtimes' own configuration has it, without the calls left out.
func profile(t *testing.T, leftOut ...string) map[string]any {
	t.Helper()
	b, err := os.ReadFile("../../seccomp/pscope.json")
	if err != nil {
		t.Fatal(err)
	}
	var p map[string]any
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	for _, rule := range p["syscalls"].([]any) {
		rule := rule.(map[string]any)
		delete(rule, "comment")
		rule["names"] = slices.DeleteFunc(rule["names"].([]any),
			func(n any) bool { return slices.Contains(leftOut, n.(string)) })
	}
	p["syscalls"] = slices.DeleteFunc(p["syscalls"].([]any),
		func(rule any) bool { return len(rule.(map[string]any)["names"].([]any)) == 0 })
	return p
}

// box is a container with the agent in it.
type box struct {
	t         *testing.T
	dir, name string
	port      int
	command   func(args ...string) *exec.Cmd
	log       strings.Builder
}

// mask is what Docker, containerd and Podman hide or protect of /proc and /sys in any container.
var mask = map[string][]string{
	"maskedPaths": {
		"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
	},
	"readonlyPaths": {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
}

// freePort is a TCP port on loopback, which the container shares.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// bundle writes what a runtime starts a container from.
func (b *box) bundle(bin string, seccomp map[string]any, hostPID, rootless bool) {
	b.t.Helper()
	for _, d := range []string{"proc", "sys", "dev", "tmp", "bin"} {
		if err := os.MkdirAll(filepath.Join(b.dir, "rootfs", d), 0o755); err != nil {
			b.t.Fatal(err)
		}
	}
	type m = map[string]any
	mount := func(to, kind, from string, options ...string) m {
		return m{"destination": to, "type": kind, "source": from, "options": options}
	}
	sys := mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")
	spaces := []m{{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}}
	linux := m{"seccomp": seccomp}
	for k, v := range mask {
		linux[k] = v
	}
	if !hostPID {
		spaces = append(spaces, m{"type": "pid"})
	}
	if rootless {
		spaces = append(spaces, m{"type": "user"})
		sys = mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", "ro")
		linux["uidMappings"] = []m{{"containerID": 0, "hostID": nobody, "size": 1}}
		linux["gidMappings"] = linux["uidMappings"]
	}
	linux["namespaces"] = spaces
	sets := m{}
	for _, set := range []string{"bounding", "effective", "inheritable", "permitted"} {
		sets[set] = documented
	}
	config := m{
		"ociVersion": "1.0.2",
		"process": m{
			"user": m{"uid": 0, "gid": 0}, "cwd": "/", "noNewPrivileges": true, "capabilities": sets,
			"env": []string{"PATH=/bin"},
			"args": []string{"/bin/pscope", "agent", "--listen", fmt.Sprintf("127.0.0.1:%d", b.port), "--socket", "",
				"--data-dir", "/tmp/history", "--include", "^" + targetName + "$"},
		},
		"root": m{"path": "rootfs", "readonly": true},
		"mounts": []m{
			mount("/proc", "proc", "proc"), sys, mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755"),
			mount("/tmp", "tmpfs", "tmpfs", "nosuid", "nodev", "mode=1777"), mount("/bin", "bind", bin, "bind", "ro"),
		},
		"linux": linux,
	}
	text, err := json.Marshal(config)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config.json"), text, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// startBox starts the agent in a container.
func startBox(t *testing.T, bin string, seccomp map[string]any, hostPID, rootless bool) *box {
	t.Helper()
	b := &box{t: t, dir: open(t, t.TempDir()), name: fmt.Sprintf("pscope-test-%d-%d", os.Getpid(),
		time.Now().UnixNano()), port: freePort(t)}
	b.bundle(bin, seccomp, hostPID, rootless)
	state := filepath.Join(b.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if rootless {
		for _, dir := range []string{b.dir, state, filepath.Join(b.dir, "rootfs")} {
			if err := os.Chown(dir, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.command = func(args ...string) *exec.Cmd {
		// crun refuses a host with both versions of cgroups; it needs none here, so it is shown the second one alone.
		script := `umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"`
		words := []string{"-m", "sh", "-c", script, "sh"}
		if rootless {
			id := strconv.Itoa(nobody)
			words = append(words, "setpriv", "--reuid="+id, "--regid="+id, "--clear-groups", "--inh-caps=-all",
				"--bounding-set=-all")
		}
		words = append(words, "crun", "--cgroup-manager=disabled", "--root", state)
		cmd := exec.Command("unshare", append(words, args...)...)
		cmd.Dir = b.dir
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+state)
		return cmd
	}
	run := b.command("run", b.name)
	run.Stdout, run.Stderr = &b.log, &b.log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = b.command("kill", b.name, "KILL").Run()
		_ = run.Wait()
		_ = b.command("delete", "-f", b.name).Run()
		if t.Failed() {
			t.Logf("the container said:\n%s", b.log.String())
		}
	})
	b.until("the agent serves", func() bool { return b.metrics() != "" })
	return b
}

// metrics is what the agent says; empty while it says nothing.
func (b *box) metrics() string {
	client := http.Client{Timeout: 5 * time.Second}
	r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", b.port))
	if err != nil {
		return ""
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

// until polls for a minute at most.
func (b *box) until(what string, ok func() bool) {
	b.t.Helper()
	for begun := time.Now(); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			b.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// series is the value of the one series of a name that has all these labels; ok is false if there is none.
func series(text, name string, labels map[string]string) (line string, value float64, ok bool) {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+"{") {
			continue
		}
		missing := slices.ContainsFunc(slices.Collect(maps.Keys(labels)),
			func(k string) bool { return !strings.Contains(line, k+`="`+labels[k]+`"`) })
		if f := strings.Fields(line); !missing && len(f) > 1 {
			v, err := strconv.ParseFloat(f[len(f)-1], 64)
			return line, v, err == nil
		}
	}
	return "", 0, false
}

// program runs the Go program that is observed and gives its input and its first lines' reader.
func program(t *testing.T, cmd *exec.Cmd) (say func(string)) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Signal(syscall.SIGKILL)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("the program does not start")
	}
	return func(text string) {
		fmt.Fprintln(in, text)
		if !lines.Scan() {
			t.Fatal("the program has gone")
		}
	}
}

// A process of the host, seen from a container with the shipped profile: event by event, with its stops.
func TestContainerSeesTheHost(t *testing.T) {
	needsCrun(t)
	bin := binaries(t)
	b := startBox(t, bin, profile(t), true, false)
	cmd := exec.Command(filepath.Join(bin, targetName))
	say := program(t, cmd)
	pid := map[string]string{"process_pid": strconv.Itoa(cmd.Process.Pid)}
	var line string
	b.until("the process is observed",
		func() (ok bool) { line, _, ok = series(b.metrics(), "pscope_target_info", pid); return ok })
	if !strings.Contains(line, `source="ebpf"`) || strings.Contains(line, "reason=") {
		t.Fatalf("it is observed as %s", line)
	}
	say("gc 5")
	stops := map[string]string{"reason": "GC mark termination", "process_pid": pid["process_pid"]}
	b.until("its stops are seen",
		func() bool { _, n, _ := series(b.metrics(), "pscope_stop_seconds_count", stops); return n >= 5 })
	if _, n, _ := series(b.metrics(), "pscope_stop_seconds_count", stops); n != 5 {
		t.Errorf("%v of 5 stops were seen", n)
	}
}

// The two calls that the profile adds are what is missing without it, and the agent says so.
func TestContainerWithoutTheProfile(t *testing.T) {
	needsCrun(t)
	bin := binaries(t)
	b := startBox(t, bin, profile(t, "bpf", "perf_event_open"), true, false)
	cmd := exec.Command(filepath.Join(bin, targetName))
	program(t, cmd)
	var line string
	b.until("the process is observed", func() (ok bool) {
		line, _, ok = series(b.metrics(), "pscope_target_info",
			map[string]string{"process_pid": strconv.Itoa(cmd.Process.Pid)})
		return ok
	})
	for _, want := range []string{`source="snapshot"`, "a seccomp filter stands in the way"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %s", want, line)
		}
	}
	if !strings.Contains(b.log.String(), "deploy/seccomp/pscope.json") {
		t.Errorf("the log does not say what helps: %s", b.log.String())
	}
}

// Without the host's PID namespace the kernel's numbers of processes are not the agent's: eBPF would be silent about
// them, and so is not used.
func TestContainerWithoutTheHostsPIDNamespace(t *testing.T) {
	needsCrun(t)
	b := startBox(t, binaries(t), profile(t), false, false)
	program(t, b.command("exec", b.name, "/bin/"+targetName))
	var line string
	b.until("the process is observed",
		func() (ok bool) { line, _, ok = series(b.metrics(), "pscope_target_info", nil); return ok })
	for _, want := range []string{`source="snapshot"`, "PID namespace of its own"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %s", want, line)
		}
	}
	if !strings.Contains(b.log.String(), "--pid host") {
		t.Errorf("the log does not say what helps: %s", b.log.String())
	}
}

// A rootless container: its capabilities end at its own user namespace. It sees the processes in it by snapshots, and
// says why no more.
func TestRootlessContainer(t *testing.T) {
	needsCrun(t)
	bin := binaries(t)
	b := startBox(t, bin, profile(t), false, true)
	program(t, b.command("exec", b.name, "/bin/"+targetName))
	program(t, exec.Command(filepath.Join(bin, targetName))) // outside of it
	var line string
	b.until("the process is observed",
		func() (ok bool) { line, _, ok = series(b.metrics(), "pscope_target_info", nil); return ok })
	for _, want := range []string{`source="snapshot"`, "user namespace (a rootless container)"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %s", want, line)
		}
	}
	time.Sleep(2 * time.Second)
	if n := strings.Count(b.metrics(), "\npscope_target_info{"); n != 1 {
		t.Errorf("%d processes are observed, where one is in the container", n)
	}
}

// The profile adds two calls to the default one of the common runtimes and allows nothing else that this one does not.
func TestProfileAddsTwoCalls(t *testing.T) {
	const common = "/usr/share/containers/seccomp.json"
	b, err := os.ReadFile(common)
	if err != nil {
		t.Skipf("there is no default profile to compare with (Debian: golang-github-containers-common): %v", err)
	}
	var standard struct {
		Syscalls []struct {
			Names  []string
			Action string
		}
	}
	if err := json.Unmarshal(b, &standard); err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, rule := range standard.Syscalls {
		for _, n := range rule.Names {
			allowed[n] = allowed[n] || rule.Action == "SCMP_ACT_ALLOW" && n != "bpf" && n != "perf_event_open"
		}
	}
	var added []string
	for _, rule := range profile(t)["syscalls"].([]any) {
		for _, n := range rule.(map[string]any)["names"].([]any) {
			if !allowed[n.(string)] {
				added = append(added, n.(string))
			}
		}
	}
	slices.Sort(added)
	if !slices.Equal(added, []string{"bpf", "perf_event_open"}) {
		t.Errorf("beyond the default it allows %v", added)
	}
}
