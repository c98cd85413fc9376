package agent

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/plugin/settings"
)

// patience is how long one source may take before the others' answers are shown without it.
const patience = 20 * time.Second

// Set is everything a data source asks: its agents and, in engine mode, the engine. Close frees its connections and
// lets go of the bundled agent.
type Set struct {
	Mode   settings.Mode
	Agents []*Agent
	// Engine is the source of history in engine mode, else nil.
	Engine *History
	// Local is the agent on this host in local mode, else nil.
	Local *Local

	transports []*http.Transport
}

// NewSet makes the clients a data source needs. It connects to nobody yet.
func NewSet(s settings.Settings) (*Set, error) {
	config, err := tlsConfig(s)
	if err != nil {
		return nil, err
	}
	set := &Set{Mode: s.Mode}
	transport := func(dial func(context.Context) (net.Conn, error)) http.RoundTripper {
		t := newTransport(config.Clone(), dial)
		set.transports = append(set.transports, t)
		return bearer{token: s.Token, next: t}
	}
	switch s.Mode {
	case settings.ModeLocal:
		set.Local = newLocal(s)
		a, err := newAgent("the local agent", socketURL, transport(set.Local.Dial), s.AgentSample())
		if err != nil {
			return nil, err
		}
		set.Agents = []*Agent{a}
	default:
		for _, base := range s.Agents {
			a, err := newAgent(strings.TrimPrefix(base, "http://"), base, transport(nil), s.AgentSample())
			if err != nil {
				return nil, err
			}
			set.Agents = append(set.Agents, a)
		}
	}
	if s.Mode == settings.ModeEngine {
		set.Engine, err = newHistory(s.EngineURL, s.EngineURL, newClient(transport(nil)))
		if err != nil {
			return nil, err
		}
		set.Engine.Sample = s.EngineSample
	}
	return set, nil
}

// Histories are the sources of history.
func (s *Set) Histories() []*History {
	if s.Engine != nil {
		return []*History{s.Engine}
	}
	hs := make([]*History, len(s.Agents))
	for i, a := range s.Agents {
		hs[i] = a.History
	}
	return hs
}

// Close lets go of everything.
func (s *Set) Close() {
	if s.Local != nil {
		s.Local.Close()
	}
	for _, t := range s.transports {
		t.CloseIdleConnections()
	}
}

// Answer is what one source gave.
type Answer[S, T any] struct {
	From  S
	Value T
	Err   error
}

// Ask asks all sources at once and waits for the answers, for each at most as long as patience lasts. Answers are in
// the order of the sources.
func Ask[S, T any](ctx context.Context, sources []S, ask func(context.Context, S) (T, error)) []Answer[S, T] {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answers := make([]Answer[S, T], len(sources))
	// A fleet of hundreds must not open hundreds of connections for every panel at once.
	tickets := make(chan struct{}, 32)
	var wg sync.WaitGroup
	for i, s := range sources {
		wg.Go(func() {
			tickets <- struct{}{}
			defer func() { <-tickets }()
			v, err := ask(ctx, s)
			answers[i] = Answer[S, T]{From: s, Value: v, Err: err}
		})
	}
	wg.Wait()
	return answers
}

// Split separates answers from failures; an agent that has no such target answered with nothing. err is not nil when
// there is nothing to show: every source failed, or one found fault with the request itself.
func Split[S, T any](answers []Answer[S, T]) (values []T, failures []error, err error) {
	for _, a := range answers {
		if a.Err == nil {
			values = append(values, a.Value)
			continue
		}
		var own *Error
		if errors.As(a.Err, &own) && own.Missing {
			values = append(values, a.Value)
			continue
		}
		failures = append(failures, a.Err)
		if own != nil && own.Refused {
			return nil, failures, a.Err
		}
	}
	if len(values) == 0 && len(failures) > 0 {
		return nil, failures, joinFailures(failures)
	}
	return values, failures, nil
}

// joinFailures makes one error of several; with the same cause everywhere it is said once.
func joinFailures(errs []error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	var texts []string
	for _, e := range errs {
		texts = append(texts, e.Error())
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	const most = 3
	more := ""
	if len(texts) > most {
		more, texts = "; …", texts[:most]
	}
	return &Error{Source: "no agent answered", Why: strings.Join(texts, "; ") + more, Err: errs[0]}
}
