package collector

import (
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// FuzzProcFiles gives the same bytes as every file that is read of a process below /proc: its threads choose their
// names, a container its cgroups' names, a program its arguments.
func FuzzProcFiles(f *testing.F) {
	for _, s := range []string{
		"1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 1 2 3",
		"1 (a) b) (c) R 0 1 1 0 -1 0 1 2 3 4 18446744073709551615 18446744073709551615 7 8 20 0 1 0 5 1 2 3",
		"Name:\tx\nTracerPid:\t5\nNSpid:\t4711\t17\t1\n", "18446744073709551615 2 3\n", "1 2 3 4", "a\x00b\xff\x00\x1b[2J",
		"0::/kubepods/pod8f4c53e9-6cd1-c5e7-b2f8-a4d26b9d10ce/x\n",
	} {
		f.Add([]byte(s))
	}
	o := Options{ProcRoot: f.TempDir(), ShowArguments: true}
	if err := os.MkdirAll(filepath.Join(o.ProcRoot, "1", "task", "1"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range []string{"stat", "status", "cmdline", "cgroup", "task/1/stat", "task/1/status",
			"task/1/schedstat"} {
			if err := os.WriteFile(o.procPath(1, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fuzztest.Within(t, fuzztest.Small, len(b), func() {
			if s, err := o.readStat(1); err == nil && s.cpu < 0 {
				t.Errorf("a process that used %v of CPU time", s.cpu)
			}
			if s, _, err := o.threadState(1, 1); err == nil && s == pstate.NoThread {
				t.Error("a thread without a state")
			}
			if u := o.threadUse(1, 1); u.on < 0 || u.waiting < 0 {
				t.Errorf("a thread that ran for %v and waited for %v", u.on, u.waiting)
			}
			o.nestedPID(1)
			o.statusNumber(1, "status", "TracerPid:")
			target := pstate.Target{Key: pstate.Key{PID: 1}}
			o.describe(&target)
			for _, s := range []string{target.Cmdline, target.Cgroup, target.Container, target.Pod} {
				if !utf8.ValidString(s) || len(s) > 4*cleantext.MaxCmdline {
					t.Errorf("%d bytes, %.100q", len(s), s)
				}
			}
		})
	})
}

// FuzzIdleTimes reads /proc/stat.
func FuzzIdleTimes(f *testing.F) {
	f.Add("cpu  5 5 5 700 30 1 1 1 0 0\ncpu0 1 2 3 400 10 0 0 0 0 0\ncpu-1 1 2 3 9999999999999999 9 9\n")
	f.Fuzz(func(t *testing.T, stat string) {
		fuzztest.Within(t, fuzztest.Small, len(stat), func() {
			for cpu, idle := range parseIdleTimes(stat) {
				if cpu < 0 || idle < 0 {
					t.Errorf("CPU %d was idle for %v", cpu, idle)
				}
			}
		})
	})
}
