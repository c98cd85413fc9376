package goruntime

import (
	"debug/elf"
	"errors"
	"fmt"

	"github.com/p-scope/p-scope/pkg/goruntime/binary"
	"github.com/p-scope/p-scope/pkg/goruntime/codewalk"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
	"github.com/p-scope/p-scope/pkg/goruntime/probes"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Binary says where the runtime's state lives in one Go program or shared library. Its addresses are link-time
// addresses; a process that runs the program adds its load bias.
type Binary struct {
	GoVersion string // as runtime.Version has it: "go1.26.8", "go1.26.8 X:boringcrypto"
	Module    string // path of the main module; empty for programs built outside one
	Arch      string // "amd64" or "arm64"
	PIE       bool   // position-independent: the load bias differs from run to run
	Cgo       bool   // runtime/cgo is linked in, so threads may run C code
	Stripped  bool   // no symbol table
	BuildID   string // Go build ID, else the GNU build ID in hexadecimal; may be empty

	Layout       layout.Layout
	LayoutSource pstate.Layout

	Vars layout.Vars

	codewalk.CurrentG // where a thread keeps its current G

	Probes []probes.Site // where uprobes may go

	// GCWorkers is the range of code that starts the GC's mark workers. A goroutine whose gopc lies in it is one. Both
	// are 0 if unknown.
	GCWorkers [2]uint64

	Text     [2]uint64        // range of executable code
	Entry    uint64           // address of the entry point
	Segments []elf.ProgHeader // what of the file is mapped
	Checks   []binary.Check   // what a process that runs the program has in its memory
}

// Probe gives the site of one function.
func (b *Binary) Probe(name string) (site probes.Site, ok bool) {
	for _, s := range b.Probes {
		if s.Func == name {
			return s, true
		}
	}
	return probes.Site{}, false
}

// StartedProbe gives the site at which goroutines start to run, or says why they cannot be counted in this program.
// Tens of thousands start in a second. So a site is refused at which the kernel has to single-step the instruction.
func (b *Binary) StartedProbe() (probes.Site, error) {
	site, ok := b.Probe(probes.Started)
	switch {
	case !ok:
		return probes.Site{}, errors.New("runtime.execute is not in the program")
	case !site.Emulated:
		return probes.Site{}, fmt.Errorf("runtime.execute has no instruction at its beginning that the kernel "+
			"emulates "+
			"(it has %s): a probe there would cost too much", site.Insn)
	}
	return site, nil
}

// StopBegun says whether startTheWorldWithSema of this program is called with the time at which the stop began: see
// [probes.StopBegun].
func (b *Binary) StopBegun() bool { return probes.StopBegun(b.GoVersion) }
