package plugin

import (
	"os/exec"
	"strings"
	"testing"
)

// Grafana must never hold kernel privileges, and the plugin runs on every system: nothing of BPF, and of P-Scope only
// what the protocol and its words need.
func TestImportsNothingOfBPF(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/p-scope/p-scope/pkg").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/p-scope/p-scope/pkg"
	allowed := []string{module, module + "/plugin", module + "/lack", module + "/pstate", module + "/api/pscope/v1",
		module + "/api/grpcwebtext", module + "/internal/rate", module + "/internal/spans", module + "/loss",
		module + "/internal/loglimit"}
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		if strings.Contains(dep, "cilium/ebpf") || strings.Contains(dep, "prometheus/prometheus/") {
			t.Errorf("the plugin imports %s", dep)
		}
		if !strings.HasPrefix(dep, module) {
			continue
		}
		ok := false
		for _, a := range allowed {
			ok = ok || dep == a || a != module && strings.HasPrefix(dep, a+"/")
		}
		if !ok {
			t.Errorf("the plugin imports %s", dep)
		}
	}
}
