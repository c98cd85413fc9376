package codewalk

import "github.com/p-scope/p-scope/pkg/goruntime/layout"

// The rules of the search say which function of the scheduler does what with which field. They name what the runtime's
// source says there, not registers or places in the code. Where releases differ in the function, a rule names several.
// A rule looks at one fact of its function.
//
// The functions are in runtime/proc.go unless noted.

// rule says how a function uses a field.
type rule struct {
	funcs string // names, separated by blanks; each function that matches counts
	match func(s *search, x *fact) (at uint64, ok bool)
}

// field is a field of a type, or a variable, that is searched for.
type field struct {
	name     string
	width    uint8
	dst      *int32  // offset in its type
	addr     *uint64 // or a variable's link-time address
	optional bool
	rules    []rule
}

// Shapes of values.

func isArg(v value, n uint64) bool { return v == value{origin: fromArg, n: n} }

// variable reports whether v is the address of a variable.
func variable(v value) bool { return v.origin == fromAddr && v.depth == 0 }

// contents reports whether v is what a variable holds.
func contents(v value, width uint8) bool {
	return v.origin == fromAddr && v.depth == 1 && v.deref[0] == 0 && v.off == 0 && v.width == width
}

// returned reports whether v is what a function returned.
func returned(v value) bool { return v.origin == fromCall && v.depth == 0 && v.off == 0 }

// isM reports whether v is the current M.
func (s *search) isM(v value) bool {
	return v == value{origin: fromG, depth: 1, deref: [maxDeref]int32{s.l.G.M}, width: 8}
}

// isP reports whether v is the P of the current M.
func (s *search) isP(v value) bool {
	return v == value{origin: fromG, depth: 2, deref: [maxDeref]int32{s.l.G.M, s.l.M.P}, width: 8}
}

// isAnyP reports whether v is an element of an array that a variable points to, as in a loop over allp.
func isAnyP(v value) bool {
	return v.origin == fromAddr && v.depth == 2 && v.deref[0] == 0 && v.deref[1] == element && v.off == 0
}

// of takes the offset of a field that was loaded from an object.
func of(v value, width uint8, object func(value) bool) (at uint64, ok bool) {
	o, off := v.last()
	return uint64(off), off >= 0 && v.width == width && object(o)
}

func arg(n uint64) func(value) bool { return func(v value) bool { return isArg(v, n) } }

// storeTo is a rule for a store of a kind of value into a kind of object.
func storeTo(width uint8, object, val func(*search, value) bool) func(*search, *fact) (uint64, bool) {
	return func(s *search, x *fact) (uint64, bool) {
		return uint64(x.addr.off), x.action == stores && x.width == width && object(s, x.addr.base()) && val(s, x.val)
	}
}

func toArg(n uint64) func(*search, value) bool {
	return func(_ *search, v value) bool { return isArg(v, n) }
}
func toM(s *search, v value) bool        { return s.isM(v) }
func toP(s *search, v value) bool        { return s.isP(v) }
func toReturned(_ *search, v value) bool { return returned(v) }
func number(n uint64) func(*search, value) bool {
	return func(_ *search, v value) bool { return v.is(n) }
}

// swapOfArg is a rule for a compare-and-swap of an argument's field.
func swapOfArg(width uint8) func(*search, *fact) (uint64, bool) {
	return func(_ *search, x *fact) (uint64, bool) {
		return uint64(x.addr.off), x.action == swaps && x.width == width && isArg(x.addr.base(), 0)
	}
}

// addTo is a rule for an addition to a variable: of a number, or of anything if n is nil.
func addTo(atomic bool, n *int64) func(*search, *fact) (uint64, bool) {
	return func(_ *search, x *fact) (uint64, bool) {
		return x.addr.n, x.action == adds && x.width == 4 && x.atomic == atomic && variable(x.addr) &&
			(n == nil || isNumber(x.val, *n))
	}
}

