package collector

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// finder looks for Go processes: at once when the kernel side reports an exec, and now and then through /proc. Only its
// own goroutine touches its fields. That one reads /proc, but opens no file of a process and reads no memory: workers
// do.
type finder struct {
	finderOptions
	observer      runtimeObserver
	choice        atomic.Pointer[choice]
	asked         chan question
	behind        chan struct{} // an exec may not have been reported
	choiceChanged chan struct{}

	refused refusals
	hidden  hiddenList
	counts  finderCounts

	checked time.Time // when known pids were looked at again last

	known      map[int32]procID
	starting   map[int32]procID     // whose runtime had not started when last looked at; looked at again in every scan
	unanswered map[int32]unreadPart // of which something could not be read; looked at again now and then
	retried    int32                // of these, the one that is being looked at again
	files      *files
	reading    map[fileID][]int32    // programs that are being read, and the other processes that run them
	fixes      map[pstate.Key]string // of those refused, what to do; nil unless somebody wants to know
	libs       libraries

	working map[int32]*work // by pid, what a worker does for it, or is to do
	again   map[int32]bool  // likewise: to be looked at once more when that has ended
	reads   *workers        // of programs' and libraries' files
	starts  *workers        // of observations
}

// finderCounts are of what a finder could not do.
type finderCounts struct {
	missed    atomic.Uint64 // Go processes that ended before they were observed
	unread    atomic.Uint64 // programs that ended before it was known what they are
	hung      atomic.Uint64 // calls for a file that were given up, because it did not answer
	roomGiven atomic.Uint64 // observations ended for lack of room
	left      atomic.Int64  // workers that hung when the finder ended
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

// unreadPart is what of a process could not be read.
type unreadPart struct {
	part
	rarely bool // trying again costs something
}

// unreadFor is what is done about a process after an error: nothing unless it may pass.
func (f *finder) unreadFor(pid int32, of part, err error) {
	f.unanswered[pid] = unreadPart{of, !errors.Is(err, goruntime.ErrNoAnswer)}
}

// procID tells a process, and the program it runs, from the next one with the same pid.
type procID struct {
	startTime uint64
	exe       fileID
}

const (
	scanEvery         = time.Second
	scanEveryReported = 5 * time.Second // where each exec is reported: what is left to find is what has ended
	// recheckEvery is likewise, for another program in known processes, or another process of the same number.
	recheckEvery = 30 * time.Second
	endWithin    = 2 * time.Second // for which the end of an agent waits for workers
)

func newFinder(o finderOptions, observer runtimeObserver, include, exclude *regexp.Regexp) *finder {
	f := &finder{
		finderOptions: o, observer: observer, asked: make(chan question, 1024), behind: make(chan struct{}, 1),
		choiceChanged: make(chan struct{}, 1), known: map[int32]procID{},
		starting: map[int32]procID{}, unanswered: map[int32]unreadPart{}, files: newFiles(), reading: map[fileID][]int32{},
		working: map[int32]*work{}, again: map[int32]bool{},
		reads: newWorkers(filesAtOnce, fileWithin), starts: newWorkers(startsAtOnce, startWithin),
	}
	f.choice.Store(&choice{include, exclude})
	return f
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
		case <-f.choiceChanged:
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

// waitForWorkers waits until all that was begun has ended or has been given up.
func (f *finder) waitForWorkers(ctx context.Context) {
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
	f.counts.left.Add(int64(left))
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
		f.counts.hung.Add(1)
		if f.known[w.pid] == id {
			f.unanswered[w.pid] = unreadPart{part: of}
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

// every is the time between two scans.
func (f *finder) every() time.Duration {
	if !f.observer.HasEvents() || len(f.starting) > 0 {
		return scanEvery
	}
	return scanEveryReported
}

// changed makes the finder look at a process again.
func (f *finder) changed(pid int32) { f.look(question{pid: pid}) }

// execed makes the finder look at a process that has executed a program.
func (f *finder) execed(pid int32) { f.look(question{pid: pid, execed: true}) }

// tooManyThreads makes the finder end the observation of a process that has so many threads that others lack room.
func (f *finder) tooManyThreads(pid int32, n int) { f.look(question{pid: pid, threads: n}) }

// examine looks at one process and its libraries, and waits until all of its runtimes are observed or refused.
func (f *finder) examine(ctx context.Context, pid int32) {
	f.check(ctx, pid)
	f.waitForWorkers(ctx)
	f.checkLibraries(ctx, pid)
	f.waitForWorkers(ctx)
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
	pids, err := f.proc.PIDs()
	if err != nil {
		f.log.Error("list processes", "dir", string(f.proc), "err", err)
		return
	}
	alive := make(map[int32]bool, len(pids))
	for _, pid := range pids {
		alive[pid] = true
	}
	now := time.Now()
	if all = all || !f.observer.HasEvents() || now.Sub(f.checked) >= recheckEvery; all {
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

// unchanged says whether a process under observation is still the program it was: the exec that was reported came
// before.
func (f *finder) unchanged(pid int32) bool {
	id, ok := f.known[pid]
	if !ok {
		return true
	}
	runtimes := f.runtimesOf(pid, id.startTime)
	own := false
	for _, r := range runtimes {
		own = own || r.LibraryStart() == 0
		if !r.Alive() {
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
	f.hidden.show(pid)
	f.refused.deleteIf(func(t *pstate.Target) bool { return t.PID == pid && t.StartTime != startTime })
	for _, r := range f.observer.Runtimes() {
		if t := r.Description(); t.PID == pid && t.StartTime != startTime {
			f.observer.Forget(r)
		}
	}
}

// runtimesOf lists what is observed of a process.
func (f *finder) runtimesOf(pid int32, startTime uint64) (list []runtimeSeen) {
	for _, r := range f.observer.Runtimes() {
		if t := r.Description(); t.PID == pid && t.StartTime == startTime {
			list = append(list, r)
		}
	}
	return list
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
		f.counts.unread.Add(1)
	}
	f.libs.lookAgain(q.pid)
	f.checkLibraries(ctx, q.pid)
}

// check looks at one process and starts or ends its observation. It says whether there is none any more.
func (f *finder) check(ctx context.Context, pid int32) (gone bool) {
	if f.only != 0 && pid != f.only {
		return false
	}
	stat, err := f.proc.Stat(pid)
	if ended(err) {
		f.drop(pid, 0) // what was said of it, too
		f.libs.forget(pid)
		return true
	}
	if err != nil || stat.State == 'Z' {
		return err == nil
	}
	id := procID{startTime: stat.StartTime}
	if stat.KernelThread() {
		f.known[pid] = id // most processes of an idle host are kernel threads: they are not looked at again every second
		return false
	}
	id.exe, err = identifyProgram(f.proc.Path(pid, "exe"))
	if old, ok := f.known[pid]; ok && old == id {
		return false
	}
	if f.working[pid] != nil {
		f.again[pid] = true
		return false
	}
	f.drop(pid, stat.StartTime)
	f.known[pid] = id
	if err != nil {
		if errors.Is(err, fs.ErrPermission) {
			f.hidden.hide(pid, cleantext.Name(stat.Comm, cleantext.MaxName))
		}
		return ended(err)
	}
	f.leave(pstate.Key{PID: pid, StartTime: stat.StartTime}, f.starting[pid] == id || f.retried == pid)
	// Names first: a large program takes a while to read, and nobody should wait for those that are not asked for.
	target := f.named(pid, stat)
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
		f.refused.delete(target.Key)
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
	l.w = &work{pid: target.PID, uid: f.userOf(target.PID), do: func(*work) { l.look(&f.finderOptions, f.files) }}
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
		if _, err := f.proc.Stat(pid); ended(err) {
			f.counts.unread.Add(1)
		}
		return
	}
	if found == nil {
		f.refused.delete(l.target.Key)
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
	t.GoVersion = cleantext.Name(found.bin.GoVersion, cleantext.MaxName)
	t.Module = cleantext.Name(found.bin.Module, cleantext.MaxPath)
	f.start(ctx, l.w.uid, beginning{target: t, bin: found.bin})
}

// leave ends the observation of a process that has become another program.
// If it is only tried again, what refuses it is said until that has succeeded, and the runtimes in its libraries go on
// being observed.
func (f *finder) leave(key pstate.Key, again bool) {
	for _, r := range f.runtimesOf(key.PID, key.StartTime) {
		if !again || r.Description().Key == key {
			f.observer.Forget(r)
		}
	}
	if again {
		return
	}
	f.refused.deleteIf(func(t *pstate.Target) bool { return t.PID == key.PID && t.StartTime == key.StartTime })
	f.libs.forget(key.PID)
}

// refuse notes why a process, or a runtime in it, is not observed.
func (f *finder) refuse(t pstate.Target, err error) {
	t.Source, t.Reason = pstate.SourceRefused, cleantext.Text(err.Error(), cleantext.MaxReason)
	before := f.refused.set(t)
	fix := fixForRefused(err)
	if f.fixes != nil {
		f.fixes[t.Key] = fix
	}
	if t.Reason == before {
		return
	}
	f.log.Info("not observed", "process", t.Process, "pid", t.PID, "reason", t.Reason, "fix", fix)
}

func (f *finder) wanted(t *pstate.Target) bool { return f.choice.Load().admits(t) }
