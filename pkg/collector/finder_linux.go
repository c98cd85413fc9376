package collector

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	gorefusal "github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// finder looks for Go processes: at once when the kernel side reports an exec, and now and then through /proc. Only its
// own goroutine touches its fields. That one reads /proc, but opens no file of a process and reads no memory: workers
// do.
type finder struct {
	c      *collect
	asked  chan question
	behind chan struct{} // an exec may not have been told of
	chosen chan struct{} // which processes are observed has changed

	checked time.Time // when known pids were looked at again last

	known      map[int32]procID
	starting   map[int32]procID // whose runtime had not started when last looked at; looked at again in every scan
	unanswered map[int32]unread // of which something could not be read; looked at again now and then
	retried    int32            // of these, the one that is being looked at again
	files      *files
	reading    map[fileID][]int32    // programs that are being read, and the other processes that run them
	fixes      map[pstate.Key]string // of those refused, what to do; nil unless somebody wants to know
	libs       libraries

	working map[int32]*work // by pid, what a worker does for it, or is to do
	again   map[int32]bool  // likewise: to be looked at once more when that has ended
	reads   *workers        // of programs' and libraries' files
	starts  *workers        // of observations
}

// question asks for a process to be looked at again.
type question struct {
	pid    int32
	execed bool // it has executed a program
	// threads is how many it has, if they are too many.
	threads int
}

// part is what of a process is to be looked at again.
type part int

const (
	itsProgram part = iota
	itsLibraries
)

// unread is what of a process could not be read.
type unread struct {
	part
	rarely bool // trying again costs something
}

// unreadFor is what is done about a process after an error: nothing unless it may pass.
func (f *finder) unreadFor(pid int32, of part, err error) {
	f.unanswered[pid] = unread{of, !errors.Is(err, gorefusal.ErrNoAnswer)}
}

// procID tells a process, and the program it runs, from the next one with the same pid.
type procID struct {
	startTime uint64
	exe       fileID
}

const (
	scanEvery     = time.Second
	scanEveryTold = 5 * time.Second  // where each exec is told of: what is left to find is what has ended
	recheckEvery  = 30 * time.Second // likewise, for another program in known processes, or another process of the same number
	endWithin     = 2 * time.Second  // for which the end of an agent waits for workers
)

func newFinder(c *collect) *finder {
	return &finder{
		c: c, asked: make(chan question, 1024), behind: make(chan struct{}, 1),
		chosen: make(chan struct{}, 1), known: map[int32]procID{},
		starting: map[int32]procID{}, unanswered: map[int32]unread{}, files: newFiles(), reading: map[fileID][]int32{},
		working: map[int32]*work{}, again: map[int32]bool{},
		reads: newWorkers(filesAtOnce, answerWithin), starts: newWorkers(startsAtOnce, startWithin),
	}
}

