package goruntime

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Binary says where the runtime's state lives in one Go executable. Addresses are link-time; [Process.Addr] adds the load bias.
type Binary struct {
	GoVersion string // as runtime.Version has it: "go1.26.8", "go1.26.8 X:boringcrypto"
	Module    string // path of the main module; empty for programs built outside one
	Arch      string // "amd64" or "arm64"
	PIE       bool   // position-independent: the load bias differs from run to run
	Cgo       bool   // runtime/cgo is linked in, so threads may run C code
	Stripped  bool   // no symbol table
	BuildID   string // Go build ID, else the GNU build ID in hexadecimal; may be empty

	Layout       Layout
	LayoutSource pstate.Layout

	Vars Vars

	// TLSG is the offset of the thread's slot for its current G (g0 while in the scheduler) from the thread pointer: FS base on amd64,
	// TPIDR_EL0 on arm64. Valid only if TLSGKnown.
	TLSG      int64
	TLSGKnown bool
	// TLSGSlot is the link-time address of the word in which the dynamic loader leaves that offset; 0 if there is none. It
	// is what counts for a shared library, whose place in a thread's memory nobody knows before it is loaded: see
	// [Process.TLSG].
	TLSGSlot uint64
	// GRegister says that G is kept in a register (x28) and nowhere else: arm64 programs without cgo never store it
	// (runtime/tls_arm64.s, save_g returns early unless iscgo).
	GRegister bool

	Probes    []ProbeSite // rare functions: stops of the world, GC phases, GOMAXPROCS changes
	HotProbes []ProbeSite // functions of the scheduler's hot path, for tier 2 only

	// GCWorkers is the link-time range of code that starts the GC's mark workers; a goroutine whose gopc lies in it is one. Both are 0 if unknown.
	GCWorkers [2]uint64

	found *search   // what the search for the layout found besides it, while the program is inspected
	text  [2]uint64 // link-time range of executable code
	entry uint64    // link-time address of the entry point

	segments []elf.ProgHeader // what of the file is mapped
	checks   []check          // what a process that runs this program has in its memory
}

// check is a piece of the file's read-only contents at a link-time address.
type check struct {
	addr  uint64
	bytes []byte
}

// Vars holds the link-time addresses of the runtime's variables; 0 means absent or not found.
type Vars struct {
	AllP            uint64 // runtime.allp, []*p (runtime/runtime2.go)
	AllM            uint64 // runtime.allm, *m, linked through m.alllink (runtime/runtime2.go)
	Sched           uint64 // runtime.sched, schedt (runtime/runtime2.go)
	GOMAXPROCS      uint64 // runtime.gomaxprocs, int32 (runtime/runtime2.go)
	GCPhase         uint64 // runtime.gcphase, uint32 (runtime/mgc.go)
	Worldsema       uint64 // runtime.worldsema, uint32 (runtime/proc.go)
	MemStats        uint64 // runtime.memstats, mstats (runtime/mstats.go)
	GCController    uint64 // runtime.gcController (runtime/mgcpacer.go)
	Work            uint64 // runtime.work (runtime/mgc.go)
	M0, G0          uint64 // runtime.m0, runtime.g0: the first thread (runtime/proc.go)
	BuildVersion    uint64 // runtime.buildVersion, string (runtime/proc.go)
	FirstModuleData uint64 // runtime.firstmoduledata (runtime/symtab.go)
	IsCgo           uint64 // runtime.iscgo, bool (runtime/cgo.go)
}

// byName maps symbol names to where their address goes.
func (v *Vars) byName() map[string]*uint64 {
	return map[string]*uint64{
		"runtime.allp":            &v.AllP,
		"runtime.allm":            &v.AllM,
		"runtime.sched":           &v.Sched,
		"runtime.gomaxprocs":      &v.GOMAXPROCS,
		"runtime.gcphase":         &v.GCPhase,
		"runtime.worldsema":       &v.Worldsema,
		"runtime.memstats":        &v.MemStats,
		"runtime.gcController":    &v.GCController,
		"runtime.work":            &v.Work,
		"runtime.m0":              &v.M0,
		"runtime.g0":              &v.G0,
		"runtime.buildVersion":    &v.BuildVersion,
		"runtime.firstmoduledata": &v.FirstModuleData,
		"runtime.iscgo":           &v.IsCgo,
	}
}

