package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Options of a Store. The zero value of a field means its default.
type Options struct {
	// Dir holds the databases; it is made if need be.
	Dir string
	// Host and Version are the label host and the version in pscope_build_info.
	Host, Version string
	// Interval between two samples of a series; default 1 s.
	Interval time.Duration
	// Coarse is the interval of the coarse database; default 15 s, never below Interval.
	Coarse time.Duration
	// MinAge is how long a target has been observed before it enters the history; default 3 s. On a host that compiles, thousands of
	// processes an hour live for less, and each would leave dozens of series behind. Live views show them all the same.
	MinAge time.Duration
	// CrowdedSeries is how many series there can be before a target has to be a minute old to enter the history; default 20,000, some 70 targets of
	// 8 Ps. A series stays in memory until its block is written, however short its target lived.
	CrowdedSeries uint64
	// MaxSeries is how many there can be before no further target enters; default 100,000. Those left out are counted (Losses).
	MaxSeries uint64
	// Retention is the age at which samples are dropped; default 7 days.
	Retention time.Duration
	// MaxBytes is the size at which the oldest samples are dropped; default 2 GiB, negative: no limit.
	MaxBytes int64
	// QueryTimeout bounds one query; default 30 s.
	QueryTimeout time.Duration
	// MaxSamples bounds the samples one query may hold in memory; default 20 million.
	MaxSamples int
	Log        *slog.Logger
}

func (o *Options) defaults() {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.Coarse <= 0 {
		o.Coarse = 15 * time.Second
	}
	o.Coarse = max(o.Coarse, o.Interval)
	if o.MinAge <= 0 {
		o.MinAge = 3 * time.Second
	}
	if o.CrowdedSeries == 0 {
		o.CrowdedSeries = 20_000
	}
	if o.MaxSeries == 0 {
		o.MaxSeries = 100_000
	}
	if o.Retention <= 0 {
		o.Retention = 7 * 24 * time.Hour
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 2 << 30
	}
	if o.QueryTimeout <= 0 {
		o.QueryTimeout = 30 * time.Second
	}
	if o.MaxSamples <= 0 {
		o.MaxSamples = 20_000_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Store is the history of metrics. Its methods may be called concurrently, except that there is one writer (Run, or Append).
type Store struct {
	opts   Options
	lock   *os.File
	raw    *layer
	coarse *layer
	engine *promql.Engine

	lastAt int64 // Unix milliseconds of the last samples

	// Which targets the last samples were of, and which have been left out since the history is full.
	admitted, leftOut map[pstate.Key]bool

	lossMu sync.Mutex
	losses map[string]uint64
	warned time.Time

	closed atomic.Bool
}

// layer is one database and what writes it.
type layer struct {
	name     string
	every    time.Duration
	db       *tsdb.DB
	recorder *metrics.Recorder
	last     int64 // Unix milliseconds
}

// lockName is the file that keeps two agents from one directory; it holds the pid of the one that runs.
const lockName = "agent.lock"

// Open opens the databases in o.Dir. Its errors say what to do about them.
func Open(o Options) (*Store, error) {
	o.defaults()
	if o.Dir == "" {
		return nil, errors.New("no data directory given: pass --data-dir")
	}
	lock, err := claim(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{opts: o, lock: lock, losses: make(map[string]uint64), leftOut: make(map[pstate.Key]bool)}
	// A quarter of the room holds five times the time at a fifteenth of the rate.
	rawBytes, coarseBytes := o.MaxBytes/4*3, o.MaxBytes/4
	if s.raw, err = s.open("raw", o.Interval, 30*time.Minute, rawBytes); err == nil {
		s.coarse, err = s.open("coarse", o.Coarse, 2*time.Hour, coarseBytes)
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	s.engine = promql.NewEngine(promql.EngineOpts{
		Logger:     quiet(o.Log),
		MaxSamples: o.MaxSamples,
		Timeout:    o.QueryTimeout,
		// An agent that was killed leaves no staleness marker: its last values must not be drawn on for five minutes.
		LookbackDelta:            max(time.Minute, 4*o.Coarse),
		NoStepSubqueryIntervalFn: func(int64) int64 { return o.Interval.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
	})
	return s, nil
}

// claim makes the directory and locks it.
func claim(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("can't make the data directory %s: %w; make it yourself (sudo install -d -o %s %s) or choose another with --data-dir", dir, cause(err), owner(), dir)
	}
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("can't write to the data directory %s: %w; give it to the agent's user (sudo chown -R %s %s) or choose another with --data-dir", dir, cause(err), owner(), dir)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		held := make([]byte, 32)
		n, _ := f.ReadAt(held, 0)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data directory %s is in use by another agent (pid %s); stop that one or choose another directory with --data-dir", dir, held[:n])
		}
		return nil, fmt.Errorf("can't lock %s: %w; the directory must be on a local file system: choose another with --data-dir", name, err)
	}
	pid := fmt.Sprint(os.Getpid())
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(pid), 0)
		if err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("can't write to the data directory %s: %w; %s", dir, cause(err), remedy(err, dir))
		}
	}
	return f, nil
}

