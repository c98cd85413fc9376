//go:build linux

package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/pkg/store"
)

// oldHost is the label host of a history from before.
const oldHost = "before"

// oldHistory makes a history of the last 50 minutes in a directory: a block of half an hour, and a log of several
// segments. It takes some seconds.
func oldHistory(dir string) error {
	s, err := store.Open(store.Options{Dir: dir, Host: oldHost, Version: "1"})
	if err != nil {
		return err
	}
	now := time.Now().Truncate(time.Second)
	from := now.Add(-50 * time.Minute)
	views := oldViews(from.Add(-time.Minute))
	for at := from; at.Before(now.Add(-5 * time.Second)); at = at.Add(time.Second) {
		goOn(views, at)
		if err := s.Append(at, &metrics.Snapshot{Views: views, Mode: "ebpf"}); err != nil {
			return errors.Join(err, s.Close())
		}
	}
	// The block is written aside.
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if all, _ := filepath.Glob(filepath.Join(dir, "raw", "*[0-9A-Z]", "meta.json")); len(all) > 0 {
			return s.Close()
		}
	}
	return errors.Join(errors.New("no block was written within a minute"), s.Close())
}

// oldViews are four programs of four Ps. They were not observed: only the files that they make count.
func oldViews(started time.Time) (views []pstate.TargetView) {
	for i := range 4 {
		v := pstate.TargetView{
			Target: pstate.Target{Key: pstate.Key{PID: int32(1000 + i), StartTime: uint64(77 + i)},
				Process: fmt.Sprintf("before-%d", i),
				Source:  pstate.SourceEBPF, Started: started},
			GOMAXPROCS: 4,
		}
		for p := range 4 {
			v.Ps = append(v.Ps, pstate.PView{P: int32(p), FirstSeen: started.UnixNano()})
		}
		views = append(views, v)
	}
	return views
}

// goOn lets a second of what looks like work pass, so that samples take as much room as real ones.
func goOn(views []pstate.TargetView, at time.Time) {
	for i := range views {
		v := &views[i]
		v.At = at.UnixNano()
		for j := range v.Ps {
			p := &v.Ps[j]
			busy := rand.N(time.Second)
			p.Time[pstate.Running][pstate.OnCPU] += busy * 9 / 10
			p.Time[pstate.Running][pstate.Runnable] += busy - busy*9/10
			p.Time[pstate.Idle][pstate.NoThread] += time.Second - busy
			p.SchedTick += rand.Uint64N(10_000)
			p.SyscallTick += rand.Uint64N(1000)
			p.RunqDepth = rand.Int32N(4)
			n := rand.Uint64N(1000)
			p.Transitions[pstate.Running][pstate.Idle] += n
			p.Transitions[pstate.Idle][pstate.Running] += n
			for b := 10; b < 20; b++ {
				n := rand.Uint64N(50)
				p.WakeWait.Buckets[b] += n
				p.WakeWait.Count += n
			}
			p.WakeWait.Sum += rand.N(time.Millisecond)
		}
	}
}
