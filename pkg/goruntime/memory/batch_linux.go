package memory

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
)

// Batch gathers pieces of another process's memory and reads them with as few system calls as possible. Its buffers are
// reused.
type Batch struct {
	// Faults counts the pieces that were not mapped, since it was set to 0.
	Faults int

	remote []unix.RemoteIovec
	at     []int // where in buf a piece begins
	bad    []bool
	buf    []byte
	local  [1]unix.Iovec
}

const (
	maxIovecs = 1024 // UIO_MAXIOV
	maxFaults = 64   // more than this is not the runtime we think it is
)

// ErrTooManyFaults says that more pieces are not mapped than of a runtime that is as expected.
var ErrTooManyFaults = errors.New("too many addresses are not mapped")

// Reset makes the batch empty.
func (b *Batch) Reset() {
	b.remote, b.at, b.bad, b.buf = b.remote[:0], b.at[:0], b.bad[:0], b.buf[:0]
}

// Add asks for size bytes at addr and returns the number of the piece.
func (b *Batch) Add(addr uint64, size int) int {
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

// Pieces is how many were asked for.
func (b *Batch) Pieces() int { return len(b.at) }

// Read fills all pieces. A piece that is not mapped is marked bad; others are still read.
func (b *Batch) Read(pid int) error {
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
		n, err := Read(pid, b.local[:], b.remote[i:end])
		if errors.Is(err, refusal.ErrNoAnswer) {
			*b = Batch{} // what was to be filled is not ours any more
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
			if b.Faults++; b.Faults > maxFaults {
				return ErrTooManyFaults
			}
		}
	}
	return nil
}

// Piece is what was read, nil if it was not mapped.
func (b *Batch) Piece(i int) []byte {
	if b.bad[i] {
		return nil
	}
	return b.buf[b.at[i] : b.at[i]+b.remote[i].Len]
}
