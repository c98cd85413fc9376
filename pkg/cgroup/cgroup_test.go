package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// host makes files of a host below a directory, and gives a Reader of them. In contents, MOUNT stands for the
// directory.
func host(t *testing.T, files map[string]string) *Reader {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(strings.ReplaceAll(content, "MOUNT", dir)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(filepath.Join(dir, "proc"))
	r.mounts = filepath.Join(dir, "mountinfo")
	return r
}

const (
	mountV2  = "30 23 0:26 / MOUNT/v2 rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
	mountCPU = "31 23 0:27 / MOUNT/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
	mountIce = "32 23 0:28 / MOUNT/freezer rw - cgroup cgroup rw,freezer\n"
	noise    = "1 2 3:4 / / rw - ext4 /dev/vda rw\nnonsense\n"
	statV2   = "usage_usec 9\nnr_periods 10\nnr_throttled 4\nthrottled_usec 2500000\n"
	statV1   = "nr_periods 10\nnr_throttled 4\nthrottled_time 2500000000\n"
	pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 " +
		"total=500000\n"
	throttled = 2500 * time.Millisecond
)

func TestLook(t *testing.T) {
	limit := func(path string, cores float64) pstate.CPULimit {
		return pstate.CPULimit{Path: path, Cores: cores, Periods: 10, ThrottledPeriods: 4, Throttled: throttled}
	}
	for name, c := range map[string]struct {
		files      map[string]string
		limits     []pstate.CPULimit
		pressure   int
		unreadable map[string]string // a part of the reason
	}{
		"v2, an ancestor": {
			files: map[string]string{
				"mountinfo": noise + mountV2, "proc/7/cgroup": "0::/pod/inner\n", "v2/pod/cpu.max": "150000 100000\n",
				"v2/pod/cpu.stat": statV2, "v2/pod/inner/cpu.max": "max 100000\n",
				"v2/pod/inner/cpu.pressure": pressure, "v2/pod/inner/io.pressure": pressure,
				"v2/pod/inner/memory.pressure": pressure,
			},
			limits: []pstate.CPULimit{limit("/pod", 1.5)}, pressure: 3,
		},
		"v1": {
			files: map[string]string{
				"mountinfo": mountCPU + mountIce, "proc/7/cgroup": "5:freezer:/\n4:cpu,cpuacct:/a/b\n",
				"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
				"cpu/a/cpu.cfs_quota_us": "400000\n", "cpu/a/cpu.cfs_period_us": "100000\n", "cpu/a/cpu.stat": statV1,
				"cpu/a/b/cpu.cfs_quota_us": "50000\n", "cpu/a/b/cpu.cfs_period_us": "100000\n",
				"cpu/a/b/cpu.stat": statV1,
			},
			limits:     []pstate.CPULimit{limit("/a/b", .5), limit("/a", 4)},
			unreadable: map[string]string{"pressure": "mounted"},
		},
		"hybrid, the controller in v1, the process in the root of v2": {
			files: map[string]string{
				"mountinfo": mountCPU + mountV2, "proc/7/cgroup": "4:cpu,cpuacct:/a\n0::/\n",
				"v2/cpu.pressure":      pressure,
				"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n",
				"cpu/a/cpu.cfs_quota_us": "50000\n", "cpu/a/cpu.cfs_period_us": "100000\n", "cpu/a/cpu.stat": statV1,
			},
			limits: []pstate.CPULimit{limit("/a", .5)}, unreadable: map[string]string{"pressure": "root of cgroup v2"},
		},
		"only a part is mounted": {
			files: map[string]string{
				"mountinfo": strings.Replace(mountV2, "0:26 /", `0:26 /my\040pod`,
					1), "proc/7/cgroup": "0::/my pod/c\n", "v2/c/cpu.max": "50000 100000\n", "v2/c/cpu.stat": statV2,
			},
			limits: []pstate.CPULimit{limit("/my pod/c", .5)}, unreadable: map[string]string{"cpu": "above",
				"pressure": "PSI"},
		},
		"outside of the agent's namespace": {
			files:      map[string]string{"mountinfo": mountV2, "proc/7/cgroup": "0::/../../etc\n"},
			unreadable: map[string]string{"cpu": "mounted", "pressure": "mounted", "freezer": "mounted"},
		},
		"removed": {
			files:      map[string]string{"mountinfo": mountV2, "proc/7/cgroup": "0::/gone (deleted)\n"},
			unreadable: map[string]string{"cpu": "removed", "pressure": "removed", "freezer": "removed"},
		},
		"nonsense in a file": {
			files: map[string]string{"mountinfo": mountV2, "proc/7/cgroup": "0::/a\n", "v2/a/cpu.max": "1 0\n",
				"v2/a/cpu.pressure": "some total=x\n"},
			unreadable: map[string]string{"cpu": "form", "pressure": "form"},
		},
		"too long a file": {
			files: map[string]string{"mountinfo": mountV2, "proc/7/cgroup": "0::/a\n",
				"v2/a/cpu.max": strings.Repeat("1", mostOfFile+1)},
			unreadable: map[string]string{"cpu": "more than", "pressure": "PSI"},
		},
		"too deep": {
			files: map[string]string{"mountinfo": mountV2, "proc/7/cgroup": "0::" + strings.Repeat("/a", mostDeep+1) +
				"\n"},
			unreadable: map[string]string{"cpu": "deep", "pressure": "deep", "freezer": "deep"},
		},
	} {
		r := host(t, c.files)
		g, err := r.GroupOf(7)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := r.Look(g, time.Now(), time.Second)
		if !reflect.DeepEqual(got.Limits, c.limits) || len(got.Pressure) != c.pressure {
			t.Errorf("%s: %+v, want %+v and %d pressures", name, got, c.limits, c.pressure)
		}
		if len(got.Unreadable) != len(c.unreadable) {
			t.Errorf("%s: not readable: %q", name, got.Unreadable)
		}
		for what, part := range c.unreadable {
			if !strings.Contains(got.Unreadable[what], part) {
				t.Errorf("%s: the reason for %s is %q, which does not say %q", name, what, got.Unreadable[what], part)
			}
		}
		if c.pressure > 0 &&
			(got.Pressure[0] != pstate.Pressure{Resource: "cpu", Some: 1500 * time.Millisecond,
				Full:    500 * time.Millisecond,
				HasSome: true, HasFull: true}) {
			t.Errorf("%s: %+v", name, got.Pressure[0])
		}
	}
}

func TestFreezer(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		state Freezer
		path  string
	}{
		"v2, by an ancestor": {map[string]string{"mountinfo": mountV2, "proc/7/cgroup": "0::/a/b\n",
			"v2/a/b/cgroup.events": "populated 1\nfrozen 1\n", "v2/a/b/cgroup.freeze": "0\n",
			"v2/a/cgroup.freeze": "1\n"}, Frozen, "/a"},
		"v2, not yet all": {map[string]string{"mountinfo": mountV2, "proc/7/cgroup": "0::/a\n",
			"v2/a/cgroup.events": "populated 1\nfrozen 0\n", "v2/a/cgroup.freeze": "1\n"}, Freezing, "/a"},
		"v1 beside v2": {map[string]string{"mountinfo": mountV2 + mountIce, "proc/7/cgroup": "3:freezer:/x\n0::/\n",
			"freezer/x/freezer.state": "FROZEN\n", "freezer/x/freezer.self_freezing": "1\n"}, Frozen, "/x"},
		"v2 beside v1": {map[string]string{"mountinfo": mountV2 + mountIce, "proc/7/cgroup": "3:freezer:/\n0::/a\n",
			"v2/a/cgroup.events": "frozen 1\n"}, Frozen, ""},
		"v1, thawed": {map[string]string{"mountinfo": mountIce, "proc/7/cgroup": "3:freezer:/x\n",
			"freezer/x/freezer.state": "THAWED\n", "freezer/x/freezer.self_freezing": "0\n"}, Thawed, ""},
	} {
		r := host(t, c.files)
		g, err := r.GroupOf(7)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		if state, path := r.FreezerOf(g, now, time.Second); state != c.state || path != c.path {
			t.Errorf("%s: %d by %q, want %d by %q", name, state, path, c.state, c.path)
		}
		if got := r.Frozen(g, now, time.Second); got != (c.state == Frozen) {
			t.Errorf("%s: frozen: %v", name, got)
		}
	}
}

