package codewalk

import (
	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
)

// The walk through a function's machine code, on which the search for layouts rests. It follows every path that the
// code can take. For each register and stack slot it keeps the way to its value: "what lies 48 bytes into the current
// G, and 208 bytes into what that points to". It notes what the code loads, stores and passes on with such values.
// These facts hold whatever registers a compiler has chosen. A value that the walk loses track of is unknown. It yields
// no fact, rather than a wrong one.

// origin says where the way to a value begins.
type origin uint8

const (
	unknown  origin = iota
	constant        // n
	fromG           // the current G, in its register (cmd/compile/abi-internal.md)
	fromArg         // the function's n-th argument word
	fromAddr        // link-time address n
	fromCall        // what the function at n returned
	onStack         // the address n bytes from the stack pointer at the entry
)

// element stands for an index into an array of pointers, among the offsets of a way.
const element = -1 << 30

// maxDeref is how many pointers a way may follow.
const maxDeref = 3

// value is the way to a value. From its origin, each of deref is added and the memory there is read. At last off is
// added.
type value struct {
	origin origin
	depth  int8
	width  uint8 // in bytes, of what was read last
	off    int32
	deref  [maxDeref]int32
	n      uint64
}

// known reports whether something is known of the value.
func (v value) known() bool { return v.origin != unknown }

// is reports whether the value is the constant n.
func (v value) is(n uint64) bool { return v.origin == constant && v.n == n }

// pointer reports whether the value can be the address of an object: it was loaded or passed, and nothing was added to
// it.
func (v value) pointer() bool {
	switch {
	case v.origin == unknown || v.origin == constant || v.off != 0:
		return false
	case v.depth > 0:
		return v.width == 8
	}
	return v.origin != fromAddr && v.origin != onStack
}

// plus adds a constant.
func (v value) plus(d int64) value {
	switch {
	case v.origin == unknown:
	case v.origin == constant, v.origin == onStack, v.origin == fromAddr && v.depth == 0:
		v.n += uint64(d)
	default:
		sum := int64(v.off) + d
		if sum < -binary.MaxTypeSize || sum > binary.MaxTypeSize {
			return value{}
		}
		v.off = int32(sum)
	}
	return v
}

// load is what lies at the address v.
func (v value) load(width uint8) value {
	if v.origin == unknown || v.origin == constant || v.origin == onStack || v.depth == maxDeref {
		return value{}
	}
	v.deref[v.depth] = v.off
	v.depth++
	v.off, v.width = 0, width
	return v
}

// loadElement is an element of the array of pointers that begins at the address v.
func (v value) loadElement() value {
	if !v.pointer() {
		return value{}
	}
	v.off = element
	return v.load(8)
}

// base is the object that the address v lies in, if a pointer leads to it. The field's offset is v.off.
func (v value) base() value {
	v.off = 0
	return v
}

// last is the offset of the last read, and the object that was read.
func (v value) last() (object value, off int32) {
	if v.depth == 0 || v.off != 0 {
		return value{}, layout.Absent
	}
	off = v.deref[v.depth-1]
	v.depth--
	v.deref[v.depth] = 0
	v.width = 8
	if v.depth == 0 {
		v.width = 0
	}
	return v, off
}

// action is what an instruction does to memory, or that it calls.
type action uint8

const (
	loads  action = iota + 1
	stores        // val
	adds          // val, a constant where it is known
	swaps         // compare and swap: old for val
	calls         // the function at addr.n with args
)

// fact is one thing that the code does.
type fact struct {
	action action
	atomic bool
	width  uint8
	addr   value
	val    value
	old    value
	args   [4]value
}

// Registers are numbered as the instructions number them. argRegs are those of the internal calling convention
// (cmd/compile/abi-internal.md).
var (
	argRegsAMD64 = []int{0, 3, 1, 7, 6, 8, 9, 10, 11}
	argRegsARM64 = []int{0, 1, 2, 3, 4, 5, 6, 7, 8}
)

const (
	spAMD64, gAMD64 = 4, 14
	spARM64, gARM64 = 31, 28
)

// machine is the state at one instruction of one path.
type machine struct {
	regs  [32]value
	sp    int64           // from the stack pointer at the entry
	spOK  bool            // false: sp is not known
	stack map[int64]value // what lies at an offset from the stack pointer at the entry, in words
}

func (m *machine) clone() *machine {
	c := *m
	c.stack = make(map[int64]value, len(m.stack))
	for at, v := range m.stack {
		c.stack[at] = v
	}
	return &c
}

// forget drops what a call may have changed.
func (m *machine) forget(keep ...int) {
	var regs [32]value
	for _, r := range keep {
		regs[r] = m.regs[r]
	}
	m.regs = regs
}

// release drops the stack slots whose addresses a call gets, directly or in a closure on the stack: it may write there.
func (m *machine) release(regs []int) {
	var written []int64
	for _, r := range regs {
		if v := m.regs[r]; v.origin == onStack {
			written = append(written, int64(v.n))
		}
	}
	for _, v := range m.stack {
		if v.origin == onStack {
			written = append(written, int64(v.n))
		}
	}
	for _, at := range written {
		for word := range int64(3) { // as large as a slice
			if v := m.stack[at+8*word]; v.origin != onStack {
				delete(m.stack, at+8*word)
			}
		}
	}
}

