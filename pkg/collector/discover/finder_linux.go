package discover

import (
	"context"
	"errors"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Finder looks for Go processes: at once when the kernel side reports an exec, and now and then through /proc. Only its
// own goroutine touches its fields. That one reads /proc, but opens no file of a process and reads no memory: workers
// do.
type Finder struct {
	Options
	observer      Observer
	choice        atomic.Pointer[choice]
	asked         chan question
	behind        chan struct{} // an exec may not have been reported
	choiceChanged chan struct{}

	Refused Refusals
	Hidden  HiddenProcesses
	Counts  Counts

	checked time.Time // when known pids were looked at again last

	known      map[int32]procID
	starting   map[int32]procID     // whose runtime had not started when last looked at; looked at again in every scan
	unanswered map[int32]unreadPart // of which something could not be read; looked at again now and then
	retried    int32                // of these, the one that is being looked at again
	files      *files
	reading    map[fileID][]int32    // programs that are being read, and the other processes that run them
	Fixes      map[pstate.Key]string // of those refused, what to do; nil unless somebody wants to know
	libs       libraries

	working map[int32]*work // by pid, what a worker does for it, or is to do
	again   map[int32]bool  // likewise: to be looked at once more when that has ended
	reads   *workers        // of programs' and libraries' files
	starts  *workers        // of observations
}

// Counts are of what a finder could not do.
type Counts struct {
	Missed    atomic.Uint64 // Go processes that ended before they were observed
	Unread    atomic.Uint64 // programs that ended before it was known what they are
	Hung      atomic.Uint64 // calls for a file that were given up, because it did not answer
	RoomGiven atomic.Uint64 // observations ended for lack of room
	Left      atomic.Int64  // workers that hung when the finder ended
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
func (f *Finder) unreadFor(pid int32, of part, err error) {
	f.unanswered[pid] = unreadPart{of, !errors.Is(err, refusal.ErrNoAnswer)}
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

// New makes a finder. It looks for processes that match include and do not match exclude; nil includes all, or excludes
// none.
func New(o Options, observer Observer, include, exclude *regexp.Regexp) *Finder {
	f := &Finder{
		Options: o, observer: observer, asked: make(chan question, 1024), behind: make(chan struct{}, 1),
		choiceChanged: make(chan struct{}, 1), known: map[int32]procID{},
		starting: map[int32]procID{}, unanswered: map[int32]unreadPart{}, files: newFiles(),
		reading: map[fileID][]int32{},
		working: map[int32]*work{}, again: map[int32]bool{},
		reads: newWorkers(filesAtOnce, fileWithin), starts: newWorkers(startsAtOnce, startWithin),
	}
	f.choice.Store(&choice{include, exclude})
	return f
}

// Run looks for processes until ctx is done.
func (f *Finder) Run(ctx context.Context) {
	defer f.End()
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
func (f *Finder) waitForWorkers(ctx context.Context) {
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
func (f *Finder) giveUp() {
	f.starts.giveUp()
	f.reads.giveUp()
}

// End lets go of the workers.
func (f *Finder) End() {
	left := f.starts.end(endWithin)
	f.Counts.Left.Add(int64(left))
	f.reads.end(endWithin)
}

// work gives work to workers. ended is called when it has ended, unless the process has become another one meanwhile.
func (f *Finder) work(ctx context.Context, to *workers, w *work, of part, id procID, ended, gaveUp func()) {
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
		f.Counts.Hung.Add(1)
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
func (f *Finder) retry(ctx context.Context, pid int32) {
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
func (f *Finder) every() time.Duration {
	if !f.observer.HasEvents() || len(f.starting) > 0 {
		return scanEvery
	}
	return scanEveryReported
}

// Changed makes the finder look at a process again.
func (f *Finder) Changed(pid int32) { f.look(question{pid: pid}) }

// Executed makes the finder look at a process that has executed a program.
func (f *Finder) Executed(pid int32) { f.look(question{pid: pid, execed: true}) }

// TooManyThreads makes the finder end the observation of a process that has so many threads that others lack room.
func (f *Finder) TooManyThreads(pid int32, n int) { f.look(question{pid: pid, threads: n}) }

// Examine looks at one process and its libraries, and waits until all of its runtimes are observed or refused.
func (f *Finder) Examine(ctx context.Context, pid int32) {
	f.check(ctx, pid)
	f.waitForWorkers(ctx)
	f.checkLibraries(ctx, pid)
	f.waitForWorkers(ctx)
}

// look asks for a process to be looked at again. When too many are asked for at once, the next scan finds them.
func (f *Finder) look(q question) {
	select {
	case f.asked <- q:
	default:
		f.FellBehind()
	}
}

// FellBehind makes the finder look at all processes soon.
func (f *Finder) FellBehind() {
	select {
	case f.behind <- struct{}{}:
	default:
	}
}

// scan goes through all processes: those that are not known, and with all the others, too.
func (f *Finder) scan(ctx context.Context, all bool) {
	pids, err := f.Proc.PIDs()
	if err != nil {
		f.Log.Error("list processes", "dir", string(f.Proc), "err", err)
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
func (f *Finder) unchanged(pid int32) bool {
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
func (f *Finder) drop(pid int32, startTime uint64) {
	f.Hidden.show(pid)
	f.Refused.deleteIf(func(t *pstate.Target) bool { return t.PID == pid && t.StartTime != startTime })
	for _, r := range f.observer.Runtimes() {
		if t := r.Description(); t.PID == pid && t.StartTime != startTime {
			f.observer.Forget(r)
		}
	}
}

// runtimesOf lists what is observed of a process.
func (f *Finder) runtimesOf(pid int32, startTime uint64) (list []Runtime) {
	for _, r := range f.observer.Runtimes() {
		if t := r.Description(); t.PID == pid && t.StartTime == startTime {
			list = append(list, r)
		}
	}
	return list
}

// checkAgain looks at a process of which something is new, an exec for example.
func (f *Finder) checkAgain(ctx context.Context, q question) {
	if f.working[q.pid] != nil {
		f.again[q.pid] = true
		return
	}
	_, seen := f.known[q.pid]
	if !f.unchanged(q.pid) {
		delete(f.known, q.pid)
	}
	if f.check(ctx, q.pid) && q.execed && !seen {
		f.Counts.Unread.Add(1)
	}
	f.libs.lookAgain(q.pid)
	f.checkLibraries(ctx, q.pid)
}
