package api

import (
	"fmt"
	"net/http"
	"time"
)

// How long a loop that goes round at least once a second may stand still. A machine that is short of CPU delays it by
// seconds; one that is not ready only gets no questions, one that is not healthy is started again by those who
// supervise it.
const (
	notReadyAfter   = 10 * time.Second
	unhealthyAfter  = 30 * time.Second
	restartAdvice   = "Restart the agent, and report this with what it logged (its goroutines: kill -QUIT <pid>)."
	collectorStands = "the loop that observes the processes"
	serverStands    = "the loop that keeps the list of processes"
)

// standsStill says which of the loops has not gone round for longer than the limit. It takes no lock.
func (s *Server) standsStill(limit time.Duration) (what string, since time.Duration) {
	if since = time.Since(s.opts.Collector.LastRound()); since > limit {
		return collectorStands, since
	}
	if at := s.observed.Load(); at != 0 {
		if since = time.Since(s.service.started) - time.Duration(at); since > limit {
			return serverStands, since
		}
	}
	return "", 0
}

// healthy answers 200 while the agent's loops go round, else 503 with the reason.
func (s *Server) healthy(w http.ResponseWriter, _ *http.Request) {
	if what, since := s.standsStill(unhealthyAfter); what != "" {
		http.Error(w, fmt.Sprintf("P-Scope agent is not healthy: %s has stood still for %s. %s", what,
			since.Round(time.Second), restartAdvice), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "P-Scope agent is healthy.")
}

// ready answers 200 once processes have been looked for, while what is answered is up to date, else 503 with the
// reason.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if s.observed.Load() == 0 {
		http.Error(w, "P-Scope agent is starting: the first look for Go processes is not done.",
			http.StatusServiceUnavailable)
		return
	}
	if what, since := s.standsStill(notReadyAfter); what != "" {
		http.Error(w, fmt.Sprintf("P-Scope agent is not ready: %s has stood still for %s; what it would answer is "+
			"that old.", what, since.Round(time.Second)), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "P-Scope agent is ready.")
}
