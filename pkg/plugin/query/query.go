package query

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/gtime"

	"github.com/p-scope/p-scope/pkg/internal/rate"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Limits of the answers.
const (
	// MaxRateHz is what Grafana Live is asked to carry; a higher rate goes over gRPC-Web from the browser.
	MaxRateHz = 5
	// MinRateHz and MaxWatchRateHz bound what an agent sends.
	MinRateHz, MaxWatchRateHz = rate.Min, rate.Max
	// maxPoints is the most points per series that a Prometheus API gives.
	maxPoints = 11000
	// defaultPoints stands in when the asker names no maxDataPoints (resource calls, some API users).
	defaultPoints = 1000
	// MaxLimit is the most rows that a query can ask for.
	MaxLimit = 10000
)

// DefaultLimit is the number of rows of kinds that have a limit, unless the query names one; 0 for other kinds.
func DefaultLimit(k Kind) int {
	switch k {
	case KindStops:
		return 1000
	case KindBlocked:
		return 20
	}
	return 0
}

// Query is a validated Model together with the range it is asked over. Step and the slices are filled in.
type Query struct {
	Model
	RefID     string
	From, To  time.Time
	Step      time.Duration // distance of points; a whole number of seconds
	MaxPoints int           // at most this many points per series and intervals per P
	FromAlert bool

	// The parsed forms of the model's words.
	PList        []int32 // nil: all
	PStates      []pstate.State
	ThreadStates []pstate.ThreadState
}

// Parse reads and checks the query of a panel or an alert rule. Errors are *Error.
func Parse(dq backend.DataQuery, fromAlert bool) (Query, error) {
	m, err := Decode(dq.JSON)
	if err != nil {
		return Query{}, err
	}
	q := Query{Model: m, RefID: dq.RefID, From: dq.TimeRange.From, To: dq.TimeRange.To,
		MaxPoints: int(dq.MaxDataPoints), FromAlert: fromAlert}
	if q.To.Before(q.From) {
		return Query{}, &Error{What: "the time range runs backwards",
			Why: fmt.Sprintf("it starts at %s and ends at %s", q.From.UTC().Format(time.RFC3339),
				q.To.UTC().Format(time.RFC3339)),
			Next: "Choose a start that is before the end"}
	}
	if err := q.check(); err != nil {
		return Query{}, err
	}
	return q, q.setStep(dq.Interval)
}

// check fills the defaults in and parses the model's words.
func (q *Query) check() error {
	for _, part := range []func() error{q.checkKind, q.checkTarget, q.checkLists, q.checkBy, q.checkNumbers} {
		if err := part(); err != nil {
			return err
		}
	}
	if q.Code() && strings.TrimSpace(q.Expr) == "" {
		return &Error{Field: "expr", What: "the PromQL expression is empty",
			Next: "Write one, or switch the editor to the builder"}
	}
	return nil
}

// checkKind checks what is asked for, and sets what is not given.
func (q *Query) checkKind() error {
	if q.Kind == "" && q.FromAlert {
		// Grafana's rule editor shows the frontend's default query for alert rules but stores it only when somebody
		// changes it.
		q.Kind = AlertKind
		if q.Metric == "" {
			q.Metric = AlertMetric
		}
	}
	if q.Kind == "" {
		q.Kind = DefaultKind
	}
	if !slices.Contains(Kinds(), q.Kind) {
		return &Error{Field: "kind", What: fmt.Sprintf("there is no query kind %q", q.Kind),
			Next: "Choose one of " + join(Kinds())}
	}
	if q.Kind == KindProfile {
		return &Error{Field: "kind", What: "profile is not available yet",
			Why:  "agents don't record profiles per P in this version",
			Next: "Choose timeline to see what each P did, or blocked to see which threads waited"}
	}
	if q.Metric == "" {
		q.Metric = DefaultMetric
	}
	if _, ok := metrics[q.Metric]; !ok {
		return &Error{Field: "metric", What: fmt.Sprintf("there is no metric %q", q.Metric),
			Next: "Choose one of " + join(Metrics())}
	}
	return nil
}

// checkTarget checks the expressions that choose processes.
func (q *Query) checkTarget() error {
	for _, f := range []struct{ field, re string }{
		{"target.host", q.Target.Host}, {"target.process", q.Target.Process}, {"target.container", q.Target.Container},
		{"target.pod", q.Target.Pod}, {"target.pid", q.Target.PID},
	} {
		if _, err := Anchored(f.re); err != nil {
			return &Error{Field: f.field, What: fmt.Sprintf("%q is not a regular expression", f.re),
				Why:  regexpReason(err),
				Next: `Correct the field; a literal special character needs a backslash, for example "a\.out"`}
		}
	}
	return nil
}

