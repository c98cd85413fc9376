package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/lack"
	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/query"
	"github.com/p-scope/p-scope/pkg/plugin/settings"
)

// Health is what the health check found out, for the config editor and the resource "health".
type Health struct {
	OK      bool          `json:"ok"`
	Message string        `json:"message"`
	Mode    settings.Mode `json:"mode,omitempty"`
	Agents  []AgentHealth `json:"agents"`
	Engine  *EngineHealth `json:"engine,omitempty"`
	// Commands are ways to have a local agent or to give it what it lacks.
	Commands []agent.Command `json:"commands,omitempty"`
	// VerboseMessage is what Grafana shows below the message.
	VerboseMessage string `json:"verboseMessage,omitempty"`
}

// AgentHealth is the state of one agent.
type AgentHealth struct {
	Name     string `json:"name"`
	OK       bool   `json:"ok"`
	Error    string `json:"error,omitempty"`
	Version  string `json:"version,omitempty"`
	Host     string `json:"host,omitempty"`
	Kernel   string `json:"kernel,omitempty"`
	Arch     string `json:"arch,omitempty"`
	Mode     string `json:"mode,omitempty"` // ebpf or snapshot
	Observed int    `json:"observed"`
	Refused  int    `json:"refused"`
	// Bundled is true when the plugin started the agent.
	Bundled bool   `json:"bundled,omitempty"`
	Lacks   []Lack `json:"lacks,omitempty"`
}

// Lack is one thing that the agent's host or privileges don't allow, in the agent's own words, and the remedy.
type Lack = lack.Lack

