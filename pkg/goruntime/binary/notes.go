package binary

import (
	"bytes"
	"debug/elf"
	"fmt"
)

// Check is a piece of the file's read-only contents. A process that runs the program has it in its memory.
type Check struct {
	Addr  uint64
	Bytes []byte
}

// Checks picks pieces that tell the program from others: its ELF header, and its notes with the build IDs.
func (f *File) Checks() []Check {
	var list []Check
	for _, p := range f.elf.Progs {
		var addr, size uint64
		switch {
		case p.Type == elf.PT_LOAD && p.Off == 0 && p.Filesz >= 64:
			addr, size = p.Vaddr, 64
		case p.Type == elf.PT_NOTE:
			addr, size = p.Vaddr, min(p.Filesz, 256)
		}
		if s := f.segment(addr); size == 0 || s == nil || s.Flags&elf.PF_W != 0 || len(list) >= 8 {
			continue
		}
		b := make([]byte, size)
		if f.ReadFull(addr, b) == nil {
			list = append(list, Check{addr, b})
		}
	}
	return list
}

// BuildID reads the Go build ID note, else the GNU one.
func (f *File) BuildID() string {
	if note, err := f.sectionBytes(".note.go.buildid", 4096); err == nil {
		if id := noteDesc(f, note, "Go\x00\x00"); id != nil {
			return string(id)
		}
	}
	if note, err := f.sectionBytes(".note.gnu.build-id", 4096); err == nil {
		if id := noteDesc(f, note, "GNU\x00"); id != nil {
			return fmt.Sprintf("%x", id)
		}
	}
	return ""
}

// noteDesc takes the payload out of an ELF note with the given four-byte owner.
func noteDesc(f *File, note []byte, owner string) []byte {
	if len(note) < 16 || f.le.Uint32(note) != 4 || string(note[12:16]) != owner {
		return nil
	}
	size := f.le.Uint32(note[4:])
	if uint64(size) > uint64(len(note)-16) {
		return nil
	}
	return note[16 : 16+size]
}

// HasGoNote says whether among notes is one of the type and owner of a Go build ID (cmd/internal/buildid,
// ELF_NOTE_GOBUILDID_TAG).
func HasGoNote(notes []byte) bool { return bytes.Contains(notes, []byte("\x04\x00\x00\x00Go\x00\x00")) }
