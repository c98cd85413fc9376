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
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// DirMode are the permissions of the directories that the store makes.
const DirMode = 0o750

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
	// MinAge is how old a target is before it enters the history; default 3 s. On a host that compiles, thousands of
	// processes an hour live for less, and each would leave dozens of series behind. Live views show them all the same.
	MinAge time.Duration
	// CrowdedSeries is how many series there can be before a target has to be a minute old to enter the history;
	// default 20,000, some 70 targets of 8 Ps. A series stays in memory until its block is written, however short its
	// target lived.
	CrowdedSeries uint64
	// MaxSeries is how many there can be before no further target enters; default 100,000. Those left out are counted
	// (Losses).
	MaxSeries uint64
	// Retention is the age at which samples are dropped; default 7 days.
	Retention time.Duration
	// MaxBytes is the size at which the oldest samples are dropped; default 2 GiB, negative: no limit.
	MaxBytes int64
	// Reserve is how many bytes stay free on the disk; default: a twentieth of it, at least 4 MiB and at most 256 MiB.
	Reserve int64
	// Now is the wall clock, and Elapsed one that nobody sets; for tests. Default: time.Now, and the time since the
	// process's start.
	Now     func() time.Time
	Elapsed func() time.Duration
	Log     *slog.Logger
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
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Elapsed == nil {
		begun := time.Now()
		o.Elapsed = func() time.Duration { return time.Since(begun) }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Store is the history of metrics. Its methods may be called concurrently, except that there is one writer (Run, or
// Append).
type Store struct {
	opts   Options
	lock   *os.File
	raw    *database
	coarse *database
	disk   *disk

	lastAt   int64         // Unix milliseconds of the last samples
	openedAt int64         // of the last samples when the databases were opened
	elapsed  time.Duration // when that was, by Options.Elapsed
	broken   error         // why the databases take nothing more until they have been opened anew
	opened   time.Time

	// Which targets the last samples were of, and which have been left out since the history is full.
	admitted, leftOut map[pstate.Key]bool

	lossMu     sync.Mutex // guards what follows
	losses     map[string]uint64
	samples    uint64 // of the last state
	conditions map[string]Condition
	steps      uint64 // of the clock
	stepAt     time.Time

	warned time.Time

	suspect atomic.Bool // a query came past something that a disk has changed
	closed  atomic.Bool
}

// database is one of the two, and what writes it.
type database struct {
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
	s := &Store{
		opts: o, lock: lock, losses: make(map[string]uint64), leftOut: make(map[pstate.Key]bool),
		conditions: make(map[string]Condition),
	}
	if err := s.openDatabases(); err != nil {
		_ = s.Close()
		return nil, err
	}
	s.opened = time.Now()
	return s, nil
}

// openDatabases looks for room, puts aside what lies ahead of the clock, and opens both databases.
func (s *Store) openDatabases() (err error) {
	if s.disk, err = newDisk(s.opts.Dir, s.opts.Reserve); err != nil {
		return err
	}
	// To repair a log takes room, too.
	if err := s.disk.room(); err != nil {
		return err
	}
	maxBytes := s.disk.fit(s.opts.MaxBytes)
	if s.readAllAsked() {
		for _, name := range []string{"raw", "coarse"} {
			if _, err := s.repairBlocks(name, true); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	// A quarter of the room holds five times the time at a fifteenth of the rate.
	if s.raw, err = s.open("raw", s.opts.Interval, 30*time.Minute, maxBytes/4*3); err != nil {
		return err
	}
	if s.coarse, err = s.open("coarse", s.opts.Coarse, 2*time.Hour, maxBytes/4); err != nil {
		return err
	}
	for _, l := range []*database{s.raw, s.coarse} {
		s.lastAt = max(s.lastAt, newest(l.db))
	}
	s.openedAt = s.lastAt
	return nil
}

// claim makes the directory and locks it.
func claim(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, DirMode); err != nil {
		return nil, fmt.Errorf("can't make the data directory %s: %w; make it yourself (sudo install -d -o %s %s) or "+
			"choose another with --data-dir", dir, cause(err), owner(), dir)
	}
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("can't write to the data directory %s: %w; give it to the agent's user "+
			"(sudo chown -R %s %s) or choose another with --data-dir", dir, cause(err), owner(), dir)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		held := make([]byte, 32)
		n, _ := f.ReadAt(held, 0)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data directory %s is in use by %w (pid %s); stop that one or choose "+
				"another directory with --data-dir", dir, ErrInUse, held[:n])
		}
		return nil, fmt.Errorf("can't lock %s: %w; the directory must be on a local file system: choose another with "+
			"--data-dir", name, err)
	}
	pid := fmt.Sprint(os.Getpid())
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(pid), 0)
		if err != nil {
			_ = f.Close()
			if fullDisk(err) {
				return nil, fmt.Errorf("can't write to the data directory %s: %w; %w", dir, cause(err), ErrNoRoom)
			}
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
	case fullDisk(err):
		return ErrNoRoom.Error()
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("give it to the agent's user (sudo chown -R %s %s) or choose another with --data-dir",
			owner(), dir)
	}
	return fmt.Sprintf("move it away (mv %s %s.broken) to start afresh, or choose another with --data-dir", dir, dir)
}

