package goruntime

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch gathers pieces of another process's memory and reads them with as few system calls as possible. Its buffers are reused.
type batch struct {
	remote []unix.RemoteIovec
	at     []int // where in buf a piece begins
	bad    []bool
	buf    []byte
	local  [1]unix.Iovec
	faults int // pieces that were not mapped, over all runs since reset
}

const (
	maxIovecs = 1024 // UIO_MAXIOV
	maxFaults = 64   // more than this is not the runtime we think it is
)

var errTooManyFaults = errors.New("too many addresses are not mapped")

func (b *batch) reset() {
	b.remote, b.at, b.bad, b.buf = b.remote[:0], b.at[:0], b.bad[:0], b.buf[:0]
}

// add asks for size bytes at addr and returns the number of the piece.
func (b *batch) add(addr uint64, size int) int {
	b.remote = append(b.remote, unix.RemoteIovec{Base: uintptr(addr), Len: size})
	b.at = append(b.at, len(b.buf))
	b.bad = append(b.bad, false)
	if need := len(b.buf) + size; need <= cap(b.buf) {
		b.buf = b.buf[:need]
	} else {
		b.buf = append(b.buf, make([]byte, size)...)
	}
	return len(b.at) - 1
}

// pieces is how many were asked for.
func (b *batch) pieces() int { return len(b.at) }

// read fills all pieces. A piece that is not mapped is marked bad; others are still read.
func (b *batch) read(pid int) error {
	for i := 0; i < len(b.remote); {
		end := min(i+maxIovecs, len(b.remote))
		stop := len(b.buf)
		if end < len(b.at) {
			stop = b.at[end]
		}
		start := b.at[i]
		if start == stop {
			break // only pieces of no size are left
		}
		b.local[0].Base = &b.buf[start]
		b.local[0].SetLen(stop - start)
		n, err := readMemory(pid, b.local[:], b.remote[i:end])
		if errors.Is(err, ErrNoAnswer) {
			*b = batch{} // what was to be filled is not ours any more
			return err
		}
		if err != nil && !errors.Is(err, unix.EFAULT) {
			return err
		}
		if err != nil {
			n = 0
		}
		if n == stop-start {
			i = end
			continue
		}
		// The call ends at the first piece it cannot read.
		for i < end && b.at[i]+b.remote[i].Len <= start+n {
			i++
		}
		if i < end {
			b.bad[i] = true
			i++
			if b.faults++; b.faults > maxFaults {
				return errTooManyFaults
			}
		}
	}
	return nil
}

// piece is what was read, nil if it was not mapped.
func (b *batch) piece(i int) []byte {
	if b.bad[i] {
		return nil
	}
	return b.buf[b.at[i] : b.at[i]+b.remote[i].Len]
}

// addressOf gives the address of a value of our own, which process_vm_readv takes as a number.
func addressOf[T any](v *T) uintptr { return uintptr(unsafe.Pointer(v)) }

// plausible reports whether a word can be the address of a runtime object: pointer-aligned and in the user half. arm64 has up to 52 bits, amd64 with
// five-level paging up to 56.
func plausible(addr uint64) bool {
	return addr >= 4096 && addr < 1<<56 && addr%8 == 0
}

func u32(b []byte, off int32) uint32 { return binary.NativeEndian.Uint32(b[off:]) }
func u64(b []byte, off int32) uint64 { return binary.NativeEndian.Uint64(b[off:]) }
