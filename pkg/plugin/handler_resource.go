package plugin

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/resource/httpadapter"

	"github.com/p-scope/p-scope/pkg/api/grpcwebtext"
	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

// CallResource serves what editors, variables and the browser's own streams ask for; newResources lists the paths.
func (d *Datasource) CallResource(ctx context.Context, req *backend.CallResourceRequest,
	sender backend.CallResourceResponseSender) error {
	return d.resources.CallResource(ctx, req, sender)
}

func (d *Datasource) newResources() backend.CallResourceHandler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /targets", d.serveTargets)
	mux.HandleFunc("GET /label-values", d.serveLabelValues)
	mux.HandleFunc("GET /health", d.serveHealth)
	// One route for each procedure of the service, and what an agent is asked for is never made of what a request
	// holds: a path that is decoded twice would lead out of the service, with the agent's token.
	methods := pscopev1.File_pscope_v1_scope_proto.Services().ByName("ScopeService").Methods()
	for i := range methods.Len() {
		procedure := "/" + pscopev1connect.ScopeServiceName + "/" + string(methods.Get(i).Name())
		mux.Handle("POST "+procedure,
			grpcwebtext.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				d.serveScope(w, r, procedure)
			})))
	}
	return httpadapter.New(mux)
}

// targetInfo is a Go process as editors list it.
type targetInfo struct {
	Host       string `json:"host"`
	Process    string `json:"process"`
	PID        int32  `json:"pid"`
	GoVersion  string `json:"goVersion,omitempty"`
	GOMAXPROCS int32  `json:"gomaxprocs,omitempty"`
	Source     string `json:"source,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Container  string `json:"container,omitempty"`
	Pod        string `json:"pod,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Module     string `json:"module,omitempty"`
}

// serveTargets lists the Go processes, refused ones with the reason. An engine without agents knows them by their
// metrics.
func (d *Datasource) serveTargets(w http.ResponseWriter, r *http.Request) {
	if d.broken != nil {
		writeError(w, d.broken)
		return
	}
	q, err := selection(r)
	if err != nil {
		writeError(w, err)
		return
	}
	list := []targetInfo{}
	if len(d.set.Agents) == 0 {
		if list, err = d.engineTargets(r.Context(), &q); err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, list)
		return
	}
	a := answer{}
	targets, err := d.listTargets(r.Context(), &a, &q)
	if err != nil {
		writeError(w, err)
		return
	}
	for _, t := range targets {
		if t.GetEndedUnixNano() != 0 {
			continue
		}
		list = append(list, targetInfo{
			Host: t.GetHost(), Process: t.GetProcess(), PID: t.GetKey().GetPid(), GoVersion: t.GetGoVersion(),
			GOMAXPROCS: t.GetGomaxprocs(),
			Source:     t.GetSource(), Reason: t.GetReason(), Container: t.GetContainer(), Pod: t.GetPod(),
			Namespace: t.GetNamespace(), Module: t.GetModule(),
		})
	}
	writeJSON(w, list)
}

func (d *Datasource) engineTargets(ctx context.Context, q *query.Query) ([]targetInfo, error) {
	v, err := d.set.Engine.Instant(ctx, q.Matchers("pscope_target_info"), time.Now())
	if err != nil {
		return nil, err
	}
	list := []targetInfo{}
	for _, s := range v {
		pid, _ := strconv.ParseInt(string(s.Metric["process_pid"]), 10, 32)
		list = append(list, targetInfo{
			Host: string(s.Metric["host"]), Process: string(s.Metric["process"]), PID: int32(pid),
			GoVersion: string(s.Metric["go_version"]),
			Source:    string(s.Metric["source"]), Reason: string(s.Metric["reason"]),
			Container: string(s.Metric["container"]),
			Pod:       string(s.Metric["pod"]), Namespace: string(s.Metric["namespace"]),
		})
	}
	slices.SortFunc(list, func(a, b targetInfo) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Process, b.Process), cmp.Compare(a.PID, b.PID))
	})
	return list, nil
}

// labelMetric is the series whose labels variables list: every observed P has it, so refused processes don't appear.
const labelMetric = "pscope_p_seconds_total"

