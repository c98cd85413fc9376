package settings

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

func TestLoad(t *testing.T) {
	t.Setenv(allowedSockets, "/x.sock")
	for _, c := range []struct {
		name, json string
		want       Settings
	}{
		{"nothing saved", ``, Settings{Mode: ModeLocal, SocketPath: DefaultSocket, StartAgent: true,
			EngineSample: 15 * time.Second}},
		{"local", `{"socketPath":"/x.sock","startAgent":false}`, Settings{Mode: ModeLocal, SocketPath: "/x.sock",
			SocketChosen: true, EngineSample: 15 * time.Second}},
		{"agents", `{"mode":"agents","agents":["web-1:9477"," https://b/x/ ",""]}`,
			Settings{Mode: ModeAgents, SocketPath: DefaultSocket, StartAgent: true,
				Agents: []string{"http://web-1:9477", "https://b/x"}, EngineSample: 15 * time.Second}},
		{"engine", `{"mode":"engine","engineUrl":"http://mimir/prometheus/","scrapeInterval":"1m"}`,
			Settings{Mode: ModeEngine, SocketPath: DefaultSocket, StartAgent: true,
				EngineURL: "http://mimir/prometheus", EngineSample: time.Minute}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Load(backend.DataSourceInstanceSettings{JSONData: []byte(c.json)})
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, c.want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	for json, field := range map[string]string{
		`{"mode":"remote"}`: "mode", `{"mode":"agents"}`: "agents", `{"mode":"engine"}`: "engineUrl",
		`{"mode":"agents","agents":["ftp://x"]}`: "agents", `{"mode":"agents","agents":["http://u:p@x"]}`: "agents",
		`{"mode":"engine","engineUrl":"http://x?a=b"}`: "engineUrl", `{"scrapeInterval":"soon"}`: "scrapeInterval",
		`[`: "jsonData",
	} {
		var e *Error
		if _, err := Load(backend.DataSourceInstanceSettings{JSONData: []byte(json)}); !errors.As(err, &e) ||
			e.Field != field {
			t.Errorf("%s: got %v, want an error about %s", json, err, field)
		}
	}
}

// TestOnlyAllowedSockets: who may edit a data source must not reach any socket of Grafana's host, nor have folders made
// anywhere.
func TestOnlyAllowedSockets(t *testing.T) {
	t.Setenv("GF_PLUGIN_ALLOWED_SOCKETS", "/srv/pscope/agent.sock, /srv/agents/ ,relative/")
	for path, ok := range map[string]bool{
		"":                                true,
		DefaultSocket:                     true,
		OwnDir() + "/pscope.sock":         true,
		OwnDir() + "/more/x.sock":         true,
		OwnDir():                          false,
		OwnDir() + "/../docker.sock":      false,
		OwnDir() + "-other/pscope.sock":   false,
		"/srv/pscope/agent.sock":          true,
		"/srv/pscope/agent.sock2":         false,
		"/srv/agents/one.sock":            true,
		"/srv/agents/../../run/x.sock":    false,
		"/srv/agents":                     false,
		"/run/docker.sock":                false,
		"/run/pscope/../docker.sock":      false,
		"/run/pscope/other.sock":          false,
		"relative/x.sock":                 false,
		"@abstract":                       false,
		"/run/containerd/containerd.sock": false,
	} {
		text, err := json.Marshal(map[string]string{"socketPath": path})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load(backend.DataSourceInstanceSettings{JSONData: text})
		if (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
		if err != nil && !strings.Contains(err.Error(), "allowed_sockets") {
			t.Errorf("%q: %q does not say what to do", path, err)
		}
	}
	t.Setenv("GF_PLUGIN_ALLOWED_SOCKETS", "")
	if _, err := Load(backend.DataSourceInstanceSettings{JSONData: []byte(
		`{"socketPath":"/srv/pscope/agent.sock"}`)}); err == nil {
		t.Error("a socket that nobody allowed")
	}
}
