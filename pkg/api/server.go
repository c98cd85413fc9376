package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"

	"github.com/p-scope/p-scope/pkg/api/grpcwebtext"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/cpufreq"
	"github.com/p-scope/p-scope/pkg/diagnose"
	"github.com/p-scope/p-scope/pkg/loss"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// Options of a Server. Collector and Timeline are needed, and at least one of Listen and Socket; everything else may be
// zero.
type Options struct {
	Collector Collector
	Timeline  *timeline.Store
	// Store is the history. Serve writes to it; opening and closing it is the caller's. nil: no history, and /api/v1
	// says so.
	Store History

	Host    string // label host; empty: the kernel's host name
	Version string // of the agent
	Sys     string // where sysfs is; empty: /sys
	// FrequencyChanges are those the kernel announces; nil: frequencies are only read.
	FrequencyChanges cpufreq.Changes

	Listen string // TCP address, "127.0.0.1:9477"
	// TLS secures the TCP listener; LoadTLS makes one from files. nil: plain.
	TLS *tls.Config
	// Token gives what is asked of every request over TCP but those to /-/healthy and /-/ready; LoadToken makes it from
	// a file. nil: none is asked for. Then an address beyond loopback needs a TLS that verifies clients, or Insecure.
	Token func() string
	// Insecure lets anyone in who reaches the address.
	Insecure bool
	// AllowOrigins are the web origins that may call from a browser directly; Grafana needs none. SetAllowOrigins
	// changes them.
	AllowOrigins []string
	// Self gives metrics of the agent beside those that the package metrics gathers by itself, by name; nil: there are
	// none.
	Self func() map[string]float64
	// LastLog gives the last lines of the agent's log, for a bug report; nil: they are not kept.
	LastLog func() string

	Socket      string      // path of the unix socket; access to it is by file permissions alone
	SocketMode  os.FileMode // 0: 0660
	SocketGroup string      // group that owns the socket; empty: the agent's own

	// Attend is called when a request for history or states begins, and what it gives when that has been answered; nil:
	// nobody is told.
	Attend func() (answered func())

	// Transitions leave in batches of BatchSize (0: 16) per P, or after BatchDelay (0: 200 ms).
	BatchSize  int
	BatchDelay time.Duration

	Log *slog.Logger
}

// History keeps the metrics and answers the Prometheus HTTP API over them: a history.Supervisor, or in one process a
// store.Store with a promapi.API.
type History interface {
	// Run writes what gather gives, once every interval, until ctx is done and all is written.
	Run(ctx context.Context, gather func(now time.Time) metrics.Snapshot)
	// Handler answers the Prometheus HTTP API below /api/v1/.
	Handler() http.Handler
	// Losses counts samples that are missing, by reason.
	Losses() map[string]uint64
}

// Server serves the agent's API.
type Server struct {
	opts     Options
	service  *service
	handler  http.Handler
	listener []net.Listener // TCP first, if there is one
	servers  []*http.Server
	origins  atomic.Pointer[[]string]
	observed atomic.Int64 // nanoseconds after the start at which observe last went round; 0: not yet
	log      *slog.Logger
}

// NewServer binds the listeners. Its errors say what is in the way and what to do. Close the Server if Serve is never
// called.
func NewServer(o Options) (*Server, error) {
	if o.Collector == nil || o.Timeline == nil {
		return nil, errors.New("api: a Server needs a Collector and a Timeline")
	}
	if o.Listen == "" && o.Socket == "" {
		return nil, errors.New("nothing to serve on: pass --listen, --socket or both")
	}
	if o.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("the host's name is not known: %w; pass --host", err)
		}
		o.Host = host
	}
	if o.Sys == "" {
		o.Sys = "/sys"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.BatchSize <= 0 {
		o.BatchSize = 16
	}
	if o.BatchDelay <= 0 {
		o.BatchDelay = 200 * time.Millisecond
	}
	frequencies := cpufreq.NewReader(o.Sys)
	if o.FrequencyChanges != nil {
		frequencies.Follow(o.FrequencyChanges)
	}
	s := &Server{opts: o, log: o.Log}
	s.SetAllowOrigins(o.AllowOrigins)
	s.service = &service{
		host: o.Host, version: o.Version, started: time.Now(), collector: o.Collector, timeline: o.Timeline,
		sampler: &sampler{from: o.Collector}, registry: newRegistry(o.Collector, o.Timeline),
		history:   diagnose.NewHistory(0),
		frequency: &frequency{from: frequencies}, resumes: &resumes{}, limits: newLimits(),
		batchSize: o.BatchSize, batchDelay: o.BatchDelay, closing: make(chan struct{}), log: o.Log,
	}
	s.handler = s.routes()
	if o.Listen != "" {
		l, err := listenTCP(o.Listen)
		if err != nil {
			return nil, err
		}
		certified := o.TLS != nil && o.TLS.ClientAuth == tls.RequireAndVerifyClientCert
		if err := CheckAccess(l.Addr().String(), o.Token != nil, certified, o.Insecure); err != nil {
			_ = l.Close()
			return nil, err
		}
		if o.Token == nil && !certified && !isLoopback(l.Addr()) {
			s.log.Warn("anyone who reaches the address can read what the processes of this host do, as --insecure says",
				"listen", l.Addr().String())
		}
		s.add(l, access{token: o.Token, loopback: isLoopback(l.Addr()), origins: s.allowedOrigins}.guard(s.handler),
			o.TLS)
	}
	if o.Socket != "" {
		l, err := listenUnix(o.Socket, o.SocketMode, o.SocketGroup)
		if err != nil {
			_ = s.Close()
			return nil, err
		}
		s.add(l, s.handler, nil)
	}
	return s, nil
}

