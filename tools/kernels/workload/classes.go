package main

import (
	"runtime/metrics"

	"github.com/p-scope/p-scope/tools/kernels/account"
)

// classes are the runtime's sums of CPU time by class, as of the end of the last collection.
type classes struct{ total, idle, mark float64 }

func readClasses() (c classes) {
	s := []metrics.Sample{
		{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"},
		{Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
	}
	metrics.Read(s)
	return classes{s[0].Value.Float64(), s[1].Value.Float64(), s[2].Value.Float64() + s[3].Value.Float64()}
}

func (c classes) since(b classes) account.Times {
	return account.Times{Wall: c.total - b.total, Idle: c.idle - b.idle, GC: c.mark - b.mark}
}