// Inspect reads an ELF executable and says where the runtime's fields live. It reads only what it needs (a few MB of a large program) and keeps
// no reference to r. Every error is a [*RefusedError].
func Inspect(r io.ReaderAt) (b *Binary, err error) {
	// debug/elf and debug/dwarf are hardened against broken input, but not proven to be; a hostile program must not take the agent down.
	defer func() {
		if p := recover(); p != nil {
			b, err = nil, refuse(ReasonMalformed, fmt.Errorf("%v", p), "the program's file is malformed")
		}
	}()
	b, err = inspect(r)
	if err == nil {
		return b, nil
	}
	var refused *RefusedError
	if !errors.As(err, &refused) {
		err = refuse(ReasonMalformed, err, "the program's file is malformed")
	}
	return nil, err
}

func inspect(r io.ReaderAt) (*Binary, error) {
	im, err := openImage(r)
	if err != nil {
		return nil, notGoAfterAll(r, err)
	}
	info, err := readVersion(im)
	if err != nil {
		return nil, err
	}
	b := &Binary{
		GoVersion: info.GoVersion,
		Module:    info.Main.Path,
		Arch:      im.arch,
		PIE:       im.f.Type == elf.ET_DYN,
		BuildID:   im.buildID(),
		text:      im.textRange(),
		entry:     im.f.Entry,
		segments:  im.segments(),
		checks:    im.checks(),
	}
	version, ok := parseGoVersion(b.GoVersion)
	switch {
	case !ok && im.scrambled():
		return nil, refuse(ReasonObfuscated, nil, "the program was obfuscated, as garble does it: its Go version is "+
			"removed and its table of functions scrambled, by which the runtime's structures are found")
	case !ok && info.GoVersion != "":
		return nil, refuse(ReasonGoUnknown, nil, "the program names an unknown Go version, %.40q", b.GoVersion)
	case ok && version.minor < OldestMinor:
		return nil, refuse(ReasonGoTooOld, nil, "the program was built with %.40s; Go 1.%d or later is needed", b.GoVersion, OldestMinor)
	}

	if err := b.findLayout(im, version); err != nil {
		return nil, err
	}
	syms, err := b.locate(im)
	if err != nil {
		return nil, err
	}
	b.found = nil
	b.findTLS(im, syms)
	b.findProbes(im, syms)
	if s, ok := syms[gcWorkerStarter]; ok && im.executable(s.value) {
		b.GCWorkers = [2]uint64{s.value, s.value + s.size}
	}
	return b, nil
}

// gcWorkerStarter has the go statement that starts the GC's mark workers (runtime/mgc.go). The goroutine is told by it rather than by the function it
// runs, which has been a closure since Go 1.23.
const gcWorkerStarter = "runtime.gcBgMarkStartWorkers"

// locate finds variables and functions: by the symbol table, or in a stripped program by the table of functions and by what they refer to.
func (b *Binary) locate(im *image) (map[string]symbol, error) {
	vars := b.Vars.byName()
	wanted := make(map[string]bool)
	for name := range vars {
		wanted[name] = true
	}
	for _, list := range [][]string{probeFuncs, hotProbeFuncs, tlsFuncs, ruleFuncs()} {
		for _, name := range list {
			wanted["runtime."+name] = true
		}
	}
	wanted["runtime.wakep"] = true // see WorldStarted
	wanted[gcWorkerStarter] = true
	for _, name := range tlsSymbols {
		wanted[name] = true
	}
	syms, err := im.symbols(wanted)
	if err != nil {
		b.Stripped = true
		return b.locateStripped(im, wanted)
	}
	for name, dst := range vars {
		if s, ok := syms[name]; ok && im.writable(s.value, max(s.size, 1)) {
			*dst = s.value
		}
	}
	if missing := b.Vars.missing(); missing != "" {
		return nil, refuse(ReasonNoVariables, nil, "the program's symbol table lacks %s", missing)
	}
	if b.found != nil {
		if differs := b.found.contradicts(&b.Vars, syms["runtime.sched"].size); differs != "" {
			return nil, refuse(ReasonGoUnknown, nil, "the program's code and its symbol table disagree on where runtime.%s lies: it was built with a modified runtime", differs)
		}
		b.Vars.Sched = b.found.vars.Sched // from which the layout's offsets count
	}
	b.Cgo = im.byteAt(b.Vars.IsCgo) == 1
	return syms, nil
}

