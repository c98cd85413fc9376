package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Run appends what gather gives, once every Options.Interval, until ctx is done; then it marks every series as ended.
// What can't be written is counted (Losses) and tried again with the next interval, so a disk that was full heals by
// itself.
func (s *Store) Run(ctx context.Context, gather func(now time.Time) metrics.Snapshot) {
	for {
		now := time.Now()
		next := now.Truncate(s.opts.Interval).Add(s.opts.Interval)
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			s.End()
			return
		case <-timer.C:
		}
		snap := gather(time.Now())
		if err := s.Append(next, &snap); err != nil {
			s.warn(err)
		}
	}
}

// tolerance is how far a moment may be from its place on the grid to be put there: samples at exactly even intervals
// take a fraction of the room. Prometheus does the same with what it scrapes.
const tolerance = 2

// Append writes one snapshot, taken at due or soon after. It fails if nothing, or not all, could be written. ErrReopen:
// nothing was written; the Store has to be closed and opened anew, then the same snapshot is written.
func (s *Store) Append(due time.Time, snap *metrics.Snapshot) error {
	at := due.UnixMilli()
	if len(snap.Views) > 0 {
		last := snap.Views[0].At
		for i := range snap.Views {
			last = max(last, snap.Views[i].At)
		}
		taken := (last + 5e5) / 1e6
		// Further away than a sample's distance is no lateness: one of the two was taken before the clock was set.
		if off := taken - at; (off < -tolerance || off > tolerance) && max(off, -off) < s.opts.Interval.Milliseconds() {
			at = taken
		}
	}
	if err := s.writable(); err != nil {
		return err
	}
	if skip, err := s.checkClock(at); skip || err != nil {
		return err
	}
	s.lastAt = at
	old := s.admit(olderThan(snap, s.minAge()))
	n, err := s.raw.append(s, at, &old)
	if errors.Is(err, ErrReopen) {
		return err // the same snapshot comes once more, and must be new to both
	}
	if at-s.coarse.last >= s.coarse.every.Milliseconds()-tolerance {
		old = olderThan(&old, s.coarse.every)
		_, coarseErr := s.coarse.append(s, at, &old)
		err = errors.Join(err, coarseErr)
	}
	s.lossMu.Lock()
	s.samples = uint64(n)
	s.lossMu.Unlock()
	return err
}

// reopenAfter is how long databases are open at least before a query that came past damage makes them be opened anew.
const reopenAfter = 10 * time.Second

// writable says whether the disk has room and the databases are whole. What a failed write left behind is torn:
// whatever is written after it would be cut off by the next start, without a word. So nothing is, until opening the
// databases anew has cut the torn end away.
func (s *Store) writable() error {
	if err := s.disk.room(); err != nil {
		s.countLoss(loss.HistoryDiskFull, max(1, s.LastSamples()))
		s.set(NoRoom(s.opts.Dir, err))
		return err
	}
	if s.broken == nil {
		s.unset(noRoom)
		if s.suspect.Load() && time.Since(s.opened) >= reopenAfter && s.askReadAll() == nil {
			return ErrReopen
		}
		return nil
	}
	return ErrReopen
}

// crowdedAge is the age of targets that enter a crowded history.
const crowdedAge = time.Minute

func (s *Store) minAge() time.Duration {
	if s.raw.db.Head().NumSeries() > s.opts.CrowdedSeries {
		return max(s.opts.MinAge, crowdedAge)
	}
	return s.opts.MinAge
}

// admit leaves out targets that are new to a full history. Those that have been in it go on.
func (s *Store) admit(snap metrics.Snapshot) metrics.Snapshot {
	full := s.raw.db.Head().NumSeries() > s.opts.MaxSeries
	views := snap.Views[:0]
	admitted := make(map[pstate.Key]bool, len(snap.Views))
	for _, v := range snap.Views {
		if full && !s.admitted[v.Key] {
			if !s.leftOut[v.Key] {
				s.leftOut[v.Key] = true
				s.countLoss(loss.TargetLeftOut, 1)
			}
			continue
		}
		admitted[v.Key] = true
		views = append(views, v)
	}
	snap.Views = views
	s.admitted = admitted
	if !full {
		clear(s.leftOut)
	}
	return snap
}

