package codewalk

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
)

// Found is what a search of a program's code has found.
type Found struct {
	Layout layout.Layout
	Vars   layout.Vars // Sched is the address from which the offsets of Layout.Sched count
}

// Search finds the layout of the runtime in the program's code. The error names the field that could not be found.
//
// The functions of the scheduler do the same things in every release, wherever the fields are: wirep stores its
// argument in m.p of the current M, and 1 in p.status of its argument. The rules (rules.go) say which function does
// what. The walk through the code (walk.go) says where. Each field needs two functions that agree; one that disagrees
// is enough to refuse.
func Search(f *binary.File) (*Found, error) {
	s, err := searchLayout(f)
	if err != nil {
		return nil, err
	}
	return &Found{s.l, s.vars}, nil
}

// Contradicts compares with the addresses of the symbol table, and names the first variable that lies elsewhere; empty
// if none does.
func (f *Found) Contradicts(named *layout.Vars, schedSize uint64) string {
	switch found := &f.Vars; {
	case found.AllP != named.AllP:
		return "allp"
	case found.AllM != named.AllM:
		return "allm"
	case found.GOMAXPROCS != named.GOMAXPROCS:
		return "gomaxprocs"
	case found.Sched-named.Sched > schedSize || uint64(f.Layout.Sched.Size) > schedSize-(found.Sched-named.Sched):
		return "sched"
	}
	return ""
}

// search is the state of a search.
type search struct {
	file  *binary.File
	funcs map[string]binary.Symbol
	names map[uint64]string // of functions that are called, without "runtime."
	facts map[string][]fact
	steps int // instructions looked at so far
	kept  int // facts kept so far

	l        layout.Layout
	vars     layout.Vars
	sched    schedAddrs
	findings []finding
}

// finding is where a field or a variable lies, and the functions that say so.
type finding struct {
	name  string
	at    uint64
	funcs []string
}

// schedAddrs are the link-time addresses of fields of runtime.sched.
type schedAddrs struct {
	pidle, npidle, nmspinning, nmidle, runqsize, gcwaiting, stopwait uint64
}

// Functions that do not return, and those that keep all registers but one (runtime/asm_amd64.s, gcWriteBarrier).
var (
	neverReturn = []string{
		"throw", "fatal", "fatalthrow", "fatalpanic", "panicIndex", "panicIndexU", "panicBounds", "panicshift",
		"panicdivide", "panicwrap", "panicnil", "goPanicIndex", "goPanicIndexU", "goPanicSliceAcap", "goPanicSliceB",
		"panicSliceAcap", "panicSliceAlen", "panicSliceB", "gopanic", "panicmem", "badsystemstack", "badmcall",
		"badmcall2", "morestack", "morestack_noctxt", "morestackc", "mstart0", "schedule", "gogo",
	}
	keepRegisters = []string{
		"gcWriteBarrier", "gcWriteBarrier1", "gcWriteBarrier2", "gcWriteBarrier3", "gcWriteBarrier4",
		"gcWriteBarrier5", "gcWriteBarrier6", "gcWriteBarrier7", "gcWriteBarrier8",
	}
	calledFuncs = []string{
		"acquirep", "acquirepNoTrace", "findfunc", "printuint", "printint", "gettid", "preemptone", "mReserveID",
		"(*gcControllerState).markWorkerStop",
	}
)

// oneIsEnough are the fields for which one function is enough, because the memory of a process decides: thread ids are
// the ids of its threads.
var oneIsEnough = []string{"m.procid"}

// Bounds of a search: names of functions, instructions and facts. A real program needs a quarter of each at most.
const (
	maxNames    = 1 << 10
	maxAllSteps = 1 << 20
	maxAllFacts = 1 << 17
)

func searchLayout(file *binary.File) (*search, error) {
	s := &search{file: file, names: make(map[uint64]string), facts: make(map[string][]fact)}
	fields := s.fields()
	if err := s.findFuncs(fields); err != nil {
		return nil, err
	}
	s.l.Visit(func(_ string, alternatives []string, _ bool, dst *int32) {
		if alternatives != nil {
			*dst = layout.Absent
		}
	})
	for i := range fields {
		if err := s.find(&fields[i]); err != nil {
			return nil, err
		}
	}
	if err := s.finish(fields); err != nil {
		return nil, err
	}
	return s, nil
}

// findFuncs finds the functions that the rules name, and those that these call.
func (s *search) findFuncs(fields []field) error {
	wanted := make(map[string]bool)
	for _, f := range fields {
		for _, r := range f.rules {
			for name := range strings.FieldsSeq(r.funcs) {
				wanted["runtime."+name] = true
			}
		}
	}
	for _, list := range [][]string{neverReturn, keepRegisters, calledFuncs} {
		for _, name := range list {
			wanted["runtime."+name] = true
		}
	}
	table, err := binary.OpenFuncTable(s.file)
	if err != nil {
		return fmt.Errorf("its table of functions cannot be read: %w", err)
	}
	s.funcs = make(map[string]binary.Symbol)
	err = table.Each(wanted, func(name string, f binary.Symbol) bool {
		name = strings.TrimPrefix(name, "runtime.")
		s.names[f.Addr] = name
		if known, dup := s.funcs[name]; !dup || f.Size > known.Size {
			s.funcs[name] = f // of two, one is the bridge between calling conventions, which is shorter
		}
		return len(s.names) < maxNames
	})
	if err != nil {
		return fmt.Errorf("its table of functions is broken: %w", err)
	}
	return nil
}

