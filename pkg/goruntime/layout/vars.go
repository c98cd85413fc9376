package layout

// Vars holds the link-time addresses of the runtime's variables; 0 means absent or not found.
type Vars struct {
	AllP         uint64 // runtime.allp, []*p (runtime/runtime2.go)
	AllM         uint64 // runtime.allm, *m, linked through m.alllink (runtime/runtime2.go)
	Sched        uint64 // runtime.sched, schedt (runtime/runtime2.go)
	GOMAXPROCS   uint64 // runtime.gomaxprocs, int32 (runtime/runtime2.go)
	GCPhase      uint64 // runtime.gcphase, uint32 (runtime/mgc.go)
	MemStats     uint64 // runtime.memstats, mstats (runtime/mstats.go)
	GCController uint64 // runtime.gcController (runtime/mgcpacer.go)
	BuildVersion uint64 // runtime.buildVersion, string (runtime/proc.go)
	IsCgo        uint64 // runtime.iscgo, bool (runtime/cgo.go)
}

// ByName maps symbol names to where their addresses go.
func (v *Vars) ByName() map[string]*uint64 {
	return map[string]*uint64{
		"runtime.allp":         &v.AllP,
		"runtime.allm":         &v.AllM,
		"runtime.sched":        &v.Sched,
		"runtime.gomaxprocs":   &v.GOMAXPROCS,
		"runtime.gcphase":      &v.GCPhase,
		"runtime.memstats":     &v.MemStats,
		"runtime.gcController": &v.GCController,
		"runtime.buildVersion": &v.BuildVersion,
		"runtime.iscgo":        &v.IsCgo,
	}
}

// Missing names a variable that a snapshot needs and that was not found; empty if all were.
func (v *Vars) Missing() string {
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
