package frames

import (
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// Targets is one row per Go runtime: where it runs, what it is, and how it is observed, or why not.
func Targets(targets []*pscopev1.Target) *data.Frame {
	type row = *pscopev1.Target
	return table(
		column("host", targets, row.GetHost),
		column("process", targets, row.GetProcess),
		unit(column("pid", targets, func(t row) int32 { return t.GetKey().GetPid() }), "none"),
		column("runtime", targets, func(t row) string { return t.GetKey().GetRuntime() }),
		column("goVersion", targets, row.GetGoVersion),
		column("source", targets, row.GetSource),
		column("layout", targets, row.GetLayout),
		unit(column("gomaxprocs", targets, func(t row) *int32 {
			if t.GetGomaxprocs() == 0 {
				return nil
			}
			return known(t.GetGomaxprocs())
		}), "none"),
		column("reason", targets, row.GetReason),
		column("container", targets, row.GetContainer),
		column("pod", targets, row.GetPod),
		column("namespace", targets, row.GetNamespace),
		column("cgroup", targets, row.GetCgroup),
		column("module", targets, row.GetModule),
		column("exe", targets, row.GetExe),
		column("cmdline", targets, row.GetCmdline),
		column("started", targets, func(t row) *time.Time { return moment(t.GetStartedUnixNano()) }),
		column("ended", targets, func(t row) *time.Time { return moment(t.GetEndedUnixNano()) }),
	)
}
