package codewalk

import (
	"encoding/binary"

	"golang.org/x/arch/arm64/arm64asm"
)

// memARM64 is the address of a load or store; or at is where it is from the stack pointer at the entry.
func (m *machine) memARM64(rn int, d int64) (addr value, stack bool, at int64) {
	addr = m.baseARM64(rn).plus(d)
	return addr, addr.origin == onStack, int64(addr.n)
}

// getARM64 reads a register that is no address: register 31 is zero then.
func (m *machine) getARM64(r int, width uint8) value {
	if r == 31 {
		return value{origin: constant}
	}
	v := m.regs[r]
	if width < 8 && v.origin != constant && (v.width != width && v.origin != fromArg || v.depth > 0 &&
		v.width > width) {
		return value{}
	}
	return v
}

func (m *machine) setARM64(r int, v value) {
	if r != 31 {
		m.regs[r] = v
	}
}

// baseARM64 reads a register that is an address: register 31 is the stack pointer then.
func (m *machine) baseARM64(r int) value {
	if r != spARM64 {
		return m.regs[r]
	}
	if !m.spOK {
		return value{}
	}
	return value{origin: onStack, n: uint64(m.sp)}
}

func (m *machine) setBaseARM64(r int, v value) {
	if r != spARM64 {
		m.regs[r] = v
		return
	}
	m.sp, m.spOK = int64(v.n), v.origin == onStack
}

// stepARM64 takes one instruction, and says where the next is (Arm Architecture Reference Manual, chapter C4: A64
// instruction set encoding).
func (f *flow) stepARM64(at int, m *machine) (next int, again bool) {
	if at+4 > len(f.code) {
		return 0, false
	}
	w := insnARM64(f.code, at)
	pc := f.addr + uint64(at)
	next = at + 4
	switch {
	case w&0x7c000000 == 0x14000000, w&0xff000010 == 0x54000000, w&0x7c000000 == 0x34000000,
		w&0xfe000000 == 0xd6000000, w&0xff000000 == 0xd4000000:
		return f.branchARM64(w, at, m)
	case w == 0:
		return 0, false
	case w&0x1f000000 == 0x10000000: // ADR, ADRP
		if w>>31 == 1 {
			m.setARM64(int(w&31), value{origin: fromAddr, n: adrpTarget(w, pc)})
		} else {
			m.setARM64(int(w&31), value{})
		}
	case w&0x0a000000 == 0x08000000:
		f.memoryARM64(w, m)
	default:
		f.computeARM64(w, m)
	}
	return next, true
}

func (f *flow) branchARM64(w uint32, at int, m *machine) (next int, again bool) {
	pc := f.addr + uint64(at)
	next = at + 4
	near := func(bit, size uint) int { return at + int(int32(w<<(32-bit-size))>>(32-size))*4 }
	switch {
	case w&0xfc000000 == 0x94000000: // BL
		return next, f.call(m, pc+uint64(int64(near(0, 26)-at)), argRegsARM64, gARM64)
	case w&0xfc000000 == 0x14000000: // B
		to := near(0, 26)
		if to < 0 || to >= len(f.code) {
			f.call(m, pc+uint64(int64(to-at)), argRegsARM64, gARM64)
			return 0, false
		}
		f.push(to, m)
		return 0, false
	case w&0xff000010 == 0x54000000, w&0x7e000000 == 0x34000000: // B.cond, CBZ, CBNZ
		f.push(near(5, 19), m.clone())
		f.push(next, m)
		return 0, false
	case w&0x7e000000 == 0x36000000: // TBZ, TBNZ
		f.push(near(5, 14), m.clone())
		f.push(next, m)
		return 0, false
	case w&0xfffffc1f == 0xd63f0000: // BLR
		return next, f.call(m, 0, argRegsARM64, gARM64)
	}
	return 0, false // BR, RET, BRK
}

