//go:build linux

package main

import "time"

// kind is one fault.
type kind struct {
	name   string
	once   bool // it takes long, and shows in one time what it shows
	guest  bool // it sets the clock, so it happens in a guest only: see -guest
	happen func(dir string) (*outcome, error)
}

func faults(churn time.Duration) []kind {
	all := append(kills(), disks()...)
	all = append(all, clients()...)
	all = append(all, busyMachine()...)
	all = append(all, clocks()...)
	return append(all, kind{
		name:   churnName,
		once:   true,
		happen: func(dir string) (*outcome, error) { return comeAndGo(dir, churn) },
	})
}

// during makes a rig, does something to it, and gives the verdict.
func during(dir string, on storage, do func(r *rig) (note string, err error), args ...string) (*outcome, error) {
	r, err := newRig(dir, on, args...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	f := r.begin()
	note, err := do(r)
	if err != nil {
		return nil, err
	}
	o, err := r.verdict(f, time.Now())
	if err == nil {
		o.Note = note
	}
	return o, err
}
