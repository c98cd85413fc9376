package promapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/store"
)

var start = time.UnixMilli(1_700_000_000_000)

// open makes an API over a new store.
func open(t testing.TB) (*API, *store.Store) {
	t.Helper()
	return openWith(t, store.Options{}, Options{})
}

func openWith(t testing.TB, so store.Options, o Options) (*API, *store.Store) {
	t.Helper()
	so.Dir, so.Host, so.Version, o.Version = t.TempDir(), "h", "1", "1"
	s, err := store.Open(so)
	if err != nil {
		t.Fatal(err)
	}
	a := New(s, o)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close of the store: %v", err)
		}
	})
	return a, s
}

// fill appends a sample every interval, from from on and before to.
func fill(t testing.TB, s *store.Store, src *viewtest.Source, from, to time.Time) {
	t.Helper()
	for at := from; at.Before(to); at = at.Add(s.Interval()) {
		snap := metrics.Snapshot{Views: src.Views(at), Targets: src.Targets(), Mode: "ebpf"}
		if err := s.Append(at, &snap); err != nil {
			t.Fatal(err)
		}
	}
}

// ask sends a query.
func ask(t *testing.T, a *API, path string, form url.Values) (code int, body string, header http.Header) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Result().Header
}

func TestHTTPAPI(t *testing.T) {
	a, s := open(t)
	fill(t, s, viewtest.New(2, 2, start), start, start.Add(time.Minute))
	srv := httptest.NewServer(a.Handler())
	defer srv.Close()
	at := fmt.Sprint(start.Unix() + 50)
	for _, c := range []struct {
		path string
		form url.Values
		want string
		code int
	}{
		{"/api/v1/query", url.Values{"query": {`sum(rate(pscope_p_seconds_total[10s]))`}, "time": {at}},
			`"value":[1700000050,"4`, 200},
		{"/api/v1/query", url.Values{"query": {`pscope_p_wake_wait_seconds{p="0"}`}, "time": {at}}, `"histogram":[`,
			200},
		{"/api/v1/query_range", url.Values{"query": {`go_runtime_gomaxprocs`}, "start": {fmt.Sprint(start.Unix())},
			"end": {at}, "step": {"10"}}, `"resultType":"matrix"`, 200},
		{"/api/v1/query_range", url.Values{"query": {`go_runtime_gomaxprocs`}, "start": {at},
			"end": {fmt.Sprint(start.Unix())}, "step": {"10"}}, `end timestamp must not be before start time`, 400},
		{"/api/v1/query", url.Values{"query": {`sum(`}}, `parse error`, 400},
		{"/api/v1/series", url.Values{"match[]": {`pscope_target_info`}, "start": {fmt.Sprint(start.Unix())},
			"end": {at}}, `"process":"server-1"`, 200},
		{"/api/v1/labels", url.Values{}, `"thread_state"`, 200},
		{"/api/v1/label/process/values", nil, `["server-0","server-1"]`, 200},
		{"/api/v1/metadata", nil, `"pscope_stop_seconds":[{"type":"histogram"`, 200},
		{"/api/v1/metadata?metric=pscope_p_runq_depth", nil, `"data":{"pscope_p_runq_depth":[{"type":"gauge"`, 200},
		{"/api/v1/status/buildinfo", nil, `"version":"`, 200},
		{"/api/v1/format_query", url.Values{"query": {`sum(x)by(p)`}}, `sum by (p) (x)`, 200},
		{"/api/v1/query", url.Values{"query": {`1.5`}, "time": {at}},
			`"resultType":"scalar","result":[1700000050,"1.5"]`, 200},
		{"/api/v1/query", url.Values{"query": {`"a\"b"`}, "time": {at}},
			`"resultType":"string","result":[1700000050,"a\"b"]`, 200},
		{"/api/v1/query", url.Values{"query": {`pscope_p_runq_depth`}, "time": {"yesterday"}}, `seconds since 1970`,
			400},
		{"/api/v1/query", url.Values{"query": {`pscope_p_runq_depth`}, "time": {at}, "limit": {"1"}}, `"p":"0"`, 200},
		{"/api/v1/query", url.Values{"query": {`go_runtime_gomaxprocs + on() go_runtime_gomaxprocs`}, "time": {at}},
			`many-to-many`, 422},
		{"/api/v1/query", url.Values{"query": {`rate(pscope_p_runq_depth[10s])`}, "time": {at}}, `"infos":[`, 200},
		{"/api/v1/query_range", url.Values{"query": {`x`}, "start": {"0"}, "end": {at}, "step": {"1"}}, `larger step`,
			400},
		{"/api/v1/query_range", url.Values{"query": {`x`}, "start": {"0"}, "end": {at}, "step": {"-1"}}, `above zero`,
			400},
		{"/api/v1/query_range", url.Values{"query": {`x`}}, `\"start\"`, 400},
		{"/api/v1/series", url.Values{}, `no match[]`, 400},
		{"/api/v1/series", url.Values{"match[]": {`{p=~".*"}`}}, `matches everything`, 400},
		{"/api/v1/series", url.Values{"match[]": {`pscope_p_seconds_total`}, "limit": {"3"}}, `truncated`, 200},
		{"/api/v1/label/p/values?match[]=pscope_p_runq_depth&match[]=go_runtime_gomaxprocs", nil, `["0","1"]`, 200},
		{"/api/v1/label/a%20b%FF/values", nil, `invalid label name`, 400},
		{"/api/v1/labels?limit=2", nil, `["__name__","cgroup"]`, 200},
		{"/api/v1/admin/tsdb/delete_series", url.Values{}, `does not offer`, 404},
		{"/api/v1/targets", nil, `does not offer`, 404},
		{"/api/v1/write", url.Values{}, `does not offer`, 404},
	} {
		var res interface{ Close() error }
		var body []byte
		var code int
		if c.form == nil {
			r, err := srv.Client().Get(srv.URL + c.path)
			if err != nil {
				t.Fatal(err)
			}
			body, _ = io.ReadAll(r.Body)
			res, code = r.Body, r.StatusCode
		} else {
			r, err := srv.Client().PostForm(srv.URL+c.path, c.form)
			if err != nil {
				t.Fatal(err)
			}
			body, _ = io.ReadAll(r.Body)
			res, code = r.Body, r.StatusCode
		}
		res.Close()
		if code != c.code || !strings.Contains(string(body), c.want) || !json.Valid(body) {
			t.Errorf("%s %v: %d %.300s\nwant %d and %s", c.path, c.form, code, body, c.code, c.want)
		}
	}
}

// noting is a database that counts what it was given as possible damage.
type noting struct {
	Database
	noted int
}

func (n *noting) NoteDamage(error) bool { n.noted++; return false }

// A request that quotes what the database says of damage does not have the history read anew.
func TestOnlyTheDatabaseSpeaksOfDamage(t *testing.T) {
	const said = "checksum mismatch expected:6f1a9b2c, actual:00000000"
	a, s := open(t)
	db := &noting{Database: s}
	a.db = db
	for path, form := range map[string]url.Values{
		"/api/v1/query":  {"query": {"up"}, "time": {said}},
		"/api/v1/other":  {},
		"/api/v1/series": {"match[]": {`{a="` + said + `"`}},
	} {
		if code, _, _ := ask(t, a, path, form); code == http.StatusOK {
			t.Errorf("%s is answered", path)
		}
	}
	if db.noted > 0 {
		t.Error("a request is taken for damage")
	}
}