// find applies the rules of a field.
func (s *search) find(f *field) error {
	votes := make(map[uint64][]string) // functions by where they have the field
	for _, r := range f.rules {
		for name := range strings.FieldsSeq(r.funcs) {
			if at, ok := s.apply(name, r); ok && !slices.Contains(votes[at], name) {
				votes[at] = append(votes[at], name)
			}
		}
	}
	if len(votes) > 1 {
		return fmt.Errorf("its functions disagree on where %s lies (%s)", f.name, describe(votes))
	}
	for at, funcs := range votes {
		if len(funcs) < 2 {
			switch {
			case f.optional:
				return nil
			case !slices.Contains(oneIsEnough, f.name):
				return fmt.Errorf("only its function %s tells where %s lies, which is too little", funcs[0], f.name)
			}
		}
		if f.dst != nil {
			*f.dst = int32(at)
		} else {
			*f.addr = at
		}
		s.findings = append(s.findings, finding{f.name, at, funcs})
		return nil
	}
	if f.optional {
		return nil
	}
	return fmt.Errorf("none of its functions tells where %s lies", f.name)
}

// apply applies a rule to one function. ok is false if the function is not there, or if two of its facts give different
// places.
func (s *search) apply(fn string, r rule) (at uint64, ok bool) {
	for _, x := range s.factsOf(fn) {
		here, matches := r.match(s, &x)
		if !matches {
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
	f, ok := s.funcs[fn]
	if ok && s.file.Executable(f.Addr) && s.steps < maxAllSteps && s.kept < maxAllFacts {
		code := make([]byte, min(f.Size, maxCode))
		if n, err := s.file.Read(f.Addr, code); err == nil {
			var steps int
			facts, steps = walkCode(s.file.Arch, code[:n], f.Addr, s.returns, s.keeps)
			s.steps, s.kept = s.steps+steps, s.kept+len(facts)
		}
	}
	s.facts[fn] = facts
	return facts
}

func (s *search) returns(callee uint64) bool { return !slices.Contains(neverReturn, s.names[callee]) }
func (s *search) keeps(callee uint64) bool   { return slices.Contains(keepRegisters, s.names[callee]) }

// named reports whether the function at an address has that name.
func (s *search) named(addr uint64, name string) bool { return s.names[addr] == name }

// calls reports whether a fact is a call of one of some functions.
func (s *search) calls(x *fact, names string) bool {
	name, ok := s.names[x.addr.n]
	return ok && x.addr.n != 0 && slices.Contains(strings.Fields(names), name)
}

// describe lists the places, with the functions that have the field there.
func describe(votes map[uint64][]string) string {
	var parts []string
	for at, funcs := range votes {
		parts = append(parts, fmt.Sprintf("%#x by %s", at, strings.Join(funcs, ", ")))
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}

// finish checks that the findings fit together, and turns the addresses of the scheduler's fields into offsets. Where
// runtime.sched begins is not known and does not matter: the offsets count from the first field that was found.
func (s *search) finish(fields []field) error {
	base := uint64(math.MaxUint64)
	for _, f := range fields {
		if f.addr == nil || *f.addr == 0 {
			continue
		}
		if *f.addr%uint64(min(f.width, 8)) != 0 || !s.file.Writable(*f.addr, uint64(f.width)) {
			return fmt.Errorf("%s would lie at %#x, where no variable can be", f.name, *f.addr)
		}
		if strings.HasPrefix(f.name, "sched.") {
			base = min(base, *f.addr&^7)
		}
	}
	s.vars.Sched = base
	l := &s.l.Sched
	for addr, dst := range map[*uint64]*int32{
		&s.sched.pidle: &l.PIdle, &s.sched.npidle: &l.NPIdle, &s.sched.nmspinning: &l.NMSpinning,
		&s.sched.nmidle: &l.NMIdle, &s.sched.runqsize: &l.RunqSize, &s.sched.gcwaiting: &l.GCWaiting,
		&s.sched.stopwait: &l.StopWait,
	} {
		if *addr != 0 {
			*dst = int32(min(*addr-base, binary.MaxTypeSize))
		}
	}
	if err := s.measure(fields, base); err != nil {
		return err
	}
	if missing := s.l.Missing(); missing != "" {
		return fmt.Errorf("%s was not found", missing)
	}
	return nil
}

// measure sets the size of each type to the end of its last field. Two fields at the same place are an error.
func (s *search) measure(fields []field, base uint64) error {
	sizes := map[string]*int32{"g": &s.l.G.Size, "m": &s.l.M.Size, "p": &s.l.P.Size, "sched": &s.l.Sched.Size}
	type place struct {
		name    string
		at, end uint64
	}
	taken := make(map[string][]place)
	for _, f := range fields {
		typ, _, isField := strings.Cut(f.name, ".")
		if !isField {
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
		*sizes[typ] = max(*sizes[typ], int32(min(here.end, binary.MaxTypeSize)))
	}
	return nil
}
