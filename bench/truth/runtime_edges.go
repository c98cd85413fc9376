package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The second witness is the runtime itself. The workload is built with a runtime that notes each time at which an M
// takes a P or gives it back: one reading of the clock and one store, where runtime/trace writes an event of its own,
// those of the goroutine, and stacks. It needs no trace, so that the same load can be compared untraced.

// runtimeEdges is the file that is added to package runtime.
const runtimeEdges = `package runtime

import _ "unsafe" // for go:linkname

const (
	pscopePs    = 128
	pscopeEdges = 1 << 17
)

var (
	pscopeBase  int64
	pscopeCount [pscopePs]uint32
	pscopeLog   [pscopePs][pscopeEdges]uint64
)

// pscopeEdge notes that mp takes pp or gives it back. Whoever calls it has the P, so that no two write to one P's log.
//
//go:nosplit
//go:nowritebarrierrec
func pscopeEdge(pp *p, mp *m, take uint64) {
	base := pscopeBase
	if base == 0 || pp.id >= pscopePs {
		return
	}
	n := pscopeCount[pp.id]
	if n < pscopeEdges {
		pscopeLog[pp.id][n] = uint64(nanotime()-base)<<23 | mp.procid&(1<<22-1)<<1 | take
	}
	pscopeCount[pp.id] = n + 1
}

//go:linkname pscopeStart
func pscopeStart(ps int) {
	for p := range min(ps, pscopePs) {
		for i := 0; i < pscopeEdges; i += 512 {
			pscopeLog[p][i] = 1 // a page that is there costs no fault later
		}
	}
	pscopeBase = nanotime()
}

// pscopeRead gives when the log began, how many edges there were, those that fit, and whether an M has the P now.
//
//go:linkname pscopeRead
func pscopeRead(id int) (base int64, n uint32, edges []uint64, held bool) {
	if id >= pscopePs {
		return
	}
	n = pscopeCount[id]
	return pscopeBase, n, pscopeLog[id][:min(n, pscopeEdges)], id < len(allp) && allp[id].m != 0
}
`

// runtimeChanges are the places in runtime/proc.go (Go 1.26) where an M and a P come together and part.
var runtimeChanges = [][2]string{
	// wirep
	{"\tgp.m.p.set(pp)\n\tpp.m.set(gp.m)\n\tpp.status = _Prunning\n", "\tpscopeEdge(pp, gp.m, 1)\n"},
	// releasepNoTrace
	{"\tgcController.releaseNextGCMarkWorker(pp)\n\n\tgp.m.p = 0\n", "\tpscopeEdge(pp, gp.m, 0)\n"},
	// syscallingThread.releaseP
	{"\ttrace := traceAcquire()\n\ts.pp.m = 0\n\ts.mp.p = 0\n", "\tpscopeEdge(s.pp, s.mp, 0)\n"},
	// procresize, where the current P goes
	{"\t\t\tgp.m.p.ptr().m = 0\n", "\t\t\tpscopeEdge(gp.m.p.ptr(), gp.m, 0)\n"},
	// entersyscallHandleGCWait
	{"\t\tpp := gp.m.p.ptr()\n\t\tpp.m = 0\n\t\tgp.m.p = 0\n", "\t\tpscopeEdge(pp, gp.m, 0)\n"},
}

// overlayRuntime writes what go build needs to build that runtime into a directory, and gives the toolchain's folder
// and the arguments for it. The folder is a link to the toolchain: Go refuses an overlay of files in the module cache,
// where the toolchains lie that Go fetches by itself.
func overlayRuntime(dir string) (goroot string, args []string, err error) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", nil, fmt.Errorf("go env GOROOT: %w", err)
	}
	goroot = filepath.Join(dir, "goroot")
	if err := os.Symlink(strings.TrimSpace(string(out)), goroot); err != nil {
		return "", nil, err
	}
	at := filepath.Join(goroot, "src", "runtime")
	proc, err := os.ReadFile(filepath.Join(at, "proc.go"))
	if err != nil {
		return "", nil, err
	}
	for _, c := range runtimeChanges {
		if n := bytes.Count(proc, []byte(c[0])); n != 1 {
			return "", nil, fmt.Errorf("runtime/proc.go has %q %d times and not once: "+
				"bench/truth/runtime_edges.go is made for Go 1.26", c[0], n)
		}
		proc = bytes.Replace(proc, []byte(c[0]), []byte(c[0]+c[1]), 1)
	}
	replace := map[string]string{}
	for name, text := range map[string][]byte{"proc.go": proc, "pscope_edges.go": []byte(runtimeEdges)} {
		file := filepath.Join(dir, "runtime_"+name)
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return "", nil, err
		}
		replace[filepath.Join(at, name)] = file
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", nil, err
	}
	file := filepath.Join(dir, "overlay.json")
	return goroot, []string{"-overlay", file, "-tags", "runtimeedges"}, os.WriteFile(file, b, 0o644)
}

