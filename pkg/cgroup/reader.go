package cgroup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// The bounds of what is read.
const (
	mostMembership = 64 << 10 // of /proc/<pid>/cgroup: a line for each hierarchy, with a path each
	mostMounts     = 8 << 20  // of mountinfo
	mostOfFile     = 4 << 10  // of any other file: none has more than some twenty short lines
	mostLimits     = 4        // quotas of one process that are kept, its own first
	mountsEvery    = 30 * time.Second
	forgetAfter    = time.Minute
)

// Reader reads groups, each file at most once within the age that the caller accepts, whoever asks. Its methods may be
// called concurrently.
type Reader struct {
	proc   string // /proc
	mounts string // the file of the agent's own mounts

	mu       sync.Mutex
	known    []mount
	knownAt  time.Time
	files    map[string]*file
	forgotAt time.Time
}

// file is what was read of a file.
type file struct {
	content string
	err     error
	at      time.Time
}

// NewReader gives a Reader of the processes below a proc file system. Where control groups are mounted it asks the
// agent's own one.
func NewReader(proc string) *Reader {
	return &Reader{proc: proc, mounts: "/proc/self/mountinfo", files: make(map[string]*file)}
}

// Group is where the files of a process's groups are. A process may be moved to other groups: ask for it anew now and
// then.
type Group struct {
	cpu, v2 place
	cpuV1   bool
	// version 1 has one as a controller, version 2 always; both can hold a process
	freezers                     []freezer
	cpuErr, freezerErr, errForV2 error
}

// GroupOf finds the groups of a process.
func (r *Reader) GroupOf(pid int32) (*Group, error) {
	content, err := readFile(filepath.Join(r.proc, strconv.Itoa(int(pid)), "cgroup"), mostMembership)
	if err != nil {
		return nil, err
	}
	m := ParseMembership(content)
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if r.knownAt.IsZero() {
		if err := r.readMounts(now); err != nil {
			return nil, err
		}
	}
	g := r.find(&m)
	if errors.Is(errors.Join(g.cpuErr, g.freezerErr, g.errForV2), errNotMounted) && now.Sub(r.knownAt) > mountsEvery {
		if err := r.readMounts(now); err != nil {
			return nil, err
		}
		g = r.find(&m)
	}
	return g, nil
}

func (r *Reader) readMounts(now time.Time) error {
	content, err := readFile(r.mounts, mostMounts)
	if err != nil {
		return err
	}
	r.known, r.knownAt = parseMounts(content), now
	return nil
}

func (r *Reader) find(m *Membership) *Group {
	g := &Group{errForV2: errNotMounted}
	if m.V2 != "" {
		g.v2, g.errForV2 = locate(r.known, func(m *mount) bool { return m.v2 }, m.V2)
	}
	inV1 := func(controller string) (p place, ok bool, err error) {
		at, ok := m.V1[controller]
		if ok {
			p, err = locate(r.known, func(m *mount) bool { return slices.Contains(m.controllers, controller) }, at)
		}
		return p, ok, err
	}
	// A controller is in one hierarchy only: where version 1 has it, version 2 has not.
	if g.cpu, g.cpuV1, g.cpuErr = inV1("cpu"); !g.cpuV1 {
		g.cpu, g.cpuErr = g.v2, g.errForV2
	}
	p, ok, err := inV1("freezer")
	if ok && err == nil {
		g.freezers = append(g.freezers, freezer{p, true})
	}
	if g.errForV2 == nil {
		g.freezers = append(g.freezers, freezer{g.v2, false})
	}
	if g.freezerErr = err; !ok {
		g.freezerErr = g.errForV2
	}
	return g
}

// readFile reads a file up to a bound; what is longer is refused.
func readFile(name string, most int64) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", err
	}
	if int64(len(b)) > most {
		return "", fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return string(b), nil
}

// read gives a file of a group that is not older than age.
func (r *Reader) read(dir, name string, now time.Time, age time.Duration) (string, error) {
	at := dir + "/" + name
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.files[at]
	if f != nil && now.Sub(f.at) < age {
		return f.content, f.err
	}
	if now.Sub(r.forgotAt) > forgetAfter {
		maps.DeleteFunc(r.files, func(_ string, f *file) bool { return now.Sub(f.at) > forgetAfter })
		r.forgotAt = now
	}
	if f == nil {
		f = new(file)
		r.files[at] = f
	}
	f.content, f.err = readFile(at, mostOfFile)
	f.at = now
	return f.content, f.err
}

