package cgroup

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

var errForm = errors.New("a file of the control group is not in the form that Linux documents")

// parseMax reads cpu.max of version 2, "QUOTA PERIOD" in microseconds: how many cores that is; limited is false for
// "max".
func parseMax(file string) (cores float64, limited bool, err error) {
	f := strings.Fields(file)
	if len(f) != 2 {
		return 0, false, errForm
	}
	if f[0] == "max" {
		return 0, false, nil
	}
	return coresOf(f[0], f[1])
}

// coresOf reads a quota and a period in microseconds; a quota of -1 is none (version 1).
func coresOf(quota, period string) (cores float64, limited bool, err error) {
	q, err1 := strconv.ParseInt(strings.TrimSpace(quota), 10, 64)
	p, err2 := strconv.ParseInt(strings.TrimSpace(period), 10, 64)
	switch {
	case err1 != nil || err2 != nil || p <= 0:
		return 0, false, errForm
	case q < 0:
		return 0, false, nil
	}
	return float64(q) / float64(p), true, nil
}

// parseStat reads what cpu.stat counts of throttling; version 2 has microseconds, version 1 nanoseconds.
func parseStat(file string, l *pstate.CPULimit) error {
	found := 0
	for line := range strings.Lines(file) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "nr_periods":
			l.Periods = n
		case "nr_throttled":
			l.ThrottledPeriods = n
		case "throttled_usec":
			l.Throttled = microseconds(n)
		case "throttled_time":
			l.Throttled = time.Duration(min(n, math.MaxInt64))
		default:
			continue
		}
		found++
	}
	if found < 3 {
		return errForm
	}
	return nil
}

func microseconds(n uint64) time.Duration {
	return time.Duration(min(n, math.MaxInt64/1000)) * time.Microsecond
}

// parsePressure reads the totals of a pressure file (Documentation/accounting/psi.rst).
func parsePressure(file string, p *pstate.Pressure) error {
	for line := range strings.Lines(file) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		_, total, ok := strings.Cut(rest, "total=")
		n, err := strconv.ParseUint(total, 10, 64)
		if !ok || err != nil {
			return errForm
		}
		switch kind {
		case "some":
			p.Some, p.HasSome = microseconds(n), true
		case "full":
			p.Full, p.HasFull = microseconds(n), true
		}
	}
	if !p.HasSome {
		return errForm
	}
	return nil
}

// field gives the number behind a name in a flat keyed file, as cgroup.events is.
func field(file, name string) (uint64, bool) {
	for line := range strings.Lines(file) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == name {
			n, err := strconv.ParseUint(value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
