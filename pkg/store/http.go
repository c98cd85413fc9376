package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/p-scope/p-scope/pkg/metrics"
)

// failure is an error of the Prometheus HTTP API: kind is its errorType, code the HTTP status.
type failure struct {
	kind string
	code int
	error
}

func badData(format string, args ...any) error {
	return &failure{"bad_data", http.StatusBadRequest, fmt.Errorf(format, args...)}
}

// endpoint answers one path: data is what goes under "data", written by encode.
type endpoint func(s *Store, r *http.Request) (data any, notes annotations.Annotations, err error)

const (
	maxPoints    = 11_000 // of one series in an answer, as Prometheus has it
	maxSelectors = 64     // match[] parameters
	maxListed    = 50_000 // series, names or values in one answer
)

// Handler serves the Prometheus HTTP API below /api/v1/.
func (s *Store) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, e := range map[string]endpoint{
		"query":               (*Store).query,
		"query_range":         (*Store).queryRange,
		"series":              (*Store).series,
		"labels":              (*Store).labelNames,
		"label/{name}/values": (*Store).labelValues,
		"metadata":            (*Store).metadata,
		"format_query":        (*Store).formatQuery,
		"status/buildinfo":    (*Store).buildInfo,
	} {
		mux.HandleFunc("/api/v1/"+path, func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, e) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.answer(w, r, func(_ *Store, r *http.Request) (any, annotations.Annotations, error) {
			return nil, nil, &failure{"not_found", http.StatusNotFound,
				fmt.Errorf("a P-Scope agent does not offer %s: it answers query, query_range, series, labels, label/<name>/values, metadata, format_query and status/buildinfo", r.URL.Path)}
		})
	})
	return mux
}

func (s *Store) answer(w http.ResponseWriter, r *http.Request, e endpoint) {
	data, notes, err := e.guarded(s, r)
	out := newAnswer(w, r)
	if err == nil {
		b := append([]byte(nil), `{"status":"success","data":`...)
		b = encode(b, data, out.part)
		b = encodeNotes(b, r.FormValue("query"), notes)
		out.end(append(b, '}'))
		return
	}
	if suspects(err) {
		s.suspect.Store(true)
		err = fmt.Errorf("%w; what can't be read is put aside in a moment: ask again", err)
	}
	f := failureOf(err)
	if out.code = f.code; f.code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	body, _ := json.Marshal(map[string]string{"status": "error", "errorType": f.kind, "error": f.Error()})
	out.end(body)
}

// guarded checks what all endpoints have in common.
func (e endpoint) guarded(s *Store, r *http.Request) (any, annotations.Annotations, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, nil, &failure{"bad_data", http.StatusMethodNotAllowed, fmt.Errorf("%s is not answered here: use GET or POST", r.Method)}
	}
	if err := r.ParseForm(); err != nil {
		return nil, nil, badData("the form can't be read: %w", err)
	}
	if n := len(r.Form["match[]"]); n > maxSelectors {
		return nil, nil, badData("%d match[] parameters, %d are allowed: use regular expressions", n, maxSelectors)
	}
	for _, text := range append(slices.Clip(r.Form["match[]"]), r.FormValue("query")) {
		if err := checkText(text); err != nil {
			return nil, nil, err
		}
	}
	return e(s, r)
}

// failureOf gives an error of the engine or the database the type Prometheus gives it.
func failureOf(err error) *failure {
	var f *failure
	var canceled promql.ErrQueryCanceled
	var timeout promql.ErrQueryTimeout
	var store promql.ErrStorage
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		return &failure{"canceled", 499, err} // nobody is left to read it
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		return &failure{"timeout", http.StatusServiceUnavailable, err}
	case errors.As(err, &store):
		return &failure{"internal", http.StatusInternalServerError, err}
	}
	return &failure{"execution", http.StatusUnprocessableEntity, err}
}

// query answers /api/v1/query.
func (s *Store) query(r *http.Request) (any, annotations.Annotations, error) {
	at, err := timeParam(r, "time", time.Now())
	if err != nil {
		return nil, nil, err
	}
	return s.run(r, at, at, 0, func(ctx context.Context, e *promql.Engine, opts promql.QueryOpts,
		_, _ time.Time) (promql.Query, error) {
		return e.NewInstantQuery(ctx, s.Queryable(), opts, r.FormValue("query"), at)
	})
}

