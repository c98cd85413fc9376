//go:build linux

package history

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/confine"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/store"
	"github.com/p-scope/p-scope/pkg/store/promapi"
)

// ChildOptions of the process that the agent starts.
type ChildOptions struct {
	// Attend is called when a request begins, and what it gives when that has been answered; nil: nobody is told.
	Attend func() (answered func())
	// Log gives the log of a level; nil: nothing is logged.
	Log func(slog.Level) *slog.Logger
	// Folded counts the messages that this log did not write one by one; nil: it writes all.
	Folded func() uint64
}

// RunChild is the whole life of the process that keeps the history. It returns when the agent closes the stream, is
// gone, or when the database has to be opened anew.
func RunChild(o ChildOptions) error {
	stream, err := connOf(os.NewFile(samplesFD, "history-samples"))
	if err != nil {
		return fmt.Errorf("the agent starts this command for itself, with descriptors that are not there now: %w", err)
	}
	requests, err := connOf(os.NewFile(requestFD, "history-requests"))
	if err != nil {
		return fmt.Errorf("the agent starts this command for itself, with descriptors that are not there now: %w", err)
	}
	// A reader of single bytes, so that gob takes no more than its own value.
	in := bufio.NewReaderSize(stream, 64<<10)
	var set setup
	if err := gob.NewDecoder(in).Decode(&set); err != nil {
		return fmt.Errorf("no settings from the agent: %w", err)
	}
	log := slog.New(slog.DiscardHandler)
	if o.Log != nil {
		log = o.Log(set.LogLevel)
	}
	if err := capMemory(set.MemoryLimit); err != nil {
		log.Warn("the kernel does not bound the memory of the history", "err", err)
	}
	k := &keeper{opts: o, log: log, set: set, out: gob.NewEncoder(stream)}
	srv := &http.Server{Handler: k.handler(), ReadHeaderTimeout: 10 * time.Second, ErrorLog: quietLog()}
	go func() { _ = srv.Serve(listener{requests}) }()
	defer srv.Close()

	if set.Confine {
		measures := confined(set.Dir)
		_ = k.report(func(r *report) { r.Measures = measures })
		k.last.Measures = nil
	}
	if !k.open() {
		return nil
	}
	defer k.close()
	var buf []byte
	for {
		var next second
		if err := readSecond(in, &next, &buf); err != nil {
			k.store.End() // the agent has ended, or has been killed
			return nil
		}
		err := k.store.Append(time.UnixMilli(next.Due), &next.Snap)
		if errors.Is(err, store.ErrReopen) {
			k.report(func(r *report) { r.Open, r.Reopen = false, true })
			return nil
		}
		if err != nil {
			k.warn(err)
		}
		if err := k.report(func(r *report) { r.Acked = next.Seq }); err != nil {
			k.store.End()
			return nil
		}
	}
}

// confined gives up what the child does not need. The directory must be there before; where it can't be made, opening
// the database says why, so files and network are left as they are.
func confined(dir string) []confine.Measure {
	if err := os.MkdirAll(dir, store.DirMode); err != nil {
		return confine.History()
	}
	// Where the directory can't be used the history goes into a temporary one.
	return confine.History(dir, os.TempDir())
}

// keeper is the child's state.
type keeper struct {
	opts   ChildOptions
	log    *slog.Logger
	set    setup
	temp   string // a directory to remove at the end
	warned time.Time

	mu   sync.Mutex // guards what follows
	out  *gob.Encoder
	last report
	// These are nil until the database is open. They are set once, under mu; the goroutine that sets them reads them
	// without it.
	store   *store.Store
	api     *promapi.API
	answers http.Handler // the api's
}