// readRuntimeEdges reads what the workload wrote of its runtime's log (workload/edges.go), and accounts every P between
// two instants.
func readRuntimeEdges(path string) (*traced, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	next := func() (v uint64) {
		if len(b) >= 8 {
			v, b = binary.LittleEndian.Uint64(b), b[8:]
		}
		return v
	}
	t := &traced{ran: map[int32]bool{}, ps: map[int32]account{}, moves: map[int32]int{}, edges: map[int32][]edge{}}
	t.from, t.to = int64(next()), int64(next())
	base := int64(next())
	for len(b) > 0 {
		id, held, n, kept := int32(next()), next() == 1, next(), next()
		if kept < n || uint64(len(b)) < 8*kept {
			return nil, fmt.Errorf("the runtime's log has %d of the %d times that P%d changed hands: take a "+
				"shorter run", kept, n, id)
		}
		f := &follower{ran: held}
		for i := range kept {
			w := next()
			e := edge{at: base + int64(w>>23), take: w&1 == 1, tid: int32(w >> 1 & (1<<22 - 1))}
			if i == 0 {
				f.ran = !e.take
			}
			f.edges = append(f.edges, e)
		}
		t.edges[id], t.ran[id] = f.edges, f.ran
		t.ps[id], t.moves[id] = f.account(t.from, t.to)
	}
	if t.from == 0 || t.to <= t.from {
		return nil, fmt.Errorf("%s does not say of which window it is", path)
	}
	return t, nil
}

// runtimeResult compares one run with the runtime's log.
type runtimeResult struct {
	Busy, BusySeen float64 // mean share of time in which an M has the P, in percent: by the runtime's log, by P-Scope
	Mean, Worst    float64 // error of P-Scope's over the Ps, in percentage points
	// by how much the trace has the Ps busy for longer than the log, on average; without a trace 0
	TraceOff  float64
	TraceMean float64 // mean error of the trace's
	Edges     float64 // a second and P
	Moves     float64 // P-Scope's, as a share of those
}

// compareRuntime compares a traced run with the runtime's log, and an untraced one of the same load.
func (s *setup) compareRuntime(r *result, o *observation, t *traced, load, procs string) error {
	l, err := readRuntimeEdges(o.edges)
	if err != nil {
		return err
	}
	r.Runtime = l.compare(o)
	for id := range l.ps {
		// The trace over the log's window, so that nothing but the edges differs.
		f := &follower{edges: t.edges[id], ran: t.ran[id]}
		a, _ := f.account(l.from, l.to)
		off := 100 * float64(l.ps[id][atRest]-a[atRest]) / float64(l.to-l.from)
		r.Runtime.TraceOff += off / float64(len(l.ps))
		r.Runtime.TraceMean += math.Abs(off) / float64(len(l.ps))
	}
	if s.edges {
		fmt.Println("  against the runtime's log, traced:")
		o.sink.printEdges(os.Stdout, l, o.offset)
		o.sink.printDisagreement(os.Stdout, l, o.offset)
	}
	if o, err = s.observe(load, procs, false); err != nil {
		return err
	}
	if l, err = readRuntimeEdges(o.edges); err != nil {
		return err
	}
	r.RuntimeUntraced = l.compare(o)
	if s.edges {
		fmt.Println("  against the runtime's log, untraced:")
		o.sink.printEdges(os.Stdout, l, o.offset)
		o.sink.printDisagreement(os.Stdout, l, o.offset)
	}
	return nil
}

func (t *traced) compare(o *observation) *runtimeResult {
	r := &result{}
	r.compareShares(t, growth(o.seen, t.from, t.to))
	n := 0
	for _, m := range t.moves {
		n += m
	}
	return &runtimeResult{
		Busy: r.Busy, BusySeen: r.BusySeen, Mean: r.Mean, Worst: r.Worst, Moves: r.Moves,
		Edges: float64(n) / float64(len(t.ps)) / (float64(t.to-t.from) / 1e9),
	}
}
