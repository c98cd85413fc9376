package frames

import (
	"fmt"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// Stops is one row per stop-the-world, in a form that table, state timeline and annotations take alike: time, timeEnd,
// text (the reason), duration; then the P that came to rest last and how long that took, and whose stop it was. A stop
// that lasts has no end.
func Stops(stops []*pscopev1.Stop) *data.Frame {
	return table(
		column("time", stops, func(s *pscopev1.Stop) time.Time { return time.Unix(0, s.GetStartUnixNano()).UTC() }),
		column("timeEnd", stops, func(s *pscopev1.Stop) *time.Time { return moment(s.GetEndUnixNano()) }),
		column("text", stops, (*pscopev1.Stop).GetReason),
		unit(column("duration", stops, func(s *pscopev1.Stop) *float64 {
			if s.GetEndUnixNano() == 0 {
				return nil
			}
			d := inSeconds(s.GetEndUnixNano() - s.GetStartUnixNano())
			return &d
		}), "s"),
		column("slowestP", stops, func(s *pscopev1.Stop) *string {
			a := slowest(s)
			if a == nil {
				return nil
			}
			p := fmt.Sprintf("P%d", a.GetP())
			return &p
		}),
		unit(column("slowestAfter", stops, func(s *pscopev1.Stop) *float64 {
			a := slowest(s)
			if a == nil {
				return nil
			}
			d := inSeconds(a.GetAfterNanos())
			return &d
		}), "s"),
		column("process", stops, (*pscopev1.Stop).GetProcess),
		unit(column("pid", stops, func(s *pscopev1.Stop) int32 { return s.GetKey().GetPid() }), "none"),
		column("host", stops, (*pscopev1.Stop).GetHost),
	)
}

// slowest is the arrival that the stop waited for; nil when none is known.
func slowest(s *pscopev1.Stop) *pscopev1.StopArrival {
	var last *pscopev1.StopArrival
	for _, a := range s.GetArrivals() {
		if last == nil || a.GetAfterNanos() > last.GetAfterNanos() {
			last = a
		}
	}
	return last
}
