package codewalk

import "golang.org/x/arch/x86/x86asm"

// regAMD64 gives the number of a general register, and its width.
func regAMD64(r x86asm.Reg) (n int, width uint8, ok bool) {
	switch {
	case r >= x86asm.AL && r <= x86asm.BL:
		return int(r - x86asm.AL), 1, true
	case r >= x86asm.SPB && r <= x86asm.R15B:
		return int(r-x86asm.SPB) + 4, 1, true
	case r >= x86asm.AX && r <= x86asm.R15W:
		return int(r - x86asm.AX), 2, true
	case r >= x86asm.EAX && r <= x86asm.R15L:
		return int(r - x86asm.EAX), 4, true
	case r >= x86asm.RAX && r <= x86asm.R15:
		return int(r - x86asm.RAX), 8, true
	}
	return 0, 0, false
}

// operand is an operand of an instruction.
type operand struct {
	reg   int   // -1: none
	width uint8 // of the register
	imm   value
	isMem bool
	local bool  // in thread-local storage
	addr  value // of memory
	stack bool  // the memory is at offset at from the stack pointer at the entry
	at    int64
	index bool // an index times scale is added to addr
	scale uint8
}

func (f *flow) operandAMD64(in *x86asm.Inst, next uint64, i int, m *machine) operand {
	o := operand{reg: -1}
	switch a := in.Args[i].(type) {
	case x86asm.Reg:
		if n, w, ok := regAMD64(a); ok {
			o.reg, o.width = n, w
		}
	case x86asm.Imm:
		o.imm = value{origin: constant, n: uint64(a)}
	case x86asm.Mem:
		o.isMem = true
		if a.Segment != 0 {
			o.local = true
			return o
		}
		if a.Base == x86asm.RIP {
			o.addr = value{origin: fromAddr, n: next + uint64(a.Disp)}
			return o
		}
		n, _, ok := regAMD64(a.Base)
		switch {
		case !ok: // an absolute address, or an index alone
		case n == spAMD64 && m.spOK:
			o.addr = value{origin: onStack, n: uint64(m.sp + a.Disp)}
		case n != spAMD64:
			o.addr = m.regs[n].plus(a.Disp)
		}
		o.stack, o.at = o.addr.origin == onStack, int64(o.addr.n)
		if a.Index != 0 {
			o.index, o.scale = true, a.Scale
			// The compiler may have put the object's address into the index: nothing is known then.
		}
	}
	return o
}

// get reads an operand.
func (f *flow) getAMD64(o operand, m *machine, width uint8) value {
	switch {
	case o.reg == spAMD64:
		if m.spOK {
			return value{origin: onStack, n: uint64(m.sp)}
		}
		return value{}
	case o.reg >= 0:
		v := m.regs[o.reg]
		if width < 4 && v.origin != constant && v.width != width {
			return value{} // a part of it
		}
		if width == 4 && v.origin != constant && (v.depth == 0 && v.origin != fromArg || v.width == 8) {
			return value{}
		}
		return v
	case o.local:
		// The runtime's one thread-local variable is the current G. Code loads it after calls of functions in assembly,
		// which don't keep R14.
		return value{origin: fromG}
	case o.isMem && o.index:
		if width == 8 && o.scale == 8 {
			return o.addr.loadElement()
		}
		return value{}
	case o.isMem:
		return f.read(m, o.addr, o.stack, o.at, width)
	}
	return o.imm
}

func (f *flow) setAMD64(o operand, m *machine, width uint8, v value) {
	switch {
	case o.reg == spAMD64:
		m.sp, m.spOK = int64(v.n), v.origin == onStack
	case o.reg >= 0:
		if width < 4 && v.origin == constant {
			v = value{origin: constant, n: v.n & (1<<(8*width) - 1)}
		}
		m.regs[o.reg] = v
	case o.local:
	case o.isMem && o.index && o.stack:
		clear(m.stack) // an array on the stack
	case o.isMem && o.index: // an element of an array
	case o.isMem:
		f.write(m, o.addr, o.stack, o.at, width, v)
	}
}

