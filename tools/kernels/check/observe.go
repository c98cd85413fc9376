//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
	"github.com/p-scope/p-scope/tools/kernels/account"
)

// settle is how long the agent has, once it shows a program, for its probes and for what it learns of a new target.
const settle = 3 * time.Second

// observe has a program do its work and compares what it says with what the agent says of the same time.
func (a *agent) observe(ctx context.Context, p *program, seconds float64, t *account.Target) error {
	// Searching a program's code for its layout takes an emulated machine minutes.
	err := a.until(ctx, 10*time.Minute, "target", func() (bool, error) {
		found, err := a.target(ctx, p.pid())
		if found == nil {
			return false, err
		}
		t.Source, t.Layout, t.Reason = found.Source, found.Layout, found.Reason
		return true, nil
	})
	if err != nil {
		return err
	}
	if t.Source == "refused" {
		return nil
	}
	time.Sleep(settle)
	if err := a.mixed(ctx, p, seconds, t); err != nil {
		return err
	}
	if err := a.queued(ctx, p, seconds/2, t); err != nil {
		return err
	}
	// What is known of the target may have changed: probes that could not be attached, for one.
	found, err := a.target(ctx, p.pid())
	if err == nil && found != nil {
		t.Source, t.Layout, t.Reason = found.Source, found.Layout, found.Reason
	}
	return err
}

// edge is a moment at which the program is at rest: what the agent says, between two counts of the program's.
type edge struct {
	before, after account.Counters
	*scrape
}

func (a *agent) edge(ctx context.Context, p *program) (e edge, err error) {
	if err := p.ask(account.Count, &e.before); err != nil {
		return e, err
	}
	// A stop is shown when both of its probes' events have been read.
	time.Sleep(time.Second)
	if e.scrape, err = a.scrape(ctx); err != nil {
		return e, err
	}
	return e, p.ask(account.Count, &e.after)
}

// mixed compares shares of time, stops and losses.
func (a *agent) mixed(ctx context.Context, p *program, seconds float64, t *account.Target) error {
	begin, err := a.edge(ctx, p)
	if err != nil {
		return err
	}
	var own account.Times
	if err := p.ask(fmt.Sprintf("%s %g", account.Mixed, seconds), &own); err != nil {
		return err
	}
	end, err := a.edge(ctx, p)
	if err != nil {
		return err
	}
	shares(begin.scrape, end.scrape, p.pid(), own, t)
	stops(begin, end, p.pid(), t)
	waits(begin.scrape, end.scrape, p.pid(), t)
	t.Lost = end.growth(begin.scrape, "pscope_lost_events_total", p.pid(), "reason")
	t.Reconciled = end.growth(begin.scrape, "pscope_reconciliations_total", p.pid(), "reason")
	return nil
}

// shares compares times of states. Between the edges and its work the program is at rest, and its Ps are idle.
func shares(begin, end *scrape, pid int, own account.Times, t *account.Target) {
	seen := end.growth(begin, "pscope_p_seconds_total", pid, "state")
	all := 0.0
	for _, v := range seen {
		all += v
	}
	if all == 0 {
		return
	}
	// Each scrape was answered at some moment between its begin and its end.
	most, least := end.ended.Sub(begin.began).Seconds()*account.Ps, end.began.Sub(begin.ended).Seconds()*account.Ps
	t.SumError = max(all-most, least-all, 0) / all
	t.Seconds = all
	t.OnCPU = end.growth(begin, "pscope_p_thread_seconds_total", pid, "thread_state")["running"]
	busy := own.Wall - own.Idle
	// For the runtime a P is taken from when it is handed to an M; for P-Scope it is idle until that M runs.
	handed := 0.0
	_, sum := end.histogram("pscope_p_wake_wait_seconds", pid, "process_pid")
	_, sum0 := begin.histogram("pscope_p_wake_wait_seconds", pid, "process_pid")
	for by := range sum {
		handed += sum[by] - sum0[by]
	}
	share := func(own, seen float64) account.Share { return account.Share{Own: own / all, Seen: seen / all} }
	t.Shares = map[string]account.Share{
		"idle":    share(all-busy, seen["idle"]-handed),
		"gc":      share(own.GC, seen["gc"]),
		"syscall": share(own.Calls, seen["syscall"]),
		// The runtime counts a stop as busy time of all Ps.
		"running": share(busy-own.GC-own.Calls, seen["running"]+seen["gcstop"]+handed),
	}
}

// stops compares counts. A family that is absent has not been measured.
func stops(begin, end edge, pid int, t *account.Target) {
	between := func(count func(account.Counters) uint64) account.Range {
		return account.Range{Least: count(end.before) - count(begin.after),
			Most: count(end.after) - count(begin.before)}
	}
	t.RuntimeGC = between(func(c account.Counters) uint64 { return c.GC })
	t.RuntimeStops = between(func(c account.Counters) uint64 { return c.GC + c.Other })
	const family = "pscope_stop_seconds"
	n, _ := end.histogram(family, pid, "reason")
	if len(n) == 0 {
		return
	}
	before, _ := begin.histogram(family, pid, "reason")
	t.Stops = &account.Stops{ByReason: map[string]uint64{}}
	for reason, k := range n {
		if k -= before[reason]; k == 0 {
			continue
		}
		t.Stops.ByReason[reason] = k
		t.Stops.All += k
		if pstate.ForGC(reason) {
			t.Stops.GC += k
		}
	}
}

func waits(begin, end *scrape, pid int, t *account.Target) {
	const family = "pscope_p_wake_wait_seconds"
	n, sum := end.histogram(family, pid, "process_pid")
	if len(n) == 0 {
		return
	}
	n0, sum0 := begin.histogram(family, pid, "process_pid")
	w := &account.Waits{}
	for by := range n {
		w.N += n[by] - n0[by]
		w.Mean += sum[by] - sum0[by]
	}
	if w.N > 0 {
		w.Mean /= float64(w.N)
	}
	t.WakeWaits = w
}

// queued scrapes the depths of run queues while it is known how many goroutines wait.
func (a *agent) queued(ctx context.Context, p *program, seconds float64, t *account.Target) error {
	asked := make(chan error, 1)
	go func() {
		var own account.Times
		asked <- p.ask(fmt.Sprintf("%s %g", account.Queue, seconds), &own)
	}()
	// The first goroutines have begun by then, and none has ended by the end of the last scrape that counts.
	whole := time.Duration(seconds * float64(time.Second))
	end := time.Now().Add(whole * 3 / 4)
	time.Sleep(whole / 4)
	for {
		s, err := a.scrape(ctx)
		if err != nil {
			return err
		}
		if s.ended.After(end) {
			break
		}
		if q := s.queues(p.pid()); q != nil {
			t.Queues = append(t.Queues, q)
		}
		time.Sleep(150 * time.Millisecond)
	}
	return <-asked
}
