package store

import (
	"encoding/json"
	"net/http"
	"regexp"
	"runtime"
	"time"

	grafanaregexp "github.com/grafana/regexp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql/parser"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"github.com/p-scope/p-scope/pkg/metrics"
)

// offered are the paths of the Prometheus HTTP API that mean something on an agent. Everything else of Prometheus' router (rules,
// targets, administration, writing) is answered with 404.
var offered = regexp.MustCompile(`^/api/v1/(query|query_range|series|labels|label/[^/]+/values|format_query|parse_query|status/buildinfo)$`)

// Handler serves the Prometheus HTTP API below /api/v1/.
func (s *Store) Handler() http.Handler {
	api := v1.NewAPI(
		s.engine, s.Queryable(), nil, s.raw.db,
		nil, nil, nil,
		func() config.Config { return config.Config{} }, nil, v1.GlobalURLOptions{},
		func(h http.HandlerFunc) http.HandlerFunc { return h },
		nil, s.opts.Dir, false, false, 0,
		quiet(s.opts.Log), nil, 0, 1, 0, false,
		grafanaregexp.MustCompile(`^$`), nil, // no other origin may ask from a browser
		&v1.PrometheusVersion{Version: "3.0.0-pscope-" + s.opts.Version, GoVersion: runtime.Version()},
		nil, nil, prometheus.NewRegistry(), prometheus.NewRegistry(), nil,
		false, nil, false, false, false, time.Minute, false, false, nil, nil,
		v1.OpenAPIOptions{}, parser.NewParser(parser.Options{}), false, s.opts.QueryTimeout,
	)
	router := route.New().WithPrefix("/api/v1")
	api.Register(router)
	mux := http.NewServeMux()
	mux.HandleFunc("/api/v1/metadata", metadata)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if !offered.MatchString(r.URL.Path) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_ = json.NewEncoder(w).Encode(map[string]string{
				"status": "error", "errorType": "not_found",
				"error": "a P-Scope agent does not offer " + r.URL.Path + ": it answers query, query_range, series, labels, label/<name>/values, metadata, format_query, parse_query and status/buildinfo",
			})
			return
		}
		router.ServeHTTP(w, r)
	})
	return mux
}

// metadata answers /api/v1/metadata from the public contract instead of from scrapes.
func metadata(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Type string `json:"type"`
		Help string `json:"help"`
		Unit string `json:"unit"`
	}
	data := make(map[string][]entry)
	for _, f := range metrics.Families() {
		name := f.Name
		if want := r.FormValue("metric"); want == "" || want == name {
			data[name] = []entry{{Type: f.Kind.String(), Help: f.Help, Unit: f.Unit}}
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": data})
}