// TestFilesAreReadOnceForAll: processes of one group share what was read.
func TestFilesAreReadOnceForAll(t *testing.T) {
	r := host(
		t,
		map[string]string{
			"mountinfo":     mountV2,
			"proc/7/cgroup": "0::/a\n",
			"proc/8/cgroup": "0::/a\n",
			"v2/a/cpu.max":  "50000 100000\n",
			"v2/a/cpu.stat": statV2,
		},
	)
	now := time.Now()
	look := func(pid int32, at time.Time) float64 {
		g, err := r.GroupOf(pid)
		if err != nil {
			t.Fatal(err)
		}
		l, _ := r.Look(g, at, time.Second).Tightest()
		return l.Cores
	}
	first := look(7, now)
	if err := os.WriteFile(
		filepath.Join(filepath.Dir(r.proc), "v2/a/cpu.max"),
		[]byte("200000 100000"),
		0o644,
	); err != nil {
		t.Fatal(err)
	}
	if got := look(8, now); first != .5 || got != .5 {
		t.Errorf("%v, then %v cores", first, got)
	}
	if got := look(8, now.Add(2*time.Second)); got != 2 {
		t.Errorf("%v cores after the age", got)
	}
	if look(8, now.Add(2*forgetAfter)); len(r.files) > 6 {
		t.Errorf("%d files are remembered", len(r.files))
	}
}

func FuzzFiles(f *testing.F) {
	for _, s := range []string{"0::/a/b\n", "4:cpu,cpuacct:/..\n", mountV2, mountCPU,
		`1 2 3:4 /\040\999 /x rw - cgroup2 x rw`, "150000 100000", statV1, pressure, "frozen 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		defer fuzztest.Bound(t, fuzztest.Small, len(s))()
		m := ParseMembership(s)
		mounts := append(parseMounts(s), mount{v2: true, root: "/", point: "/mnt"})
		for _, at := range append([]string{m.V2}, m.V1["cpu"]) {
			p, err := locate(mounts[len(mounts)-1:], func(*mount) bool { return true }, at)
			if err == nil &&
				(p.dir != "/mnt" && !strings.HasPrefix(p.dir, "/mnt/") || len(p.up) > mostDeep+1 ||
					p.dirOf(len(p.up)-1) != "/mnt") {
				t.Errorf("%q lies in %q", at, p.dir)
			}
		}
		var l pstate.CPULimit
		var p pstate.Pressure
		if cores, limited, err := parseMax(s); err == nil && limited && cores < 0 {
			t.Errorf("%v cores", cores)
		}
		if parseStat(s, &l) == nil && l.Throttled < 0 || parsePressure(s, &p) == nil && (p.Some < 0 || p.Full < 0) {
			t.Errorf("%+v %+v", l, p)
		}
		field(s, "frozen")
	})
}