// insnAMD64 is a decoded instruction with its first two operands.
type insnAMD64 struct {
	x86asm.Inst
	a, b   operand
	width  uint8 // in bytes, of what it works on
	locked bool  // it has the prefix LOCK
}

// decodeAMD64 decodes the instruction at a place in the code. ok is false if there is none.
func (f *flow) decodeAMD64(at int, m *machine) (in insnAMD64, ok bool) {
	inst, err := x86asm.Decode(f.code[at:], 64)
	if err != nil || inst.Len == 0 {
		return in, false
	}
	in.Inst = inst
	in.width = uint8(in.DataSize / 8)
	if in.MemBytes > 0 {
		in.width = uint8(min(in.MemBytes, 64))
	}
	for _, p := range in.Prefix {
		if p&0xff == x86asm.PrefixLOCK {
			in.locked = true
		}
	}
	end := f.addr + uint64(at+in.Len)
	if in.Args[0] != nil {
		in.a = f.operandAMD64(&in.Inst, end, 0, m)
	}
	if in.Args[1] != nil {
		in.b = f.operandAMD64(&in.Inst, end, 1, m)
	}
	if in.a.reg >= 0 && in.a.width != 0 && !in.b.isMem {
		in.width = in.a.width
	}
	if in.b.reg >= 0 && in.b.width != 0 && in.a.isMem {
		in.width = in.b.width
	}
	return in, true
}

// stepAMD64 takes one instruction, and says where the next is.
func (f *flow) stepAMD64(at int, m *machine) (next int, again bool) {
	in, ok := f.decodeAMD64(at, m)
	if !ok {
		return 0, false
	}
	next = at + in.Len
	rel, near := in.Args[0].(x86asm.Rel)
	target := f.addr + uint64(next) + uint64(int64(rel))
	switch {
	case in.Op == x86asm.CALL && near:
		return next, f.call(m, target, argRegsAMD64, gAMD64)
	case in.Op == x86asm.CALL:
		return next, f.call(m, 0, argRegsAMD64, gAMD64)
	case in.Op == x86asm.JMP && near:
		to := next + int(rel)
		if to < 0 || to >= len(f.code) {
			f.call(m, target, argRegsAMD64, gAMD64)
			return 0, false
		}
		f.push(to, m)
		return 0, false
	case near: // the conditional jumps
		f.push(next+int(rel), m.clone())
		f.push(next, m)
		return 0, false
	}
	switch in.Op {
	case x86asm.JMP, x86asm.RET, x86asm.UD2, x86asm.UD1, x86asm.INT, x86asm.HLT:
		return 0, false
	}
	if !f.moveAMD64(&in, m) {
		f.computeAMD64(&in, m)
	}
	return next, true
}

// moveAMD64 is for instructions that move values, and reports whether this is one.
func (f *flow) moveAMD64(in *insnAMD64, m *machine) bool {
	a, b, width := in.a, in.b, in.width
	switch in.Op {
	case x86asm.MOV:
		f.setAMD64(a, m, width, f.getAMD64(b, m, width))
	case x86asm.MOVZX, x86asm.MOVSX, x86asm.MOVSXD:
		if !b.isMem {
			width = b.width
		}
		f.setAMD64(a, m, 8, f.getAMD64(b, m, width))
	case x86asm.LEA:
		v := b.addr
		if b.index {
			v = value{}
		}
		f.setAMD64(a, m, 8, v)
	case x86asm.XCHG:
		if a.isMem && b.reg >= 0 {
			if !a.stack && !a.index {
				f.note(stored(a.addr, width, f.getAMD64(b, m, width), true))
			}
			f.setAMD64(b, m, 8, value{})
		} else if a.reg >= 0 && b.reg >= 0 {
			m.regs[a.reg], m.regs[b.reg] = m.regs[b.reg], m.regs[a.reg]
		}
	case x86asm.MOVUPS, x86asm.MOVAPS, x86asm.MOVDQU, x86asm.MOVDQA:
		// The compiler clears two words with the register that is always zero (X15).
		if a.isMem {
			var zero value
			if r, ok := in.Args[1].(x86asm.Reg); ok && r == x86asm.X15 {
				zero = value{origin: constant}
			}
			f.setAMD64(a, m, 8, zero)
			a.addr, a.at = a.addr.plus(8), a.at+8
			f.setAMD64(a, m, 8, zero)
		}
	case x86asm.PUSH:
		v := f.getAMD64(a, m, 8)
		m.sp -= 8
		m.setSlot(m.sp, v)
	case x86asm.POP:
		v := m.slot(m.sp, 8)
		m.sp += 8
		f.setAMD64(a, m, 8, v)
	default:
		return false
	}
	return true
}

