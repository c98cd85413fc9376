package collector

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/diagnose"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// limited puts a process into a group below one that has a CPU quota, in hundredths of a core, and gives the path of
// the one that has it.
func limited(t *testing.T, pid, hundredths int) (upper string) {
	t.Helper()
	mounted := hierarchy(t, "cgroup2", "")
	has := func(file string) bool {
		b, err := os.ReadFile(file)
		return err == nil && slices.Contains(strings.Fields(string(b)), "cpu")
	}
	if !has(mounted + "/cgroup.controllers") {
		dir, upper := inGroup(t, hierarchy(t, "cgroup", "cpu"), pid)
		put(t, dir+"/cpu.cfs_quota_us", strconv.Itoa(hundredths*1000))
		return upper
	}
	if !has(mounted + "/cgroup.subtree_control") {
		put(t, mounted+"/cgroup.subtree_control", "+cpu")
		t.Cleanup(func() { _ = os.WriteFile(mounted+"/cgroup.subtree_control", []byte("-cpu"), 0o644) })
	}
	dir, upper := inGroup(t, mounted, pid)
	put(t, dir+"/cpu.max", strconv.Itoa(hundredths*1000)+" 100000")
	return upper
}

// A quota of a group above the process throttles it; one that is never used up only looks like it, where threads wait
// for other reasons.
func TestCPUQuota(t *testing.T) {
	needs(t, unix.CAP_SYS_ADMIN, "limiting a control group")
	// A tenth of a core is used up on a busy machine, too.
	for _, tc := range []struct {
		name, procs      string
		hundredths, busy int
		kind, not        diagnose.Kind
	}{
		{"used up", "GOMAXPROCS=2", 10, 2, diagnose.Quota, diagnose.CPUWait},
		{"never used up", "GOMAXPROCS=8", 6400, 8, diagnose.CPUWait, diagnose.Quota},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := start(t, tc.procs)
			pid := p.cmd.Process.Pid
			upper := limited(t, pid, tc.hundredths)
			p.say("busy %d", tc.busy)
			c, _ := collectIn(t, ModeEBPF, func(o *Options) { o.CostBudget = -1 })
			seen(t, c, pid)
			var a *pstate.TargetView
			waitFor(
				t,
				"the quota is read",
				func() bool { a = view(c, pid); return a != nil && a.Cgroup != nil && len(a.Cgroup.Limits) > 0 },
			)
			l, ok := a.Cgroup.Tightest()
			if !ok || l.Path != upper || l.Cores != float64(tc.hundredths)/100 {
				t.Errorf("the quota is %+v, want one of %d/100 cores by %s", a.Cgroup, tc.hundredths, upper)
			}
			h := diagnose.NewHistory(0)
			h.Add(time.Now(), []pstate.TargetView{*a})
			time.Sleep(6 * time.Second)
			b := view(c, pid)
			w, ok := h.Window(b, a.At, b.At)
			if !ok {
				t.Fatal("no window")
			}
			t.Logf("%+v", w.Quotas)
			var kinds []diagnose.Kind
			for _, f := range diagnose.Find(&w) {
				t.Log(f.Kind, f.Evidence, f.Advice)
				kinds = append(kinds, f.Kind)
			}
			if !slices.Contains(kinds, tc.kind) || slices.Contains(kinds, tc.not) {
				t.Errorf("found %v, want %s and not %s", kinds, tc.kind, tc.not)
			}
			if len(b.Cgroup.Pressure) == 0 && b.Cgroup.Unreadable["pressure"] == "" {
				t.Error("no pressure, and no reason")
			}
			t.Logf("pressure %+v, not readable %v", b.Cgroup.Pressure, b.Cgroup.Unreadable)
		})
	}
}