// serveLabelValues lists the values a label has among the targets that the selector fields choose, over the time range
// from–to in Unix milliseconds, or else the last hour: by name, or with order=worst by what needs a look first.
func (d *Datasource) serveLabelValues(w http.ResponseWriter, r *http.Request) {
	if d.broken != nil {
		writeError(w, d.broken)
		return
	}
	name := r.URL.Query().Get("label")
	if labels := query.VariableLabels(); !slices.Contains(labels, name) {
		slices.Sort(labels)
		writeError(w, &query.Error{Field: "label", What: "there is no label " + strconv.Quote(name),
			Next: "Choose one of " + strings.Join(labels, ", ")})
		return
	}
	label := query.LabelOf(name)
	order := cmp.Or(r.URL.Query().Get("order"), query.OrderName)
	if orders := query.VariableOrders(); !slices.Contains(orders, order) {
		writeError(w, &query.Error{Field: "order", What: "there is no order " + strconv.Quote(order),
			Next: "Choose " + strings.Join(orders, " or ")})
		return
	}
	q, err := selection(r)
	if err != nil {
		writeError(w, err)
		return
	}
	q.Metric = query.MetricState
	answers := agent.Ask(r.Context(), d.set.Histories(), func(ctx context.Context, h *agent.History) ([]string, error) {
		return h.LabelValues(ctx, label, q.Matchers(labelMetric), q.From, q.To)
	})
	parts, _, err := agent.Split(answers)
	if err != nil {
		writeError(w, err)
		return
	}
	values := []string{}
	for _, p := range parts {
		values = append(values, p...)
	}
	slices.SortFunc(values, func(a, b string) int {
		x, errX := strconv.Atoi(a)
		y, errY := strconv.Atoi(b)
		if errX == nil && errY == nil {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(a, b)
	})
	values = slices.DeleteFunc(slices.Compact(values), func(v string) bool { return v == "" })
	if order == query.OrderWorst {
		d.worstFirst(r.Context(), &q, label, values)
	}
	writeJSON(w, values)
}

// selection reads the selector fields of a request.
func selection(r *http.Request) (query.Query, error) {
	v := r.URL.Query()
	raw, err := json.Marshal(query.Model{Kind: query.KindTargets, Ps: v.Get("ps"), Target: query.Target{
		Host: v.Get("host"), Process: v.Get("process"), Container: v.Get("container"), Pod: v.Get("pod"),
		PID: v.Get("pid"),
	}})
	if err != nil {
		return query.Query{}, err
	}
	to := time.Now()
	from := to.Add(-time.Hour)
	if ms, err := strconv.ParseInt(v.Get("to"), 10, 64); err == nil {
		to = time.UnixMilli(ms)
	}
	if ms, err := strconv.ParseInt(v.Get("from"), 10, 64); err == nil {
		from = time.UnixMilli(ms)
	}
	return query.Parse(backend.DataQuery{JSON: raw, TimeRange: backend.TimeRange{From: from, To: to}}, false)
}

// serveHealth gives the details of the health check.
func (d *Datasource) serveHealth(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, d.health(r.Context()))
}

// serveScope passes a call of a procedure of ScopeService on to an agent and its answer back as it comes, message by
// message. Which agent: the parameter or header "agent" holds its place in the settings (from 0), its host or its
// address; without it, the first.
func (d *Datasource) serveScope(w http.ResponseWriter, r *http.Request, procedure string) {
	if d.broken != nil {
		writeScopeError(w, r, d.broken)
		return
	}
	which := cmp.Or(r.URL.Query().Get("agent"), r.Header.Get("agent"))
	target := d.chooseAgent(r.Context(), which)
	if target == nil {
		err := &query.Error{Field: "agent", What: "the data source has no agent " + strconv.Quote(which),
			Next: "Choose one from the resource health"}
		if which == "" {
			err = &query.Error{What: "the data source has no agent", Why: "in engine mode agents are optional",
				Next: "Add agents' addresses to the data source's settings for live data at high rates"}
		}
		writeScopeError(w, r, err)
		return
	}
	proxy := httputil.ReverseProxy{
		Transport: target.Transport,
		// At once: a message must not wait in a buffer.
		FlushInterval: -1,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL = &url.URL{Scheme: target.URL.Scheme, Host: target.URL.Host,
				Path: strings.TrimSuffix(target.URL.Path, "/") + procedure}
			p.Out.Host = ""
			p.Out.Header = protocolHeaders(p.In.Header)
		},
		ModifyResponse: func(resp *http.Response) error { return refusal(r, target, resp) },
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request,
			err error) {
			writeScopeError(w, r, target.Explain(err))
		},
	}
	proxy.ServeHTTP(w, r)
}

// protocolHeaders are those that the RPC protocols use. Grafana's own (cookies, users, tokens) are not the agent's
// business.
func protocolHeaders(in http.Header) http.Header {
	out := http.Header{}
	for k, v := range in {
		switch k {
		case "Content-Type", "Content-Encoding", "Accept", "Accept-Encoding", "X-Grpc-Web", "X-User-Agent", "Te":
			out[k] = v
		default:
			if strings.HasPrefix(k, "Connect-") || strings.HasPrefix(k, "Grpc-") {
				out[k] = v
			}
		}
	}
	return out
}

// chooseAgent finds an agent by place, host or name; the empty choice is the first. Nil when there is none.
func (d *Datasource) chooseAgent(ctx context.Context, which string) *agent.Agent {
	agents := d.set.Agents
	if len(agents) == 0 {
		return nil
	}
	if which == "" {
		return agents[0]
	}
	if i, err := strconv.Atoi(which); err == nil && i >= 0 && i < len(agents) {
		return agents[i]
	}
	find := func() *agent.Agent {
		for _, a := range agents {
			if a.Name == which || a.Host() == which {
				return a
			}
		}
		return nil
	}
	if a := find(); a != nil {
		return a
	}
	// Hosts are learnt from answers.
	a := answer{}
	q := everything()
	if _, err := d.listTargets(ctx, &a, &q); err != nil {
		return nil
	}
	return find()
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the reader is gone: nobody is left to tell
}

// writeError answers with the error's text as Grafana's frontend shows it.
func writeError(w http.ResponseWriter, err error) {
	status, _ := classify(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status))
	_ = json.NewEncoder(w).Encode(map[string]string{"message": err.Error()})
}
