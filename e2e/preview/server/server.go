package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/useragent"
	"github.com/grafana/grafana-plugin-sdk-go/config"
	"github.com/grafana/grafana-plugin-sdk-go/genproto/pluginv2"
	"golang.org/x/net/websocket"
)

// The Grafana that the plugin is told it runs under: the oldest one plugin.json promises to work with.
const grafanaVersion = "12.3.0"

// How long a request waits for a plugin that is just starting.
const pluginStartWait = 5 * time.Second

// server is the preview's HTTP side: the page, the plugin's files and the parts of Grafana's API that the plugin's
// frontend uses.
type server struct {
	host         *pluginHost
	settings     *settings
	live         *liveHub
	provisioning string
	dist         string
	page         string
	log          *slog.Logger
}

func newServer(ctx context.Context, host *pluginHost, set *settings, provisioning, dist, page string,
	log *slog.Logger) *server {
	s := &server{host: host, settings: set, provisioning: provisioning, dist: dist, page: page, log: log}
	s.live = &liveHub{
		ctx: ctx, log: log, runs: map[string]*liveRun{},
		client: func(ctx context.Context) (*pluginClient, error) { return host.Client(ctx, pluginStartWait) },
		context: func(uid string) (*pluginv2.PluginContext, error) {
			pctx, err := s.pluginContext(uid)
			return toProtoContext(pctx), err
		},
	}
	return s
}

// handler routes requests. Paths under /api and /public are Grafana's own, those under /preview are not.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/ds/query", s.serveQuery)
	mux.HandleFunc("GET /api/datasources/uid/{uid}/health", s.serveHealth)
	mux.HandleFunc("/api/datasources/uid/{uid}/resources/{path...}", s.serveResource)
	mux.HandleFunc("PUT /api/datasources/uid/{uid}", s.serveUpdate)
	mux.HandleFunc("GET /preview/boot", s.serveBoot)
	mux.HandleFunc("GET /preview/status", s.serveStatus)
	// x/net/websocket checks the origin only if told to; a page of another site must not read the streams.
	mux.Handle("GET /preview/live", websocket.Server{Handler: s.live.serve, Handshake: sameOrigin})
	mux.Handle("/public/plugins/"+pluginID+"/",
		noCache(http.StripPrefix("/public/plugins/"+pluginID+"/", http.FileServer(http.Dir(s.dist)))))
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, fmt.Errorf("%s %s is not part of the preview: it has no more of Grafana's "+
			"API than P-Scope uses", r.Method, r.URL.Path))
	})
	mux.Handle("/", noCache(http.FileServer(http.Dir(s.page))))
	return mux
}

func sameOrigin(ws *websocket.Config, r *http.Request) error {
	origin, err := websocket.Origin(ws, r)
	if err != nil {
		return err
	}
	if origin == nil || origin.Host != r.Host {
		return fmt.Errorf("the origin %v is not this preview", origin)
	}
	return nil
}

// noCache has a rebuilt bundle seen at the next reload.
func noCache(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-cache")
		next.ServeHTTP(w, r)
	})
}

// pluginContext says to the plugin who asks (the preview has one user, an admin) and by which data source.
func (s *server) pluginContext(uid string) (backend.PluginContext, error) {
	ds, err := s.settings.Get(uid)
	if err != nil {
		return backend.PluginContext{}, err
	}
	instance, err := ds.instanceSettings()
	if err != nil {
		return backend.PluginContext{}, err
	}
	agent, err := useragent.New(grafanaVersion, runtime.GOOS, runtime.GOARCH)
	if err != nil {
		return backend.PluginContext{}, err
	}
	return backend.PluginContext{
		//lint:ignore SA1019 Grafana still fills it in, and P-Scope keeps live channels apart by it.
		OrgID:    1,
		PluginID: pluginID, UserAgent: agent, DataSourceInstanceSettings: instance,
		User:          &backend.User{Login: "admin", Name: "Preview", Email: "admin@localhost", Role: "Admin"},
		GrafanaConfig: config.NewGrafanaCfg(map[string]string{"GF_APP_URL": "http://localhost/"}),
	}, nil
}

func toProtoContext(pctx backend.PluginContext) *pluginv2.PluginContext {
	return backend.ToProto().PluginContext(pctx)
}

func healthRequest(pctx backend.PluginContext) *pluginv2.CheckHealthRequest {
	return &pluginv2.CheckHealthRequest{PluginContext: toProtoContext(pctx)}
}

func (s *server) pluginStarts() int {
	_, starts := s.host.Status()
	return starts
}

// pageSource is a data source as the page gets it: which secrets are set, never what they are.
type pageSource struct {
	dataSource
	SecureFields map[string]bool `json:"secureJsonFields"`
}

func forPage(d dataSource) pageSource {
	p := pageSource{dataSource: d, SecureFields: map[string]bool{}}
	for name := range d.SecureJSONData {
		p.SecureFields[name] = true
	}
	return p
}

// serveBoot gives the page what Grafana puts into its first page: plugin.json, data sources, boards. Read anew each
// time, so that an edited board is seen at the next reload.
func (s *server) serveBoot(w http.ResponseWriter, r *http.Request) {
	meta, err := os.ReadFile(filepath.Join(s.dist, "plugin.json"))
	if err != nil {
		writeError(w, http.StatusInternalServerError, fmt.Errorf("the built plugin is missing (%w): run `npm run "+
			"build`", err))
		return
	}
	boards, err := readDashboards(s.provisioning)
	if err != nil {
		writeError(w, http.StatusInternalServerError, err)
		return
	}
	var sources []pageSource
	for _, d := range s.settings.All() {
		sources = append(sources, forPage(d))
	}
	writeJSON(w, http.StatusOK, map[string]any{"plugin": json.RawMessage(meta), "datasources": sources,
		"dashboards": boards, "grafanaVersion": grafanaVersion})
}

// serveStatus tells tests about the inside: the plugin's process, how often it was started, streams that run.
func (s *server) serveStatus(w http.ResponseWriter, r *http.Request) {
	pid, starts := s.host.Status()
	writeJSON(w, http.StatusOK, map[string]any{"pluginPid": pid, "pluginStarts": starts,
		"liveStreams": s.live.Streams()})
}

// serveUpdate is the config editor's save: in memory only.
func (s *server) serveUpdate(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Name           string            `json:"name"`
		JSONData       map[string]any    `json:"jsonData"`
		SecureJSONData map[string]string `json:"secureJsonData"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil {
		writeError(w, http.StatusBadRequest, fmt.Errorf("the settings are not valid JSON: %w", err))
		return
	}
	if body.JSONData == nil {
		body.JSONData = map[string]any{}
	}
	ds, err := s.settings.Update(r.PathValue("uid"), body.Name, body.JSONData, body.SecureJSONData)
	if err != nil {
		writeError(w, http.StatusNotFound, err)
		return
	}
	writeJSON(w, http.StatusOK, forPage(ds))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		status, raw = http.StatusInternalServerError, fmt.Appendf(nil, `{"message":%q}`, err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

// writeError answers in the form of Grafana's API errors.
func writeError(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"message": err.Error()})
}
