package query

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// Dialect is what the builder has to know of the stores it asks.
type Dialect struct {
	// Sample is the distance of the store's samples: 1 s for an agent, the scrape interval for an engine.
	Sample time.Duration
	// Native is true when histograms are stored as native histograms, as agents do; an engine that scraped text has
	// classic ones.
	Native bool
	// Several is true when more than one store is asked and their answers are merged.
	Several bool
}

// Merge says how series with equal labels from several stores become one.
type Merge int

// The ways to merge.
const (
	MergeNone Merge = iota // they can't be merged: each keeps a label that tells it from the others
	MergeSum
	MergeMax
	MergeMin
	MergeAvg // Plan.Exprs holds the sum and the number of what is averaged
)

// Plan is a query in PromQL.
type Plan struct {
	Exprs []string
	Merge Merge
}

// OnCPU is what a heatmap of thread states shows unless the query names others.
func OnCPU() []pstate.ThreadState { return []pstate.ThreadState{pstate.OnCPU} }

// Busy are the states in which a P has work in hand.
func Busy() []pstate.State {
	return slices.DeleteFunc(pstate.States(), func(s pstate.State) bool { return !s.Busy() })
}

// Suspended are the thread states in which somebody outside of the program keeps a thread from running.
func Suspended() []pstate.ThreadState {
	return slices.DeleteFunc(pstate.ThreadStates(), func(s pstate.ThreadState) bool { return !s.Suspended() })
}

// Plan puts a series query, or the lanes of a heatmap, into PromQL.
func (q *Query) Plan(d Dialect) Plan {
	if q.Code() {
		return Plan{Exprs: []string{q.expandMacros(d)}, Merge: MergeNone}
	}
	aggregate := q.Aggregate()
	window := "[" + seconds(q.Window(d)) + "]"
	target := []string{"host", "process", "process_pid", "runtime"}
	eachP := append(slices.Clone(target), "p")
	rate := func(metric string, more ...string) string {
		return "rate(" + metric + q.selector(more...) + window + ")"
	}
	switch q.Metric {
	case MetricState:
		return q.aggregate(d, aggregate, eachP, rate("pscope_p_seconds_total", anyOf("state", q.PStates)))
	case MetricThread:
		return q.aggregate(d, aggregate, eachP,
			rate("pscope_p_thread_seconds_total", anyOf("thread_state", q.ThreadStates)))
	case MetricBusy:
		return q.aggregate(d, aggregate, eachP, q.busy("by ("+strings.Join(union(eachP, q.Labels()), ", ")+")", window))
	case MetricDShare:
		return q.aggregate(d, aggregate, eachP, rate("pscope_p_uninterruptible_seconds_total"))
	case MetricRunq, MetricGlobalRunq:
		metric, key := "pscope_p_runq_depth", eachP
		if q.Metric == MetricGlobalRunq {
			metric, key = "pscope_runq_depth", target
		}
		over := "avg_over_time("
		if aggregate == "max" || aggregate == "min" {
			over = aggregate + "_over_time("
		}
		return q.aggregate(d, aggregate, key, over+metric+q.selector()+window+")")
	case MetricRunqDistribution, MetricWakeWait:
		return q.distributionSeries(d, window)
	case MetricStops:
		if slices.Contains(q.By, "reason") {
			return q.aggregate(d, aggregate, append(target, "reason"), histogramPart(d, "sum", "pscope_stop_seconds",
				q.selector(), window))
		}
		return q.aggregate(d, aggregate, eachP, rate("pscope_p_stop_seconds_total"))
	case MetricStopRate:
		return q.aggregate(d, aggregate, append(target, "reason"), histogramPart(d, "count", "pscope_stop_seconds",
			q.selector(), window))
	case MetricSchedTicks:
		return q.aggregate(d, aggregate, eachP, rate("pscope_p_sched_ticks_total"))
	case MetricSyscalls:
		return q.aggregate(d, aggregate, eachP, rate("pscope_p_syscalls_total"))
	case MetricTransitions:
		return q.aggregate(d, aggregate, eachP, rate("pscope_p_transitions_total"))
	case MetricMigrations:
		return q.aggregate(d, aggregate, eachP, rate("pscope_goroutine_migrations_total"))
	case MetricCPUFrequency:
		return q.aggregate(d, aggregate, []string{"host", "cpu"}, "avg_over_time(pscope_cpu_frequency_hertz"+
			q.selector()+window+")")
	case MetricImbalance:
		return q.aggregate(d, aggregate, target, q.imbalance(window))
	default: // MetricGOMAXPROCS; Parse lets no other through
		return q.aggregate(d, aggregate, target, "go_runtime_gomaxprocs"+q.selector())
	}
}

