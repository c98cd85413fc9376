package promapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/p-scope/p-scope/pkg/metrics"
)

// Database is what the API asks of what keeps the samples. A store.Store has it.
type Database interface {
	// Queryable reads the samples.
	Queryable() storage.Queryable
	// CountSeries gives about how many series match.
	CountSeries(ctx context.Context, ms ...*labels.Matcher) (int, error)
	// CountLabelValues gives about how many values a label has.
	CountLabelValues(ctx context.Context, name string) int
	// Interval is the time between two samples of a series; CoarseInterval is the longest that a query may read.
	Interval() time.Duration
	CoarseInterval() time.Duration
	// Retention is the age of the oldest samples.
	Retention() time.Duration
	// NoteDamage takes an error of a query. It gives true where damaged data caused the error and will be put aside.
	NoteDamage(err error) bool
}

// Options of an API. The zero value of a field means its default.
type Options struct {
	// Version is the agent's, for /api/v1/status/buildinfo.
	Version string
	// QueryTimeout bounds one query; default 30 s.
	QueryTimeout time.Duration
	// MemoryLimit is what the process may use, bytes; default 160 MiB. A third of it is for queries.
	MemoryLimit int64
	// Log gets the engine's messages; default: none.
	Log *slog.Logger
}

func (o *Options) defaults() {
	if o.QueryTimeout <= 0 {
		o.QueryTimeout = 30 * time.Second
	}
	if o.MemoryLimit <= 0 {
		o.MemoryLimit = 160 << 20
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// API answers the Prometheus HTTP API. Its methods may be called concurrently.
type API struct {
	db     Database
	opts   Options
	budget *budget
}

// New makes an API over a database.
func New(db Database, o Options) *API {
	o.defaults()
	return &API{db: db, opts: o, budget: newBudget(db, &o)}
}

// Close ends the queries that run. It is called before the database is closed.
func (a *API) Close() error { return a.budget.close() }

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
type endpoint func(a *API, r *http.Request) (data any, notes annotations.Annotations, err error)

const (
	maxPoints    = 11_000 // of one series in an answer, as Prometheus has it
	maxSelectors = 64     // match[] parameters
	maxListed    = 50_000 // series, names or values in one answer
)

// Handler serves the Prometheus HTTP API below /api/v1/.
func (a *API) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, e := range map[string]endpoint{
		"query":               (*API).query,
		"query_range":         (*API).queryRange,
		"series":              (*API).series,
		"labels":              (*API).labelNames,
		"label/{name}/values": (*API).labelValues,
		"metadata":            (*API).metadata,
		"format_query":        (*API).formatQuery,
		"status/buildinfo":    (*API).buildInfo,
	} {
		mux.HandleFunc("/api/v1/"+path, func(w http.ResponseWriter, r *http.Request) { a.answer(w, r, e) })
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.answer(w, r, func(_ *API, r *http.Request) (any, annotations.Annotations, error) {
			return nil, nil, &failure{"not_found", http.StatusNotFound,
				fmt.Errorf("a P-Scope agent does not offer %s: it answers query, query_range, series, "+
					"labels, label/<name>/values, metadata, format_query and status/buildinfo", r.URL.Path)}
		})
	})
	return compress(mux)
}

func (a *API) answer(w http.ResponseWriter, r *http.Request, e endpoint) {
	data, notes, err := e.guarded(a, r)
	out := newAnswer(w)
	if err == nil {
		b := append([]byte(nil), `{"status":"success","data":`...)
		b = encode(b, data, out.part)
		b = encodeNotes(b, r.FormValue("query"), notes)
		out.write(append(b, '}'))
		return
	}
	if f := (*failure)(nil); !errors.As(err, &f) && a.db.NoteDamage(err) {
		err = fmt.Errorf("%w; what can't be read is put aside in a moment: ask again", err)
	}
	f := failureOf(err)
	if out.code = f.code; f.code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "5")
	}
	body, _ := json.Marshal(map[string]string{"status": "error", "errorType": f.kind, "error": f.Error()})
	out.write(body)
}

// guarded checks what all endpoints have in common.
func (e endpoint) guarded(a *API, r *http.Request) (any, annotations.Annotations, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, nil, &failure{"bad_data", http.StatusMethodNotAllowed,
			fmt.Errorf("%s is not answered here: use GET or POST", r.Method)}
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
	return e(a, r)
}

// failureOf gives an error of the engine or the database the type Prometheus gives it.
func failureOf(err error) *failure {
	var f *failure
	var canceled promql.ErrQueryCanceled
	var timeout promql.ErrQueryTimeout
	var storageErr promql.ErrStorage
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &canceled), errors.Is(err, context.Canceled):
		return &failure{"canceled", 499, err} // nobody is left to read it
	case errors.As(err, &timeout), errors.Is(err, context.DeadlineExceeded):
		return &failure{"timeout", http.StatusServiceUnavailable, err}
	case errors.As(err, &storageErr):
		return &failure{"internal", http.StatusInternalServerError, err}
	}
	return &failure{"execution", http.StatusUnprocessableEntity, err}
}

// metadata answers /api/v1/metadata from the public contract instead of from scrapes.
func (a *API) metadata(r *http.Request) (any, annotations.Annotations, error) {
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
func (a *API) formatQuery(r *http.Request) (any, annotations.Annotations, error) {
	expr, err := parse(r.FormValue("query"))
	if err != nil {
		return nil, nil, badData(`invalid parameter "query": %w`, err)
	}
	return expr.Pretty(0), nil, nil
}

// buildInfo answers /api/v1/status/buildinfo. Clients read from the version which features there are. Prometheus 3.0 is
// the first with everything that is offered here.
func (a *API) buildInfo(*http.Request) (any, annotations.Annotations, error) {
	return map[string]string{
		"version": "3.0.0", "revision": "pscope " + a.opts.Version, "branch": "", "buildUser": "", "buildDate": "",
		"goVersion": runtime.Version(),
	}, nil, nil
}