// olderThan gives what the snapshot has of targets that are at least as old as age. By their process's start, not by
// when this agent found them: one that takes the place of a killed agent has nothing to wait for. Where the start is
// not known, or lies ahead because the clock was set, it is since when they are observed.
func olderThan(snap *metrics.Snapshot, age time.Duration) metrics.Snapshot {
	out := *snap
	out.Views, out.Targets = make([]pstate.TargetView, 0, len(snap.Views)), make([]pstate.Target, 0, len(snap.Targets))
	kept := make(map[pstate.Key]bool, len(snap.Views))
	for i := range snap.Views {
		v := &snap.Views[i]
		if len(v.Ps) == 0 {
			continue
		}
		since := v.Ps[0].FirstSeen
		if !v.Started.IsZero() {
			since = min(since, v.Started.UnixNano())
		}
		if v.At-since >= int64(age) {
			out.Views = append(out.Views, *v)
			kept[v.Key] = true
		}
	}
	for _, t := range snap.Targets {
		if kept[t.Key] || t.Source == pstate.SourceRefused && time.Since(t.Started) >= age {
			out.Targets = append(out.Targets, t)
		}
	}
	return out
}

func (d *database) append(s *Store, at int64, snap *metrics.Snapshot) (written int, err error) {
	d.last = at
	app := d.db.AppenderV2(context.Background())
	n, refused, err := d.recorder.Record(app, at, snap)
	if cerr := app.Commit(); cerr != nil {
		s.broken = cerr
		s.set(Condition{What: "history", Why: fmt.Sprintf("a write to %s failed: %v", s.opts.Dir, cerr),
			Fix: "it is opened anew by itself; see whether the disk is whole"})
		if !fullDisk(cerr) {
			return 0, ErrReopen // nothing is lost yet: the state is written when the databases have been opened anew
		}
		s.countLoss(loss.HistoryDiskFull, uint64(n+refused))
		return 0, fmt.Errorf("%d samples of the %s history were not written: %w; %s",
			n+refused, d.name, cerr, remedy(cerr, s.opts.Dir))
	}
	if refused > 0 {
		s.countLoss(loss.HistoryRefused, uint64(refused))
		return n, fmt.Errorf("the %s history refused %d of %d samples, the first because: %w",
			d.name, refused, n+refused, err)
	}
	return n, nil
}

func (s *Store) countLoss(reason string, n uint64) {
	s.lossMu.Lock()
	s.losses[reason] += n
	s.lossMu.Unlock()
}

// warn logs the first failure at once and then one a minute.
func (s *Store) warn(err error) {
	if now := time.Now(); now.Sub(s.warned) > time.Minute {
		s.warned = now
		s.opts.Log.Error("history not written", "err", err)
	}
}

// Losses counts samples that could not be written since Open, by reason.
func (s *Store) Losses() map[string]uint64 {
	s.lossMu.Lock()
	defer s.lossMu.Unlock()
	return maps.Clone(s.losses)
}

// ClockSteps is how often the clock was set since Open.
func (s *Store) ClockSteps() uint64 {
	s.lossMu.Lock()
	defer s.lossMu.Unlock()
	return s.steps
}

// LastSamples is how many samples the last state had: as many are missing where one could not be written.
func (s *Store) LastSamples() uint64 {
	s.lossMu.Lock()
	defer s.lossMu.Unlock()
	return s.samples
}

// End marks every series as ended, so that the agent's absence is seen at once. Nothing is appended after it.
func (s *Store) End() {
	if s.broken != nil || s.disk.room() != nil {
		return
	}
	for _, l := range []*database{s.raw, s.coarse} {
		app := l.db.AppenderV2(context.Background())
		err := l.recorder.End(app, max(time.Now().UnixMilli(), s.lastAt+1))
		if cerr := app.Commit(); err != nil || cerr != nil {
			s.opts.Log.Warn("series not marked as ended", "history", l.name, "err", errors.Join(err, cerr))
		}
	}
}