// computeAMD64 is for instructions that compute something.
func (f *flow) computeAMD64(in *insnAMD64, m *machine) {
	a, b, width := in.a, in.b, in.width
	switch in.Op {
	case x86asm.NOP:
	case x86asm.XOR:
		if a.reg >= 0 && a.reg == b.reg {
			f.setAMD64(a, m, 8, value{origin: constant})
			break
		}
		f.spoilAMD64(a, b, m, width)
	case x86asm.INC, x86asm.DEC:
		one := value{origin: constant, n: 1}
		if in.Op == x86asm.DEC {
			one.n = ^uint64(0)
		}
		f.addAMD64(a, m, width, one, in.locked)
	case x86asm.ADD, x86asm.SUB:
		v := f.getAMD64(b, m, width)
		if in.Op == x86asm.SUB {
			if v.origin != constant {
				v = value{}
			}
			v.n = -v.n
		}
		f.addAMD64(a, m, width, v, in.locked)
	case x86asm.XADD:
		if a.isMem && !a.stack {
			f.note(fact{action: adds, atomic: in.locked, addr: a.addr, width: width, val: f.getAMD64(b, m, width)})
		}
		f.setAMD64(b, m, 8, value{})
	case x86asm.CMPXCHG:
		if a.isMem && !a.stack && !a.index {
			swap := fact{action: swaps, atomic: in.locked, addr: a.addr, width: width}
			swap.val, swap.old = f.getAMD64(b, m, width), m.regs[0]
			f.note(swap)
		}
		m.regs[0] = value{}
	case x86asm.CMP, x86asm.TEST:
		f.getAMD64(a, m, width)
		f.getAMD64(b, m, width)
	default:
		f.spoilAMD64(a, b, m, width)
	}
}

// spoilAMD64 is for other instructions. Nothing is known of their first operand afterwards.
func (f *flow) spoilAMD64(a, b operand, m *machine, width uint8) {
	if b.isMem && !b.stack {
		f.getAMD64(b, m, width)
	}
	if a.isMem && !a.stack {
		f.note(fact{action: stores, addr: a.addr, width: width})
		return
	}
	f.setAMD64(a, m, 8, value{})
}

// addAMD64 adds to a register or to memory.
func (f *flow) addAMD64(a operand, m *machine, width uint8, v value, locked bool) {
	switch {
	case a.reg == spAMD64:
		if v.origin != constant {
			m.spOK = false
		}
		m.sp += int64(v.n)
	case a.reg >= 0:
		switch w := m.regs[a.reg]; {
		case v.origin == constant:
			m.regs[a.reg] = w.plus(int64(v.n))
		default:
			m.regs[a.reg] = value{}
		}
	case a.isMem && a.index:
	case a.isMem && a.stack:
		m.setSlot(a.at, value{})
	case a.isMem:
		f.note(fact{action: adds, atomic: locked, addr: a.addr, width: width, val: v})
	}
}