// aggregate wraps an expression so that what is left has the labels of `by`. key are the labels that tell apart the
// things which the aggregation is over: series that differ in other labels only (the states of one P) are always
// summed.
func (q *Query) aggregate(d Dialect, aggregate string, key []string, inner string) Plan {
	by := q.Labels()
	full := union(key, by)
	whole := len(full) == len(by)
	list := func(labels []string) string { return " by (" + strings.Join(labels, ", ") + ") (" }
	if aggregate == "sum" || whole {
		return Plan{Exprs: []string{"sum" + list(by) + inner + ")"}, Merge: MergeSum}
	}
	things := "sum" + list(full) + inner + ")"
	switch aggregate {
	case "max":
		return Plan{Exprs: []string{"max" + list(by) + things + ")"}, Merge: MergeMax}
	case "min":
		return Plan{Exprs: []string{"min" + list(by) + things + ")"}, Merge: MergeMin}
	}
	if d.Several && !slices.Contains(by, "host") {
		return Plan{Exprs: []string{"sum" + list(by) + things + ")", "count" + list(by) + things + ")"},
			Merge: MergeAvg}
	}
	return Plan{Exprs: []string{"avg" + list(by) + things + ")"}, Merge: MergeNone}
}

// distributionSeries is one number a point out of a histogram: its 99th percentile, or what the aggregation names.
func (q *Query) distributionSeries(d Dialect, window string) Plan {
	metric, by := histogramMetric(q.Metric), strings.Join(q.Labels(), ", ")
	rates := func(suffix string, by string) string {
		return "sum by (" + by + ") (rate(" + metric + suffix + q.selector() + window + "))"
	}
	quantile := func(phi string) string {
		if d.Native {
			return "histogram_quantile(" + phi + ", " + rates("", by) + ")"
		}
		return "histogram_quantile(" + phi + ", " + rates("_bucket", strings.TrimPrefix(by+", le", ", ")) + ")"
	}
	// Percentiles of several hosts have no exact merge; the largest is a bound that holds for each of them.
	switch q.Aggregation {
	case "sum":
		return Plan{Exprs: []string{"sum by (" + by + ") (" + histogramPart(d, "sum", metric, q.selector(), window) +
			")"}, Merge: MergeSum}
	case "avg":
		sum := "sum by (" + by + ") (" + histogramPart(d, "sum", metric, q.selector(), window) + ")"
		count := "sum by (" + by + ") (" + histogramPart(d, "count", metric, q.selector(), window) + ")"
		return Plan{Exprs: []string{sum, count}, Merge: MergeAvg}
	case "max":
		return Plan{Exprs: []string{quantile("1")}, Merge: MergeMax}
	case "min":
		return Plan{Exprs: []string{quantile("0")}, Merge: MergeMin}
	default:
		return Plan{Exprs: []string{quantile("0.99")}, Merge: MergeMax}
	}
}

// DistributionExpr asks for the histogram behind a distribution heatmap, as events per second over all targets chosen.
func (q *Query) DistributionExpr(d Dialect) string {
	metric, window := histogramMetric(q.Metric), "["+seconds(q.Window(d))+"]"
	if d.Native {
		return "sum(rate(" + metric + q.selector() + window + "))"
	}
	return "sum by (le) (rate(" + metric + "_bucket" + q.selector() + window + "))"
}

// StateShareExprs ask for the share of time of every state of every P, for its D share, and for the shares in which its
// thread was stopped or frozen: the states that stand in for raw intervals where the agents' rings don't reach.
func (q *Query) StateShareExprs(d Dialect) (states, dShare, suspended string) {
	window := "[" + seconds(q.Window(d)) + "]"
	const by = "sum by (host, process, process_pid, runtime, p"
	return by + ", state) (rate(pscope_p_seconds_total" + q.selector() + window + "))",
		by + ") (rate(pscope_p_uninterruptible_seconds_total" + q.selector() + window + "))",
		by + ", thread_state) (rate(pscope_p_thread_seconds_total" + q.selector(anyOf("thread_state",
			Suspended())) + window + "))"
}

