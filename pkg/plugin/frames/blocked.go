package frames

import (
	"strconv"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// Blocked is one row per thread: whose it is, the P it carries or last carried, its state now, and the seconds it spent
// in each thread state within the range.
func Blocked(threads []*pscopev1.BlockedThread) *data.Frame {
	type row = *pscopev1.BlockedThread
	spent := func(name string, state pscopev1.ThreadState) *data.Field {
		return unit(column(name, threads, func(t row) float64 {
			if n := t.GetThreadNanos(); int(state) < len(n) {
				return inSeconds(n[state])
			}
			return 0
		}), "s")
	}
	return table(
		column("process", threads, func(t row) string { return t.GetTarget().GetProcess() }),
		unit(column("pid", threads, func(t row) int32 { return t.GetTarget().GetKey().GetPid() }), "none"),
		unit(column("tid", threads, row.GetTid), "none"),
		column("comm", threads, row.GetComm),
		column("p", threads, func(t row) *string {
			p := known(t.GetLastP())
			if p == nil {
				return nil
			}
			name := "P" + strconv.Itoa(int(*p))
			return &name
		}),
		column("state", threads, func(t row) string { return ThreadState(t.GetState()).String() }),
		column("since", threads, func(t row) *time.Time { return moment(t.GetSinceUnixNano()) }),
		spent("uninterruptible", pscopev1.ThreadState_THREAD_STATE_UNINTERRUPTIBLE),
		spent("runnable", pscopev1.ThreadState_THREAD_STATE_RUNNABLE),
		spent("running", pscopev1.ThreadState_THREAD_STATE_RUNNING),
		spent("sleeping", pscopev1.ThreadState_THREAD_STATE_SLEEPING),
		spent("stopped", pscopev1.ThreadState_THREAD_STATE_STOPPED),
		spent("frozen", pscopev1.ThreadState_THREAD_STATE_FROZEN),
		column("container", threads, func(t row) string { return t.GetTarget().GetContainer() }),
		column("pod", threads, func(t row) string { return t.GetTarget().GetPod() }),
		column("cgroup", threads, func(t row) string { return t.GetTarget().GetCgroup() }),
		column("host", threads, func(t row) string { return t.GetTarget().GetHost() }),
	)
}
