package store

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/p-scope/p-scope/pkg/loss"
)

// clockSlack is how far the clock may be put right without further ado: samples wait until it has passed the last one
// again.
const clockSlack = 5 * time.Second

// oldestState is how old a state that waits to be written may be when the databases are opened.
const oldestState = 30 * time.Second

// stepShown is how long a step of the clock is shown as a condition.
const stepShown = time.Hour

// ClockStepped is What of the condition that names a step of the clock.
const ClockStepped = "history without a gap"

// checkClock compares the moment of a state with the one before. skip: it is not written, and that is all.
//
// A clock that was set back leaves samples ahead of it. The databases would refuse everything until it has passed them,
// so they are opened anew, which puts those samples aside (putAside). A clock that went forward leaves a gap, which is
// named.
func (s *Store) checkClock(at int64) (skip bool, err error) {
	passed := s.opts.Elapsed() - s.elapsed
	behind := time.Duration(s.lastAt-at) * time.Millisecond
	switch {
	case s.lastAt == 0:
	case behind >= 0 && at <= s.openedAt && s.lastAt == s.openedAt && behind < clockSlack:
		return true, nil // written already, by the process before this one
	case behind >= 0 && behind <= clockSlack:
		s.countLoss(loss.HistoryClockBack, max(1, s.LastSamples()))
		return true, nil
	case behind > clockSlack:
		s.step(fmt.Sprintf("the clock was set back by about %v at %s", (behind + passed).Round(time.Second), stamp(at)))
		return false, ErrReopen
	case s.lastAt > s.openedAt && -behind-passed > clockSlack:
		s.step(fmt.Sprintf("the clock went forward by %v (it was set, or the machine slept): there is nothing "+
			"from %s to %s", (-behind - passed).Round(time.Second), stamp(s.lastAt), stamp(at)))
		if s.canTakeBack() && s.askTakeBack() == nil {
			return false, ErrReopen
		}
	}
	s.elapsed += passed
	return false, nil
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05 MST") }

func (s *Store) step(why string) {
	s.opts.Log.Warn("the clock was set", "what", why)
	s.set(Condition{What: ClockStepped, Why: why,
		Fix: "nothing is to be done; if it happens often, see what sets the clock (chronyc tracking, timedatectl)"})
	s.lossMu.Lock()
	defer s.lossMu.Unlock()
	s.steps++
	s.stepAt = time.Now()
}

// forgetSteps takes an old step from the conditions; the caller holds lossMu.
func (s *Store) forgetSteps() {
	if _, ok := s.conditions[ClockStepped]; ok && time.Since(s.stepAt) > stepShown {
		delete(s.conditions, ClockStepped)
	}
}

// ahead is the directory below Dir for samples that lie in the future. They may be false, because the clock was ahead
// when they were taken; or right, because it is behind now (a machine without a battery for its clock begins in 1970).
// So they are kept, and not shown.
const ahead = "ahead"

// putAside moves what lies ahead of the clock, less oldestState, out of a database, and closes it. The log is written
// out as blocks, since a log can't be cut at a time.
func (s *Store) putAside(name string, db *tsdb.DB, o *tsdb.Options) error {
	now := s.opts.Now().Add(-oldestState).UnixMilli()
	dir, aside := filepath.Join(s.opts.Dir, name), filepath.Join(s.opts.Dir, ahead, name)
	err := s.split(db, dir, aside, now, o)
	if cerr := db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("put the samples aside that lie ahead of the clock (%s): %w", stamp(now), err)
	}
	for _, log := range []string{"wal", "wbl", "chunks_head"} {
		if err := os.RemoveAll(filepath.Join(dir, log)); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// split writes the part of the log up to now as a block into dir, and moves the rest of the log and the blocks behind
// now into aside.
func (s *Store) split(db *tsdb.DB, dir, aside string, now int64, o *tsdb.Options) error {
	if err := os.MkdirAll(aside, DirMode); err != nil {
		return err
	}
	c, err := tsdb.NewLeveledCompactorWithOptions(context.Background(), prometheus.NewRegistry(), quiet(s.opts.Log),
		[]int64{o.MinBlockDuration}, nil,
		tsdb.LeveledCompactorOptions{MaxBlockChunkSegmentSize: o.MaxBlockChunkSegmentSize})
	if err != nil {
		return err
	}
	halve := func(b tsdb.BlockReader, from, to int64) error { // to is exclusive
		if from <= now {
			if _, err := c.Write(dir, b, from, min(to, now+1), nil); err != nil {
				return err
			}
		}
		if to > now+1 {
			_, err := c.Write(aside, b, max(from, now+1), to, nil)
			return err
		}
		return nil
	}
	for _, b := range db.Blocks() {
		from, to := b.MinTime(), b.MaxTime()
		switch {
		case to <= now+1:
			continue
		case from <= now:
			if err := halve(b, from, to); err != nil {
				return err
			}
			if err := os.RemoveAll(b.Dir()); err != nil {
				return err
			}
		default:
			if err := os.Rename(b.Dir(), filepath.Join(aside, filepath.Base(b.Dir()))); err != nil {
				return err
			}
		}
	}
	h := db.Head()
	if h.NumSeries() == 0 {
		return nil
	}
	for _, r := range [][2]int64{{h.MinTime(), min(h.MaxTime(), now)}, {max(h.MinTime(), now+1), h.MaxTime()}} {
		if r[0] > r[1] {
			continue
		}
		if err := halve(tsdb.NewRangeHead(h, r[0], r[1]), r[0], r[1]+1); err != nil {
			return err
		}
	}
	return nil
}

// asideBlocks gives the blocks of a database that were put aside.
func (s *Store) asideBlocks(name string) (metas []tsdb.BlockMeta) {
	dir := filepath.Join(s.opts.Dir, ahead, name)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil {
			continue
		}
		if meta, err := readMeta(filepath.Join(dir, e.Name())); err == nil {
			metas = append(metas, meta)
		}
	}
	return metas
}

// canTakeBack says whether the clock has passed something that was put aside while nothing else was written for that
// time.
func (s *Store) canTakeBack() bool {
	for _, l := range []*database{s.raw, s.coarse} {
		for _, m := range s.asideBlocks(l.name) {
			if m.MaxTime <= s.opts.Now().UnixMilli() && m.MinTime > newest(l.db) {
				return true
			}
		}
	}
	return false
}

// takeBackMark is a file that asks the next start to take back what canTakeBack found.
const takeBackMark = "take-back"

// askTakeBack leaves the mark.
func (s *Store) askTakeBack() error {
	return os.WriteFile(filepath.Join(s.opts.Dir, ahead, takeBackMark), nil, 0o640)
}

// takeBack moves blocks back that the clock has passed, where the mark asks for it, and removes those beyond retention.
// Samples of the time in which the clock was behind are dropped by the database then, as older than its newest block.
func (s *Store) takeBack(name string) error {
	mark := filepath.Join(s.opts.Dir, ahead, takeBackMark)
	_, err := os.Stat(mark)
	asked := err == nil
	now := s.opts.Now().UnixMilli()
	for _, m := range s.asideBlocks(name) {
		from := filepath.Join(s.opts.Dir, ahead, name, m.ULID.String())
		switch {
		case asked && m.MaxTime <= now:
			to := filepath.Join(s.opts.Dir, name)
			if err := os.MkdirAll(to, DirMode); err != nil {
				return err
			}
			if err := os.Rename(from, filepath.Join(to, m.ULID.String())); err != nil {
				return err
			}
		case m.MaxTime < now-s.opts.Retention.Milliseconds():
			if err := os.RemoveAll(from); err != nil {
				return err
			}
		}
	}
	if asked && name == "coarse" { // the last of the two
		return os.Remove(mark)
	}
	return nil
}

// readMeta reads what a block says of itself (tsdb/block.go, meta.json).
func readMeta(dir string) (m tsdb.BlockMeta, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(text, &m)
}