// EngineHealth is the state of the engine.
type EngineHealth struct {
	URL   string `json:"url"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	// Agents is the number of agents whose metrics it holds.
	Agents int `json:"agents"`
}

// CheckHealth says which agents and engine answer, what they observe, and what is missing and how to get it.
func (d *Datasource) CheckHealth(ctx context.Context, _ *backend.CheckHealthRequest) (*backend.CheckHealthResult,
	error) {
	h := d.health(ctx)
	details, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("the health report can't be written: %w", err)
	}
	status := backend.HealthStatusOk
	if !h.OK {
		status = backend.HealthStatusError
	}
	return &backend.CheckHealthResult{Status: status, Message: h.Message, JSONDetails: details}, nil
}

func (d *Datasource) health(ctx context.Context) Health {
	if d.broken != nil {
		return Health{Message: d.broken.Error(), Agents: []AgentHealth{}}
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	h := Health{OK: true, Mode: d.set.Mode, Agents: []AgentHealth{}}
	for _, a := range agent.Ask(ctx, d.set.Agents, lookAround) {
		h.Agents = append(h.Agents, agentHealth(a))
		var none *agent.NoAgent
		if errors.As(a.Err, &none) {
			h.Commands = none.Commands
		}
	}
	if d.set.Local != nil && len(h.Agents) == 1 {
		_, h.Agents[0].Bundled = d.set.Local.Bundled()
	}
	if d.set.Engine != nil {
		h.Engine = d.engineHealth(ctx)
	}
	h.summarize()
	return h
}

// lookAround lists an agent's targets. An agent that has just been started has not looked for any yet: it gets a
// moment.
func lookAround(ctx context.Context, ag *agent.Agent) (*pscopev1.ListTargetsResponse, error) {
	for {
		r, err := ag.Targets(ctx, nil)
		if err != nil || len(r.GetTargets()) > 0 ||
			time.Since(time.Unix(0, r.GetAgent().GetStartedUnixNano())) > 3*time.Second {
			return r, err
		}
		select {
		case <-ctx.Done():
			return r, nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func agentHealth(a agent.Answer[*agent.Agent, *pscopev1.ListTargetsResponse]) AgentHealth {
	h := AgentHealth{Name: a.From.Name}
	if a.Err != nil {
		h.Error = a.Err.Error()
		return h
	}
	info := a.Value.GetAgent()
	h.OK, h.Version, h.Host, h.Kernel, h.Arch, h.Mode = true, info.GetVersion(), info.GetHost(), info.GetKernel(),
		info.GetArch(), info.GetMode()
	for _, t := range a.Value.GetTargets() {
		switch {
		case t.GetEndedUnixNano() != 0:
		case t.GetSource() == "refused":
			h.Refused++
		default:
			h.Observed++
		}
	}
	for _, l := range info.GetLacks() {
		h.Lacks = append(h.Lacks, Lack{What: l.GetWhat(), Why: l.GetWhy(), Fix: l.GetFix()})
	}
	return h
}

func (d *Datasource) engineHealth(ctx context.Context) *EngineHealth {
	e := &EngineHealth{URL: d.set.Engine.Name}
	v, err := d.set.Engine.Instant(ctx, "count(pscope_build_info)", time.Now())
	if err != nil {
		e.Error = err.Error()
		return e
	}
	e.OK = true
	if len(v) > 0 {
		e.Agents = int(v[0].Value)
	}
	return e
}

// summarize writes the sentences. The check fails when nothing could be shown: no agent in the modes that ask agents,
// no engine in the mode that asks one.
func (h *Health) summarize() {
	var good, away []AgentHealth
	for _, a := range h.Agents {
		if a.OK {
			good = append(good, a)
		} else {
			away = append(away, a)
		}
	}
	var parts, more []string
	if e := h.Engine; e != nil {
		switch {
		case !e.OK:
			h.OK = false
			parts = append(parts, "The engine does not answer: "+e.Error)
		case e.Agents == 0:
			h.OK = false
			parts = append(parts, "The engine at "+e.URL+" answers but holds no metrics of P-Scope. Let it scrape the "+
				"agents (port 9477, path /metrics), or let them send to it")
		default:
			parts = append(parts, fmt.Sprintf("The engine holds metrics of %s", plural(e.Agents, "agent")))
		}
	}
	switch {
	case len(good) == 1:
		a := good[0]
		who := "Agent"
		if a.Bundled {
			who = "Bundled agent"
		}
		parts = append(parts, fmt.Sprintf("%s %s on %s (%s, kernel %s) observes %s by %s", who, a.Version, a.Host,
			a.Arch, a.Kernel, plural(a.Observed, "Go process"), modeWords(a.Mode)))
		if a.Refused > 0 {
			parts = append(parts, fmt.Sprintf("%d can't be observed, the query kind targets says why", a.Refused))
		}
	case len(good) > 1:
		observed, refused := 0, 0
		for _, a := range good {
			observed, refused = observed+a.Observed, refused+a.Refused
		}
		parts = append(parts, fmt.Sprintf("%s answer and observe %s", plural(len(good), "agent"),
			plural(observed, "Go process")))
		if refused > 0 {
			parts = append(parts, fmt.Sprintf("%d can't be observed, the query kind targets says why", refused))
		}
	case h.Engine == nil:
		h.OK = false
	}
	for _, a := range away {
		parts = append(parts, a.Error)
	}
	for _, a := range good {
		for _, l := range a.Lacks {
			if len(good) == 1 {
				parts = append(parts, l.String())
			}
			more = append(more, a.Host+": "+l.String())
		}
	}
	h.Message = sentences(parts)
	h.VerboseMessage = strings.Join(more, "\n")
}

func modeWords(mode string) string {
	if mode == "ebpf" {
		return "eBPF"
	}
	return mode + "s"
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if strings.HasSuffix(noun, "s") {
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// sentences joins parts, each of which may or may not end in a full stop.
func sentences(parts []string) string {
	var b strings.Builder
	for i, p := range parts {
		p = strings.TrimRight(p, ". ")
		if i > 0 {
			b.WriteString(". ")
			p = capital(p)
		}
		b.WriteString(p)
	}
	return b.String()
}

// everything is the query of those who ask for no target in particular.
func everything() query.Query { return query.Query{Model: query.Model{Kind: query.KindTargets}} }

// capital makes the first letter a capital one.
func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
