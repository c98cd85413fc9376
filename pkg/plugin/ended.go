package plugin

import (
	"context"
	"slices"

	"github.com/grafana/grafana-plugin-sdk-go/data"
	"github.com/prometheus/common/model"

	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/frames"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// withoutEnded leaves out of an alert rule's answer the curves of processes that are no more at the end of its range. A
// rule that looks at ten minutes and takes the last value would otherwise go on firing for ten minutes about a process
// that ended in D: the last value is still there. A process counts as ended only when an agent says so, by reporting
// itself but not the process: an agent that is silent has ended nothing.
func (d *Datasource) withoutEnded(ctx context.Context, q *query.Query, curves []frames.Curve) []frames.Curve {
	if !slices.ContainsFunc(curves, func(c frames.Curve) bool { return aboutProcess(q, c.Labels) }) {
		return curves
	}
	answers := agent.Ask(ctx, d.set.Histories(), func(ctx context.Context, h *agent.History) (model.Vector, error) {
		return h.Instant(ctx, q.PresentExpr(), q.To)
	})
	vectors, failures, err := agent.Split(answers)
	if err != nil {
		// The curves are worth more than the doubt about some of them.
		return curves
	}
	p := presence{hosts: map[string]bool{}, complete: len(failures) == 0}
	for _, v := range vectors {
		for _, s := range v {
			p.add(labelsOf(s.Metric))
		}
	}
	return slices.DeleteFunc(curves, func(c frames.Curve) bool {
		return aboutProcess(q, c.Labels) &&
			p.ended(c.Labels)
	})
}

// identifying are the labels that tell processes apart.
var identifying = []string{"host", "process", "process_pid", "container", "pod"}

// aboutProcess is true for a curve that ends with a process, or with the last one of several.
func aboutProcess(q *query.Query, l data.Labels) bool {
	if q.Code() {
		// Other exporters have processes, containers and pods, too.
		return l["process_pid"] != ""
	}
	return slices.ContainsFunc(identifying[1:], func(k string) bool { return l[k] != "" })
}

// presence is who is there at the end of a range.
type presence struct {
	hosts     map[string]bool // whose agents report
	processes []data.Labels
	complete  bool // no source failed to answer
}

func (p *presence) add(l data.Labels) {
	if l["process"] == "" {
		p.hosts[l["host"]] = true
		return
	}
	p.processes = append(p.processes, l)
}

// ended is true when no process is there any more that a curve with these labels could be about.
func (p *presence) ended(l data.Labels) bool {
	host := l["host"]
	if host != "" && !p.hosts[host] || host == "" && !(p.complete && len(p.hosts) > 0) {
		return false
	}
	return !slices.ContainsFunc(p.processes, func(process data.Labels) bool {
		return !slices.ContainsFunc(identifying, func(k string) bool { return l[k] != "" && l[k] != process[k] })
	})
}
