package plugin

import (
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

func TestWorstFirst(t *testing.T) {
	// server-0 has ended, server-2 had a P in D for 35 seconds; the idle host's name comes before that of the busy one.
	busy := startAgentAfter(t, "web-2", 3, 4, func(s *viewtest.Source, ago time.Duration) {
		if ago < 10*time.Second {
			s.End(0)
		}
		if ago > 20*time.Second && ago < 55*time.Second {
			s.Change(2, func(v *pstate.TargetView) { v.Ps[3].Uninterruptible += time.Second })
		}
	})
	idle := startAgent(t, "web-1", 1, 1)
	// With the usual 15 seconds between scrapes the moment looked at is a minute long, all that this agent has lived:
	// whether half of one was spent in D would depend on the second of the hour.
	for name, settings := range map[string]string{"agents": agentsJSON(idle.url, busy.url),
		"engine": `{"mode":"engine","engineUrl":"` + busy.url + `","scrapeInterval":"1s"}`} {
		d := newDatasource(t, settings)
		for path, want := range map[string][]string{
			"label-values?label=process&host=web-2":                          {"server-0", "server-1", "server-2"},
			"label-values?label=process&host=web-2&order=name":               {"server-0", "server-1", "server-2"},
			"label-values?label=process&host=web-2&order=worst":              {"server-2", "server-1", "server-0"},
			"label-values?label=pid&host=web-2&order=worst":                  {"1002", "1001", "1000"},
			"label-values?label=p&host=web-2&process=server-2&order=worst":   {"3", "0", "1", "2"},
			"label-values?label=p&host=web-2&process=server-1&order=worst":   {"0", "1", "2", "3"},
			"label-values?label=process&host=web-2&process=no&order=worst":   {},
			"label-values?label=process&host=web-2&ps=0-1&order=worst":       {"server-1", "server-2", "server-0"},
			"label-values?label=container&host=web-2&ps=0-1&order=worst":     {},
			"label-values?label=process&process=server-1&order=worst&ps=0-3": {"server-1"},
		} {
			if got := strings.TrimSpace(string(call(t.Context(), t, d, "GET", path, nil, nil).body())); got != jsonOf(
				want) {
				t.Errorf("%s, %s: %s, want %v", name, path, got, want)
			}
		}
	}
	d := newDatasource(t, agentsJSON(idle.url, busy.url))
	if got := strings.TrimSpace(string(call(t.Context(), t, d, "GET", "label-values?label=host&order=worst", nil,
		nil).body())); got != `["web-2","web-1"]` {
		t.Errorf("hosts: %s", got)
	}
	if r := call(t.Context(), t, d, "GET", "label-values?label=host&order=colour", nil, nil); r.status != 400 ||
		!strings.Contains(string(r.body()), "there is no order") {
		t.Errorf("an order that is none: %d %s", r.status, r.body())
	}
}
