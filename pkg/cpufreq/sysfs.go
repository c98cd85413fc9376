// Package cpufreq reads the frequencies of a host's CPUs: the third thing that is called "P-state", beside the states
// of Ps and those of threads. It is about CPUs alone and knows of no process.
//
// The present frequency comes from sysfs. The time in bands comes from, in this order: the kernel's own statistics
// (stats/time_in_state); the changes that the driver announces at the tracepoint power:cpu_frequency (package kern),
// for the CPUs and times for which it announces some; else the frequency at each reading, taken for the time since the
// one before. Drivers that leave the choice to the processor (intel_pstate and amd-pstate in active mode) announce
// nothing: there the readings are all there is.
package cpufreq

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CPU is what is known of one CPU's frequency.
type CPU struct {
	CPU   string  // its number
	Hertz float64 // 0: not known
	Bands []Band  // by frequency; the times of one CPU never decrease
}

// Band is the time a CPU spent within 100 MHz from Hertz on.
type Band struct {
	Hertz float64
	Time  time.Duration
}

// Name is the label value of a band, its lower bound: "2.4GHz". Up to 10 GHz the names sort as the frequencies do.
func (b Band) Name() string { return strconv.FormatFloat(b.Hertz/1e9, 'f', 1, 64) + "GHz" }

const bandWidth = 1e8

func bandOf(hertz float64) float64 { return math.Floor(hertz/bandWidth) * bandWidth }

// Changes knows at which frequencies a CPU was between readings.
type Changes interface {
	// Since gives the time that the CPU spent in each band, by its lower bound in hertz, since the last call for the
	// same CPU. ok is false when no change was announced in that time: then nothing is known of it.
	Since(cpu int) (times map[float64]time.Duration, ok bool)
}

// ErrNone says that this host shows no CPU frequencies.
var ErrNone = errors.New("no CPU has a cpufreq folder in sysfs: the kernel has no frequency driver here, as is usual " +
	"in virtual machines")

// FixNone is what to do about it.
const FixNone = "on bare metal load the CPU's frequency driver (acpi-cpufreq, intel_pstate, amd-pstate, " +
	"cppc_cpufreq); in a virtual machine there is none"

// Reader reads the kernel's frequency files. It is not safe for concurrent use.
type Reader struct {
	root    fs.FS
	found   []string  // folders of CPUs
	looked  time.Time // when they were looked for last
	changes Changes
	last    map[string]time.Time
	own     map[string]map[float64]time.Duration
}

// NewReader reads below root, "/sys" on a real host.
func NewReader(root string) *Reader {
	return &Reader{root: os.DirFS(root), last: make(map[string]time.Time),
		own: make(map[string]map[float64]time.Duration)}
}

// Follow makes announced changes count from now on. Call it before the first Read.
func (r *Reader) Follow(c Changes) { r.changes = c }

// Present gives the CPUs whose frequency can be read, with the frequency of now in hertz, and whether any of them lacks
// the kernel's own statistics of time: only then are announced changes of use.
func (r *Reader) Present() (hertz map[int]float64, needChanges bool) {
	hertz = make(map[int]float64)
	for _, dir := range r.dirs() {
		cpu, err := strconv.Atoi(number(dir))
		hz := r.hertz(dir)
		if err != nil || hz == 0 {
			continue
		}
		hertz[cpu] = hz
		if _, err := r.timeInState(path.Join(dir, "stats/time_in_state")); err != nil {
			needChanges = true
		}
	}
	return hertz, needChanges
}

func (r *Reader) dirs() []string {
	dirs, _ := fs.Glob(r.root, "devices/system/cpu/cpu[0-9]*/cpufreq") // the pattern is well formed
	return dirs
}

func number(dir string) string { return strings.TrimPrefix(path.Base(path.Dir(dir)), "cpu") }

