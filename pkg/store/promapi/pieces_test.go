package promapi

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
)

// A board over many processes is answered within the memory that there is, and says the same as with more of it.
func TestWideQueriesAreAnsweredPieceByPiece(t *testing.T) {
	a, s := open(t)
	fill(t, s, viewtest.New(6, 8, start), start, start.Add(5*time.Minute))
	large := a.budget
	defer func() { a.budget = large }()
	o := a.opts
	o.MemoryLimit = 4 << 20 // 87,381 samples
	small := newBudget(s, &o)
	defer small.close()
	small.limit = 1 << 40 // the test's own memory is not looked at

	ask := func(t *testing.T, query string, step int) (int, string) {
		t.Helper()
		code, body, _ := ask(t, a, "/api/v1/query_range", url.Values{"query": {query}, "step": {strconv.Itoa(step)},
			"start": {strconv.FormatInt(start.Unix(), 10)}, "end": {strconv.FormatInt(start.Unix()+299, 10)}})
		return code, body
	}
	inPieces := 0
	for _, query := range []string{
		`sum by (process, process_pid, p) (rate(pscope_p_seconds_total{state=~"running|gc|syscall"}[4s]))`,
		`max(rate(pscope_p_seconds_total[10s])) by (state)`,
		`avg by (process) (sum by (process, process_pid, p) (rate(pscope_p_seconds_total[4s])))`,
		`histogram_quantile(0.99, sum by (process) (rate(pscope_p_wake_wait_seconds[30s])))`,
		`sum(rate(pscope_p_wake_wait_seconds[30s]))`, // histograms in the result
		`sum(max_over_time(rate(pscope_p_seconds_total[4s])[20s:1s]))`,
		`count(pscope_p_seconds_total offset 2m)`, // a result that begins in the middle
	} {
		t.Run(query, func(t *testing.T) {
			a.budget = large
			wantCode, want := ask(t, query, 1)
			minimum, _, err := a.estimate(t.Context(), mustParse(t, query), start, start.Add(299*time.Second),
				time.Second)
			if err != nil {
				t.Fatal(err)
			}
			a.budget = small
			if minimum.peak > float64(small.total) {
				inPieces++
			}
			code, got := ask(t, query, 1)
			if wantCode != http.StatusOK || code != http.StatusOK || got != want {
				t.Errorf("whole: %d %.300s\nin pieces: %d %.300s", wantCode, want, code, got)
			}
			if !small.sem.TryAcquire(small.total) {
				t.Fatal("some of the budget was not given back")
			}
			small.sem.Release(small.total)
		})
	}
	if inPieces < 4 {
		t.Errorf("%d queries were too large at once; the others tell nothing", inPieces)
	}
	a.budget = small
	for query, why := range map[string]string{
		`pscope_p_seconds_total`: "fewer series", // the result alone is too large
		// each step needs the range's end
		`sum(rate(pscope_p_seconds_total[4s]) unless pscope_p_seconds_total @ end())`: "fewer series",
		`max_over_time(vector(1)[100y:1ms])`:                                          "larger step",
		// one step is too much
	} {
		if code, body := ask(t, query, 1); code != http.StatusUnprocessableEntity || !strings.Contains(body, why) {
			t.Errorf("%s: %d %.300s", query, code, body)
		}
	}
	if !small.sem.TryAcquire(small.total) {
		t.Error("some of the budget was not given back")
	}
}