// queryRange answers /api/v1/query_range.
func (s *Store) queryRange(r *http.Request) (any, annotations.Annotations, error) {
	var at [2]time.Time
	for i, name := range []string{"start", "end"} {
		if r.FormValue(name) == "" {
			return nil, nil, badData("invalid parameter %q: it is missing", name)
		}
		var err error
		if at[i], err = timeParam(r, name, time.Time{}); err != nil {
			return nil, nil, err
		}
	}
	if at[1].Before(at[0]) {
		return nil, nil, badData(`invalid parameter "end": end timestamp must not be before start time`)
	}
	step, err := durationParam(r, "step")
	if err != nil {
		return nil, nil, err
	}
	if step <= 0 {
		return nil, nil, badData(`invalid parameter "step": it must be above zero`)
	}
	if at[1].Sub(at[0])/step > maxPoints {
		return nil, nil, badData("more than %d points in each series: ask with a larger step", maxPoints)
	}
	return s.run(r, at[0], at[1], step, func(ctx context.Context, e *promql.Engine, opts promql.QueryOpts,
		start, end time.Time) (promql.Query, error) {
		return e.NewRangeQuery(ctx, s.Queryable(), opts, r.FormValue("query"), start, end, step)
	})
}

// answered is a result whose memory belongs to its query: it is encoded, then the query is closed.
type answered struct {
	value parser.Value
	limit int
	close func()
}

// parse reads an expression whose text has been checked.
func parse(query string) (parser.Expr, error) {
	return parser.NewParser(parser.Options{}).ParseExpr(query)
}

// maker makes a query of an engine's, for a range or a part of it.
type maker func(ctx context.Context, e *promql.Engine, opts promql.QueryOpts,
	start, end time.Time) (promql.Query, error)

// run evaluates the query between start and end, every step, once it has its share of the memory.
func (s *Store) run(r *http.Request, start, end time.Time, step time.Duration, query maker) (any, annotations.Annotations, error) {
	limit, err := limitParam(r)
	if err != nil {
		return nil, nil, err
	}
	d := s.opts.QueryTimeout
	if r.FormValue("timeout") != "" {
		asked, err := durationParam(r, "timeout")
		if err != nil {
			return nil, nil, err
		}
		d = min(d, asked)
	}
	ctx, cancel := context.WithTimeout(r.Context(), d)
	defer cancel()
	var lookback time.Duration
	if r.FormValue("lookback_delta") != "" {
		if lookback, err = durationParam(r, "lookback_delta"); err != nil {
			return nil, nil, err
		}
	}
	opts := promql.NewPrometheusQueryOpts(false, lookback, nil)
	expr, err := parse(r.FormValue("query"))
	if err != nil {
		return nil, nil, badData(`invalid parameter "query": %w`, err)
	}
	part := func(ctx context.Context, e *promql.Engine, start, end time.Time) (promql.Query, error) {
		return query(ctx, e, opts, start, end)
	}
	// What is too much at once may do piece by piece.
	pieces := func(refusal error) (any, annotations.Annotations, error) {
		return s.pieces(ctx, expr, start, end, step, limit, part, refusal)
	}
	least, likely, err := s.costOf(ctx, expr, start, end, step)
	if f := (*failure)(nil); errors.As(err, &f) {
		return pieces(err)
	}
	if err != nil {
		return nil, nil, err
	}
	if least.peak > float64(s.budget.total) {
		return pieces(tooDear(least.peak, s.budget.total, "ask for fewer series, a shorter range or a larger step"))
	}
	// Where the estimate was too low the next larger share is tried.
	for class := s.budget.class(int64(likely.peak)); ; class++ {
		data, notes, err := s.exec(ctx, class, limit, func(ctx context.Context, e *promql.Engine) (promql.Query, error) {
			return part(ctx, e, start, end)
		})
		if !tooMuch(err) {
			return data, notes, err
		}
		if class == len(s.budget.classes)-1 {
			return pieces(stillTooMuch(err))
		}
	}
}

// tooMuch says whether the engine stopped a query at its share.
func tooMuch(err error) bool {
	var samples promql.ErrTooManySamples
	var series promql.ErrTooManySeries
	return errors.As(err, &samples) || errors.As(err, &series)
}

