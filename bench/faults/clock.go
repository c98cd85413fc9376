//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errNotHere is of a fault that this machine can't have.
var errNotHere = errors.New("not on this machine")

// clocks are steps of the machine's clock. They would disturb everything else on a host, so they happen in a guest.
func clocks() []kind {
	return []kind{
		{name: "clock set forward an hour", guest: true, happen: func(dir string) (*outcome,
			error) {
			return setClock(dir, time.Hour)
		}},
		{name: "clock set back an hour", guest: true, happen: func(dir string) (*outcome,
			error) {
			return setClock(dir, -time.Hour)
		}},
		{name: "machine suspended for 60 s", guest: true, happen: suspend},
	}
}

// setClock sets the clock. What is asked for afterwards is the history around the clock's new time, so what lies ahead
// of it, which is put aside, does not count; blind is the longest time without a live view, and the gap is how long no
// new sample came, by a clock that is not set.
func setClock(dir string, by time.Duration) (*outcome, error) {
	r, err := newRig(dir, storage{})
	if err != nil {
		return nil, err
	}
	defer r.close()
	f := r.begin()
	before := r.samples()
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		return nil, err
	}
	set := unix.NsecToTimespec(now.Nano() + by.Nanoseconds())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &set); err != nil {
		return nil, fmt.Errorf("set the clock: %w", err)
	}
	defer func() { // for the next one
		_ = unix.ClockGettime(unix.CLOCK_REALTIME, &now)
		back := unix.NsecToTimespec(now.Nano() - by.Nanoseconds())
		_ = unix.ClockSettime(unix.CLOCK_REALTIME, &back)
	}()
	return r.goesOn(f, before, by)
}

// goesOn waits for samples of the time after a step of the clock.
func (r *rig) goesOn(f fault, before []sample, by time.Duration) (*outcome, error) {
	stepped := time.Now() // has a reading of the monotonic clock, which is not set
	var after []sample
	var first time.Duration
	err := r.waitFor(5*time.Minute, func() bool {
		after = after[:0]
		newest := time.Now().Round(0)
		for _, s := range r.samples() {
			// Of the new time: at most half a minute old, and not ahead of the clock.
			if s.at.After(newest.Add(-30*time.Second)) && !s.at.After(newest.Add(time.Second)) {
				if len(before) == 0 || by < 0 || s.at.After(before[len(before)-1].at.Add(by/2)) {
					after = append(after, s)
				}
			}
		}
		if len(after) > 0 && first == 0 {
			first = time.Since(stepped)
		}
		return len(after) > 2 && time.Since(stepped) > 8*time.Second
	})
	if err != nil {
		return nil, err
	}
	o := &outcome{Gap: first.Seconds(), Untrue: untrue(after, 2), Ended: !r.runs(), Counted: map[string]float64{}}
	o.Blind = r.live.longestSince(f.at).Seconds()
	for reason, n := range r.losses() {
		o.Counted[reason] = n - f.counted[reason]
	}
	named := "the step is not named"
	if text, _, err := r.get(10*time.Second, "/-/healthy"); err == nil && strings.Contains(text, "clock") {
		named = "named in the agent's health"
	} else if r.logHas("the clock was set") {
		named = "named in the agent's log"
	}
	o.Note = fmt.Sprintf("data again after %.1f s; %s", first.Seconds(), named)
	return o, nil
}

// suspend lets the machine sleep until its clock's alarm wakes it.
func suspend(dir string) (*outcome, error) {
	const (
		alarm = "/sys/class/rtc/rtc0/wakealarm"
		long  = 60
	)
	if _, err := os.Stat(alarm); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotHere, err)
	}
	states, err := os.ReadFile("/sys/power/state")
	if err != nil || !strings.Contains(string(states), "freeze") {
		return nil, fmt.Errorf("%w: it knows the states of sleep %q", errNotHere, states)
	}
	r, err := newRig(dir, storage{})
	if err != nil {
		return nil, err
	}
	defer r.close()
	f := r.begin()
	before := r.samples()
	f.down = time.Now()
	if err := os.WriteFile(alarm, []byte("+"+strconv.Itoa(long)), 0o644); err != nil {
		return nil, fmt.Errorf("%w: set the alarm: %w", errNotHere, err)
	}
	var up, later unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &up)
	if err := os.WriteFile("/sys/power/state", []byte("freeze"), 0o644); err != nil {
		return nil, fmt.Errorf("%w: sleep: %w", errNotHere, err)
	}
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &later)
	o, err := r.goesOn(f, before, time.Duration(later.Nano()-up.Nano()))
	if err == nil {
		o.Note += fmt.Sprintf("; asleep for %.0f s", float64(later.Nano()-up.Nano())/1e9)
	}
	return o, err
}