// isNumber compares with a number of four bytes, which code may have with or without its sign extended.
func isNumber(v value, n int64) bool { return v.origin == constant && int32(v.n) == int32(n) }

// setTo is a rule for a store of a number into a variable.
func setTo(width uint8, atomic bool, n int64) func(*search, *fact) (uint64, bool) {
	return func(_ *search, x *fact) (uint64, bool) {
		return x.addr.n, x.action == stores && x.width == width && x.atomic == atomic && variable(x.addr) &&
			isNumber(x.val, n)
	}
}

// passes is a rule for a call with a field of an object as an argument.
func passes(callees string, n int, width uint8, object func(*search, value) bool) func(*search, *fact) (uint64, bool) {
	return func(s *search, x *fact) (uint64, bool) {
		if x.action != calls || !s.calls(x, callees) {
			return 0, false
		}
		return of(x.args[n], width, func(v value) bool { return object(s, v) })
	}
}

var one, minusOne int64 = 1, -1

// fields lists what is searched for. The rules of a field may use the fields before it.
func (s *search) fields() []field {
	g, m, p, sched, v := &s.l.G, &s.l.M, &s.l.P, &s.sched, &s.vars
	return []field{
		{name: "g.m", width: 8, dst: &g.M, rules: []rule{
			{"execute", func(_ *search, x *fact) (uint64, bool) { // gp.m = mp, the M of the current G
				at, ok := of(x.val, 8, func(o value) bool { return o == value{origin: fromG} })
				return at, ok && x.action == stores && isArg(x.addr.base(), 0) && uint64(x.addr.off) == at
			}},
			{"wirep", func(_ *search, x *fact) (uint64, bool) { // pp.m.set(gp.m)
				at, ok := of(x.val, 8, func(o value) bool { return o == value{origin: fromG} })
				return at, ok && x.action == stores && isArg(x.addr.base(), 0)
			}},
			// gp.m.spinning = true; lock_futex.go: gp.m.blocked = true
			{"mspinning notesleep notetsleep_internal", func(_ *search, x *fact) (uint64, bool) {
				at, ok := of(x.addr.base(), 8, func(o value) bool { return o == value{origin: fromG} })
				return at, ok && x.action == stores && x.width == 1 && x.val.is(1)
			}},
		}},
		{name: "m.p", width: 8, dst: &m.P, rules: []rule{
			{"wirep", storeTo(8, toM, toArg(0))}, // gp.m.p.set(pp)
			{"execute", func(s *search, x *fact) (uint64, bool) { // mp.p.ptr().schedtick++
				at, ok := of(x.addr.base(), 8, s.isM)
				return at, ok && x.action == adds && x.width == 4 && x.val.is(1)
			}},
			// pp := gp.m.p.ptr(); pp.status = _Pidle
			{"releasep releasepNoTrace", func(s *search, x *fact) (uint64, bool) {
				at, ok := of(x.addr.base(), 8, s.isM)
				return at, ok && x.action == stores && x.width == 4 && x.val.is(0)
			}},
		}},
		{name: "p.m", width: 8, dst: &p.M, rules: []rule{
			{"wirep", storeTo(8, toArg(0), func(s *search, v value) bool { return s.isM(v) })}, // pp.m.set(gp.m)
			{"releasep releasepNoTrace", storeTo(8, toP, number(0))},                           // pp.m = 0
			// mp := pp.m.ptr(); gp := mp.curg; gp.preempt = true
			{"preemptone", func(_ *search, x *fact) (uint64, bool) {
				o, _ := x.addr.base().last()
				at, ok := of(o, 8, arg(0))
				return at, ok && x.action == stores && x.width == 1 && x.val.is(1)
			}},
		}},
		{name: "m.curg", width: 8, dst: &m.CurG, rules: []rule{
			{"execute", storeTo(8, toM, toArg(0))}, // mp.curg = gp
			{"preemptone", func(s *search, x *fact) (uint64, bool) { // as above
				o, off := x.addr.base().last()
				at, ok := of(o, 8, arg(0))
				return uint64(off), ok && x.action == stores && x.width == 1 && x.val.is(1) && at == uint64(s.l.P.M)
			}},
			{"goschedImpl park_m goyield_m", func(s *search, x *fact) (uint64, bool) { // dropg: gp.m.curg.m = nil
				at, ok := of(x.addr.base(), 8, s.isM)
				return at, ok && x.action == stores && x.width == 8 && x.val.is(0) && x.addr.off == s.l.G.M
			}},
		}},
		{name: "p.status", width: 4, dst: &p.Status, rules: []rule{
			{"wirep", storeTo(4, toArg(0), number(layout.StatusRunning))},
			{"releasep releasepNoTrace", storeTo(4, toP, number(layout.StatusIdle))},
			{"(*p).init", storeTo(4, toArg(0), number(layout.StatusGCStop))},
			{"(*p).destroy", storeTo(4, toArg(0), number(layout.StatusDead))},
			{"gcstopm", storeTo(4, toReturned, number(layout.StatusGCStop))},
			{"stopTheWorldWithSema", storeTo(4, toP, number(layout.StatusGCStop))},
		}},
		{name: "p.id", width: 4, dst: &p.ID, rules: []rule{
			// mgc.go: println("runtime: p", p.id, "flushGen", fg)
			{"gcStart", passes("printint", 0, 4, func(_ *search, v value) bool { return isAnyP(v) })},
			{"schedtrace", func(s *search, x *fact) (uint64, bool) { // pp := mp.p.ptr(); id1 = pp.id, of the Ms of allm
				o, off := x.addr.base().last()
				return uint64(x.addr.off), x.action == loads && x.width == 4 && contents(o, 8) && off == s.l.M.P
			}},
			{"(*p).init", func(s *search, x *fact) (uint64, bool) { // pp.id = id, besides others
				return uint64(x.addr.off), x.action == stores && x.width == 4 && isArg(x.addr.base(), 0) &&
					isArg(x.val, 1)
			}},
		}},
		{name: "sched.pidle", width: 8, addr: &sched.pidle, rules: []rule{
			{"pidleput", func(_ *search, x *fact) (uint64, bool) { // pp.link = sched.pidle
				return x.val.n, x.action == stores && x.width == 8 && isArg(x.addr.base(), 0) && contents(x.val, 8)
			}},
			{"pidleget", func(_ *search, x *fact) (uint64, bool) { // sched.pidle = pp.link, pp being sched.pidle
				_, ok := of(x.val, 8, func(o value) bool { return contents(o, 8) && o.n == x.addr.n })
				return x.addr.n, ok && x.action == stores && variable(x.addr)
			}},
		}},
		{name: "p.link", width: 8, dst: &p.Link, rules: []rule{
			{"pidleput", func(s *search, x *fact) (uint64, bool) {
				return uint64(x.addr.off), x.action == stores && x.width == 8 && isArg(x.addr.base(), 0) &&
					contents(x.val, 8) && x.val.n == s.sched.pidle
			}},
			{"pidleget", func(s *search, x *fact) (uint64, bool) {
				at, ok := of(x.val, 8, func(o value) bool { return contents(o, 8) && o.n == s.sched.pidle })
				return at, ok && x.action == stores && variable(x.addr)
			}},
		}},
		{name: "p.syscalltick", width: 4, dst: &p.SyscallTick, rules: []rule{
			// gp.m.syscalltick = pp.syscalltick
			{"reentersyscall entersyscallblock exitsyscall exitsyscallfast", func(s *search, x *fact) (uint64, bool) {
				at, ok := of(x.val, 4, s.isP)
				return at, ok && x.action == stores && s.isM(x.addr.base())
			}},
			{"entersyscallblock exitsyscall", func(s *search, x *fact) (uint64, bool) { // gp.m.p.ptr().syscalltick++
				return uint64(x.addr.off), x.action == adds && x.width == 4 && x.val.is(1) && s.isP(x.addr.base())
			}},
		}},
		{name: "m.syscalltick", width: 4, dst: &m.SyscallTick, rules: []rule{
			{"reentersyscall entersyscallblock exitsyscall exitsyscallfast", func(s *search, x *fact) (uint64, bool) {
				at, ok := of(x.val, 4, s.isP)
				return uint64(x.addr.off), ok && at == uint64(s.l.P.SyscallTick) && x.action == stores &&
					s.isM(x.addr.base())
			}},
		}},
		{name: "p.schedtick", width: 4, dst: &p.SchedTick, rules: []rule{
			{"execute", func(s *search, x *fact) (uint64, bool) { // mp.p.ptr().schedtick++
				return uint64(x.addr.off), x.action == adds && x.width == 4 && x.val.is(1) && s.isP(x.addr.base())
			}},
			// pd.schedtick = pp.schedtick, pd being in pp; of syscalltick likewise
			{"retake", func(s *search, x *fact) (uint64, bool) {
				at, ok := of(x.val, 4, isAnyP)
				return at, ok && x.action == stores && x.addr.base() == lastOf(x.val) && at != uint64(s.l.P.SyscallTick)
			}},
		}},
		{name: "p.runqhead", width: 4, dst: &p.RunqHead, rules: []rule{
			{"runqputslow runqgrab runqdrain runqget", swapOfArg(4)}, // atomic.CasRel(&pp.runqhead, h, …)
		}},
		{name: "p.runqtail", width: 4, dst: &p.RunqTail, rules: []rule{
			// atomic.StoreRel(&pp.runqtail, …)
			{"runqput runqputbatch runqsteal", func(_ *search, x *fact) (uint64, bool) {
				return uint64(x.addr.off), (x.action == stores || x.action == adds) && x.atomic && x.width == 4 &&
					isArg(x.addr.base(), 0)
			}},
		}},
		{name: "p.runnext", width: 8, dst: &p.RunNext, rules: []rule{
			{"runqput runqgrab runqdrain runqget", swapOfArg(8)}, // pp.runnext.cas(…)
		}},
		{name: "p.gcMarkWorkerMode", width: 8, dst: &p.GCMarkWorkerMode, rules: []rule{
			{"gcBgMarkWorker", passes("(*gcControllerState).markWorkerStop", 1, 8, toP)}, // mgc.go
			{"findRunnable", storeTo(8, toP, number(3))},                                 // = gcMarkWorkerIdleMode
			{"(*gcControllerState).findRunnableGCWorker (*gcControllerState).assignWaitingGCWorker", // mgcpacer.go
				storeTo(8, toArg(1), func(_ *search, v value) bool { return v.is(1) || v.is(2) })},
		}},
		{name: "m.nextp", width: 8, dst: &m.NextP, rules: []rule{
			// acquirep(gp.m.nextp.ptr())
			{"stopm mstart1 stoplockedm", passes("acquirep acquirepNoTrace", 0, 8, toM)},
			// nmp.nextp.set(pp)
			{"startm", storeTo(8, toReturned, func(_ *search, v value) bool { return isArg(v, 0) || returned(v) })},
		}},
		{name: "m.oldp", width: 8, dst: &m.OldP, rules: []rule{
			{"reentersyscall", storeTo(8, toM, toP)},    // gp.m.oldp.set(pp)
			{"exitsyscall", storeTo(8, toM, number(0))}, // gp.m.oldp = 0
		}},
		{name: "m.id", width: 8, dst: &m.ID, rules: []rule{
			{"mcommoninit", func(s *search, x *fact) (uint64, bool) { // mp.id = id, or mReserveID()
				return uint64(x.addr.off), x.action == stores && x.width == 8 && isArg(x.addr.base(), 0) &&
					(isArg(x.val, 1) || returned(x.val) && s.named(x.val.n, "mReserveID"))
			}},
			{"schedtrace", func(s *search, x *fact) (uint64, bool) { // mp := pp.m.ptr(); id = mp.id, of the Ps of allp
				o, off := x.addr.base().last()
				return uint64(x.addr.off), x.action == loads && x.width == 8 && isAnyP(o) && off == s.l.P.M
			}},
			// traceback.go: print(" m=", gp.m.id)
			{"goroutineheader", passes("printint", 0, 8, func(s *search, v value) bool {
				at, ok := of(v, 8, arg(0))
				return ok && at == uint64(s.l.G.M)
			})},
		}},
		{name: "m.procid", width: 8, dst: &m.ProcID, rules: []rule{
			// os_linux.go: getg().m.procid = uint64(gettid())
			{"minit mstart1", func(s *search, x *fact) (uint64, bool) {
				return uint64(x.addr.off), x.action == stores && x.width == 8 && s.isM(x.addr.base()) &&
					returned(x.val) && s.named(x.val.n, "gettid")
			}},
		}},
		{name: "m.spinning", width: 1, dst: &m.Spinning, rules: []rule{
			{"mspinning", storeTo(1, toM, number(1))},
			{"resetspinning gcstopm", storeTo(1, toM, number(0))},
			{"checkdead", storeTo(1, toReturned, number(1))},
		}},
		{name: "m.blocked", width: 1, dst: &m.Blocked, rules: []rule{
			{"notesleep notetsleep_internal", storeTo(1, toM, number(1))}, // lock_futex.go
			{"notesleep notetsleep_internal", storeTo(1, toM, number(0))},
		}},
		{name: "allm", width: 8, addr: &v.AllM, rules: []rule{
			{"mcommoninit", func(_ *search, x *fact) (uint64, bool) { // mp.alllink = allm
				return x.val.n, x.action == stores && x.width == 8 && isArg(x.addr.base(), 0) && contents(x.val, 8)
			}},
			{"mexit", func(s *search, x *fact) (uint64, bool) { // *pprev = mp.alllink, pprev being &allm at first
				_, ok := of(x.val, 8, s.isM)
				return x.addr.n, ok && x.action == stores && variable(x.addr)
			}},
		}},
		{name: "m.alllink", width: 8, dst: &m.AllLink, rules: []rule{
			{"mcommoninit", func(s *search, x *fact) (uint64, bool) {
				return uint64(x.addr.off), x.action == stores && x.width == 8 && isArg(x.addr.base(), 0) &&
					contents(x.val, 8) && x.val.n == s.vars.AllM
			}},
			{"mexit", func(s *search, x *fact) (uint64, bool) {
				at, ok := of(x.val, 8, s.isM)
				return at, ok && x.action == stores && variable(x.addr) && x.addr.n == s.vars.AllM
			}},
		}},
		{name: "g.atomicstatus", width: 4, dst: &g.AtomicStatus, rules: []rule{
			{"casgstatus castogscanstatus casfrom_Gscanstatus", swapOfArg(4)},
		}},
		{name: "g.goid", width: 8, dst: &g.GoID, rules: []rule{
			{"goschedImpl", passes("printuint", 0, 8, toArg(0))}, // dumpgstatus
			{"stoplockedm", passes("printuint", 0, 8, func(_ *search, v value) bool {
				return v == value{origin: fromG}
			})},
			{"newproc1", func(s *search, x *fact) (uint64, bool) { // newg.goid = pp.goidcache
				_, ok := of(x.val, 8, s.isP)
				return uint64(x.addr.off), ok && x.action == stores && returned(x.addr.base())
			}},
		}},
		{name: "g.gopc", width: 8, dst: &g.GoPC, rules: []rule{
			{"newproc1", storeTo(8, toReturned, toArg(2))},         // newg.gopc = callerpc
			{"printcreatedby", passes("findfunc", 0, 8, toArg(0))}, // traceback.go: pc := gp.gopc; f := findfunc(pc)
		}},
		{name: "sched.npidle", width: 4, addr: &sched.npidle, rules: []rule{
			{"pidleput", addTo(true, &one)},
			{"pidleget", addTo(true, &minusOne)},
		}},
		{name: "sched.nmspinning", width: 4, addr: &sched.nmspinning, rules: []rule{
			{"wakep", func(_ *search, x *fact) (uint64, bool) {
				return x.addr.n, x.action == swaps && x.width == 4 && variable(x.addr)
			}},
			{"resetspinning gcstopm", addTo(true, &minusOne)},
		}},
		{name: "sched.stopwait", width: 4, addr: &sched.stopwait, rules: []rule{
			{"gcstopm", addTo(false, &minusOne)},
			{"freezetheworld", setTo(4, false, 0x7fffffff)}, // = freezeStopWait
			{"stopTheWorldWithSema", func(_ *search, x *fact) (uint64, bool) { // sched.stopwait = gomaxprocs
				return x.addr.n, x.action == stores && x.width == 4 && variable(x.addr) && contents(x.val, 4)
			}},
		}},
		{name: "gomaxprocs", width: 4, addr: &v.GOMAXPROCS, rules: []rule{
			{"stopTheWorldWithSema", func(s *search, x *fact) (uint64, bool) {
				return x.val.n, x.action == stores && x.width == 4 && variable(x.addr) &&
					x.addr.n == s.sched.stopwait && contents(x.val, 4)
			}},
			// atomic.Store((*uint32)(unsafe.Pointer(&gomaxprocs)), uint32(nprocs))
			{"procresize", func(_ *search, x *fact) (uint64, bool) {
				return x.addr.n, x.action == stores && x.atomic && x.width == 4 && variable(x.addr) && isArg(x.val, 0)
			}},
		}},
		{name: "sched.gcwaiting", width: 1, addr: &sched.gcwaiting, rules: []rule{
			{"stopTheWorldWithSema", setTo(1, true, 1)},
			{"gcstopm", func(_ *search, x *fact) (uint64, bool) { // if !sched.gcwaiting.Load()
				return x.addr.n, x.action == loads && x.width == 1 && variable(x.addr)
			}},
			{"freezetheworld", func(s *search, x *fact) (uint64, bool) { // besides freezing, far from it
				at, ok := setTo(1, true, 1)(s, x)
				return at, ok && at-s.sched.stopwait+64 < 128
			}},
		}},
		{name: "sched.runqsize", width: 4, addr: &sched.runqsize, rules: []rule{
			{"goschedImpl goyield_m (*p).destroy", addTo(false, &one)}, // globrunqput
			{"runqputslow injectglist", addTo(false, nil)},             // globrunqputbatch
		}},
		{name: "sched.nmidle", width: 4, addr: &sched.nmidle, optional: true, rules: []rule{
			{"mput", addTo(false, &one)},
			{"startm checkdead mget", addTo(false, &minusOne)}, // mget
		}},
		{name: "allp", width: 24, addr: &v.AllP, rules: []rule{
			{"preemptall", func(s *search, x *fact) (uint64, bool) { // preemptone(pp)
				return x.args[0].n, x.action == calls && s.calls(x, "preemptone") && isAnyP(x.args[0])
			}},
			{"retake schedtrace", func(s *search, x *fact) (uint64, bool) { // pp.schedtick
				o := x.addr.base()
				return o.n, x.action == loads && x.width == 4 && x.addr.off == s.l.P.SchedTick && isAnyP(o)
			}},
		}},
		{name: "gcphase", width: 4, addr: &v.GCPhase, optional: true, rules: []rule{
			{"gcMarkTermination", setTo(4, true, 2)}, // mgc.go: setGCPhase(_GCmarktermination)
			{"gcMarkTermination.func1 gcMarkTermination.func2 gcMarkTermination.func3 gcMarkTermination.func4",
				setTo(4, true, 0)},
			{"gcStart gcStart.func1 gcStart.func2 gcStart.func3 gcStart.func4", setTo(4, true, 1)},
		}},
	}
}

// lastOf is the object of which a field was loaded.
func lastOf(v value) value {
	o, _ := v.last()
	return o
}
