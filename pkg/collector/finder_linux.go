package collector

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// finder looks for Go processes: at once when the kernel side reports an exec, and now and then through /proc. Only its own goroutine touches its
// fields.
type finder struct {
	c      *collect
	asked  chan int32
	behind chan struct{} // an exec may not have been told of
	chosen chan struct{} // which processes are observed has changed

	checked time.Time // when known pids were looked at again last

	known    map[int32]procID
	starting map[int32]procID // whose runtime had not started when last looked at; looked at again in every scan
	binaries map[fileID]*inspected
	fixes    map[pstate.Key]string // of those refused, what to do; nil unless somebody wants to know
	libs     libraries

	starts starts
}

// procID tells a process, and the program it runs, from the next one with the same pid.
type procID struct {
	startTime uint64
	exe       fileID
}

type fileID struct {
	dev, ino uint64
	mtime    int64
}

// inspected is what the file of a program said; one of the two is set, or neither for a program that isn't Go.
type inspected struct {
	bin *goruntime.Binary
	err error
}

const (
	maxBinaries = 512 // programs remembered

	scanEvery     = time.Second
	scanEveryTold = 5 * time.Second  // where each exec is told of: what is left to find is what has ended
	recheckEvery  = 30 * time.Second // likewise, for another program in known processes, or another process of the same number
)

func newFinder(c *collect) *finder {
	return &finder{c: c, asked: make(chan int32, 1024), behind: make(chan struct{}, 1),
		chosen: make(chan struct{}, 1), known: map[int32]procID{},
		starting: map[int32]procID{}, binaries: map[fileID]*inspected{}, starts: newStarts()}
}

func (f *finder) run(ctx context.Context) {
	f.scan(ctx, true)
	scanned, all := time.Now(), false
	timer := time.NewTimer(f.every())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			f.endStarts()
			return
		case pid := <-f.asked:
			f.checkAgain(ctx, pid)
		case s := <-f.starts.done:
			f.started(s)
			if f.starts.again[s.target.PID] {
				delete(f.starts.again, s.target.PID)
				f.checkAgain(ctx, s.target.PID)
			} else {
				f.checkLibraries(ctx, s.target.PID)
			}
		case <-f.chosen:
			f.rechoose(ctx)
			scanned, all = time.Now(), false
		case <-f.behind:
			all = true
		case <-timer.C:
		}
		every := f.every()
		if all {
			every = scanEvery
		}
		wait := every - time.Since(scanned)
		if wait <= 0 {
			f.scan(ctx, all)
			scanned, all = time.Now(), false
			wait = f.every()
		}
		timer.Reset(wait)
	}
}

// every is the time between two scans.
func (f *finder) every() time.Duration {
	if f.c.kernel == nil || len(f.starting) > 0 {
		return scanEvery
	}
	return scanEveryTold
}

// look asks for a process to be looked at again. When too many are asked for at once, the next scan finds them.
func (f *finder) look(pid int32) {
	select {
	case f.asked <- pid:
	default:
		f.fellBehind()
	}
}

// fellBehind makes the finder look at all processes soon.
func (f *finder) fellBehind() {
	select {
	case f.behind <- struct{}{}:
	default:
	}
}

// scan goes through all processes: those that are not known, and with all the others, too.
func (f *finder) scan(ctx context.Context, all bool) {
	pids, err := f.c.o.pids()
	if err != nil {
		f.c.o.Log.Error("list processes", "dir", f.c.o.ProcRoot, "err", err)
		return
	}
	alive := make(map[int32]bool, len(pids))
	for _, pid := range pids {
		alive[pid] = true
	}
	now := time.Now()
	if all = all || f.c.kernel == nil || now.Sub(f.checked) >= recheckEvery; all {
		f.checked = now
	}
	for pid := range f.known {
		if !alive[pid] {
			delete(f.known, pid)
			f.libs.forget(pid)
			f.drop(pid, 0)
		}
	}
	for pid := range f.starting {
		if !alive[pid] {
			delete(f.starting, pid)
			f.drop(pid, 0)
		}
	}
	for _, pid := range pids {
		if _, ok := f.known[pid]; !ok || all {
			f.check(ctx, pid)
		}
		f.checkLibraries(ctx, pid)
	}
}

// unchanged says whether a process under observation is still the program it was: the exec that was reported came before.
func (f *finder) unchanged(pid int32) bool {
	id, ok := f.known[pid]
	if !ok {
		return true
	}
	runtimes := f.c.runtimesOf(pid, id.startTime)
	own := false
	for _, o := range runtimes {
		own = own || o.library == nil
		o.mu.Lock()
		same := !o.closed && o.proc.Alive() == nil
		o.mu.Unlock()
		if !same {
			return false
		}
	}
	if found := f.binaries[id.exe]; found != nil && found.bin != nil && !own {
		return false // the runtimes in its libraries are observed, that of the program is not, or not any more
	}
	return len(runtimes) > 0
}

// drop forgets what was said of a pid by processes other than the one with this start time.
func (f *finder) drop(pid int32, startTime uint64) {
	c := f.c
	c.info.show(pid)
	var gone []*observed
	c.mu.Lock()
	for k := range c.refused {
		if k.PID == pid && k.StartTime != startTime {
			delete(c.refused, k)
		}
	}
	for k, o := range c.observed {
		if k.PID == pid && k.StartTime != startTime {
			gone = append(gone, o)
		}
	}
	c.mu.Unlock()
	for _, o := range gone {
		c.forget(o)
	}
}

