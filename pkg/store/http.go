package store

import (
	"compress/gzip"
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

// maxPoints bounds the points of one series in an answer, as Prometheus does.
const maxPoints = 11_000

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
	var body []byte
	code := http.StatusOK
	data, notes, err := e.guarded(s, r)
	if err == nil {
		body = append(body, `{"status":"success","data":`...)
		body = encode(body, data)
		body = encodeNotes(body, r.FormValue("query"), notes)
		body = append(body, '}')
	} else {
		f := failureOf(err)
		code = f.code
		body, _ = json.Marshal(map[string]string{"status": "error", "errorType": f.kind, "error": f.Error()})
	}
	w.Header().Set("Content-Type", "application/json")
	if len(body) > 1400 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		w.Header().Set("Vary", "Accept-Encoding")
		w.WriteHeader(code)
		zw, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		_, _ = zw.Write(body)
		_ = zw.Close()
		return
	}
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

// guarded checks what all endpoints have in common.
func (e endpoint) guarded(s *Store, r *http.Request) (any, annotations.Annotations, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, nil, &failure{"bad_data", http.StatusMethodNotAllowed, fmt.Errorf("%s is not answered here: use GET or POST", r.Method)}
	}
	if err := r.ParseForm(); err != nil {
		return nil, nil, badData("the form can't be read: %w", err)
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
	return s.run(r, func(ctx context.Context, opts promql.QueryOpts) (promql.Query, error) {
		return s.engine.NewInstantQuery(ctx, s.Queryable(), opts, r.FormValue("query"), at)
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
	return s.run(r, func(ctx context.Context, opts promql.QueryOpts) (promql.Query, error) {
		return s.engine.NewRangeQuery(ctx, s.Queryable(), opts, r.FormValue("query"), at[0], at[1], step)
	})
}

// answered is a result whose memory belongs to its query: it is encoded, then the query is closed.
type answered struct {
	value parser.Value
	limit int
	close func()
}

func (s *Store) run(r *http.Request, start func(context.Context, promql.QueryOpts) (promql.Query, error)) (any, annotations.Annotations, error) {
	limit, err := limitParam(r)
	if err != nil {
		return nil, nil, err
	}
	ctx := r.Context()
	if r.FormValue("timeout") != "" {
		d, err := durationParam(r, "timeout")
		if err != nil {
			return nil, nil, err
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	var lookback time.Duration
	if r.FormValue("lookback_delta") != "" {
		if lookback, err = durationParam(r, "lookback_delta"); err != nil {
			return nil, nil, err
		}
	}
	q, err := start(ctx, promql.NewPrometheusQueryOpts(false, lookback, nil))
	if err != nil {
		return nil, nil, badData(`invalid parameter "query": %w`, err)
	}
	res := q.Exec(ctx)
	if res.Err != nil {
		q.Close()
		return nil, nil, res.Err
	}
	return answered{value: res.Value, limit: limit, close: q.Close}, res.Warnings, nil
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
	limit, err := limitParam(r)
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
	found := make([]storage.SeriesSet, len(sets))
	for i, ms := range sets {
		// "series" tells the database that no samples will be read.
		found[i] = q.Select(r.Context(), true, &storage.SelectHints{Start: q.start, End: q.end, Func: "series", Limit: hintLimit(limit)}, ms...)
	}
	all := storage.NewMergeSeriesSet(found, 0, storage.ChainedSeriesMerge)
	out := []labels.Labels{}
	var notes annotations.Annotations
	for all.Next() {
		if limit > 0 && len(out) == limit {
			notes.Add(errTruncated)
			break
		}
		out = append(out, all.At().Labels().Copy())
	}
	return out, notes.Merge(all.Warnings()), all.Err()
}

var errTruncated = errors.New("results truncated due to limit")

// hintLimit lets the database find one more than asked for, so that it is seen whether there are more.
func hintLimit(limit int) int {
	if limit == 0 {
		return 0
	}
	return limit + 1
}

// labelNames answers /api/v1/labels.
func (s *Store) labelNames(r *http.Request) (any, annotations.Annotations, error) {
	return s.words(r, func(q storage.Querier, h *storage.LabelHints, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelNames(r.Context(), h, ms...)
	})
}

// labelValues answers /api/v1/label/<name>/values.
func (s *Store) labelValues(r *http.Request) (any, annotations.Annotations, error) {
	name := r.PathValue("name")
	if !model.UTF8Validation.IsValidLabelName(name) {
		return nil, nil, badData("invalid label name: %q", name)
	}
	return s.words(r, func(q storage.Querier, h *storage.LabelHints, ms []*labels.Matcher) ([]string, annotations.Annotations, error) {
		return q.LabelValues(r.Context(), name, h, ms...)
	})
}

// words gathers sorted words over all match[] parameters.
func (s *Store) words(r *http.Request, get func(storage.Querier, *storage.LabelHints, []*labels.Matcher) ([]string, annotations.Annotations, error)) (any, annotations.Annotations, error) {
	limit, err := limitParam(r)
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
	out := []string{}
	var notes annotations.Annotations
	for _, ms := range sets {
		ws, more, err := get(q, &storage.LabelHints{Limit: hintLimit(limit)}, ms)
		if err != nil {
			return nil, nil, err
		}
		for _, w := range ws {
			out = append(out, strings.Clone(w)) // the database's own memory goes when q is closed
		}
		notes.Merge(more)
	}
	slices.Sort(out)
	out = slices.Compact(out)
	if limit > 0 && len(out) > limit {
		out = out[:limit]
		notes.Add(errTruncated)
	}
	return out, notes, nil
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
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(r.FormValue("query"))
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