// cause takes the path out of an error whose sentence has it already.
func cause(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func owner() string { return fmt.Sprint(os.Getuid()) }

func remedy(err error, dir string) string {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "the disk is full: free space, or lower --retention-size"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("give it to the agent's user (sudo chown -R %s %s) or choose another with --data-dir", owner(), dir)
	}
	return fmt.Sprintf("move it away (mv %s %s.broken) to start afresh, or choose another with --data-dir", dir, dir)
}

func (s *Store) open(name string, every, block time.Duration, maxBytes int64) (*layer, error) {
	o := tsdb.DefaultOptions()
	o.NoLockfile = true // agent.lock covers both databases
	o.RetentionDuration = s.opts.Retention.Milliseconds()
	if s.opts.MaxBytes > 0 {
		o.MaxBytes = maxBytes
	}
	// Small blocks keep little in memory and let the limits bite soon.
	block = min(block, max(s.opts.Retention/4, time.Minute))
	o.MinBlockDuration = block.Milliseconds()
	o.MaxBlockDuration = min(9*block, max(s.opts.Retention/10, block)).Milliseconds()
	o.WALCompression = compression.Snappy
	o.WALSegmentSize = 8 << 20
	o.StripeSize = 512
	o.HeadChunksWriteBufferSize = 64 << 10
	o.HeadChunksWriteQueueSize = 0
	o.WALReplayConcurrency = 1
	dir := filepath.Join(s.opts.Dir, name)
	db, err := tsdb.Open(dir, quiet(s.opts.Log), prometheus.NewRegistry(), o, nil)
	if err != nil {
		return nil, fmt.Errorf("can't open the history in %s: %w; %s", dir, err, remedy(err, dir))
	}
	return &layer{name: name, every: every, db: db, recorder: metrics.NewRecorder(s.opts.Host, s.opts.Version)}, nil
}

// quiet keeps the database's own chatter below warnings out of the agent's log.
func quiet(l *slog.Logger) *slog.Logger {
	if l == nil {
		return promslog.NewNopLogger()
	}
	return slog.New(minLevel{l.Handler()})
}

type minLevel struct{ slog.Handler }

func (h minLevel) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && h.Handler.Enabled(ctx, l)
}
func (h minLevel) WithAttrs(as []slog.Attr) slog.Handler { return minLevel{h.Handler.WithAttrs(as)} }
func (h minLevel) WithGroup(name string) slog.Handler    { return minLevel{h.Handler.WithGroup(name)} }