// checkAgain looks at a process of which something is new, an exec for example.
func (f *finder) checkAgain(ctx context.Context, pid int32) {
	if f.starts.going[pid] {
		f.starts.again[pid] = true
		return
	}
	if !f.unchanged(pid) {
		delete(f.known, pid)
	}
	f.check(ctx, pid)
	f.libs.lookAgain(pid)
	f.checkLibraries(ctx, pid)
}

// check looks at one process and starts or ends its observation.
func (f *finder) check(ctx context.Context, pid int32) {
	if only := f.c.o.Only; only != 0 && pid != only {
		return
	}
	stat, err := f.c.o.readStat(pid)
	if errors.Is(err, fs.ErrNotExist) {
		f.drop(pid, 0) // what was said of it, too
		f.libs.forget(pid)
	}
	if err != nil || stat.state == 'Z' {
		return
	}
	id := procID{startTime: stat.startTime}
	if stat.flags&kernelThread != 0 {
		f.known[pid] = id // most processes of an idle host are kernel threads: they are not looked at again every second
		return
	}
	exe := f.c.o.procPath(pid, "exe")
	info, err := os.Stat(exe)
	if err == nil {
		id.exe = identify(info)
	}
	if old, ok := f.known[pid]; ok && old == id {
		return
	}
	if f.starts.going[pid] {
		f.starts.again[pid] = true
		return
	}
	f.drop(pid, stat.startTime)
	f.known[pid] = id
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			f.c.info.hide(pid, cleantext.Name(stat.comm, cleantext.MaxName))
		}
		return
	}
	f.leave(pstate.Key{PID: pid, StartTime: stat.startTime}, f.starting[pid] == id)
	// Names first: a large program takes a while to read, and nobody should wait for those that are not asked for.
	target := f.c.o.named(pid, stat)
	if !f.wanted(&target) {
		return
	}
	found, err := f.inspect(id.exe, exe)
	if err != nil {
		delete(f.known, pid) // it executes something else at this moment: the next look decides
		return
	}
	if found == nil {
		return
	}
	f.c.o.describe(&target)
	if found.err != nil {
		f.refuse(target, found.err)
		return
	}
	target.GoVersion, target.Module = cleantext.Name(found.bin.GoVersion, cleantext.MaxName), cleantext.Name(found.bin.Module, cleantext.MaxPath)
	f.start(ctx, target, found.bin)
}

// leave ends the observation of a process that has become another program.
// If it is only tried again, what refuses it is said until that has succeeded.
func (f *finder) leave(key pstate.Key, again bool) {
	c := f.c
	c.mu.Lock()
	o := c.observed[key]
	for k := range c.refused {
		if !again && k.PID == key.PID && k.StartTime == key.StartTime {
			delete(c.refused, k)
		}
	}
	c.mu.Unlock()
	if again {
		if o != nil {
			c.forget(o)
		}
		return
	}
	for _, o := range c.runtimesOf(key.PID, key.StartTime) {
		c.forget(o)
	}
	f.libs.forget(key.PID)
}

func (f *finder) refuse(t pstate.Target, err error) {
	t.Source, t.Reason = pstate.SourceRefused, cleantext.Text(err.Error(), cleantext.MaxReason)
	f.c.mu.Lock()
	before := f.c.refused[t.Key].Reason
	f.c.refused[t.Key] = t
	f.c.mu.Unlock()
	fix := fixForRefused(err)
	if f.fixes != nil {
		f.fixes[t.Key] = fix
	}
	if t.Reason == before {
		return
	}
	f.c.o.Log.Info("not observed", "process", t.Process, "pid", t.PID, "reason", t.Reason, "fix", fix)
}

func (f *finder) wanted(t *pstate.Target) bool { return f.c.choice.Load().admits(t) }

// errChanged says that a path has come to mean another file.
var errChanged = errors.New("the process executes another program")

// inspect reads a program's file, once for all processes that run it. nil: it isn't Go. The path is one through a process, which may lead to
// another file than a moment ago: then it is errChanged, and nothing is remembered under the wrong name.
func (f *finder) inspect(id fileID, path string) (*inspected, error) {
	if found, ok := f.binaries[id]; ok {
		return found, nil
	}
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errChanged // it has ended
	}
	if err != nil {
		return &inspected{err: fmt.Errorf("its program can't be read: %w", err)}, nil
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || identify(info) != id {
		return nil, errChanged
	}
	found := inspectFile(file)
	if len(f.binaries) >= maxBinaries {
		clear(f.binaries)
	}
	f.binaries[id] = found
	return found, nil
}

func inspectFile(file *os.File) *inspected {
	bin, err := goruntime.Inspect(file)
	if errors.Is(err, goruntime.ErrNotGo) {
		return nil
	}
	return &inspected{bin: bin, err: err}
}

func identify(info fs.FileInfo) fileID {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}
	}
	return fileID{dev: st.Dev, ino: st.Ino, mtime: info.ModTime().UnixNano()}
}