func (f *finder) run(ctx context.Context) {
	defer f.end()
	f.scan(ctx, true)
	scanned, all := time.Now(), false
	timer := time.NewTimer(f.every())
	defer timer.Stop()
	gaveUp := time.Now()
	for {
		var giveUp <-chan time.Time
		if f.reads.waits()+f.starts.waits() > 0 {
			// Also where something is asked for all the time.
			due := slowAfter - time.Since(gaveUp)
			if due <= 0 {
				f.giveUp()
				gaveUp, due = time.Now(), slowAfter
			}
			giveUp = time.After(due)
		}
		select {
		case <-ctx.Done():
			return
		case q := <-f.asked:
			if q.threads > 0 {
				f.tooMany(q)
			} else {
				f.checkAgain(ctx, q)
			}
		case w := <-f.starts.done:
			f.starts.finish(w)
		case w := <-f.reads.done:
			f.reads.finish(w)
		case <-giveUp:
			continue
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

// settle waits until all that was begun has ended or has been given up.
func (f *finder) settle(ctx context.Context) {
	giveUp := time.NewTicker(slowAfter)
	defer giveUp.Stop()
	for f.reads.waits()+f.starts.waits() > 0 {
		select {
		case <-ctx.Done():
			return
		case w := <-f.starts.done:
			f.starts.finish(w)
		case w := <-f.reads.done:
			f.reads.finish(w)
		case <-giveUp.C:
			f.giveUp()
		}
	}
}

// giveUp gives up the workers that have been in one call for too long.
func (f *finder) giveUp() {
	f.starts.giveUp()
	f.reads.giveUp()
}

// end lets go of the workers.
func (f *finder) end() {
	left := f.starts.end(endWithin)
	f.c.left.Add(int64(left))
	f.reads.end(endWithin)
}

// work gives work to workers. ended is called when it has ended, unless the process has become another one meanwhile.
func (f *finder) work(ctx context.Context, to *workers, w *work, of part, id procID, ended, gaveUp func()) {
	f.working[w.pid] = w
	w.ended = func() {
		delete(f.working, w.pid)
		ended()
		if f.again[w.pid] {
			delete(f.again, w.pid)
			f.checkAgain(ctx, question{pid: w.pid})
		}
	}
	w.gaveUp = func() {
		delete(f.working, w.pid)
		f.c.hung.Add(1)
		if f.known[w.pid] == id {
			f.unanswered[w.pid] = unread{part: of}
			gaveUp()
		}
		if to == f.reads && of == itsProgram {
			f.readOthers(ctx, id.exe) // also if this process has ended
		}
	}
	w.back = func() {
		delete(f.unanswered, w.pid)
		ended()
		for pid := range f.unanswered {
			f.retry(ctx, pid)
		}
	}
	to.add(w)
}

// retry looks anew at a process of which a file did not answer.
func (f *finder) retry(ctx context.Context, pid int32) {
	of := f.unanswered[pid].part
	delete(f.unanswered, pid)
	if of == itsProgram {
		f.retried = pid
		delete(f.known, pid)
		f.check(ctx, pid)
		f.retried = 0
	}
	f.libs.lookAgain(pid)
	f.checkLibraries(ctx, pid)
}

// settled takes back what refused one of a process's runtimes.
func (f *finder) settled(key pstate.Key) {
	f.c.mu.Lock()
	delete(f.c.refused, key)
	f.c.mu.Unlock()
}

// every is the time between two scans.
func (f *finder) every() time.Duration {
	if f.c.kernel == nil || len(f.starting) > 0 {
		return scanEvery
	}
	return scanEveryTold
}

// look asks for a process to be looked at again. When too many are asked for at once, the next scan finds them.
func (f *finder) look(q question) {
	select {
	case f.asked <- q:
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
	for pid := range f.unanswered {
		if !alive[pid] {
			delete(f.unanswered, pid)
		} else if all || !f.unanswered[pid].rarely {
			f.retry(ctx, pid)
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
	if found, _ := f.files.programs.get(id.exe); found != nil && found.bin != nil && !own {
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
func (f *finder) checkAgain(ctx context.Context, q question) {
	if f.working[q.pid] != nil {
		f.again[q.pid] = true
		return
	}
	_, seen := f.known[q.pid]
	if !f.unchanged(q.pid) {
		delete(f.known, q.pid)
	}
	if f.check(ctx, q.pid) && q.execed && !seen {
		f.c.unseen.Add(1)
	}
	f.libs.lookAgain(q.pid)
	f.checkLibraries(ctx, q.pid)
}

// check looks at one process and starts or ends its observation. It says whether there is none any more.
func (f *finder) check(ctx context.Context, pid int32) (gone bool) {
	if only := f.c.o.Only; only != 0 && pid != only {
		return false
	}
	stat, err := f.c.o.readStat(pid)
	if ended(err) {
		f.drop(pid, 0) // what was said of it, too
		f.libs.forget(pid)
		return true
	}
	if err != nil || stat.state == 'Z' {
		return err == nil
	}
	id := procID{startTime: stat.startTime}
	if stat.flags&kernelThread != 0 {
		f.known[pid] = id // most processes of an idle host are kernel threads: they are not looked at again every second
		return false
	}
	id.exe, err = identifyProgram(f.c.o.procPath(pid, "exe"))
	if old, ok := f.known[pid]; ok && old == id {
		return false
	}
	if f.working[pid] != nil {
		f.again[pid] = true
		return false
	}
	f.drop(pid, stat.startTime)
	f.known[pid] = id
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			f.c.info.hide(pid, cleantext.Name(stat.comm, cleantext.MaxName))
		}
		return ended(err)
	}
	f.leave(pstate.Key{PID: pid, StartTime: stat.startTime}, f.starting[pid] == id || f.retried == pid)
	// Names first: a large program takes a while to read, and nobody should wait for those that are not asked for.
	target := f.c.o.named(pid, stat)
	if f.wanted(&target) {
		f.readProgram(ctx, target, id)
	}
	return false
}

// ended says whether an error of a file in /proc means that the process has gone.
func ended(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }

// readProgram lets a worker read a process's program, unless it is known not to be Go, or another process's is the same
// and is being read.
func (f *finder) readProgram(ctx context.Context, target pstate.Target, id procID) {
	found, read := f.files.programs.get(id.exe)
	if read && found == nil {
		f.settled(target.Key)
		return
	}
	if others, ok := f.reading[id.exe]; ok && !read {
		f.reading[id.exe] = append(others, target.PID)
		return
	}
	if !read {
		f.reading[id.exe] = nil
	}
	l := &programLook{target: target, id: id}
	l.w = &work{pid: target.PID, uid: f.c.o.userOf(target.PID), do: func(*work) { l.look(&f.c.o, f.files) }}
	f.work(ctx, f.reads, l.w, itsProgram, id, func() { f.programRead(ctx, l) }, func() {
		f.refuse(l.target, noAnswerFrom(l.w))
	})
}

// readOthers looks at the processes that waited for a program to be read.
func (f *finder) readOthers(ctx context.Context, exe fileID) {
	others := f.reading[exe]
	delete(f.reading, exe)
	for _, pid := range others {
		if f.known[pid].exe == exe && f.working[pid] == nil {
			delete(f.known, pid)
			f.check(ctx, pid)
			f.checkLibraries(ctx, pid)
		}
	}
}

// programRead starts the observation of a process whose program has been read.
func (f *finder) programRead(ctx context.Context, l *programLook) {
	defer f.readOthers(ctx, l.id.exe)
	pid, found := l.target.PID, l.found
	if f.known[pid] != l.id || f.working[pid] != nil {
		return // another process, or it has ended
	}
	if l.err != nil {
		delete(f.known, pid) // it executes something else at this moment: the next look decides
		if _, err := f.c.o.readStat(pid); ended(err) {
			f.c.unseen.Add(1)
		}
		return
	}
	if found == nil {
		f.settled(l.target.Key)
		f.checkLibraries(ctx, pid)
		return
	}
	if found.err != nil {
		if _, lasts := f.files.programs.get(l.id.exe); !lasts {
			f.unreadFor(pid, itsProgram, found.err)
		}
		f.refuse(l.described, found.err)
		f.checkLibraries(ctx, pid)
		return
	}
	t := l.described
	t.GoVersion, t.Module = cleantext.Name(found.bin.GoVersion, cleantext.MaxName), cleantext.Name(found.bin.Module, cleantext.MaxPath)
	f.start(ctx, l.w.uid, beginning{target: t, bin: found.bin})
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
