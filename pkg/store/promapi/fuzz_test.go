package promapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/store"
)

// FuzzQuery sends any form to each handler of the HTTP API over a small history: it is answered or refused within what
// one query may take.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		`query=sum+by+(p)+(rate(pscope_p_seconds_total[10s]))&time=1700000030`,
		`query=max_over_time(vector(1)[100y:1ms])&time=1700000030`, `query=x&start=1700000000&end=1700000060&step=1e-9`,
		`query=x&start=NaN&end=Inf&step=-1`, `match[]={__name__=~".%2B"}&start=1e308`, `match[]=x&limit=-1`,
		`query=1&timeout=-1s&limit=9e9`,
		`query=label_replace(x,"a","b","c","(a{9}){9}")&time=2024-01-01T00:00:00Z`,
		`query=pscope_p_runq_depth@+end()+offset+-1d&start=1700000000&end=1700000060&step=1`,
	} {
		for which := range uint8(6) {
			f.Add(s, which)
		}
	}
	a, s := openWith(f, store.Options{}, Options{QueryTimeout: 5 * time.Second})
	fill(f, s, viewtest.New(2, 2, start), start, start.Add(time.Minute))
	h := a.Handler()
	paths := []string{"query", "query_range", "series", "labels", "label/process/values", "format_query"}
	f.Fuzz(func(t *testing.T, form string, which uint8) {
		if len(form) > 64<<10 {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/api/v1/"+paths[int(which)%len(paths)], strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		fuzztest.Within(t, 8*time.Second, len(form), func() { h.ServeHTTP(w, r) })
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s of %q: %s", r.URL.Path, form, w.Body)
		}
	})
}

// FuzzCheckText: whatever the text is, what passes is parsed within a bound of time.
func FuzzCheckText(f *testing.F) {
	for _, seed := range []string{`sum by (p) (rate(x{a=~"b|c"}[5m:1s] offset 1h @ start()))`, strings.Repeat("(", 200),
		`"\q`, "x{a=~\"(a{9}){9}\"}", "1+-+-+1", "# comment\n1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		begun := fuzztest.CPUTime()
		if checkText(text) == nil {
			_, _ = parse(text)
		}
		if used := fuzztest.CPUTime() - begun; used > 2*time.Second {
			t.Errorf("%d bytes took %v", len(text), used)
		}
	})
}