// ThreadShareExpr is StateShareExprs for thread states.
func (q *Query) ThreadShareExpr(d Dialect) string {
	return "sum by (host, process, process_pid, runtime, p, thread_state) (rate(pscope_p_thread_seconds_total" +
		q.selector() +
		"[" + seconds(q.Window(d)) + "]))"
}

// BusiestExpr asks for the process whose Ps worked most over the last stretch of the range.
func (q *Query) BusiestExpr(d Dialect) string {
	return "topk(1, " + q.busy("by (host, process, process_pid)", "["+seconds(q.stretch(d))+"]") + ")"
}

// stretch is the part of the range by which targets are compared: its last quarter of an hour at most.
func (q *Query) stretch(d Dialect) time.Duration {
	return max(min(q.To.Sub(q.From), 15*time.Minute), 4*d.Sample)
}

// Standing are the questions whose answers order the values of a label, each with one number a value.
type Standing struct {
	Stuck   string // D share of the worst P in its worst half minute of the last stretch of the range
	Present string // there is one for what is there at the end of the range
	Busy    string // Ps' worth of work over the last stretch
}

// StuckFrom is the D share of half a minute from which a P counts as stuck in the comparison of targets. Over the whole
// stretch every program with a slow disk would come before all others, though none of its waits is long.
const StuckFrom = 0.5

// StandingExprs ask how the values of a label stand.
func (q *Query) StandingExprs(d Dialect, label string) Standing {
	window, moment := seconds(q.stretch(d)), max(30*time.Second, 4*d.Sample)
	by := " by (" + label + ") ("
	return Standing{
		Stuck: "max" + by + "max_over_time(rate(pscope_p_uninterruptible_seconds_total" + q.selector() + "[" +
			seconds(moment) + "])[" + window + ":" +
			seconds(moment/2) + "]))",
		// Every P that is there has such a series.
		Present: "group" + by + "pscope_p_uninterruptible_seconds_total" + q.selector() + ")",
		Busy:    q.busy("by ("+label+")", "["+window+"]"),
	}
}

// PresentExpr asks which of the query's processes, and which agents, are there at an instant: a series for each
// process, and one with the host alone for each agent. Refused processes are among them.
func (q *Query) PresentExpr() string {
	targets := Query{Model: Model{Metric: MetricGOMAXPROCS}}
	if !q.Code() {
		targets.Target = q.Target
	}
	return "group by (host, process, process_pid, container, pod) (pscope_target_info" + targets.selector() +
		") or group by (host) (pscope_build_info)"
}

// imbalance is ImbalanceExpr of the query's targets.
func (q *Query) imbalance(window string) string { return ImbalanceExpr(q.selector, window) }

// busy is BusyExpr of the query's targets.
func (q *Query) busy(by, window string) string { return BusyExpr(q.selector, by, window) }

// ImbalanceExpr is by how much the busiest P of a process is busier than its Ps are on average, 0 to 1. Ps beyond
// GOMAXPROCS don't count. selector is the part in braces with more matchers at its end, window the part in brackets.
func ImbalanceExpr(selector func(more ...string) string, window string) string {
	const each, whole = "by (host, process, process_pid, runtime, p)", "by (host, process, process_pid, runtime)"
	dead := "sum " + each + " (rate(pscope_p_seconds_total" + selector(`state="dead"`) + window + ")) > 0.5"
	alive := "(" + BusyExpr(selector, each, window) + " unless (" + dead + "))"
	return "max " + whole + " " + alive + " - avg " + whole + " " + alive
}

// BusyExpr is the rate of the time in which Ps have work in hand and their threads are neither stopped nor frozen: what
// a thread is stopped or frozen in is such time only (pkg/collector). by is the grouping, with the word "by".
func BusyExpr(selector func(more ...string) string, by, window string) string {
	rate := func(metric, states string) string {
		return "sum " + by + " (rate(" + metric + selector(states) + window + "))"
	}
	working := rate("pscope_p_seconds_total", anyOf("state", Busy()))
	// Where an engine keeps no thread states, the states of the Ps are all there is.
	return "clamp_min(" + working + " - " + rate("pscope_p_thread_seconds_total", anyOf("thread_state", Suspended())) +
		" or " + working + ", 0)"
}