// exec evaluates a query with the share of a class. What it gives holds the share until it has been written.
func (s *Store) exec(ctx context.Context, class, limit int, query func(context.Context, *promql.Engine) (promql.Query, error)) (any, annotations.Annotations, error) {
	t, err := s.budget.admit(ctx, class)
	if err != nil {
		return nil, nil, err
	}
	q, err := query(t.ctx, s.budget.classes[class].engine)
	if err != nil {
		t.done()
		return nil, nil, badData(`invalid parameter "query": %w`, err)
	}
	done := func() {
		q.Close()
		t.done()
	}
	res := q.Exec(t.ctx)
	if res.Err != nil {
		done()
		return nil, nil, t.why(res.Err)
	}
	return answered{value: res.Value, limit: limit, close: done}, res.Warnings, nil
}

// look runs what reads the index alone, with the smallest share.
func (s *Store) look(r *http.Request, read func(ctx context.Context) (any, annotations.Annotations, error)) (any, annotations.Annotations, error) {
	ctx, cancel := context.WithTimeout(r.Context(), s.opts.QueryTimeout)
	defer cancel()
	t, err := s.budget.admit(ctx, 0)
	if err != nil {
		return nil, nil, err
	}
	defer t.done()
	data, notes, err := read(t.ctx)
	if err != nil {
		err = t.why(err)
	}
	return data, notes, err
}

// querier opens the database over the range that start and end name, and parses the match[] parameters.
func (s *Store) querier(r *http.Request) (*rangeQuerier, [][]*labels.Matcher, error) {
	start, err := timeParam(r, "start", time.UnixMilli(0))
	if err != nil {
		return nil, nil, err
	}
	end, err := timeParam(r, "end", time.UnixMilli(math.MaxInt64/2))
	if err != nil {
		return nil, nil, err
	}
	if end.Before(start) {
		return nil, nil, badData(`invalid parameter "end": end timestamp must not be before start time`)
	}
	var sets [][]*labels.Matcher
	p := parser.NewParser(parser.Options{})
	for _, m := range r.Form["match[]"] {
		ms, err := p.ParseMetricSelector(m)
		if err != nil {
			return nil, nil, badData(`invalid parameter "match[]": %w`, err)
		}
		if !slices.ContainsFunc(ms, func(m *labels.Matcher) bool { return !m.Matches("") }) {
			return nil, nil, badData(`invalid parameter "match[]": %s matches everything: name a metric or a label`, m)
		}
		sets = append(sets, ms)
	}
	q, err := s.Queryable().Querier(start.UnixMilli(), end.UnixMilli())
	return &rangeQuerier{q, start.UnixMilli(), end.UnixMilli()}, sets, err
}

// rangeQuerier is a querier with the range it was opened for, Unix milliseconds.
type rangeQuerier struct {
	storage.Querier
	start, end int64
}

// series answers /api/v1/series.
func (s *Store) series(r *http.Request) (any, annotations.Annotations, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, nil, err
	}
	q, sets, err := s.querier(r)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	if len(sets) == 0 {
		return nil, nil, badData("no match[] parameter provided: name the series you look for")
	}
	return s.look(r, func(ctx context.Context) (any, annotations.Annotations, error) {
		found := make([]storage.SeriesSet, len(sets))
		for i, ms := range sets {
			// "series" tells the database that no samples will be read.
			found[i] = q.Select(ctx, true, &storage.SelectHints{Start: q.start, End: q.end, Func: "series", Limit: limit + 1}, ms...)
		}
		all := storage.NewMergeSeriesSet(found, 0, storage.ChainedSeriesMerge)
		out := []labels.Labels{}
		var notes annotations.Annotations
		for all.Next() {
			if len(out) == limit {
				notes.Add(errTruncated)
				break
			}
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			out = append(out, all.At().Labels().Copy())
		}
		return out, notes.Merge(all.Warnings()), all.Err()
	})
}

var errTruncated = errors.New("results truncated due to limit")

// listLimit is how many series, names or values an answer has at most. The database is asked for one more, so that it is seen whether there are.
func listLimit(r *http.Request) (int, error) {
	limit, err := limitParam(r)
	if limit == 0 {
		limit = maxListed
	}
	return min(limit, maxListed), err
}

// labelNames answers /api/v1/labels.
func (s *Store) labelNames(r *http.Request) (any, annotations.Annotations, error) {
	return s.words(r, func(ctx context.Context, q storage.Querier, h *storage.LabelHints, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(ctx, h, ms...)
	})
}

// labelValues answers /api/v1/label/<name>/values.
func (s *Store) labelValues(r *http.Request) (any, annotations.Annotations, error) {
	name := r.PathValue("name")
	if !model.UTF8Validation.IsValidLabelName(name) {
		return nil, nil, badData("invalid label name: %q", name)
	}
	return s.words(r, func(ctx context.Context, q storage.Querier, h *storage.LabelHints, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(ctx, name, h, ms...)
	})
}

