package process

import (
	"debug/elf"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/memory"
)

// Bounds of what is read of a library's memory to learn whether it is Go.
const (
	maxMappedHeaders = 16
	maxMappedNote    = 4096
)

// MappedGo says whether a library that a process has loaded is Go's, by its memory alone. It looks for the note with
// the Go build ID, which -buildmode=c-shared leaves in a read-only segment (cmd/link/internal/ld/elf.go). It is for
// files that can't be opened. A library without the note, or whose memory can't be read, counts as not Go.
func MappedGo(pid int, m Mapped) bool {
	read := func(addr uint64, b []byte) bool {
		local := [1]unix.Iovec{{Base: &b[0]}}
		local[0].SetLen(len(b))
		remote := [1]unix.RemoteIovec{{Base: uintptr(addr), Len: len(b)}}
		n, err := memory.Read(pid, local[:], remote[:])
		return err == nil && n == len(b)
	}
	var head [64]byte
	if m.Offset != 0 || !read(m.Start, head[:]) || string(head[:4]) != elf.ELFMAG ||
		head[elf.EI_CLASS] != byte(elf.ELFCLASS64) || head[elf.EI_DATA] != byte(elf.ELFDATA2LSB) {
		return false
	}
	const size = 56 // of a program header of ELF64
	n := int(u16(head[:], 56))
	if u16(head[:], 54) != size || n == 0 || n > maxMappedHeaders {
		return false
	}
	headers := make([]byte, n*size)
	if !read(m.Start+u64(head[:], 32), headers) {
		return false
	}
	// The mapping begins with the file, so its address is that of the segment with offset 0.
	base, found := uint64(0), false
	for h := headers; len(h) > 0; h = h[size:] {
		if elf.ProgType(u32(h, 0)) == elf.PT_LOAD && u64(h, 8) == 0 {
			base, found = m.Start-u64(h, 16)&^(pageSize-1), true
			break
		}
	}
	for h := headers; found && len(h) > 0; h = h[size:] {
		if elf.ProgType(u32(h, 0)) != elf.PT_NOTE {
			continue
		}
		note := make([]byte, min(u64(h, 32), maxMappedNote))
		if len(note) >= 16 && read(base+u64(h, 16), note) && binary.HasGoNote(note) {
			return true
		}
	}
	return false
}
