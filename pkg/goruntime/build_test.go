package goruntime

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// crossCC is the C compiler for arm64 where Debian's package gcc-aarch64-linux-gnu is installed.
const crossCC = "aarch64-linux-gnu-gcc"

// toolchains are the releases the matrix tests build with: the newest of each line that the table was generated from.
var toolchains = []string{"1.21.13", "1.22.12", "1.23.12", "1.24.11", "1.25.5", "1.26.8", "1.27.1"}

// build says how to make one test program.
type build struct {
	toolchain string // "1.26.8"; empty for the one running the tests
	arch      string // empty for our own
	source    string // directory under testdata; empty for "target"
	cgo       bool
	flags     []string
	goexp     string
	root      string // GOROOT of a toolchain of our own, of that release; empty for the release's
}

var (
	builtMu sync.Mutex
	built   = make(map[string]string) // built programs by their description
)

func (b build) String() string {
	s := []string{"go" + b.toolchain, b.arch, b.source, strings.Join(b.flags, " ")}
	if b.cgo {
		s = append(s, "cgo")
	}
	if b.goexp != "" {
		s = append(s, b.goexp)
	}
	if b.root != "" {
		s = append(s, filepath.Base(b.root))
	}
	return strings.Join(strings.Fields(strings.Join(s, " ")), " ")
}

// program builds a test program, once for each description and test run. Compiled packages come from Go's build cache.
func program(t testing.TB, b build) string {
	t.Helper()
	if b.source == "" {
		b.source = "target"
	}
	if b.arch == "" {
		b.arch = runtime.GOARCH
	}
	builtMu.Lock()
	defer builtMu.Unlock()
	key := b.String()
	if exe, ok := built[key]; ok {
		return exe
	}
	exe := filepath.Join(programDir, strings.NewReplacer(" ", "_", "/", "_", "=", "_").Replace(key))
	args := append([]string{"build", "-buildvcs=false", "-o", exe}, b.flags...)
	command := "go"
	if b.root != "" {
		command = filepath.Join(b.root, "bin", "go")
	}
	cmd := exec.Command(command, append(args, ".")...)
	cmd.Dir = filepath.Join("testdata", b.source)
	cgo := "CGO_ENABLED=0"
	if b.cgo {
		cgo = "CGO_ENABLED=1"
	}
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOOS=linux", "GOARCH="+b.arch, "GOEXPERIMENT="+b.goexp, cgo)
	if b.cgo && b.arch == "arm64" && runtime.GOARCH != "arm64" {
		cmd.Env = append(cmd.Env, "CC="+crossCC)
	}
	switch {
	case b.root != "":
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN=local", "GOROOT="+b.root)
	case b.toolchain != "":
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN=go"+b.toolchain)
	default:
		cmd.Env = append(cmd.Env, "GOTOOLCHAIN=local")
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		if bytes.Contains(out, []byte("download go")) || bytes.Contains(out, []byte("toolchain not available")) {
			t.Skipf("no toolchain for %s: %s", key, out)
		}
		t.Fatalf("building %s: %v\n%s", key, err, out)
	}
	built[key] = exe
	return exe
}

// inspectFile runs Inspect on a file.
func inspectFile(t testing.TB, path string) *Binary {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := Inspect(f)
	if err != nil {
		t.Fatalf("%s: %v", filepath.Base(path), err)
	}
	return b
}

// programDir holds the test programs of this run.
var programDir string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "goruntime-test")
	if err != nil {
		panic(err)
	}
	programDir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// eachToolchain runs fn for every release, the running one only with -short.
func eachToolchain(t *testing.T, fn func(t *testing.T, toolchain string)) {
	t.Helper()
	if testing.Short() {
		t.Run("go-local", func(t *testing.T) { fn(t, "") })
		return
	}
	for _, v := range toolchains {
		t.Run("go"+v, func(t *testing.T) { fn(t, v) })
	}
}

// full reports whether the wide matrix was asked for, which takes many minutes and gigabytes of build cache.
func full() bool { return os.Getenv("PSCOPE_FULL_MATRIX") != "" }
