//go:build linux

package history

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/internal/confine"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/store"
)

// How long the agent waits for its child.
const (
	firstPause = 200 * time.Millisecond // before a child that ended is started again; doubles up to
	maxPause   = 30 * time.Second
	shortLife  = 10 * time.Second // after a life as short a child that wants to begin anew waits, too
	longLife   = time.Minute      // after a life as long the pause is the first again
	hungAfter  = 2 * time.Minute  // without a sign, while something waits to be written: it is killed
	slowAfter  = 10 * time.Second // the same: the agent says so
	endWithin  = 5 * time.Second  // to write the last sample and close
)

// Options of a Supervisor.
type Options struct {
	// Store is where and how the history is kept. Of its fields Dir, Host, Version, Interval, Retention and MaxBytes count.
	Store store.Options
	// MemoryLimit bounds the child's anonymous memory, bytes; 0: no limit.
	MemoryLimit int64
	// LogLevel is what the child logs, to the agent's standard error.
	LogLevel slog.Level
	// Stderr is where the child's log goes; nil: the agent's standard error.
	Stderr io.Writer
	// Confine makes the child give up what it does not need: see pkg/internal/confine.
	Confine bool
	// Command is the child's command line; nil: this program with the argument "history".
	Command []string
	Log     *slog.Logger
}

// Supervisor starts the process that keeps the history, hands samples over and passes queries on. Nothing it does waits for a disk.
type Supervisor struct {
	opts  Options
	log   *slog.Logger
	queue *queue
	ended chan struct{} // the last child is gone

	mu       sync.Mutex
	logLevel slog.Level    // of the next child
	child    *child        // nil while none runs
	changed  chan struct{} // closed when child or its state changes
	why      string        // why there is none, or why the last one ended
	restarts uint64
	losses   map[string]uint64 // of the children that ended
	lastCPU  float64           // the same
	steps    uint64            // the same: of the clock
	folded   uint64            // the same: messages that were not logged one by one
	stepped  store.Condition   // the last step's, which outlives the child that met it
	stepAt   time.Time
}

// child is one life of the process.
type child struct {
	cmd     *exec.Cmd
	stream  *net.UnixConn
	proxy   http.Handler
	close   func()
	started time.Time

	// Guarded by Supervisor.mu.
	last     report
	heard    time.Time // when the last report came
	measures []confine.Measure
	waiting  time.Time // since when seconds wait for an answer; zero: none does
}

// Start starts the child. Close ends it; Run does so too.
func Start(o Options) *Supervisor {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Store.Interval <= 0 {
		o.Store.Interval = time.Second
	}
	if len(o.Command) == 0 {
		o.Command = []string{"/proc/self/exe", "history"}
	}
	s := &Supervisor{
		opts: o, log: o.Log, queue: newQueue(), ended: make(chan struct{}), changed: make(chan struct{}), losses: make(map[string]uint64),
		why: "it is being started", logLevel: o.LogLevel,
	}
	go s.keep()
	return s
}

// Run hands over what gather gives, once every Options.Store.Interval, until ctx is done; then it lets the child end.
func (s *Supervisor) Run(ctx context.Context, gather func(now time.Time) metrics.Snapshot) {
	for {
		now := time.Now()
		next := now.Truncate(s.opts.Store.Interval).Add(s.opts.Store.Interval)
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			s.Close()
			return
		case <-timer.C:
		}
		// Where the agent was stopped or starved since, the state is that of now and not of when it was due.
		if late := time.Now().Truncate(s.opts.Store.Interval); late.After(next) {
			next = late
		}
		at, snap := gathered(next, gather)
		for i := range snap.Views {
			snap.Views[i].Threads = nil // no metric is made of them
		}
		s.queue.put(at.UnixMilli(), snap)
		s.watch()
	}
}

const (
	apart   = 100 * time.Millisecond // by which the views of a state, or the state and its time, may differ
	gathers = 3                      // tries to get views of one moment
)

// gathered gives a state and the time that it is stored under: the one it was due at, unless the agent had to wait for
// a CPU while it was gathered. Then it is that of the last view, or a state of 1.9 seconds would be stored as of one
// second. Views that are far apart, for the same reason, are gathered anew.
func gathered(due time.Time, gather func(now time.Time) metrics.Snapshot) (time.Time, metrics.Snapshot) {
	for try := 1; ; try++ {
		snap := gather(time.Now())
		var first, last int64
		for i := range snap.Views {
			at := snap.Views[i].At
			if i == 0 || at < first {
				first = at
			}
			last = max(last, at)
		}
		if last-first > int64(apart) && try < gathers {
			continue
		}
		if late := time.Unix(0, last); late.Sub(due) > apart {
			due = late
		}
		return due, snap
	}
}

// Close lets the child write what it has got and end; it is killed when that takes too long.
func (s *Supervisor) Close() {
	s.queue.close()
	select {
	case <-s.ended:
	case <-time.After(endWithin + time.Second):
		// It hangs in the kernel, on a disk that does not answer. The kernel ends it when the disk does; nothing here waits for that.
		s.log.Error("the history process can't be ended: its disk does not answer", "pid", s.pid())
	}
}

