package goruntime

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// search finds the layout of a runtime that no table knows and no debugging information describes, in its code.
//
// The functions of the scheduler do the same things from release to release, wherever the fields are: wirep stores its argument in m.p of the
// current M and 1 in p.status of its argument. The rules say who does what; the walk through the code (flow.go) says where. Each field needs two witnesses that
// agree, and one that disagrees is enough to refuse. What was found must then hold in the memory of each process (proof_linux.go).
type search struct {
	im    *image
	funcs map[string]symbol
	names map[uint64]string // of functions that are called, without "runtime."
	facts map[string][]fact
	steps int // instructions looked at so far
	heard int // facts kept so far

	l     Layout
	vars  Vars
	sched schedAddrs
	told  []testimony
}

// testimony is what was found, and by what.
type testimony struct {
	name string
	at   uint64
	fns  []string
}

// schedAddrs are the link-time addresses of fields of runtime.sched.
type schedAddrs struct {
	pidle, npidle, nmspinning, nmidle, runqsize, gcwaiting, stopwait uint64
}

// Functions that do not return, and those that leave all registers but one for scratch alone (runtime/asm_amd64.s, gcWriteBarrier).
var (
	neverReturn = []string{
		"throw", "fatal", "fatalthrow", "fatalpanic", "panicIndex", "panicIndexU", "panicBounds", "panicshift", "panicdivide", "panicwrap", "panicnil",
		"goPanicIndex", "goPanicIndexU", "goPanicSliceAcap", "goPanicSliceB", "panicSliceAcap", "panicSliceAlen", "panicSliceB", "gopanic", "panicmem", "badsystemstack",
		"badmcall", "badmcall2", "morestack", "morestack_noctxt", "morestackc", "mstart0", "schedule", "gogo",
	}
	keepRegisters = []string{
		"gcWriteBarrier", "gcWriteBarrier1", "gcWriteBarrier2", "gcWriteBarrier3", "gcWriteBarrier4", "gcWriteBarrier5", "gcWriteBarrier6",
		"gcWriteBarrier7", "gcWriteBarrier8",
	}
	calledFuncs = []string{
		"acquirep", "acquirepNoTrace", "findfunc", "printuint", "printint", "gettid", "preemptone", "mReserveID", "(*gcControllerState).markWorkerStop",
	}
)

// decisive are the fields of which one witness is enough because the memory of a process decides: thread ids are those of its threads.
var decisive = []string{"m.procid"}

// searchLayout looks for the layout. The error names the field that could not be found.
func searchLayout(im *image) (*search, error) {
	s := &search{im: im, names: make(map[uint64]string), facts: make(map[string][]fact)}
	plan := s.plan()
	wanted := make(map[string]bool)
	for _, f := range plan {
		for _, w := range f.witnesses {
			for name := range strings.FieldsSeq(w.fns) {
				wanted["runtime."+name] = true
			}
		}
	}
	for _, list := range [][]string{neverReturn, keepRegisters, calledFuncs} {
		for _, name := range list {
			wanted["runtime."+name] = true
		}
	}
	table, err := openFuncTable(im)
	if err != nil {
		return nil, fmt.Errorf("its table of functions cannot be read: %w", err)
	}
	s.funcs = make(map[string]symbol)
	err = table.each(wanted, func(name string, f symbol) bool {
		name = strings.TrimPrefix(name, "runtime.")
		s.names[f.value] = name
		if known, dup := s.funcs[name]; !dup || f.size > known.size {
			s.funcs[name] = f // of two, one is the bridge between calling conventions, which is shorter
		}
		return len(s.names) < maxNames
	})
	if err != nil {
		return nil, fmt.Errorf("its table of functions is broken: %w", err)
	}
	s.l.visit(func(_ string, alternatives []string, _ bool, dst *int32) {
		if alternatives != nil {
			*dst = Absent
		}
	})
	for i := range plan {
		if err := s.find(&plan[i]); err != nil {
			return nil, err
		}
	}
	if err := s.finish(plan); err != nil {
		return nil, err
	}
	s.im, s.funcs, s.names, s.facts = nil, nil, nil, nil // which are large, and need the file
	return s, nil
}

// What a search may take: functions of the names wanted, instructions and facts. That of a real program needs a quarter of each at most.
const (
	maxNames    = 1 << 10
	maxAllSteps = 1 << 20
	maxAllFacts = 1 << 17
)

// find lets the witnesses of a field speak.
func (s *search) find(f *sought) error {
	told := make(map[uint64][]string) // functions by what they tell
	for _, w := range f.witnesses {
		for name := range strings.FieldsSeq(w.fns) {
			if at, ok := s.hear(name, w); ok && !slices.Contains(told[at], name) {
				told[at] = append(told[at], name)
			}
		}
	}
	if len(told) > 1 {
		return fmt.Errorf("its functions disagree on where %s lies (%s)", f.name, describe(told))
	}
	for at, fns := range told {
		if len(fns) < 2 {
			switch {
			case f.optional:
				return nil
			case !slices.Contains(decisive, f.name):
				return fmt.Errorf("only its function %s tells where %s lies, which is too little", fns[0], f.name)
			}
		}
		if f.dst != nil {
			*f.dst = int32(at)
		} else {
			*f.addr = at
		}
		s.told = append(s.told, testimony{f.name, at, fns})
		return nil
	}
	if f.optional {
		return nil
	}
	return fmt.Errorf("none of its functions tells where %s lies", f.name)
}

