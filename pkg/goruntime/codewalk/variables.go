package codewalk

import (
	"slices"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
)

// varRule says which reference to a variable is which, counted from 0 in the code of a function.
//
// A stripped program does not name its variables, but its functions still refer to them. The rules hold for all
// releases from Go 1.21 to 1.27 on amd64 and arm64, as TestVariableRules verifies on programs with symbols. The
// compiler may inline differently in a given program, because profile-guided optimisation reaches the runtime, too. So
// each variable has several rules, and the majority decides. Process.Validate checks the result in memory.
type varRule struct {
	fn  string // without "runtime."
	nth int
}

var (
	// All range over allp. The compiler loads its length, which is 8 bytes on, and its pointer in either order.
	allpRules = []varRule{
		{"preemptall", 0}, {"gcMarkTinyAllocs", 0}, {"gcMarkDone.func3", 0}, {"timeSleepUntil", 1},
		{"gcComputeStartingStackSize", 1},
	}
	gomaxprocsRules = []varRule{{"procresize", 0}, {"GOMAXPROCS", 1}, {"(*scavengerState).init.func4", 0}}
	gcphaseRules    = []varRule{{"gcMarkTermination", 0}, {"gcSweep", 0}, {"(*gcWork).balance", 0},
		{"freeSomeWbufs", 1}}
	// allm is what all three refer to besides the scheduler. They link, unlink and list it.
	allmRules = []string{"mexit", "mcommoninit", "schedtrace"}
)

// schedRules refer to fields of runtime.sched.
func schedRules(l *layout.Sched) map[varRule]int32 {
	return map[varRule]int32{
		{"pidleget", 0}:      l.PIdle,
		{"wakep", 0}:         l.NMSpinning,
		{"goschedIfBusy", 0}: l.NPIdle,
		{"gcstopm", 0}:       l.GCWaiting,
		{"findRunnable", 0}:  l.GCWaiting,
		{"wakeNetPoller", 0}: l.LastPoll,
	}
}

// VariableFuncs lists the functions that [FindVariables] looks into, by their full names.
func VariableFuncs() []string {
	names := slices.Clone(allmRules)
	for _, rules := range [][]varRule{allpRules, gomaxprocsRules, gcphaseRules} {
		for _, r := range rules {
			names = append(names, r.fn)
		}
	}
	for r := range schedRules(&layout.Sched{}) {
		names = append(names, r.fn)
	}
	for i := range names {
		names[i] = "runtime." + names[i]
	}
	return names
}

// FindVariables fills in the variables of a program that does not name them. funcs has the functions that
// [VariableFuncs] lists, by their full names. A variable that is not found stays 0.
func FindVariables(f *binary.File, funcs map[string]binary.Symbol, v *layout.Vars, l *layout.Layout) {
	finder := varFinder{file: f, funcs: funcs}
	finder.find(v, l)
}

// varFinder finds variables through the functions that use them.
type varFinder struct {
	file  *binary.File
	funcs map[string]binary.Symbol // by full name
	cache map[string][]uint64
}

// maxCode bounds how much of a function is decoded.
const maxCode = 32 << 10

// refs lists the references of a function to writable memory.
func (f *varFinder) refs(fn string) []uint64 {
	if refs, ok := f.cache[fn]; ok {
		return refs
	}
	var refs []uint64
	if s, ok := f.funcs["runtime."+fn]; ok {
		code := make([]byte, min(s.Size, maxCode))
		if n, err := f.file.Read(s.Addr, code); err == nil {
			refs = globalRefs(f.file.Arch, code[:n], s.Addr)
		}
	}
	f.cache[fn] = refs
	return refs
}

// find fills in the variables that the stripped program does not name.
func (f *varFinder) find(v *layout.Vars, l *layout.Layout) {
	f.cache = make(map[string][]uint64)
	var allp, procs, phase, sched tally
	for _, r := range allpRules {
		refs := f.refs(r.fn)
		if r.nth >= len(refs) {
			continue
		}
		addr := refs[r.nth]
		if slices.Contains(refs, addr-8) {
			addr -= 8 // it was the length
		} else if !slices.Contains(refs, addr+8) {
			continue
		}
		allp.vote(f.file, addr, 24, 8)
	}
	for _, r := range gomaxprocsRules {
		if refs := f.refs(r.fn); r.nth < len(refs) {
			procs.vote(f.file, refs[r.nth], 4, 4)
		}
	}
	for _, r := range gcphaseRules {
		if refs := f.refs(r.fn); r.nth < len(refs) {
			phase.vote(f.file, refs[r.nth], 4, 4)
		}
	}
	for r, off := range schedRules(&l.Sched) {
		if refs := f.refs(r.fn); r.nth < len(refs) && off != layout.Absent {
			sched.vote(f.file, refs[r.nth]-uint64(off), uint64(l.Sched.Size), 8)
		}
	}
	v.AllP, v.GOMAXPROCS, v.GCPhase, v.Sched = allp.winner(), procs.winner(), phase.winner(), sched.winner()
	if v.Sched != 0 {
		v.AllM = f.findAllM(v, l)
	}
}

// findAllM intersects the references of the functions that handle the list of threads.
func (f *varFinder) findAllM(v *layout.Vars, l *layout.Layout) uint64 {
	var found uint64
	for _, addr := range f.refs(allmRules[0]) {
		if addr%8 != 0 || !f.file.Writable(addr, 8) || addr-v.Sched < uint64(l.Sched.Size) {
			continue
		}
		if addr == found || !slices.Contains(f.refs(allmRules[1]), addr) ||
			!slices.Contains(f.refs(allmRules[2]), addr) {
			continue
		}
		if found != 0 {
			return 0 // ambiguous
		}
		found = addr
	}
	return found
}

// tally counts votes for addresses.
type tally map[uint64]int

// vote counts for a variable that can be at addr; others are no variables.
func (t *tally) vote(file *binary.File, addr, size, align uint64) {
	if addr%align != 0 || !file.Writable(addr, size) {
		return
	}
	if *t == nil {
		*t = make(tally)
	}
	(*t)[addr]++
}

// winner is the address with more votes than all others together, 0 if there is none.
func (t tally) winner() uint64 {
	total := 0
	for _, n := range t {
		total += n
	}
	for addr, n := range t {
		if 2*n > total {
			return addr
		}
	}
	return 0
}