// SetLogLevel changes what the next child logs; the present one goes on as it was told.
func (s *Supervisor) SetLogLevel(l slog.Level) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logLevel = l
}

func (s *Supervisor) pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return 0
	}
	return s.child.cmd.Process.Pid
}

// keep starts child after child until there is nothing more to write.
func (s *Supervisor) keep() {
	defer close(s.ended)
	pause := firstPause
	for {
		begun := time.Now()
		reopen, err := s.live()
		if _, _, over := s.queue.after(^uint64(0)); over {
			return
		}
		s.mu.Lock()
		s.restarts++
		s.mu.Unlock()
		if reopen {
			// One that can't write, however often it is opened anew, must not keep the machine busy with that.
			if time.Since(begun) < shortLife {
				s.wait(pause)
				pause = min(2*pause, maxPause)
			} else {
				pause = firstPause
			}
			continue
		}
		if time.Since(begun) > longLife {
			pause = firstPause
		}
		s.log.Error("the history process ended; live views go on, and it is started again", "why", err, "in", pause)
		s.wait(pause)
		pause = min(2*pause, maxPause)
	}
}

// wait sleeps, but not beyond the end of the agent.
func (s *Supervisor) wait(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if _, _, over := s.queue.after(^uint64(0)); over {
			return
		}
	}
}

// live is one child from its start to its end. reopen: it ended because it wants to begin anew.
func (s *Supervisor) live() (reopen bool, err error) {
	c, err := s.start()
	if err != nil {
		s.note(nil, err.Error())
		return false, err
	}
	exited := make(chan error, 1)
	go func() { exited <- c.cmd.Wait() }()
	s.note(c, "")
	var wg sync.WaitGroup
	over := make(chan struct{})
	wg.Go(func() { s.send(c, over) })
	wg.Go(func() { s.receive(c) })
	err = <-exited
	close(over)
	_ = c.stream.Close()
	c.close()
	wg.Wait()

	s.mu.Lock()
	for reason, n := range c.last.Losses {
		s.losses[reason] += n
	}
	s.lastCPU += c.last.CPU
	s.steps += c.last.ClockSteps
	s.folded += c.last.Folded
	if c.last.ClockSteps > 0 {
		for _, cond := range c.last.Conditions {
			if cond.What == store.ClockStepped {
				s.stepped, s.stepAt = cond, time.Now()
			}
		}
	}
	reopen = c.last.Reopen
	s.mu.Unlock()
	if err == nil {
		err = errors.New("it ended by itself")
	}
	s.note(nil, err.Error())
	return reopen, err
}

// start starts a child and gives it its settings.
func (s *Supervisor) start() (*child, error) {
	stream, theirStream, err := pair(unix.SOCK_STREAM, "history-samples")
	if err != nil {
		return nil, err
	}
	defer theirStream.Close()
	requests, theirRequests, err := pair(unix.SOCK_SEQPACKET, "history-requests")
	if err != nil {
		_ = stream.Close()
		return nil, err
	}
	defer theirRequests.Close()
	c := &child{started: time.Now()}
	c.cmd = exec.Command(s.opts.Command[0], s.opts.Command[1:]...)
	c.cmd.Args[0] = "pscope"
	c.cmd.Stderr = os.Stderr
	if s.opts.Stderr != nil {
		c.cmd.Stderr = s.opts.Stderr
		c.cmd.WaitDelay = time.Second // what is left in the pipe of a child that has ended
	}
	c.cmd.ExtraFiles = []*os.File{theirStream, theirRequests}
	c.cmd.Env = environment(s.opts.MemoryLimit)
	over, err := connOf(requests)
	if err == nil {
		c.stream, err = connOf(stream)
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the history process: %w", err)
	}
	transport := &http.Transport{DialContext: (&dialer{over: over}).dial, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute, DisableCompression: true}
	c.proxy = s.newProxy(transport)
	c.close = func() {
		transport.CloseIdleConnections()
		_ = over.Close()
	}
	return c, nil
}

// send writes setup and every second to the child.
func (s *Supervisor) send(c *child, over <-chan struct{}) {
	o := s.opts.Store
	s.mu.Lock()
	level := s.logLevel
	s.mu.Unlock()
	out := gob.NewEncoder(c.stream)
	if out.Encode(setup{o.Dir, o.Host, o.Version, o.Interval, o.Retention, o.MaxBytes, s.opts.MemoryLimit,
		level, s.opts.Confine}) != nil {
		return // the child is gone, or will be killed
	}
	var sent uint64
	var buf []byte
	for {
		next, ok, ended := s.queue.after(sent)
		if ok {
			s.mu.Lock()
			if c.waiting.IsZero() {
				c.waiting = time.Now()
			}
			s.mu.Unlock()
			switch err := writeSecond(c.stream, &next, &buf); {
			case errors.Is(err, errLarge):
				s.queue.refuse(next.Seq)
			case err != nil:
				return
			}
			sent = next.Seq
			continue
		}
		if ended {
			_ = c.stream.CloseWrite() // it writes the last and ends
			select {
			case <-over:
			case <-time.After(endWithin):
				_ = c.cmd.Process.Kill()
			}
			return
		}
		select {
		case <-s.queue.more:
		case <-over:
			return
		}
	}
}