// open opens the database; while it waits for room on the disk it says so once a second. false: the agent is gone.
func (k *keeper) open() bool {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_ = k.report(func(*report) {})
			}
		}
	})
	defer func() { close(stop); wg.Wait() }()
	so := store.Options{
		Dir: k.set.Dir, Host: k.set.Host, Version: k.set.Version, Interval: k.set.Interval,
		Retention: k.set.Retention, MaxBytes: k.set.MaxBytes, Log: k.log,
	}
	for began := time.Now(); ; {
		s, err := store.Open(so)
		if err == nil {
			k.ready(s)
			return true
		}
		switch {
		case errors.Is(err, store.ErrNoRoom):
			// Nothing can be kept anywhere else that would last; it goes on when there is room.
			if k.report(func(r *report) { r.Conditions = []store.Condition{store.NoRoom(so.Dir, err)} }) != nil {
				return false
			}
			time.Sleep(time.Second)
			continue
		case store.DiskFails(err) && hasHistory(so.Dir):
			// What is kept there would be out of sight, and what comes would be lost at the end, if it went anywhere
			// else.
			if k.report(func(r *report) { r.Conditions = []store.Condition{store.FailingDisk(so.Dir, err)} }) != nil {
				return false
			}
			time.Sleep(time.Second)
			continue
		case errors.Is(err, store.ErrInUse) && time.Since(began) < 5*time.Second:
			time.Sleep(100 * time.Millisecond) // the process before this one is still closing it
			continue
		case k.temp == "":
			k.log.Error("the data directory can't be used; the history is kept in a temporary one and lost at the end",
				"err", err)
			if k.report(func(r *report) {
				r.Conditions = []store.Condition{{What: "lasting history", Why: err.Error(),
					Fix: "start the agent with a --data-dir that it can write"}}
			}) != nil {
				return false
			}
			if so.Dir, err = os.MkdirTemp("", "pscope-data-"); err == nil {
				k.temp = so.Dir
				continue
			}
		}
		k.log.Error("not even a temporary directory can be used; there is no history", "err", err)
		if k.report(func(r *report) {
			r.Conditions = []store.Condition{{What: "history", Why: err.Error(),
				Fix: "start the agent with a --data-dir that it can write"}}
		}) != nil {
			return false
		}
		time.Sleep(10 * time.Second)
		so.Dir, k.temp = k.set.Dir, ""
	}
}

// hasHistory says whether a history was kept in a directory before.
func hasHistory(dir string) bool {
	fi, err := os.Stat(filepath.Join(dir, "raw"))
	return err == nil && fi.IsDir()
}

// ready serves the open database.
func (k *keeper) ready(s *store.Store) {
	k.mu.Lock()
	k.store = s
	k.api = promapi.New(s, promapi.Options{Version: k.set.Version, MemoryLimit: k.set.MemoryLimit, Log: k.log})
	k.answers = k.api.Handler()
	k.mu.Unlock()
	_ = k.report(func(r *report) {
		r.Open = true
		if k.temp == "" {
			r.Conditions = nil
		}
	})
}

// report tells the agent how things are. The error is that nobody is left to tell.
func (k *keeper) report(change func(r *report)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	change(&k.last)
	r := k.last
	self := metrics.Self()
	r.CPU, r.Resident = self["process_cpu_seconds_total"], self["process_resident_memory_bytes"]
	if k.opts.Folded != nil {
		r.Folded = k.opts.Folded()
	}
	if k.store != nil {
		r.Losses, r.Samples, r.ClockSteps = k.store.Losses(), k.store.LastSamples(), k.store.ClockSteps()
		r.Conditions = append(append([]store.Condition(nil), r.Conditions...), k.store.Conditions()...)
	}
	return k.out.Encode(r)
}

// warn logs the first failure at once and then one a minute.
func (k *keeper) warn(err error) {
	if now := time.Now(); now.Sub(k.warned) > time.Minute {
		k.warned = now
		k.log.Error("history not written", "err", err)
	}
}

func (k *keeper) handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		answers := k.answers
		k.mu.Unlock()
		if answers == nil {
			unavailable(w, "the history is being opened; ask again later")
			return
		}
		if k.opts.Attend != nil {
			defer k.opts.Attend()()
		}
		answers.ServeHTTP(w, r)
	})
}

// close closes the database and removes a temporary one.
func (k *keeper) close() {
	if err := errors.Join(k.api.Close(), k.store.Close()); err != nil {
		k.log.Error("the history was not closed cleanly; it is repaired at the next start", "err", err)
	}
	if k.temp != "" {
		_ = os.RemoveAll(k.temp)
	}
}