// hear asks one function. It tells nothing if it is not there, or says two things.
func (s *search) hear(fn string, w witness) (at uint64, ok bool) {
	for _, x := range s.factsOf(fn) {
		here, tells := w.see(s, &x)
		if !tells {
			continue
		}
		if ok && here != at {
			return 0, false
		}
		at, ok = here, true
	}
	return at, ok
}

// factsOf walks a function once.
func (s *search) factsOf(fn string) []fact {
	if facts, ok := s.facts[fn]; ok {
		return facts
	}
	var facts []fact
	if f, ok := s.funcs[fn]; ok && s.im.executable(f.value) && s.steps < maxAllSteps && s.heard < maxAllFacts {
		code := make([]byte, min(f.size, maxCode))
		if n, err := s.im.readVA(f.value, code); err == nil {
			var steps int
			facts, steps = walkCode(s.im.arch, code[:n], f.value, s.returns, s.keeps)
			s.steps, s.heard = s.steps+steps, s.heard+len(facts)
		}
	}
	s.facts[fn] = facts
	return facts
}

func (s *search) returns(callee uint64) bool { return !slices.Contains(neverReturn, s.names[callee]) }
func (s *search) keeps(callee uint64) bool   { return slices.Contains(keepRegisters, s.names[callee]) }

// named reports whether the function at an address is one of that name.
func (s *search) named(addr uint64, name string) bool { return s.names[addr] == name }

// calls reports whether a fact is a call of one of some functions.
func (s *search) calls(x *fact, names string) bool {
	name, ok := s.names[x.addr.n]
	return ok && x.addr.n != 0 && slices.Contains(strings.Fields(names), name)
}

// describe says who told what.
func describe(told map[uint64][]string) string {
	var parts []string
	for at, fns := range told {
		parts = append(parts, fmt.Sprintf("%#x by %s", at, strings.Join(fns, ", ")))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// finish checks what was found against itself, and turns the addresses of the scheduler's fields into offsets. Where runtime.sched begins is not known
// and does not matter: they count from the first field that was found.
func (s *search) finish(plan []sought) error {
	base := uint64(math.MaxUint64)
	for _, f := range plan {
		if f.addr == nil || *f.addr == 0 {
			continue
		}
		if *f.addr%uint64(min(f.width, 8)) != 0 || !s.im.writable(*f.addr, uint64(f.width)) {
			return fmt.Errorf("%s would lie at %#x, where no variable can be", f.name, *f.addr)
		}
		if strings.HasPrefix(f.name, "sched.") {
			base = min(base, *f.addr&^7)
		}
	}
	s.vars.Sched = base
	l := &s.l.Sched
	for addr, dst := range map[*uint64]*int32{
		&s.sched.pidle: &l.PIdle, &s.sched.npidle: &l.NPIdle, &s.sched.nmspinning: &l.NMSpinning, &s.sched.nmidle: &l.NMIdle,
		&s.sched.runqsize: &l.RunqSize, &s.sched.gcwaiting: &l.GCWaiting, &s.sched.stopwait: &l.StopWait,
	} {
		if *addr != 0 {
			*dst = int32(min(*addr-base, maxTypeSize))
		}
	}
	// Of each type is known how far its last field reaches. What lies on top of another cannot be right.
	sizes := map[string]*int32{"g": &s.l.G.Size, "m": &s.l.M.Size, "p": &s.l.P.Size, "sched": &l.Size}
	type place struct {
		name    string
		at, end uint64
	}
	taken := make(map[string][]place)
	for _, f := range plan {
		typ, _, field := strings.Cut(f.name, ".")
		if !field {
			continue
		}
		at := uint64(0)
		switch {
		case f.dst != nil && *f.dst < 0 || f.dst == nil && *f.addr == 0:
			continue
		case f.dst != nil:
			at = uint64(*f.dst)
		default:
			at = *f.addr - base
		}
		if at%uint64(f.width) != 0 {
			return fmt.Errorf("%s would lie %d bytes into its type, where no field of its size can be", f.name, at)
		}
		here := place{f.name, at, at + uint64(f.width)}
		for _, other := range taken[typ] {
			if here.at < other.end && other.at < here.end {
				return fmt.Errorf("%s and %s would lie at the same place", f.name, other.name)
			}
		}
		taken[typ] = append(taken[typ], here)
		*sizes[typ] = max(*sizes[typ], int32(min(here.end, maxTypeSize)))
	}
	if missing := s.l.check(); missing != "" {
		return fmt.Errorf("%s was not found", missing)
	}
	return nil
}

// contradicts compares with what a symbol table says, and names the first variable that lies elsewhere.
func (s *search) contradicts(named *Vars, schedSize uint64) string {
	switch found := &s.vars; {
	case found.AllP != named.AllP:
		return "allp"
	case found.AllM != named.AllM:
		return "allm"
	case found.GOMAXPROCS != named.GOMAXPROCS:
		return "gomaxprocs"
	case found.Sched-named.Sched > schedSize || uint64(s.l.Sched.Size) > schedSize-(found.Sched-named.Sched):
		return "sched"
	}
	return ""
}