// slot reads a stack slot; only whole words that were written as such are remembered.
func (m *machine) slot(at int64, width uint8) value {
	if v, ok := m.stack[at]; ok && (v.width == 0 || v.width == width || width == 8 || v.origin == constant) {
		return v
	}
	return value{}
}

// Bounds of a walk.
const (
	maxVisits = 16      // states in which an instruction that is jumped to is looked at
	maxSteps  = 1 << 16 // instructions
	maxSlots  = 256
	maxFacts  = 1 << 14
)

func (m *machine) setSlot(at int64, v value) {
	if v.known() && (len(m.stack) < maxSlots || m.stack[at].known()) {
		m.stack[at] = v
	} else {
		delete(m.stack, at)
	}
}

// flow walks one function.
type flow struct {
	code []byte
	addr uint64 // link-time address of code
	// returns says whether a function that is called comes back, keeps whether it leaves all registers alone.
	returns, keeps func(callee uint64) bool

	facts  []fact
	noted  map[fact]bool
	visits map[int]int
	todo   []path
	steps  int
}

// path is a place where the walk has still to go.
type path struct {
	at int
	m  *machine
}

// walkCode gives the facts of a function's code, and how many instructions it looked at.
func walkCode(arch string, code []byte, addr uint64, returns, keeps func(uint64) bool) (facts []fact, steps int) {
	f := &flow{code: code, addr: addr, returns: returns, keeps: keeps, visits: make(map[int]int)}
	m := &machine{stack: make(map[int64]value), spOK: true}
	regs, g, step := argRegsAMD64, gAMD64, f.stepAMD64
	if arch == "arm64" {
		regs, g, step = argRegsARM64, gARM64, f.stepARM64
	}
	for i, r := range regs {
		m.regs[r] = value{origin: fromArg, n: uint64(i)}
	}
	m.regs[g] = value{origin: fromG}
	f.push(0, m)
	for len(f.todo) > 0 && f.steps < maxSteps && len(f.facts) < maxFacts {
		p := f.todo[len(f.todo)-1]
		f.todo = f.todo[:len(f.todo)-1]
		for at, next := p.at, true; next && f.steps < maxSteps; f.steps++ {
			if at < 0 || at >= len(f.code) {
				break
			}
			at, next = step(at, p.m)
		}
	}
	return f.facts, f.steps
}

// push notes a place to go to. When the walk comes to a place again, it may know a value that it did not know before.
// So it goes there several times, but not without end.
func (f *flow) push(at int, m *machine) {
	if at < 0 || at >= len(f.code) || f.visits[at] >= maxVisits {
		return
	}
	f.visits[at]++
	f.todo = append(f.todo, path{at, m})
}

// note keeps a fact, once.
func (f *flow) note(x fact) {
	if f.noted == nil {
		f.noted = make(map[fact]bool)
	}
	if !f.noted[x] {
		f.noted[x] = true
		f.facts = append(f.facts, x)
	}
}

// call notes a call. again is false if the function does not come back.
func (f *flow) call(m *machine, target uint64, regs []int, g int) (again bool) {
	x := fact{action: calls, addr: value{origin: fromAddr, n: target}}
	for i := range x.args {
		x.args[i] = m.regs[regs[i]]
	}
	f.note(x)
	if target != 0 && !f.returns(target) {
		return false
	}
	if target == 0 || !f.keeps(target) {
		m.release(regs)
		m.forget(g)
		// Functions in assembly return on the stack. A function without arguments returns at its lowest word, which is
		// behind the return address on arm64.
		result := m.sp
		if g == gARM64 {
			result += 8
		}
		delete(m.stack, result)
		if target != 0 {
			m.regs[regs[0]] = value{origin: fromCall, n: target}
			if m.spOK {
				m.setSlot(result, value{origin: fromCall, n: target})
			}
		}
	}
	return true
}

// read is what an access to memory at addr yields; stack says that addr counts from the stack pointer at the entry.
func (f *flow) read(m *machine, addr value, stack bool, at int64, width uint8) value {
	if stack {
		return m.slot(at, width)
	}
	f.note(fact{action: loads, addr: addr, width: width})
	return addr.load(width)
}

// write stores.
func (f *flow) write(m *machine, addr value, stack bool, at int64, width uint8, v value) {
	if stack {
		if width < 4 {
			v = value{}
		}
		m.setSlot(at, v)
		return
	}
	f.note(stored(addr, width, v, false))
}

// stored is the fact of a store. It is an addition if the code stores what it loaded from there plus a constant.
func stored(addr value, width uint8, v value, atomic bool) fact {
	sum := v
	sum.off = 0
	if v.depth > 0 && v.off != 0 && sum == addr.load(width) {
		added := value{origin: constant, n: uint64(int64(v.off))}
		return fact{action: adds, atomic: atomic, addr: addr, width: width, val: added}
	}
	return fact{action: stores, atomic: atomic, addr: addr, width: width, val: v}
}
