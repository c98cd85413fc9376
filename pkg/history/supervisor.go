//go:build linux

package history

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

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
	// Store is where and how the history is kept. Of its fields Dir, Host, Version, Interval, Retention and MaxBytes
	// count.
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

// Supervisor starts the process that keeps the history, hands samples over and passes queries on. Nothing it does waits
// for a disk.
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
		opts: o, log: o.Log, queue: newQueue(), ended: make(chan struct{}), changed: make(chan struct{}),
		losses: make(map[string]uint64),
		why:    "it is being started", logLevel: o.LogLevel,
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

// Close lets the child write what it has got and end; it is killed when that takes too long.
func (s *Supervisor) Close() {
	s.queue.close()
	select {
	case <-s.ended:
	case <-time.After(endWithin + time.Second):
		// It hangs in the kernel, on a disk that does not answer. The kernel ends it when the disk does; nothing here
		// waits for that.
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