// receive takes the child's reports.
func (s *Supervisor) receive(c *child) {
	in := gob.NewDecoder(c.stream)
	for {
		var r report
		if in.Decode(&r) != nil {
			return
		}
		s.queue.ack(r.Acked)
		waiting, _ := s.queue.state()
		s.mu.Lock()
		if r.Acked > c.last.Acked || waiting == 0 {
			c.waiting = time.Time{}
			if waiting > 0 {
				c.waiting = time.Now()
			}
		}
		opened := r.Open != c.last.Open
		if r.Measures != nil {
			c.measures = r.Measures
		}
		c.last, c.heard = r, time.Now()
		if opened {
			s.signal()
		}
		s.mu.Unlock()
	}
}

// Measures are what the present child gave up; nil: none runs, or it was not asked to.
func (s *Supervisor) Measures() []confine.Measure {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return nil
	}
	return s.child.measures
}

// note says which child runs now, and why none does.
func (s *Supervisor) note(c *child, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.child, s.why = c, why
	s.signal()
}

// signal wakes those who wait for a change; the caller holds mu.
func (s *Supervisor) signal() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// watch kills a child that no longer answers.
func (s *Supervisor) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.child; c != nil && c.last.Open && !c.waiting.IsZero() && time.Since(c.waiting) > hungAfter {
		s.log.Error("the history process has not answered for long and is ended", "pid", c.cmd.Process.Pid, "seconds", int(time.Since(c.waiting).Seconds()))
		_ = c.cmd.Process.Kill()
		c.waiting = time.Now() // the kernel may take its time
	}
}

// Losses counts samples that did not reach the history, by reason.
func (s *Supervisor) Losses() map[string]uint64 {
	_, dropped := s.queue.state()
	s.mu.Lock()
	defer s.mu.Unlock()
	out := maps.Clone(s.losses)
	if s.child != nil {
		for reason, n := range s.child.last.Losses {
			out[reason] += n
		}
	}
	if dropped > 0 {
		out[loss.HistoryBehind] += dropped
	}
	return out
}

// Folded counts the messages that the children did not log one by one.
func (s *Supervisor) Folded() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.child == nil {
		return s.folded
	}
	return s.folded + s.child.last.Folded
}

// Self gives what the child uses of the machine, by metric name.
func (s *Supervisor) Self() map[string]float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]float64{"pscope_history_restarts_total": float64(s.restarts), "pscope_history_up": 0}
	cpu, steps := s.lastCPU, s.steps
	if s.child != nil {
		cpu += s.child.last.CPU
		steps += s.child.last.ClockSteps
		out["pscope_history_resident_memory_bytes"] = s.child.last.Resident
		if writes(&s.child.last) {
			out["pscope_history_up"] = 1
		}
	}
	out["pscope_history_cpu_seconds_total"], out["pscope_history_clock_steps_total"] = cpu, float64(steps)
	return out
}

// Conditions says what is wrong with the history now, and what the user does about it.
func (s *Supervisor) Conditions() []store.Condition {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.child
	switch {
	case c == nil:
		return []store.Condition{{What: "history", Why: "the process that keeps it is not running: " + s.why, Fix: "it is started again by itself; the agent's log says what ended it"}}
	case !c.waiting.IsZero() && time.Since(c.waiting) > slowAfter:
		return append([]store.Condition{{What: "history", Why: fmt.Sprintf("its process has not written anything for %d s", int(time.Since(c.waiting).Seconds())),
			Fix: "see whether the disk of --data-dir (" + s.opts.Store.Dir + ") answers"}}, c.last.Conditions...)
	}
	out := slices.Clone(c.last.Conditions)
	stepped := func(c store.Condition) bool { return c.What == store.ClockStepped }
	if !s.stepAt.IsZero() && time.Since(s.stepAt) < stepShown && !slices.ContainsFunc(out, stepped) {
		out = append(out, s.stepped)
	}
	return out
}

// stepShown is how long a step of the clock is shown after the child that met it was replaced.
const stepShown = time.Hour

// writes says whether a child that reports this writes and answers.
func writes(r *report) bool {
	return r.Open && !slices.ContainsFunc(r.Conditions,
		func(c store.Condition) bool { return c.What != store.ClockStepped && c.What != store.Damaged })
}

// serving gives the child once its database is open, or waits for it.
func (s *Supervisor) serving(ctx context.Context) (http.Handler, error) {
	for {
		s.mu.Lock()
		c, changed, why := s.child, s.changed, s.why
		open := c != nil && c.last.Open
		if c != nil && len(c.last.Conditions) > 0 {
			why = c.last.Conditions[0].Why
		}
		s.mu.Unlock()
		if open {
			return c.proxy, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if why == "" {
				why = "its database is still being opened"
			}
			return nil, errors.New(why)
		}
	}
}
