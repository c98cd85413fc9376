package process

import "encoding/binary"

// plausible reports whether a word can be the address of a runtime object: pointer-aligned and in the user half. arm64
// has up to 52 bits, amd64 with five-level paging up to 56.
func plausible(addr uint64) bool {
	return addr >= 4096 && addr < 1<<56 && addr%8 == 0
}

func u16(b []byte, off int32) uint16 { return binary.NativeEndian.Uint16(b[off:]) }
func u32(b []byte, off int32) uint32 { return binary.NativeEndian.Uint32(b[off:]) }
func u64(b []byte, off int32) uint64 { return binary.NativeEndian.Uint64(b[off:]) }