// lookup gives names or values.
type lookup func(context.Context, storage.Querier, *storage.LabelHints, []*labels.Matcher) ([]string, annotations.Annotations, error)

// words gathers sorted words over all match[] parameters.
func (s *Store) words(r *http.Request, get lookup) (any, annotations.Annotations, error) {
	limit, err := listLimit(r)
	if err != nil {
		return nil, nil, err
	}
	q, sets, err := s.querier(r)
	if err != nil {
		return nil, nil, err
	}
	defer q.Close()
	if len(sets) == 0 {
		sets = [][]*labels.Matcher{nil}
	}
	return s.look(r, func(ctx context.Context) (any, annotations.Annotations, error) {
		out := []string{}
		var notes annotations.Annotations
		for _, ms := range sets {
			ws, more, err := get(ctx, q, &storage.LabelHints{Limit: limit + 1}, ms)
			if err != nil {
				return nil, nil, err
			}
			for _, w := range ws {
				out = append(out, strings.Clone(w)) // the database's own memory goes when q is closed
			}
			notes.Merge(more)
			slices.Sort(out)
			out = slices.Compact(out)
			out = out[:min(len(out), limit+1)]
		}
		if len(out) > limit {
			out = out[:limit]
			notes.Add(errTruncated)
		}
		return out, notes, nil
	})
}

// metadata answers /api/v1/metadata from the public contract instead of from scrapes.
func (s *Store) metadata(r *http.Request) (any, annotations.Annotations, error) {
	type entry struct {
		Type string `json:"type"`
		Help string `json:"help"`
		Unit string `json:"unit"`
	}
	limit, err := limitParam(r)
	if err != nil {
		return nil, nil, err
	}
	data := make(map[string][]entry)
	for _, f := range metrics.Families() {
		if limit > 0 && len(data) == limit {
			break
		}
		if want := r.FormValue("metric"); want == "" || want == f.Name {
			data[f.Name] = []entry{{Type: f.Kind.String(), Help: f.Help, Unit: f.Unit}}
		}
	}
	return data, nil, nil
}

// formatQuery answers /api/v1/format_query.
func (s *Store) formatQuery(r *http.Request) (any, annotations.Annotations, error) {
	expr, err := parse(r.FormValue("query"))
	if err != nil {
		return nil, nil, badData(`invalid parameter "query": %w`, err)
	}
	return expr.Pretty(0), nil, nil
}

// buildInfo answers /api/v1/status/buildinfo. Clients read from the version which features there are: those of the embedded
// Prometheus, of which 3.0 is the first with everything that is offered here.
func (s *Store) buildInfo(*http.Request) (any, annotations.Annotations, error) {
	return map[string]string{
		"version": "3.0.0", "revision": "pscope " + s.opts.Version, "branch": "", "buildUser": "", "buildDate": "", "goVersion": runtime.Version(),
	}, nil, nil
}

var number = regexp.MustCompile(`^[-+]?[0-9.]+(e[-+]?[0-9]+)?$`)

// timeParam reads seconds since 1970, or a time in RFC 3339.
func timeParam(r *http.Request, name string, otherwise time.Time) (time.Time, error) {
	v := r.FormValue(name)
	if v == "" {
		return otherwise, nil
	}
	if number.MatchString(v) {
		if sec, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(sec) < 1e15 {
			return time.UnixMilli(int64(math.Round(sec * 1000))), nil
		}
	} else if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
		return t, nil
	}
	return time.Time{}, badData("invalid parameter %q: cannot parse %q to a valid timestamp: write seconds since 1970, or a time like 2006-01-02T15:04:05Z", name, v)
}

// durationParam reads seconds, or a duration like 5m.
func durationParam(r *http.Request, name string) (time.Duration, error) {
	v := r.FormValue(name)
	if sec, err := strconv.ParseFloat(v, 64); err == nil && math.Abs(sec) < 1e9 {
		return time.Duration(sec * float64(time.Second)), nil
	}
	if d, err := model.ParseDuration(v); err == nil {
		return time.Duration(d), nil
	}
	return 0, badData("invalid parameter %q: cannot parse %q to a valid duration: write seconds, or a duration like 5m", name, v)
}

func limitParam(r *http.Request) (int, error) {
	v := r.FormValue("limit")
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return 0, badData(`invalid parameter "limit": %q is not a whole number from 0 on`, v)
	}
	return n, nil
}