// memoryARM64 is for loads and stores.
func (f *flow) memoryARM64(w uint32, m *machine) {
	size := uint8(1) << (w >> 30)
	rt, rn, rs := int(w&31), int(w>>5&31), int(w>>16&31)
	vector := w>>26&1 == 1
	switch {
	case w&0x3a000000 == 0x28000000: // LDP, STP
		f.pairARM64(w, m, vector)
	case w&0x3f000000 == 0x08000000: // exclusive, acquire, release; compare and swap
		f.exclusiveARM64(w, m, size)
	case vector:
		if w>>22&1 == 0 { // stores
			if addr, stack, sp := m.memARM64(rn, int64(w>>10&0xfff)*int64(size)); stack {
				m.setSlot(sp, value{})
				m.setSlot(sp+8, value{})
			} else {
				f.note(fact{action: stores, addr: addr, width: size})
			}
		}
		m.movedARM64(w, rn)
	case w&0x3b000000 == 0x39000000: // with an unsigned offset
		f.singleARM64(w, m, size, rt, rn, int64(w>>10&0xfff)*int64(size))
	case w&0x3b200c00 == 0x38200800: // with a register as the offset
		scale := uint8(1)
		if w>>12&1 == 1 {
			scale = size
		}
		addr, _, _ := m.memARM64(rn, 0)
		// An index is scaled. A number that is not scaled is an offset too large for the instruction.
		if d := m.regs[rs]; scale == 1 && d.origin == constant && rs != 31 {
			addr = addr.plus(int64(d.n))
			f.singleAtARM64(w, m, size, rt, addr, false, 0)
			return
		}
		if w>>22&3 != 0 {
			v := value{}
			if size == 8 && scale == 8 {
				v = addr.loadElement()
			}
			m.setARM64(rt, v)
		}
	case w&0x3b200c00 == 0x38200000: // atomic operations: LDADD, LDCLR, LDEOR, LDSET, SWP
		addr, stack, _ := m.memARM64(rn, 0)
		if !stack {
			x := fact{action: stores, atomic: true, addr: addr, width: size}
			switch w >> 12 & 15 {
			case 0:
				x.action, x.val = adds, m.getARM64(rs, size)
			case 8:
				x.val = m.getARM64(rs, size)
			}
			f.note(x)
		}
		m.setARM64(rt, value{})
	case w&0x3b200000 == 0x38000000: // with a signed offset; before or after which the base moves
		d := int64(int32(w<<11) >> 23)
		switch w >> 10 & 3 {
		case 0:
			f.singleARM64(w, m, size, rt, rn, d)
		case 1:
			f.singleARM64(w, m, size, rt, rn, 0)
			m.moveARM64(rn, d)
		case 3:
			m.moveARM64(rn, d)
			f.singleARM64(w, m, size, rt, rn, 0)
		}
	default:
		m.setARM64(rt, value{})
	}
}

// exclusiveARM64 is for loads and stores that are exclusive, acquire or release, and for compare and swap.
func (f *flow) exclusiveARM64(w uint32, m *machine, size uint8) {
	rt, rn, rs := int(w&31), int(w>>5&31), int(w>>16&31)
	addr, stack, sp := m.memARM64(rn, 0)
	if stack {
		m.setARM64(rt, value{})
		m.setARM64(rs, value{})
		return
	}
	switch w & 0x00e0fc00 {
	case 0x00c0fc00: // LDAR
		m.setARM64(rt, f.read(m, addr, false, sp, size))
	case 0x0080fc00: // STLR
		f.note(fact{action: stores, atomic: true, addr: addr, width: size, val: m.getARM64(rt, size)})
	case 0x0040fc00, 0x00407c00: // LDAXR, LDXR
		v := f.read(m, addr, false, sp, size)
		m.setARM64(rt, v)
	case 0x0000fc00, 0x00007c00: // STLXR, STXR: the end of a loop that began with the former
		f.note(stored(addr, size, m.getARM64(rt, size), true))
		m.setARM64(rs, value{})
	case 0x00e0fc00, 0x00a07c00, 0x00e07c00, 0x00a0fc00: // CAS
		swap := fact{action: swaps, atomic: true, addr: addr, width: size}
		swap.val, swap.old = m.getARM64(rt, size), m.getARM64(rs, size)
		f.note(swap)
		m.setARM64(rs, value{})
	default:
		m.setARM64(rt, value{})
	}
}

// moveARM64 adds to the base register of a load or store.
func (m *machine) moveARM64(rn int, d int64) { m.setBaseARM64(rn, m.baseARM64(rn).plus(d)) }

// movedARM64 does so for a vector's.
func (m *machine) movedARM64(w uint32, rn int) {
	if w&0x3b200400 == 0x38000400 {
		m.moveARM64(rn, int64(int32(w<<11)>>23))
	}
}

func (f *flow) singleARM64(w uint32, m *machine, size uint8, rt, rn int, d int64) {
	addr, stack, sp := m.memARM64(rn, d)
	f.singleAtARM64(w, m, size, rt, addr, stack, sp)
}

func (f *flow) singleAtARM64(w uint32, m *machine, size uint8, rt int, addr value, stack bool, sp int64) {
	switch opc := w >> 22 & 3; {
	case opc == 0:
		f.write(m, addr, stack, sp, size, m.getARM64(rt, size))
	case opc == 2 && size == 8: // PRFM
	default:
		m.setARM64(rt, f.read(m, addr, stack, sp, size))
	}
}