// The words for what can't be read; pscope_cgroup_unreadable has them as its label `what`.
const (
	whatCPU      = "cpu"
	whatPressure = "pressure"
	whatFreezer  = "freezer"
)

// Look gives the limits and the pressure of a process's groups, not older than age. now is the moment of asking.
func (r *Reader) Look(g *Group, now time.Time, age time.Duration) *pstate.Cgroup {
	c := &pstate.Cgroup{}
	unreadable := func(what string, err error) {
		if err != nil {
			if c.Unreadable == nil {
				c.Unreadable = make(map[string]string)
			}
			c.Unreadable[what] = why(err)
		}
	}
	unreadable(whatCPU, r.limits(g, c, now, age))
	unreadable(whatPressure, r.pressure(g, c, now, age))
	unreadable(whatFreezer, g.freezerErr)
	return c
}

// why is an error as a label has it: without the name of a file, which is another one for each group.
func why(err error) string {
	var p *fs.PathError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "the agent may not read the files of the control group: it needs CAP_DAC_READ_SEARCH or root"
	case errors.As(err, &p):
		err = p.Err
	}
	return cleantext.Name(err.Error(), cleantext.MaxPath)
}

var errAbove = errors.New(
	"limits of control groups above the one that is mounted where the agent runs are not visible there",
)

// limits reads the quotas of the group and its ancestors.
func (r *Reader) limits(g *Group, c *pstate.Cgroup, now time.Time, age time.Duration) error {
	if g.cpuErr != nil {
		return g.cpuErr
	}
	if _, err := os.Stat(g.cpu.dir); errors.Is(err, fs.ErrNotExist) {
		return errRemoved
	}
	for steps, at := range g.cpu.up {
		dir := g.cpu.dirOf(steps)
		cores, limited, err := r.quota(g, dir, now, age)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the root of version 2, and a group in which the controller is not switched on, have no quota
		}
		if err != nil {
			return err
		}
		if !limited {
			continue
		}
		if len(c.Limits) == mostLimits {
			break
		}
		l := pstate.CPULimit{Path: cleantext.Name(at, cleantext.MaxPath), Cores: cores}
		content, err := r.read(dir, "cpu.stat", now, age)
		if err == nil {
			err = parseStat(content, &l)
		}
		if err != nil {
			return err
		}
		c.Limits = append(c.Limits, l)
	}
	if last := g.cpu.up[len(g.cpu.up)-1]; last != "/" {
		return errAbove
	}
	return nil
}

func (r *Reader) quota(
	g *Group,
	dir string,
	now time.Time,
	age time.Duration,
) (cores float64, limited bool, err error) {
	if !g.cpuV1 {
		content, err := r.read(dir, "cpu.max", now, age)
		if err != nil {
			return 0, false, err
		}
		return parseMax(content)
	}
	quota, err := r.read(dir, "cpu.cfs_quota_us", now, age)
	if err != nil {
		return 0, false, err
	}
	period, err := r.read(dir, "cpu.cfs_period_us", now, age)
	if err != nil {
		return 0, false, err
	}
	return coresOf(quota, period)
}

var (
	errNoV2 = errors.New(
		"the process is in the root of cgroup v2, whose pressure is that of the whole host; v1 keeps none by control " +
			"group",
	)
	errNoPressure = errors.New(
		"this kernel keeps no pressure by control group: it needs CONFIG_PSI, not psi=0, and cgroup.pressure " +
			"switched on",
	)
)

// pressure reads the pressure files of the group in version 2; version 1 has none.
func (r *Reader) pressure(g *Group, c *pstate.Cgroup, now time.Time, age time.Duration) error {
	if g.errForV2 != nil {
		return g.errForV2
	}
	if g.v2.path == "/" {
		return errNoV2
	}
	for _, resource := range []string{"cpu", "io", "memory"} {
		content, err := r.read(g.v2.dir, resource+".pressure", now, age)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
			err = errNoPressure
		}
		p := pstate.Pressure{Resource: resource}
		if err == nil {
			err = parsePressure(content, &p)
		}
		if err != nil {
			return err
		}
		c.Pressure = append(c.Pressure, p)
	}
	return nil
}