func (s *Server) add(l net.Listener, h http.Handler, secure *tls.Config) {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		TLSConfig: secure,
	}
	srv.Protocols.SetHTTP1(true)
	if secure != nil {
		srv.Protocols.SetHTTP2(true)
	} else {
		srv.Protocols.SetUnencryptedHTTP2(true)
	}
	s.listener, s.servers = append(s.listener, l), append(s.servers, srv)
}

// SetAllowOrigins changes Options.AllowOrigins for requests that come from now on.
func (s *Server) SetAllowOrigins(origins []string) { s.origins.Store(&origins) }

func (s *Server) allowedOrigins() []string { return *s.origins.Load() }

// Addr is the TCP address in use, for instance when port 0 was asked for; nil without one.
func (s *Server) Addr() net.Addr {
	if s.opts.Listen == "" || len(s.listener) == 0 {
		return nil
	}
	return s.listener[0].Addr()
}

// Handler is everything that is served, without token and TLS.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve answers requests and writes the history until ctx is done. Then streams are told, requests in flight get five
// seconds, and it returns nil. It returns an error when a listener fails.
func (s *Server) Serve(ctx context.Context) error {
	run, stop := context.WithCancel(context.Background())
	var background sync.WaitGroup
	background.Go(func() { s.observe(run) })
	if s.opts.Store != nil {
		background.Go(func() { s.opts.Store.Run(run, s.gather) })
	}
	servers, running := errgroup.WithContext(ctx)
	for i, srv := range s.servers {
		servers.Go(func() error { return serveOn(srv, s.listener[i]) })
	}
	<-running.Done() // ctx is done, or a listener has failed
	close(s.service.closing)
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, srv := range s.servers {
		_ = srv.Shutdown(grace)
	}
	stop()
	background.Wait()
	closed := s.Close()
	return errors.Join(servers.Wait(), closed)
}

// serveOn serves until the server is shut down, or the listener fails.
func serveOn(srv *http.Server, l net.Listener) error {
	serve := srv.Serve
	if srv.TLSConfig != nil {
		serve = func(l net.Listener) error { return srv.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving on %s: %w", l.Addr(), err)
	}
	return nil
}

// Close gives the listeners up and removes the socket.
func (s *Server) Close() error {
	for _, srv := range s.servers {
		_ = srv.Close()
	}
	for _, l := range s.listener {
		_ = l.Close()
	}
	return nil
}

// observe keeps the registry and the history of totals up to date.
func (s *Server) observe(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now := time.Now()
		s.service.registry.refresh(now)
		if s.service.history.Due(now) {
			s.service.history.Add(now, s.service.sampler.get(fresh).views)
		}
		s.observed.Store(max(1, int64(time.Since(s.service.started))))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// gather gives everything the metrics are made of, brought up to now.
func (s *Server) gather(now time.Time) metrics.Snapshot {
	c := s.opts.Collector
	info := c.Agent()
	snap := metrics.Snapshot{Views: c.Views(now), Targets: c.Targets(), Mode: info.Mode, Lost: make(map[string]uint64),
		Self: metrics.Self()}
	for reason, n := range info.GlobalLost {
		snap.Lost[reason] += n
	}
	if n := s.opts.Timeline.Rejected(); n > 0 {
		snap.Lost[loss.TimelineOutOfOrder] = n
	}
	if s.opts.Store != nil {
		for reason, n := range s.opts.Store.Losses() {
			snap.Lost[reason] += n
		}
		if process, ok := s.opts.Store.(interface{ Self() map[string]float64 }); ok {
			maps.Copy(snap.Self, process.Self())
		}
	}
	if s.opts.Self != nil {
		maps.Copy(snap.Self, s.opts.Self())
	}
	snap.CPUs, _ = s.service.frequency.read(now) // what is not there is absent; ListTargets says why
	return snap
}

// attended tells Options.Attend of each request.
func (s *Server) attended(h http.Handler) http.Handler {
	if s.opts.Attend == nil {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.opts.Attend()()
		h.ServeHTTP(w, r)
	})
}

// routes puts everything on one mux.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	path, scope := pscopev1connect.NewScopeServiceHandler(s.service, connect.WithReadMaxBytes(1<<20),
		connect.WithCompressMinBytes(1<<10))
	mux.Handle(path, s.attended(grpcwebtext.Handler(scope)))
	mux.Handle("GET /metrics", metrics.NewExposition(s.opts.Host, s.opts.Version,
		func() metrics.Snapshot { return s.gather(time.Now()) }))
	if s.opts.Store != nil {
		mux.Handle("/api/v1/", s.attended(http.MaxBytesHandler(s.opts.Store.Handler(), 1<<20)))
	} else {
		mux.HandleFunc("/api/v1/", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, `{"status":"error","errorType":"unavailable","error":"this agent keeps no history: start it with --data-dir"}`)
		})
	}
	mux.HandleFunc("GET /-/healthy", s.healthy)
	mux.HandleFunc("GET /-/ready", s.ready)
	if s.opts.LastLog != nil {
		mux.HandleFunc("GET /-/log", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s.opts.LastLog()) })
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "P-Scope agent %s on %s.\n\n/metrics  what Prometheus scrapes\n"+
			"/api/v1/  Prometheus HTTP API over the history\n%s  gRPC, gRPC-Web and Connect\n"+
			"/-/healthy\n/-/ready\n/-/log    what it logged last\n", s.opts.Version, s.opts.Host, path)
	})
	return mux
}
