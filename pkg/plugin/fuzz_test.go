package plugin

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzResourcePath asks the plugin's resources for any path: the agent, which is sent the token, is asked for
// procedures of the service and for what the plugin's own resources need, and for nothing else.
func FuzzResourcePath(f *testing.F) {
	for _, path := range []string{
		"pscope.v1.ScopeService/Watch", "pscope.v1.ScopeService/..%2F..%2Fmetrics",
		"pscope.v1.ScopeService/..%252F..%252Fmetrics",
		"pscope.v1.ScopeService/Watch?agent=0", "/pscope.v1.ScopeService/Stops#x", "targets?process=(",
		"label-values?label=p&from=1&to=2",
	} {
		f.Add("POST", path, []byte("\x00\x00\x00\x00\x00"))
		f.Add("GET", path, []byte(nil))
	}
	own := map[string]bool{"/-/healthy": true, "/-/ready": true}
	methods := pscopev1.File_pscope_v1_scope_proto.Services().ByName("ScopeService").Methods()
	for i := range methods.Len() {
		own["/"+pscopev1connect.ScopeServiceName+"/"+string(methods.Get(i).Name())] = true
	}
	var mu sync.Mutex
	var asked []string
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Path)
		mu.Unlock()
		http.Error(w, "no", http.StatusNotFound)
	}))
	f.Cleanup(agent.Close)
	d := newDatasource(f, agentsJSON(agent.URL))
	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		if len(path) > 8<<10 || len(body) > 8<<10 {
			return
		}
		route, _, _ := strings.Cut(path, "?")
		header := http.Header{"Content-Type": {"application/grpc-web+proto"}}
		fuzztest.Within(t, 5*time.Second, len(path), func() {
			// The SDK's adapter refuses what is no URL.
			_ = d.CallResource(t.Context(), &backend.CallResourceRequest{Method: method, Path: route, URL: path,
				Headers: header, Body: body}, &reader{})
		})
		mu.Lock()
		got := asked
		asked = nil
		mu.Unlock()
		for _, p := range got {
			if !own[p] && !strings.HasPrefix(p, "/api/v1/") {
				t.Errorf("%s %q: the agent was asked for %q", method, path, p)
			}
			if strings.HasPrefix(route, "pscope") && !own[p] {
				t.Errorf("%s %q left the service for %q", method, path, p)
			}
		}
	})
}
