package plugin

import (
	"slices"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// endedInD is an agent whose server-0 had its P1 in D until it ended 20 seconds ago; server-1 is still there.
func endedInD(t *testing.T) *liveAgent {
	return startAgentAfter(t, "web-1", 2, 4, func(s *viewtest.Source, ago time.Duration) {
		if ago <= 20*time.Second {
			s.End(0)
			return
		}
		s.Change(0, func(v *pstate.TargetView) { v.Ps[1].Uninterruptible += time.Second })
	})
}

// processes are those that the frames of an answer are about, each once.
func processes(t *testing.T, d *Datasource, query string, headers map[string]string) (out []string) {
	t.Helper()
	for _, f := range must(t, ask(t, d, query, time.Minute, headers)).Frames {
		for _, field := range f.Fields {
			if p := field.Labels["process"]; p != "" && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

func TestAlertsForgetEndedProcesses(t *testing.T) {
	a := endedInD(t)
	for name, settings := range map[string]string{"agent": agentsJSON(a.url),
		"engine": `{"mode":"engine","engineUrl":"` + a.url + `"}`} {
		d := newDatasource(t, settings)
		for _, query := range []string{
			`{}`,
			`{"kind":"series","metric":"d_share"}`,
			`{"kind":"series","metric":"d_share","by":["process"],"aggregation":"max"}`,
			`{"kind":"series","metric":"d_share","ps":"1"}`,
			`{"kind":"blocked"}`,
			`{"kind":"series","editorMode":"code","expr":"max by (process, process_pid) (rate(pscope_p_uninterruptible_seconds_total[3s]))"}`,
		} {
			if got := processes(t, d, query, fromAlert); !slices.Equal(got, []string{"server-1"}) {
				t.Errorf("%s, %s: a rule gets %v, want server-1 alone", name, query, got)
			}
		}
		// A panel shows what was.
		if got := processes(t, d, `{"kind":"series","metric":"d_share"}`, nil); !slices.Equal(got,
			[]string{"server-0", "server-1"}) {
			t.Errorf("%s: a panel gets %v, want both processes", name, got)
		}
		// What is about a host goes on; so does PromQL whose labels need not be P-Scope's.
		for _, query := range []string{
			`{"kind":"series","metric":"d_share","by":["host"],"aggregation":"max","target":{"process":"server-0"}}`,
			`{"kind":"series","editorMode":"code","expr":"max by (process) (rate(pscope_p_uninterruptible_seconds_total{process=\"server-0\"}[3s]))"}`,
		} {
			if r := must(t, ask(t, d, query, time.Minute, fromAlert)); len(r.Frames) != 1 ||
				len(r.Frames[0].Fields) != 2 {
				t.Errorf("%s: %s: want one series, got\n%s", name, query, describe(r))
			}
		}
	}
}

func TestSilentAgentsEndNothing(t *testing.T) {
	server := data.Labels{"host": "web-1", "process": "server", "process_pid": "7"}
	with := func(key, value string) data.Labels {
		l := server.Copy()
		l[key] = value
		return l
	}
	for _, c := range []struct {
		what     string
		there    []data.Labels
		complete bool
		curve    data.Labels
		ended    bool
	}{
		{"a process that is there", []data.Labels{{"host": "web-1"}, server}, true, with("p", "3"), false},
		{"another pid of its name", []data.Labels{{"host": "web-1"}, server}, true, with("process_pid", "8"), true},
		{"the name alone", []data.Labels{{"host": "web-1"}, server}, true, data.Labels{"process": "server"}, false},
		{"the name alone, of none", []data.Labels{{"host": "web-1"}, server}, true, data.Labels{"process": "db"}, true},
		{"the name alone, and not all were asked", []data.Labels{{"host": "web-1"}, server}, false,
			data.Labels{"process": "db"}, false},
		{"a host whose agent is silent", []data.Labels{{"host": "web-2"}}, true, server, false},
		{"no agent at all", nil, true, data.Labels{"process": "server"}, false},
		{"another host's process", []data.Labels{{"host": "web-1"}, {"host": "web-2"}, with("host", "web-2")}, true,
			server, true},
	} {
		p := presence{hosts: map[string]bool{}, complete: c.complete}
		for _, l := range c.there {
			p.add(l)
		}
		if got := p.ended(c.curve); got != c.ended {
			t.Errorf("%s: ended is %v", c.what, got)
		}
	}
}