func (r *Reader) hertz(dir string) float64 {
	for _, file := range []string{"scaling_cur_freq", "cpuinfo_cur_freq"} {
		if khz, err := r.number(path.Join(dir, file)); err == nil {
			return khz * 1000
		}
	}
	return 0
}

// lookEvery is how often Read looks for CPUs that have come, or whose driver has: on a host without any of them that is
// all it does.
const lookEvery = 10 * time.Second

// Read gives the present frequency and the time in bands of every CPU. Where the kernel keeps the times itself
// (stats/time_in_state) those are taken; else the changes announced since the last Read; else the time since then
// counts for the frequency of now. It gives ErrNone where there is nothing to read.
func (r *Reader) Read(now time.Time) ([]CPU, error) {
	var cpus []CPU
	if r.looked.IsZero() || now.Sub(r.looked) >= lookEvery {
		r.found, r.looked = r.dirs(), now
	}
	for _, dir := range r.found {
		c := CPU{CPU: number(dir), Hertz: r.hertz(dir)}
		if bands, err := r.timeInState(path.Join(dir, "stats/time_in_state")); err == nil {
			c.Bands = bands
		} else if c.Hertz > 0 {
			c.Bands = r.count(c.CPU, c.Hertz, now)
		}
		if c.Hertz > 0 || len(c.Bands) > 0 {
			cpus = append(cpus, c)
		}
	}
	if len(cpus) == 0 {
		return nil, ErrNone
	}
	slices.SortFunc(cpus, func(a, b CPU) int {
		if len(a.CPU) != len(b.CPU) {
			return len(a.CPU) - len(b.CPU)
		}
		return strings.Compare(a.CPU, b.CPU)
	})
	return cpus, nil
}

func (r *Reader) number(name string) (float64, error) {
	b, err := fs.ReadFile(r.root, name)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 48)
	return float64(n), err
}

// mostTicks is a hundred years in units of 10 ms: no CPU was longer in a frequency.
const mostTicks = 100 * 366 * 24 * 3600 * 100

// timeInState parses lines of "<kHz> <units of 10 ms>".
func (r *Reader) timeInState(name string) ([]Band, error) {
	b, err := fs.ReadFile(r.root, name)
	if err != nil {
		return nil, err
	}
	total := make(map[float64]time.Duration)
	for line := range strings.Lines(string(b)) {
		var khz, ticks uint64
		if _, err := fmt.Sscan(line, &khz, &ticks); err != nil {
			return nil, fmt.Errorf("%s: line %q is not a frequency and a time: %w", name, line, err)
		}
		band := bandOf(float64(khz) * 1000)
		total[band] += time.Duration(min(ticks, mostTicks)) * 10 * time.Millisecond
		if total[band] >= mostTicks*10*time.Millisecond {
			return nil, fmt.Errorf("%s: line %q makes more than a hundred years", name, line)
		}
	}
	return bands(total), nil
}

func (r *Reader) count(cpu string, hertz float64, now time.Time) []Band {
	own := r.own[cpu]
	if own == nil {
		own = make(map[float64]time.Duration)
		r.own[cpu] = own
	}
	own[bandOf(hertz)] += 0 // a band that was seen is there, be it with no time yet
	times, announced := r.announced(cpu)
	if last, ok := r.last[cpu]; ok && now.After(last) {
		if !announced {
			times = map[float64]time.Duration{bandOf(hertz): now.Sub(last)}
		}
		for band, d := range times {
			own[band] += d
		}
	}
	r.last[cpu] = now
	return bands(own)
}

func (r *Reader) announced(cpu string) (map[float64]time.Duration, bool) {
	n, err := strconv.Atoi(cpu)
	if r.changes == nil || err != nil {
		return nil, false
	}
	return r.changes.Since(n)
}

func bands(total map[float64]time.Duration) (out []Band) {
	for hz, d := range total {
		out = append(out, Band{Hertz: hz, Time: d})
	}
	slices.SortFunc(out, func(a, b Band) int { return int(a.Hertz - b.Hertz) })
	return out
}