// checkLists checks lists of Ps, states and events.
func (q *Query) checkLists() (err error) {
	if q.PList, err = ParsePs(q.Ps); err != nil {
		return err
	}
	if q.PStates, err = parseWords("states", q.States, pstate.ParseState, pstate.States()); err != nil {
		return err
	}
	q.ThreadStates, err = parseWords("threadStates", q.Model.ThreadStates, pstate.ParseThreadState, pstate.ThreadStates())
	if err != nil {
		return err
	}
	if len(q.Events) == 0 {
		q.Events = []Event{DefaultEvent}
	}
	for _, e := range q.Events {
		if !slices.Contains(Events(), e) {
			return &Error{Field: "events", What: fmt.Sprintf("there is no event %q", e),
				Next: "Choose among " + join(Events())}
		}
	}
	return nil
}

// checkNumbers checks how much is asked for, and how it is brought together.
func (q *Query) checkNumbers() error {
	if q.Aggregation != "" && !slices.Contains(Aggregations(), q.Aggregation) {
		return &Error{Field: "aggregation", What: fmt.Sprintf("there is no aggregation %q", q.Aggregation),
			Next: "Choose sum, avg, max or min"}
	}
	if q.RateHz < 0 || q.RateHz != q.RateHz {
		return &Error{Field: "rateHz", What: "the rate is not a positive number",
			Next: "Give frames per second, for example 5"}
	}
	q.RateHz = rate.Clamp(q.RateHz, MaxRateHz)
	if q.Limit < 0 || q.Limit > MaxLimit {
		return &Error{Field: "limit", What: fmt.Sprintf("the limit %d is out of range", q.Limit),
			Next: fmt.Sprintf("Choose 1 to %d, or leave it empty", MaxLimit)}
	}
	if q.Limit == 0 {
		q.Limit = cmp.Or(DefaultLimit(q.Kind), DefaultLimit(KindStops))
	}
	return nil
}

// Code is true when the query is a PromQL expression of the user's own.
func (q *Query) Code() bool { return q.Kind == KindSeries && q.EditorMode == "code" }

// checkBy fills the default grouping in and refuses labels that the metric's series don't have.
func (q *Query) checkBy() error {
	spec := metrics[q.Metric]
	if q.By == nil {
		q.By = slices.Clone(spec.By)
		return nil
	}
	for _, by := range q.By {
		if _, ok := byLabels[by]; !ok {
			return &Error{Field: "by", What: fmt.Sprintf("series can't be grouped by %q", by),
				Next: "Choose among " + join(Dimensions())}
		}
		if !spec.has(by) {
			return &Error{Field: "by", What: fmt.Sprintf("%s can't be grouped by %s", q.Metric, by),
				Why: "its series don't have that label", Next: "Remove it from the grouping"}
		}
	}
	return nil
}

// setStep chooses the distance between points: the resolution asked for or Grafana's interval, never so small that
// there would be more than MaxPoints, never below the second in which stores sample.
func (q *Query) setStep(interval time.Duration) error {
	if q.MaxPoints <= 0 {
		q.MaxPoints = defaultPoints
	}
	q.MaxPoints = min(q.MaxPoints, maxPoints)
	step := interval
	if q.Resolution != "" {
		d, err := gtime.ParseDuration(q.Resolution)
		if err != nil || d <= 0 {
			return &Error{Field: "resolution", What: fmt.Sprintf("%q is not a duration", q.Resolution),
				Next: `Write for example "1s" or "5m", or leave it empty`}
		}
		step = d
	}
	if n := time.Duration(q.MaxPoints); n > 1 {
		step = max(step, (q.To.Sub(q.From)+n-2)/(n-1))
	} else {
		step = max(step, q.To.Sub(q.From))
	}
	q.Step = max(time.Second, (step + time.Second - 1).Truncate(time.Second))
	return nil
}

// Range gives the first and last point: multiples of the step inside the time range, so that refreshes repaint the same
// points. A range shorter than a step is one point at its end.
func (q *Query) Range() (first, last time.Time) {
	last = q.To.Truncate(q.Step)
	first = q.From.Truncate(q.Step)
	if first.Before(q.From) {
		first = first.Add(q.Step)
	}
	if first.After(last) {
		at := q.To.Truncate(time.Second)
		return at, at
	}
	return first, last
}

// Anchored compiles a target's regular expression the way every part of P-Scope reads it: matching the whole string.
func Anchored(re string) (*regexp.Regexp, error) {
	// Compiled alone first: "a)(b" is no expression, though "^(?:a)(b)$" is one.
	if _, err := regexp.Compile(re); err != nil {
		return nil, err
	}
	return regexp.Compile("^(?s:" + re + ")$")
}

// regexpReason strips the words that every regexp error starts with.
func regexpReason(err error) string {
	return strings.TrimPrefix(err.Error(), "error parsing regexp: ")
}

// parseWords turns words into states; none stay none.
func parseWords[T fmt.Stringer](field string, words []string, parse func(string) (T, bool), all []T) ([]T, error) {
	var out []T
	for _, w := range words {
		s, ok := parse(w)
		if !ok {
			return nil, &Error{Field: field, What: fmt.Sprintf("there is no state %q", w), Next: "Choose among " +
				join(all)}
		}
		out = append(out, s)
	}
	return out, nil
}

// join lists things for a sentence.
func join[T any](things []T) string {
	words := make([]string, len(things))
	for i, t := range things {
		words[i] = fmt.Sprint(t)
	}
	return strings.Join(words, ", ")
}
