package query

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/live"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

func parsed(t testing.TB, json string) Query {
	t.Helper()
	q, err := Parse(backend.DataQuery{RefID: "A", JSON: []byte(json), MaxDataPoints: 500, Interval: 5 * time.Second,
		TimeRange: backend.TimeRange{From: time.Unix(1_700_000_000, 0), To: time.Unix(1_700_000_600, 0)}}, false)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestChannelRoundTrip(t *testing.T) {
	for _, js := range []string{
		`{}`,
		`{"kind":"heatmap","target":{"process":"prometheus","host":"web-1"},"ps":"0-3,7","live":true}`,
		`{"kind":"timeline","target":{"process":"a|b","pid":"12|34"},"states":["gcstop"],"live":true,"rateHz":2}`,
		`{"kind":"series","metric":"thread","by":["process","thread_state"],"aggregation":"max","threadStates":["uninterruptible"],"legend":"{{process}}"}`,
		`{"kind":"series","metric":"runq","by":[]}`,
		`{"kind":"series","editorMode":"code","expr":"sum(rate(pscope_p_seconds_total{state=\"running\"}[5s]))"}`,
		`{"kind":"stops","target":{"container":"c\"1\\d","pod":"π"}}`,
	} {
		q := parsed(t, js)
		id, err := q.ChannelID("P1234567890ABCDEF", 7)
		if err != nil {
			t.Errorf("%s: %v", js, err)
			continue
		}
		ch, err := live.ParseChannel(id)
		if err != nil {
			t.Fatalf("%s: Grafana refuses %q: %v", js, id, err)
		}
		got, err := ParseChannel(ch.Path)
		if err != nil {
			t.Fatalf("%s: %v", js, err)
		}
		if got.Stretch != 10*time.Minute+8*time.Second {
			t.Errorf("%s: ten minutes came back as %s, want them rounded up to a multiple of 16 s", js, got.Stretch)
		}
		if got.Org != 7 {
			t.Errorf("%s: org %d", js, got.Org)
		}
		for _, f := range []struct {
			name      string
			got, want any
		}{
			{"kind", got.Query.Kind, q.Kind}, {"target", got.Query.Target, q.Target}, {"ps", got.Query.PList, q.PList},
			{"metric", got.Query.Metric, q.Metric}, {"states", got.Query.PStates, q.PStates},
			{"threads", got.Query.ThreadStates, q.ThreadStates},
			{"by", got.Query.By, q.By}, {"aggregation", got.Query.Aggregation, q.Aggregation},
			{"code", got.Query.Code(), q.Code()},
			{"legend", got.Query.Legend, q.Legend}, {"rate", got.Query.RateHz, q.RateHz},
			{"step", got.Query.Step, q.Step},
		} {
			if !reflect.DeepEqual(f.got, f.want) {
				t.Errorf("%s: %s came back as %v, was %v", js, f.name, f.got, f.want)
			}
		}
		t.Logf("%3d characters: %s", len(id), js)
	}
}

func TestChannelTooLong(t *testing.T) {
	q := parsed(t, `{"target":{"process":"q8Zr1vT0xK3mPfW7sYb2nJc5dLg9hQaEuRiOt4lXzBwVkMyNpS6oHjFeCdGqArUiDtTsZxLvPbKmWnJy8f3hQ0aEg7cR5u2o1i9XzBwVkMyNpS6oHjFeCdGqArUiDt"}}`)
	var qe *Error
	if _, err := q.ChannelID("P1234567890ABCDEF", 1); !errors.As(err, &qe) {
		t.Fatalf("got %v, want an error that says the query is too long", err)
	}
}

func FuzzParseChannel(f *testing.F) {
	for _, js := range []string{`{}`, `{"kind":"timeline","target":{"process":"a|b"},"ps":"0-3"}`,
		`{"kind":"series","metric":"runq"}`} {
		q := parsed(f, js)
		path, err := q.channelPath(3)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(path)
	}
	f.Add("1/")
	f.Add("2/AAAA")
	f.Fuzz(func(t *testing.T, path string) {
		defer fuzztest.Bound(t, fuzztest.Small, len(path))()
		ch, err := ParseChannel(path)
		if err != nil {
			return
		}
		// What can be read can be written, and reads the same again.
		again, err := ch.Query.channelPath(ch.Org)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseChannel(again)
		if err != nil {
			t.Fatalf("%q became %q, which can't be read: %v", path, again, err)
		}
		if back.Org != ch.Org || back.Query.Kind != ch.Query.Kind || back.Query.Target != ch.Query.Target ||
			back.Query.Step != ch.Query.Step ||
			!reflect.DeepEqual(back.Query.PList, ch.Query.PList) || !reflect.DeepEqual(back.Query.By, ch.Query.By) {
			t.Fatalf("%+v became %+v", ch, back)
		}
	})
}
