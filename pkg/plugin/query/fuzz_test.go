package query

import (
	"errors"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzParse reads the query of a panel. What is accepted makes PromQL that parses, whatever the names in it are, unless
// the user writes the PromQL.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"kind":"timeline","target":{"process":"a|b"},"ps":"0-3"}`,
		`{"kind":"series","metric":"runq","by":["process"]}`,
		`{"kind":"series","metric":"state","states":["running"],"target":{"process":"a\"} or vector(1) or b{c=\"\\d"}}`,
		`{"kind":"series","editorMode":"code","expr":"rate($__metric[$__interval])"}`,
		`{"kind":"heatmap","metric":"wakeWait"}`,
		`{"kind":"stops","version":9}`, `{"rateHz":1e308,"legend":"{{p}}","target":{"pid":"1|2"}}`,
	} {
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, alert bool) {
		fuzztest.Within(t, fuzztest.Small, len(text), func() {
			q, err := Parse(backend.DataQuery{JSON: text, MaxDataPoints: 100,
				TimeRange: backend.TimeRange{From: time.Unix(0, 0), To: time.Unix(3600, 0)}}, alert)
			if err != nil {
				var e *Error
				if !errors.As(err, &e) || e.Error() == "" {
					t.Errorf("%v is no error for people", err)
				}
				return
			}
			q.Selector()
			if _, err := q.ChannelID("uid", 1); err != nil && err.Error() == "" {
				t.Error("no channel, without a word")
			}
			if q.Code() || q.Kind != KindSeries && q.Kind != KindHeatmap {
				return
			}
			for _, expr := range q.Plan(Dialect{Sample: time.Second, Native: true}).Exprs {
				if _, err := parser.NewParser(parser.Options{}).ParseExpr(expr); err != nil {
					t.Errorf("%s makes %s: %v", text, expr, err)
				}
			}
		})
	})
}
