//go:build linux

package compat

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend/grpcplugin"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
)

// root is the top of the repository.
var root = filepath.Join("..", "..", "..")

// release is what proto/released/release.json says.
type release struct{ Version, Commit string }

// programs are those of one version.
type programs struct {
	version string
	tree    string // its source
	pscope  string
	plugin  string
	err     error
}

var (
	scratch string // of all tests together: both versions are built once
	former  = sync.OnceValue(func() programs { return buildFormer(scratch) })
	present = sync.OnceValue(func() programs { return build(root, filepath.Join(scratch, "present"), "present") })
)

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "pscope-compat-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code)
}

// noHistory is why the last release can't be built.
type noHistory struct{ why string }

func (e noHistory) Error() string { return e.why }

// both gives the programs of the last release and the present ones, or skips the test where the former can't be had.
func both(t *testing.T) (last, now programs) {
	t.Helper()
	last = former()
	if why, ok := last.err.(noHistory); ok {
		t.Skip(why)
	}
	now = present()
	for _, p := range []programs{last, now} {
		if p.err != nil {
			t.Fatal(p.err)
		}
	}
	return last, now
}

// buildFormer builds the last release from the history of this clone.
func buildFormer(dir string) programs {
	text, err := os.ReadFile(filepath.Join(root, "proto", "released", "release.json"))
	if err != nil {
		return programs{err: err}
	}
	var r release
	if err := json.Unmarshal(text, &r); err != nil {
		return programs{err: err}
	}
	if out, err := exec.Command("git", "-C", root, "cat-file", "-e", r.Commit+
		"^{commit}").CombinedOutput(); err != nil {
		return programs{err: noHistory{fmt.Sprintf("the last release, %s, can't be built: this clone lacks its commit "+
			"%.10s, or there "+
			"is no git (%s); fetch the whole history", r.Version, r.Commit, strings.TrimSpace(string(out)))}}
	}
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return programs{err: err}
	}
	archive := filepath.Join(dir, "tree.tar")
	for _, cmd := range [][]string{
		{"git", "-C", root, "archive", "--output", archive, r.Commit},
		{"tar", "--extract", "--file", archive, "--directory", tree},
	} {
		if out, err := exec.Command(cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
			return programs{err: fmt.Errorf("%s: %w\n%s", strings.Join(cmd, " "), err, out)}
		}
	}
	return build(tree, filepath.Join(dir, "former"), r.Version)
}

// build makes agent and plugin of a source tree, with the flags of scripts/lib/build.mjs.
func build(tree, dir, version string) programs {
	p := programs{version: version, tree: tree, pscope: filepath.Join(dir, "pscope"),
		plugin: filepath.Join(dir, "gpx_pscope")}
	for _, b := range [][2]string{{p.pscope, "./pkg/cmd/pscope"}, {p.plugin, "./pkg"}} {
		out, err := filepath.Abs(b[0])
		if err != nil {
			return programs{err: err}
		}
		cmd := exec.Command("go", "build", "-ldflags", "-w -X main.version="+version, "-o", out, b[1])
		cmd.Dir, cmd.Env = tree, append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
		if text, err := cmd.CombinedOutput(); err != nil {
			return programs{err: fmt.Errorf("building %s of %s: %w\n%s", b[1], version, err, text)}
		}
	}
	return p
}

// startDemo runs a Go program of which there is something to say. It has a path of its own, by which agents choose it.
func startDemo(t *testing.T, of programs) (path string, pid int) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "pscope-demo")
	if err := os.Link(of.pscope, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--phases", "busy,syscall,gc,imbalance", "--phase-seconds", "2", "--gomaxprocs", "4")
	startWithTest(t, cmd)
	return path, cmd.Process.Pid
}

// startWithTest starts a program that ends with the test at the latest.
func startWithTest(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
}

// runningAgent is one that serves.
type runningAgent struct {
	of     programs
	url    string
	socket string
	data   string
	stop   func()
}

// host is what it calls its host.
func (a *runningAgent) host() string { return "host-of-" + a.of.version }

const token = "compat-0123456789abcdef"

// startAgent runs an agent that observes one program alone, as a host of its own. data: its directory; empty: one of
// its own.
func startAgent(t *testing.T, of programs, demo, data string) *runningAgent {
	t.Helper()
	dir := t.TempDir()
	if data == "" {
		data = filepath.Join(dir, "data")
	}
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	a := &runningAgent{of: of, socket: filepath.Join(dir, "pscope.sock"), data: data}
	cmd := exec.Command(of.pscope, "agent", "--socket", a.socket, "--listen", "127.0.0.1:0", "--token-file", tokenFile,
		"--data-dir", data, "--host", a.host(), "--include", "^"+demo+"$")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	startWithTest(t, cmd)
	addresses, ended := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(log); lines.Scan(); {
			if _, rest, ok := strings.Cut(lines.Text(), " listen="); ok &&
				strings.Contains(lines.Text(), "msg=observing") {
				address, _, _ := strings.Cut(rest, " ")
				addresses <- address
			}
			t.Logf("agent %s: %s", of.version, lines.Text())
		}
	}()
	a.stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		_ = cmd.Wait()
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended // nothing is logged after the test
	})
	select {
	case address := <-addresses:
		a.url = "http://" + address
	case <-ended:
		t.Fatalf("the agent of %s ended", of.version)
	case <-time.After(time.Minute):
		t.Fatalf("the agent of %s does not serve", of.version)
	}
	return a
}

// grafana is the plugin's process as Grafana runs it.
type grafana struct {
	of          programs
	data        grpcplugin.DataClient
	resource    grpcplugin.ResourceClient
	diagnostics grpcplugin.DiagnosticsClient
	stream      grpcplugin.StreamClient
}

func startPlugin(t *testing.T, of programs) *grafana {
	t.Helper()
	cmd := exec.Command(of.plugin)
	// Grafana gives plugins no PATH and no HOME.
	cmd.Env = []string{"GF_VERSION=12.4.0"}
	client := plugin.NewClient(&plugin.ClientConfig{
		Cmd: cmd, AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC}, SkipHostEnv: true,
		Logger: hclog.NewNullLogger(),
		HandshakeConfig: plugin.HandshakeConfig{ProtocolVersion: grpcplugin.ProtocolVersion,
			MagicCookieKey: grpcplugin.MagicCookieKey, MagicCookieValue: grpcplugin.MagicCookieValue},
		VersionedPlugins: map[int]plugin.PluginSet{grpcplugin.ProtocolVersion: {
			"data": &grpcplugin.DataGRPCPlugin{}, "resource": &grpcplugin.ResourceGRPCPlugin{},
			"diagnostics": &grpcplugin.DiagnosticsGRPCPlugin{}, "stream": &grpcplugin.StreamGRPCPlugin{},
		}},
	})
	t.Cleanup(client.Kill)
	rpc, err := client.Client()
	if err != nil {
		t.Fatal(err)
	}
	dispense := func(name string) any {
		raw, err := rpc.Dispense(name)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	return &grafana{of, dispense("data").(grpcplugin.DataClient), dispense("resource").(grpcplugin.ResourceClient),
		dispense("diagnostics").(grpcplugin.DiagnosticsClient), dispense("stream").(grpcplugin.StreamClient)}
}

// output runs a tool to its end.
func output(t *testing.T, program string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	text, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}