// open opens one database. Where its log or blocks reach beyond the present, the clock was set back: those samples are
// put aside first.
func (s *Store) open(name string, every, block time.Duration, maxBytes int64) (*database, error) {
	dir := filepath.Join(s.opts.Dir, name)
	o := s.tsdbOptions(block, maxBytes)
	if err := s.takeBack(name); err != nil {
		return nil, err
	}
	if err := s.repairLog(name, filepath.Join(dir, "wal")); err != nil {
		return nil, fmt.Errorf("can't repair the log of the history in %s: %w; %s", dir, err, remedy(err, dir))
	}
	db, err := s.openWhole(name, dir, o)
	if err == nil && newest(db) > s.opts.Now().Add(clockSlack).UnixMilli() {
		if err = s.putAside(name, db, o); err == nil {
			db, err = tsdb.Open(dir, quiet(s.opts.Log), prometheus.NewRegistry(), o, nil)
		}
	}
	if err != nil {
		if fullDisk(err) {
			return nil, fmt.Errorf("can't open the history in %s: %w; %w", dir, err, ErrNoRoom)
		}
		return nil, fmt.Errorf("can't open the history in %s: %w; %s", dir, err, remedy(err, dir))
	}
	return &database{name: name, every: every, db: db, recorder: metrics.NewRecorder(s.opts.Host, s.opts.Version)}, nil
}

// openWhole opens a database. Where something keeps it from that, blocks and checkpoints that can't be read are put
// aside or repaired first.
func (s *Store) openWhole(name, dir string, o *tsdb.Options) (*tsdb.DB, error) {
	db, err := tsdb.Open(dir, quiet(s.opts.Log), prometheus.NewRegistry(), o, nil)
	if err == nil || fullDisk(err) || DiskFails(err) {
		return db, err
	}
	n, berr := s.repairBlocks(name, false)
	if berr != nil {
		return nil, errors.Join(err, berr)
	}
	checkpoints, cerr := filepath.Glob(filepath.Join(dir, "wal", "checkpoint.*"))
	if cerr != nil {
		return nil, errors.Join(err, cerr)
	}
	for _, c := range checkpoints {
		if cerr := s.repairLog(name, c); cerr != nil {
			return nil, errors.Join(err, cerr)
		}
	}
	if n == 0 && len(checkpoints) == 0 {
		return nil, err
	}
	return tsdb.Open(dir, quiet(s.opts.Log), prometheus.NewRegistry(), o, nil)
}

func (s *Store) tsdbOptions(block time.Duration, maxBytes int64) *tsdb.Options {
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
	o.WALSegmentSize, o.MaxBlockChunkSegmentSize = s.disk.segments()
	o.StripeSize = 512
	o.HeadChunksWriteBufferSize = 64 << 10
	o.HeadChunksWriteQueueSize = 0
	o.WALReplayConcurrency = 1
	return o
}

// newest is the time of the newest sample in a database, Unix milliseconds; 0: there is none.
func newest(db *tsdb.DB) (at int64) {
	if h := db.Head(); h.NumSeries() > 0 {
		at = max(at, h.MaxTime())
	}
	for _, b := range db.Blocks() {
		at = max(at, b.MaxTime()-1) // exclusive
	}
	return at
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

// Queryable reads both databases as one.
func (s *Store) Queryable() storage.Queryable { return both{s} }

// Interval is the time between two samples of a series.
func (s *Store) Interval() time.Duration { return s.opts.Interval }

// CoarseInterval is the same in the coarse database.
func (s *Store) CoarseInterval() time.Duration { return s.opts.Coarse }

// Retention is the age at which samples are dropped.
func (s *Store) Retention() time.Duration { return s.opts.Retention }

// Close flushes and releases the databases. Run must have returned, and what reads from Queryable must have ended.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	var errs []error
	for _, l := range []*database{s.raw, s.coarse} {
		if l != nil {
			errs = append(errs, l.db.Close())
		}
	}
	errs = append(errs, s.lock.Close())
	return errors.Join(errs...)
}