// Run appends what gather gives, once every Options.Interval, until ctx is done; then it marks every series as ended.
// What can't be written is counted (Losses) and tried again with the next interval, so a disk that was full heals by itself.
func (s *Store) Run(ctx context.Context, gather func(now time.Time) metrics.Snapshot) {
	for {
		now := time.Now()
		next := now.Truncate(s.opts.Interval).Add(s.opts.Interval)
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ctx.Done():
			timer.Stop()
			s.end()
			return
		case <-timer.C:
		}
		snap := gather(time.Now())
		if err := s.Append(next, &snap); err != nil {
			s.warn(err)
		}
	}
}

// tolerance is how far a moment may be from its place on the grid to be put there: samples at exactly even intervals take a
// fraction of the room. Prometheus does the same with what it scrapes.
const tolerance = 2

// Append writes one snapshot, taken at due or soon after. It fails if nothing, or not all, could be written.
func (s *Store) Append(due time.Time, snap *metrics.Snapshot) error {
	at := due.UnixMilli()
	if len(snap.Views) > 0 {
		taken := (snap.Views[0].At + 5e5) / 1e6
		if taken < at-tolerance || taken > at+tolerance {
			at = taken
		}
	}
	at = max(at, s.lastAt+1)
	s.lastAt = at
	old := s.admit(olderThan(snap, s.minAge()))
	err := s.raw.append(s, at, &old)
	if at-s.coarse.last >= s.coarse.every.Milliseconds()-tolerance {
		old = olderThan(&old, s.coarse.every)
		err = errors.Join(err, s.coarse.append(s, at, &old))
	}
	return err
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
				s.lose("target_left_out", 1)
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

// olderThan gives what the snapshot has of targets that have been observed for at least age, or have been refused and are as old.
func olderThan(snap *metrics.Snapshot, age time.Duration) metrics.Snapshot {
	out := *snap
	out.Views, out.Targets = make([]pstate.TargetView, 0, len(snap.Views)), make([]pstate.Target, 0, len(snap.Targets))
	kept := make(map[pstate.Key]bool, len(snap.Views))
	for i := range snap.Views {
		v := &snap.Views[i]
		if len(v.Ps) > 0 && v.At-v.Ps[0].FirstSeen >= int64(age) {
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

func (l *layer) append(s *Store, at int64, snap *metrics.Snapshot) error {
	l.last = at
	app := l.db.AppenderV2(context.Background())
	n, refused, err := l.recorder.Record(app, at, snap)
	if cerr := app.Commit(); cerr != nil {
		s.lose("store_write", uint64(n+refused))
		return fmt.Errorf("%d samples of the %s history were not written: %w; %s", n+refused, l.name, cerr, remedy(cerr, s.opts.Dir))
	}
	if refused > 0 {
		s.lose("store_refused", uint64(refused))
		return fmt.Errorf("the %s history refused %d of %d samples, the first because: %w", l.name, refused, n+refused, err)
	}
	return nil
}

func (s *Store) lose(reason string, n uint64) {
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
	out := make(map[string]uint64, len(s.losses))
	for k, v := range s.losses {
		out[k] = v
	}
	return out
}

func (s *Store) end() {
	for _, l := range []*layer{s.raw, s.coarse} {
		app := l.db.AppenderV2(context.Background())
		err := l.recorder.End(app, max(time.Now().UnixMilli(), s.lastAt+1))
		if cerr := app.Commit(); err != nil || cerr != nil {
			s.opts.Log.Warn("series not marked as ended", "history", l.name, "err", errors.Join(err, cerr))
		}
	}
}

// Queryable reads both databases as one.
func (s *Store) Queryable() storage.SampleAndChunkQueryable { return layers{s} }

// Engine evaluates PromQL over Queryable.
func (s *Store) Engine() *promql.Engine { return s.engine }

// Close flushes and releases the databases. Run must have returned.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	var errs []error
	if s.engine != nil {
		errs = append(errs, s.engine.Close())
	}
	for _, l := range []*layer{s.raw, s.coarse} {
		if l != nil {
			errs = append(errs, l.db.Close())
		}
	}
	errs = append(errs, s.lock.Close())
	return errors.Join(errs...)
}