// locateStripped does without a symbol table.
func (b *Binary) locateStripped(im *image, wanted map[string]bool) (map[string]symbol, error) {
	table, err := openFuncTable(im)
	if err != nil {
		return nil, refuse(ReasonNoVariables, err, "the program is stripped and its table of functions cannot be found")
	}
	funcs, err := table.lookup(wanted)
	if err != nil {
		return nil, refuse(ReasonNoVariables, err, "the program is stripped and its table of functions is broken")
	}
	if b.found != nil {
		b.Vars = b.found.vars
	} else {
		finder := varFinder{im: im, funcs: funcs}
		finder.find(&b.Vars, &b.Layout)
	}
	if missing := b.Vars.missing(); missing != "" {
		return nil, refuse(ReasonNoVariables, nil, "the program is stripped and %s could not be located by the functions that use it", missing)
	}
	// runtime/cgo's entry point from C (runtime/cgo/asm_amd64.s) is linked in exactly when that package is.
	b.Cgo = table.hasFuncName("crosscall2")
	return funcs, nil
}

// missing names a variable that no snapshot can do without and that was not found.
func (v *Vars) missing() string {
	switch {
	case v.AllP == 0:
		return "runtime.allp"
	case v.AllM == 0:
		return "runtime.allm"
	case v.Sched == 0:
		return "runtime.sched"
	case v.GOMAXPROCS == 0:
		return "runtime.gomaxprocs"
	}
	return ""
}

// byteAt is the initial value of a byte variable; 0 for one in the bss.
func (im *image) byteAt(va uint64) byte {
	var v [1]byte
	if va == 0 || im.readFullVA(va, v[:]) != nil {
		return 0
	}
	return v[0]
}

// findLayout takes the layout from DWARF, else from the table, else from the program's code.
func (b *Binary) findLayout(im *image, version goVersion) error {
	l, dwarfErr := layoutFromDWARF(im)
	if dwarfErr == nil {
		// What it says is so: a table, or a search, could only be wrong where it differs.
		if missing := l.check(); missing != "" {
			return refuse(ReasonGoUnknown, nil, "the program's debugging information describes a modified runtime, without %s", missing)
		}
		b.Layout, b.LayoutSource = *l, pstate.LayoutDWARF
		return nil
	}
	l, problem := (*Layout)(nil), "the program does not say which Go it was built with"
	if b.GoVersion != "" {
		l, problem = tableLayout(version, im.arch)
	}
	if l != nil {
		b.Layout, b.LayoutSource = *l, pstate.LayoutTable
		return nil
	}
	found, err := searchLayout(im)
	if err != nil {
		return refuse(ReasonGoUnknown, err, "%s, it has no debugging information to learn the layout from (%v), and the search of its code failed", problem, dwarfErr)
	}
	b.found, b.Layout, b.LayoutSource = found, found.l, pstate.LayoutSearch
	return nil
}

// checks picks what tells this program from others in memory: its ELF header and its notes, which hold the build IDs.
func (im *image) checks() []check {
	var list []check
	for _, p := range im.f.Progs {
		var addr, size uint64
		switch {
		case p.Type == elf.PT_LOAD && p.Off == 0 && p.Filesz >= 64:
			addr, size = p.Vaddr, 64
		case p.Type == elf.PT_NOTE:
			addr, size = p.Vaddr, min(p.Filesz, 256)
		}
		if s := im.segment(addr); size == 0 || s == nil || s.Flags&elf.PF_W != 0 || len(list) >= 8 {
			continue
		}
		b := make([]byte, size)
		if im.readFullVA(addr, b) == nil {
			list = append(list, check{addr, b})
		}
	}
	return list
}

// buildID reads the Go build ID note, else the GNU one.
func (im *image) buildID() string {
	if note, err := im.sectionBytes(".note.go.buildid", 4096); err == nil {
		if id := noteDesc(im, note, "Go\x00\x00"); id != nil {
			return string(id)
		}
	}
	if note, err := im.sectionBytes(".note.gnu.build-id", 4096); err == nil {
		if id := noteDesc(im, note, "GNU\x00"); id != nil {
			return fmt.Sprintf("%x", id)
		}
	}
	return ""
}

// noteDesc takes the payload out of an ELF note with the given four-byte owner.
func noteDesc(im *image, note []byte, owner string) []byte {
	if len(note) < 16 || im.le.Uint32(note) != 4 || string(note[12:16]) != owner {
		return nil
	}
	size := im.le.Uint32(note[4:])
	if uint64(size) > uint64(len(note)-16) {
		return nil
	}
	return note[16 : 16+size]
}
