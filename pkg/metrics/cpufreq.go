package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CPUFrequency is what is known of one CPU's frequency.
type CPUFrequency struct {
	CPU   string  // its number
	Hertz float64 // 0: not known
	Bands []Band  // by frequency
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

// ErrNoFrequency says that this host shows no CPU frequencies.
var ErrNoFrequency = errors.New("no CPU has a cpufreq folder in sysfs: the kernel has no frequency driver here, as is usual in virtual machines; " +
	"on the host itself load the driver of the CPU (acpi-cpufreq, intel_pstate, amd-pstate, cppc_cpufreq)")

// FrequencyReader reads the kernel's frequency files. It is not safe for concurrent use.
type FrequencyReader struct {
	root fs.FS
	last map[string]time.Time
	own  map[string]map[float64]time.Duration
}

// NewFrequencyReader reads below root, "/sys" on a real host.
func NewFrequencyReader(root string) *FrequencyReader {
	return &FrequencyReader{root: os.DirFS(root), last: make(map[string]time.Time), own: make(map[string]map[float64]time.Duration)}
}

// Read gives the present frequency and the time in bands of every CPU. Where the kernel keeps the times itself (stats/time_in_state)
// those are taken; else the time since the last Read counts for the frequency of now.
// It gives ErrNoFrequency where there is nothing to read.
func (r *FrequencyReader) Read(now time.Time) ([]CPUFrequency, error) {
	dirs, err := fs.Glob(r.root, "devices/system/cpu/cpu[0-9]*/cpufreq")
	if err != nil || len(dirs) == 0 {
		return nil, ErrNoFrequency
	}
	var cpus []CPUFrequency
	for _, dir := range dirs {
		c := CPUFrequency{CPU: strings.TrimPrefix(path.Base(path.Dir(dir)), "cpu")}
		for _, file := range []string{"scaling_cur_freq", "cpuinfo_cur_freq"} {
			if khz, err := r.number(filepath.Join(dir, file)); err == nil {
				c.Hertz = khz * 1000
				break
			}
		}
		if bands, err := r.timeInState(filepath.Join(dir, "stats/time_in_state")); err == nil {
			c.Bands = bands
		} else if c.Hertz > 0 {
			c.Bands = r.count(c.CPU, c.Hertz, now)
		}
		if c.Hertz > 0 || len(c.Bands) > 0 {
			cpus = append(cpus, c)
		}
	}
	if len(cpus) == 0 {
		return nil, ErrNoFrequency
	}
	slices.SortFunc(cpus, func(a, b CPUFrequency) int {
		if len(a.CPU) != len(b.CPU) {
			return len(a.CPU) - len(b.CPU)
		}
		return strings.Compare(a.CPU, b.CPU)
	})
	return cpus, nil
}

func (r *FrequencyReader) number(name string) (float64, error) {
	b, err := fs.ReadFile(r.root, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(string(b)), 64)
}

// timeInState parses lines of "<kHz> <units of 10 ms>".
func (r *FrequencyReader) timeInState(name string) ([]Band, error) {
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
		total[bandOf(float64(khz)*1000)] += time.Duration(ticks) * 10 * time.Millisecond
	}
	return bands(total), nil
}

func (r *FrequencyReader) count(cpu string, hertz float64, now time.Time) []Band {
	own := r.own[cpu]
	if own == nil {
		own = make(map[float64]time.Duration)
		r.own[cpu] = own
	}
	if last, ok := r.last[cpu]; ok && now.After(last) {
		own[bandOf(hertz)] += now.Sub(last)
	} else {
		own[bandOf(hertz)] += 0
	}
	r.last[cpu] = now
	return bands(own)
}

func bands(total map[float64]time.Duration) (out []Band) {
	for hz, d := range total {
		out = append(out, Band{Hertz: hz, Time: d})
	}
	slices.SortFunc(out, func(a, b Band) int { return int(a.Hertz - b.Hertz) })
	return out
}
