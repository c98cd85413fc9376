package discover

import (
	"os"
	"testing"
	"unicode/utf8"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// FuzzDescribe gives the same bytes as every file that a process is described by: a container chooses its cgroups'
// names, a program its arguments.
func FuzzDescribe(f *testing.F) {
	for _, s := range []string{
		"Name:\tx\nUid:\t5\t6\t7\t8\n", "a\x00b\xff\x00\x1b[2J",
		"0::/kubepods/pod8f4c53e9-6cd1-c5e7-b2f8-a4d26b9d10ce/x\n",
	} {
		f.Add([]byte(s))
	}
	o := Options{Proc: procfs.FS(f.TempDir()), ShowArguments: true}
	if err := os.MkdirAll(o.Proc.Path(1, ""), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range []string{"cmdline", "cgroup", "status"} {
			if err := os.WriteFile(o.Proc.Path(1, name), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		fuzztest.Within(t, fuzztest.Small, len(b), func() {
			o.userOf(1)
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
