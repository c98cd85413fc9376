// Package kerntest tests the code of bpf/ in user space: it compiles the programs together with a machine for them to
// run on and a table of cases (bpf/test), and makes a Go test of each case. It needs a C compiler, as the race detector
// does, and no privileges.
package kerntest

import (
	"bufio"
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// sources is where the cases are, from this package's folder.
const sources = "../../../bpf/test"

// build compiles the cases for programs made for an architecture ("x86" or "arm64", as bpf/kernel.h has them). Both run
// here: they differ in what the programs read, not in what reads it.
func build(t *testing.T, arch string) (bin string) {
	t.Helper()
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "gcc"
	}
	if _, err := exec.LookPath(cc); err != nil {
		t.Fatalf("no C compiler: %v. Install gcc (Debian: apt-get install gcc libc6-dev) or set CC to one", err)
	}
	// Go keeps a test's result until a file changes that the test itself has read. The compiler reads these.
	for _, dir := range []string{sources, filepath.Dir(sources), filepath.Join(sources, "include", "bpf")} {
		if _, err := os.ReadDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	bin = filepath.Join(t.TempDir(), "cases")
	cmd := exec.Command(cc, "-std=gnu11", "-O0", "-g", "-fno-omit-frame-pointer", "-fno-strict-aliasing",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all",
		"-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-Wno-unused-parameter", "-Wno-unused-function",
		"-Wno-parentheses", "-Wno-sign-compare", "-Wno-missing-field-initializers", "-Wno-address",
		"-D__TARGET_ARCH_"+arch, "-I", "include", "-o", bin, "run.c")
	cmd.Dir = sources
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return bin
}

func TestKernelCode(t *testing.T) {
	for _, arch := range []string{"x86", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			t.Parallel()
			bin := build(t, arch)
			cases(t, bin, "1")
			// And what is random once more with other numbers, which a failure names.
			seed := strconv.FormatUint(rand.Uint64(), 10)
			t.Run("seed "+seed, func(t *testing.T) { cases(t, bin, seed, "random_") })
		})
	}
}

// cases runs all cases and makes a test of each line of the Test Anything Protocol that they print.
func cases(t *testing.T, bin string, args ...string) {
	out, err := exec.Command(bin, args...).Output()
	var said []string
	var planned string
	n := 0
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		line := s.Text()
		name, good := "", false
		if _, rest, found := strings.Cut(line, " - "); found && strings.HasPrefix(line, "ok ") {
			name, good = rest, true
		} else if found && strings.HasPrefix(line, "not ok ") {
			name = rest
		} else if strings.HasPrefix(line, "1..") {
			planned = line[len("1.."):]
			continue
		} else {
			said = append(said, strings.TrimPrefix(line, "# "))
			continue
		}
		n++
		t.Run(name, func(t *testing.T) {
			for _, l := range said {
				t.Log(l)
			}
			if !good {
				t.Fail()
			}
		})
		said = nil
	}
	if planned != strconv.Itoa(n) || n == 0 || err != nil && !t.Failed() {
		t.Errorf("the cases did not run to their end: %d results, plan %q, %v\n%s", n, planned, err,
			strings.Join(said, "\n"))
	}
}