// histogramPart is the rate of a histogram's sum or count.
func histogramPart(d Dialect, part, metric, selector, window string) string {
	if d.Native {
		return "histogram_" + part + "(rate(" + metric + selector + window + "))"
	}
	return "rate(" + metric + "_" + part + selector + window + ")"
}

func histogramMetric(m Metric) string {
	switch m {
	case MetricRunqDistribution:
		return "pscope_p_runq_depth_distribution"
	case MetricWakeWait:
		return "pscope_p_wake_wait_seconds"
	default:
		return "pscope_stop_seconds"
	}
}

// Window is the length over which rates are taken. It covers a whole step and the sample before it, so that no sample
// falls between two steps, and never fewer than three samples, so that one that comes late leaves no hole.
func (q *Query) Window(d Dialect) time.Duration {
	return max(q.Step+d.Sample, 3*d.Sample).Round(time.Second)
}

// Labels are the labels of the series that the query's grouping leaves.
func (q *Query) Labels() []string {
	labels := make([]string, 0, len(q.By))
	for _, by := range q.By {
		label := byLabels[by]
		if q.Metric == MetricCPUFrequency && by == "p" {
			label = "cpu"
		}
		labels = append(labels, label)
	}
	return labels
}

// selector is the part in braces: the target, the Ps where the metric has them, and more.
func (q *Query) selector(more ...string) string {
	matchers := []string{matcher("host", q.Target.Host)}
	if q.Metric != MetricCPUFrequency {
		matchers = append(matchers, matcher("process", q.Target.Process), matcher("process_pid", q.Target.PID),
			matcher("container", q.Target.Container), matcher("pod", q.Target.Pod))
	}
	if q.PList != nil && q.Metric.Spec().has("p") {
		label := "p"
		if q.Metric == MetricCPUFrequency {
			label = "cpu"
		}
		if !(q.Metric == MetricStops && (q.Kind == KindHeatmap || slices.Contains(q.By, "reason"))) {
			matchers = append(matchers, anyOf(label, q.PList))
		}
	}
	matchers = slices.DeleteFunc(append(matchers, more...), func(m string) bool { return m == "" })
	if len(matchers) == 0 {
		return ""
	}
	return "{" + strings.Join(matchers, ",") + "}"
}

// matcher matches a label against an anchored expression; one without special characters is compared, which stores do
// faster.
func matcher(label, re string) string {
	switch re {
	case "", ".*":
		return ""
	}
	if regexp.QuoteMeta(re) == re {
		return label + "=" + strconv.Quote(re)
	}
	return label + "=~" + strconv.Quote(re)
}

// anyOf matches a label against a list of plain words or numbers; an empty list matches all.
func anyOf[T any](label string, values []T) string {
	if len(values) == 0 {
		return ""
	}
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fmt.Sprint(v)
	}
	return matcher(label, strings.Join(words, "|"))
}

// Matchers is the query's selector as a series selector of target metrics, for label look-ups.
func (q *Query) Matchers(metric string) string { return metric + q.selector() }

// expandMacros fills in Grafana's interval variables, which nobody else does for alert rules.
func (q *Query) expandMacros(d Dialect) string {
	whole := q.To.Sub(q.From)
	values := []struct{ name, value string }{
		// Longer names first: $__interval is a prefix of $__interval_ms.
		{"__rate_interval", seconds(max(q.Step+d.Sample, 4*d.Sample))},
		{"__interval_ms", strconv.FormatInt(q.Step.Milliseconds(), 10)},
		{"__interval", seconds(q.Step)},
		{"__range_ms", strconv.FormatInt(whole.Milliseconds(), 10)},
		{"__range_s", strconv.FormatInt(int64(whole.Seconds()), 10)},
		{"__range", seconds(whole)},
	}
	expr := q.Expr
	for _, v := range values {
		expr = strings.ReplaceAll(expr, "${"+v.name+"}", v.value)
		expr = strings.ReplaceAll(expr, "$"+v.name, v.value)
	}
	return expr
}

// seconds writes a duration as PromQL takes it, at least a second.
func seconds(d time.Duration) string {
	return strconv.FormatInt(max(1, int64(d/time.Second)), 10) + "s"
}

// union is a followed by what b adds.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
