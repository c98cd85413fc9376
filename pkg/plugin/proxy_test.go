package plugin

import (
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// TestOnlyProceduresOfTheServiceAreProxied: a path that is decoded twice and then joined leaves the service, with the
// agent's token attached.
func TestOnlyProceduresOfTheServiceAreProxied(t *testing.T) {
	var mu sync.Mutex
	var paths []string
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		paths = append(paths, r.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "application/grpc-web+proto")
	}))
	defer agent.Close()
	d := newDatasource(t, agentsJSON(agent.URL))
	header := http.Header{"Content-Type": {"application/grpc-web+proto"}}
	asked := func(path string) []string {
		call(t.Context(), t, d, "POST", path, header, message(t, &pscopev1.ListTargetsRequest{}))
		mu.Lock()
		defer mu.Unlock()
		got := paths
		paths = nil
		return got
	}
	for _, path := range []string{
		"pscope.v1.ScopeService/..%2F..%2Fmetrics",
		"pscope.v1.ScopeService/..%2Fapi%2Fv1%2Fquery",
		"pscope.v1.ScopeService/..%252F..%252Fmetrics",
		"pscope.v1.ScopeService/%2e%2e%2fmetrics",
		"pscope.v1.ScopeService/..",
		"pscope.v1.ScopeService/Watch%2F..%2F..%2Fmetrics",
		"pscope.v1.ScopeService/Delete",
		"pscope.v1.ScopeService/watch",
		"pscope.v1.ScopeService/",
		"pscope.v2.ScopeService/Watch",
	} {
		if got := asked(path); len(got) > 0 {
			t.Errorf("%s: the agent was asked for %q", path, got)
		}
	}
	methods := pscopev1.File_pscope_v1_scope_proto.Services().ByName("ScopeService").Methods()
	for i := range methods.Len() {
		name := string(methods.Get(i).Name())
		if got := asked("pscope.v1.ScopeService/" + name); len(got) != 1 || got[0] != "/pscope.v1.ScopeService/"+name {
			t.Errorf("%s: the agent was asked for %q", name, got)
		}
	}
}
