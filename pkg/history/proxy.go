//go:build linux

package history

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"time"
)

const (
	openWithin  = 10 * time.Second // a request waits as long for a child that is being started
	maxRequests = 128              // at once, waiting ones included
)

// Handler passes requests on to the child.
func (s *Supervisor) Handler() http.Handler {
	slots := make(chan struct{}, maxRequests)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
		default:
			unavailable(w, fmt.Sprintf("%d queries are being answered or wait; ask again later", maxRequests))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), openWithin)
		to, err := s.serving(ctx)
		cancel()
		if err != nil {
			unavailable(w, "the history can't be asked now: "+err.Error()+"; live views go on, ask again later")
			return
		}
		to.ServeHTTP(w, r)
	})
}

func (s *Supervisor) newProxy(t http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "history"
			p.Out.Host = p.In.Host
			// The agent has asked for it; the child asks for none.
			p.Out.Header.Del("Authorization")
			p.Out.Header.Del("Cookie")
		},
		Transport:     t,
		FlushInterval: -1,
		ErrorLog:      quietLog(),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() != nil {
				return // nobody is left to read it
			}
			unavailable(w, fmt.Sprintf("the process that keeps the history ended while it answered (%v); it is "+
				"started again: ask again, with fewer series or a larger step if that repeats", err))
		},
	}
}

func unavailable(w http.ResponseWriter, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Retry-After", "5")
	w.WriteHeader(http.StatusServiceUnavailable)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": "unavailable", "error": why})
}

// quietLog is for servers whose complaints about single connections help nobody.
func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
