package query

import (
	"encoding/json"
	"fmt"
)

// Version is the version of the model this code writes.
const Version = 1

// Kind says what a query asks for and so which frames answer it.
type Kind string

// The kinds.
const (
	KindSeries    Kind = "series"
	KindHeatmap   Kind = "heatmap"
	KindTimeline  Kind = "timeline"
	KindStops     Kind = "stops"
	KindBlocked   Kind = "blocked"
	KindDiagnosis Kind = "diagnosis"
	KindProfile   Kind = "profile"
	KindTargets   Kind = "targets"
)

// What a query asks for that names no kind, metric or event; and one of an alert rule, which compares numbers.
const (
	DefaultKind   = KindHeatmap
	DefaultMetric = MetricState
	DefaultEvent  = EventStops
	AlertKind     = KindSeries
	AlertMetric   = MetricDShare
)

// Kinds lists all kinds in the order in which the editor shows them.
func Kinds() []Kind {
	return []Kind{KindHeatmap, KindTimeline, KindSeries, KindStops, KindBlocked, KindDiagnosis, KindProfile,
		KindTargets}
}

// Metric is what series and heatmaps show.
type Metric string

// The metrics.
const (
	MetricState            Metric = "state"
	MetricThread           Metric = "thread"
	MetricBusy             Metric = "busy"
	MetricDShare           Metric = "d_share"
	MetricRunq             Metric = "runq"
	MetricRunqDistribution Metric = "runq_distribution"
	MetricGlobalRunq       Metric = "global_runq"
	MetricWakeWait         Metric = "wake_wait"
	MetricStops            Metric = "stops"
	MetricStopRate         Metric = "stop_rate"
	MetricSchedTicks       Metric = "sched_ticks"
	MetricSyscalls         Metric = "syscalls"
	MetricTransitions      Metric = "transitions"
	MetricMigrations       Metric = "migrations"
	MetricCPUFrequency     Metric = "cpu_frequency"
	MetricImbalance        Metric = "imbalance"
	MetricGOMAXPROCS       Metric = "gomaxprocs"
)

// Aggregations lists the ways to take values together in the order in which the editor shows them.
func Aggregations() []string { return []string{"avg", "sum", "max", "min"} }

// TargetFields lists the fields of a Target in the order in which the editor shows them.
func TargetFields() []string { return []string{"process", "host", "pod", "container", "pid"} }

// VariableLabels lists the labels whose values a dashboard variable can list, as words of `by`.
func VariableLabels() []string { return []string{"host", "process", "pid", "p", "container", "pod"} }

// How the values of a label are listed: by name, or what needs a look first (a P stuck in D, then the busiest, then
// what has ended).
const (
	OrderName  = "name"
	OrderWorst = "worst"
)

// VariableOrders lists the orders in the order in which the editor shows them.
func VariableOrders() []string { return []string{OrderName, OrderWorst} }

// Target chooses Go processes. Every field is an anchored RE2 regular expression; an empty one chooses all.
type Target struct {
	Host      string `json:"host,omitempty"`
	Process   string `json:"process,omitempty"`
	Container string `json:"container,omitempty"`
	Pod       string `json:"pod,omitempty"`
	PID       string `json:"pid,omitempty"`
}

// Empty is true when the target chooses every process.
func (t Target) Empty() bool { return t == Target{} }

// Model is a query as dashboards save it. tools/contract writes the same in TypeScript. The zero Model is a valid
// query.
type Model struct {
	Version      int      `json:"version,omitempty"`
	Kind         Kind     `json:"kind,omitempty"`
	Target       Target   `json:"target,omitzero"`
	Ps           string   `json:"ps,omitempty"`
	Metric       Metric   `json:"metric,omitempty"`
	States       []string `json:"states,omitempty"`
	ThreadStates []string `json:"threadStates,omitempty"`
	By           []string `json:"by,omitempty"`
	Aggregation  string   `json:"aggregation,omitempty"`
	Expr         string   `json:"expr,omitempty"`
	EditorMode   string   `json:"editorMode,omitempty"`
	Legend       string   `json:"legend,omitempty"`
	Resolution   string   `json:"resolution,omitempty"`
	Live         bool     `json:"live,omitempty"`
	RateHz       float64  `json:"rateHz,omitempty"`
	Limit        int      `json:"limit,omitempty"`
	// Events of kind stops; none: EventStops.
	Events []Event `json:"events,omitempty"`
}

// Event is something that kind stops lists, in a table or as annotations.
type Event string

// The events.
const (
	EventStops      Event = "stops"      // stop-the-world
	EventGOMAXPROCS Event = "gomaxprocs" // changes of the number of Ps
	EventRestarts   Event = "restarts"   // processes that start, end, or take the place of one of the same name
)

// Events lists them in the order in which the editor shows them.
func Events() []Event { return []Event{EventStops, EventGOMAXPROCS, EventRestarts} }

// Decode reads a saved model and brings it up to the present version.
func Decode(raw []byte) (Model, error) {
	var m Model
	if len(raw) == 0 {
		return migrate(m)
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		return Model{}, &Error{What: "the query can't be read", Why: err.Error(), Next: "Open it in the query editor " +
			"and save it again"}
	}
	return migrate(m)
}

// migrate lifts a model of any known version to Version. Models saved before there was a version number have the fields
// of version 1.
func migrate(m Model) (Model, error) {
	switch m.Version {
	case 0, Version:
		m.Version = Version
		return m, nil
	default:
		return Model{}, &Error{
			Field: "version",
			What:  fmt.Sprintf("the query has version %d", m.Version),
			Why:   fmt.Sprintf("this plugin knows versions up to %d", Version),
			Next:  "Update the P-Scope plugin",
		}
	}
}