func (f *flow) pairARM64(w uint32, m *machine, vector bool) {
	rt, rn, rt2 := int(w&31), int(w>>5&31), int(w>>10&31)
	size := uint8(4) << (w >> 31)
	if vector {
		size = 4 << (w >> 30)
	}
	d := int64(int32(w<<10)>>25) * int64(size)
	mode := w >> 23 & 3
	if mode == 3 {
		m.moveARM64(rn, d)
		d = 0
	} else if mode == 1 {
		defer m.moveARM64(rn, d)
		d = 0
	}
	a1, s1, p1 := m.memARM64(rn, d)
	a2, s2, p2 := m.memARM64(rn, d+int64(size))
	switch load := w>>22&1 == 1; {
	case vector && load:
	case vector:
		f.write(m, a1, s1, p1, 8, value{})
		f.write(m, a2, s2, p2, 8, value{})
	case load:
		v1, v2 := f.read(m, a1, s1, p1, size), f.read(m, a2, s2, p2, size)
		m.setARM64(rt, v1)
		m.setARM64(rt2, v2)
	default:
		f.write(m, a1, s1, p1, size, m.getARM64(rt, size))
		f.write(m, a2, s2, p2, size, m.getARM64(rt2, size))
	}
}

// computeARM64 is for data processing.
func (f *flow) computeARM64(w uint32, m *machine) {
	rd, rn, rm := int(w&31), int(w>>5&31), int(w>>16&31)
	wide := w>>31 == 1
	switch {
	case w&0x1f000000 == 0x11000000: // ADD, SUB with a number
		m.addImmARM64(w)
	case w&0x7fe0ffe0 == 0x2a0003e0: // MOV
		v := m.getARM64(rm, 8)
		if !wide && v.origin != constant && v.width == 8 {
			v = value{}
		}
		m.setARM64(rd, v)
	case w&0xfffffc00 == 0x93407c00: // SXTW
		m.setARM64(rd, m.getARM64(rn, 4))
	case w&0x7f800000 == 0x52800000: // MOVZ
		m.setARM64(rd, value{origin: constant, n: uint64(w>>5&0xffff) << (w >> 21 & 3 * 16)})
	case w&0x7f800000 == 0x12800000: // MOVN
		m.setARM64(rd, value{origin: constant, n: ^(uint64(w>>5&0xffff) << (w >> 21 & 3 * 16))})
	case w&0x7f800000 == 0x72800000: // MOVK
		v := m.getARM64(rd, 8)
		if v.origin != constant {
			m.setARM64(rd, value{})
			break
		}
		shift := w >> 21 & 3 * 16
		v.n = v.n&^(0xffff<<shift) | uint64(w>>5&0xffff)<<shift
		m.setARM64(rd, v)
	case w&0x7f8003e0 == 0x320003e0: // MOV of a bit mask
		v := value{}
		if in, err := arm64asm.Decode(binary.LittleEndian.AppendUint32(nil, w)); err == nil {
			for _, arg := range in.Args {
				if imm, ok := arg.(arm64asm.Imm64); ok {
					v = value{origin: constant, n: imm.Imm}
				}
			}
		}
		m.setBaseARM64(rd, v)
	case w&0x1fe0fc00 == 0x0b000000: // ADD, SUB of registers
		m.addRegARM64(w)
	case w&0x1f200000 == 0x0b200000 && w>>29&1 == 0: // ADD, SUB of an extended register, which may be a frame's size
		d := m.getARM64(rm, 8)
		if d.origin != constant || w>>10&7 != 0 {
			m.setBaseARM64(rd, value{})
			break
		}
		if w>>30&1 == 1 {
			d.n = -d.n
		}
		m.setBaseARM64(rd, m.baseARM64(rn).plus(int64(d.n)))
	default:
		m.setARM64(rd, value{}) // floating point and vectors, too: some move to general registers
	}
}

func (m *machine) addImmARM64(w uint32) {
	rd, rn := int(w&31), int(w>>5&31)
	d := int64(w >> 10 & 0xfff)
	if w>>22&1 == 1 {
		d <<= 12
	}
	if w>>30&1 == 1 {
		d = -d
	}
	switch flags := w>>29&1 == 1; {
	case flags && rd == 31: // CMP, CMN
	case flags:
		m.setARM64(rd, m.baseARM64(rn).plus(d))
	default:
		m.setBaseARM64(rd, m.baseARM64(rn).plus(d))
	}
}

func (m *machine) addRegARM64(w uint32) {
	rd, rn, rm := int(w&31), int(w>>5&31), int(w>>16&31)
	if w>>29&1 == 1 && rd == 31 { // CMP, CMN
		return
	}
	x, y := m.getARM64(rn, 8), m.getARM64(rm, 8)
	if w>>30&1 == 1 {
		if y.origin != constant {
			y = value{}
		}
		y.n = -y.n
	}
	switch {
	case y.origin == constant:
		m.setARM64(rd, x.plus(int64(y.n)))
	case x.origin == constant:
		m.setARM64(rd, y.plus(int64(x.n)))
	default:
		m.setARM64(rd, value{})
	}
}
