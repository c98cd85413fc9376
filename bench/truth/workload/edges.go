//go:build runtimeedges

package main

import (
	"bytes"
	"encoding/binary"
	"os"
	_ "unsafe" // for go:linkname
)

// Of the runtime that bench/truth/runtime_edges.go makes.

//go:linkname pscopeStart runtime.pscopeStart
func pscopeStart(ps int)

//go:linkname pscopeRead runtime.pscopeRead
func pscopeRead(id int) (base int64, n uint32, edges []uint64, held bool)

// most is how many Ps that runtime keeps a log of.
const most = 128

func init() {
	ps := 0
	startEdges = func(n int) {
		ps = n
		pscopeStart(n)
	}
	writeEdges = func(path string, from, to int64) error {
		var out bytes.Buffer
		put := func(v uint64) { _ = binary.Write(&out, binary.LittleEndian, v) }
		base, _, _, _ := pscopeRead(0)
		put(uint64(from))
		put(uint64(to))
		put(uint64(base))
		for id := range most {
			_, n, edges, held := pscopeRead(id)
			if n == 0 && id >= ps {
				continue
			}
			put(uint64(id))
			if held {
				put(1)
			} else {
				put(0)
			}
			put(uint64(n))
			put(uint64(len(edges)))
			_ = binary.Write(&out, binary.LittleEndian, edges)
		}
		return os.WriteFile(path, out.Bytes(), 0o644)
	}
}
