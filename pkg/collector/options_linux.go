package collector

import (
	"github.com/p-scope/p-scope/pkg/collector/discover"
	"github.com/p-scope/p-scope/pkg/collector/kernel"
	"github.com/p-scope/p-scope/pkg/internal/procfs"
)

func (o *Options) kernel() *kernel.Options {
	return &kernel.Options{
		MaxPs: o.MaxPs, MaxThreads: o.MaxThreads, RingBytes: o.RingBytes,
		Migrations: o.Migrations, NoStops: o.NoStops, TimeRuns: o.TimeRuns,
	}
}

func (o *Options) proc() procfs.FS { return procfs.FS(o.ProcRoot) }

func (o *Options) finder() discover.Options {
	return discover.Options{Proc: o.proc(), Log: o.Log, Only: o.Only, ShowArguments: o.ShowArguments}
}
