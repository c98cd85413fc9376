package settings

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
)

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name, json string
		want       Settings
	}{
		{"nothing saved", ``, Settings{Mode: ModeLocal, SocketPath: DefaultSocket, StartAgent: true, EngineSample: 15 * time.Second}},
		{"local", `{"socketPath":"/x.sock","startAgent":false}`, Settings{Mode: ModeLocal, SocketPath: "/x.sock", SocketChosen: true, EngineSample: 15 * time.Second}},
		{"agents", `{"mode":"agents","agents":["web-1:9477"," https://b/x/ ",""]}`,
			Settings{Mode: ModeAgents, SocketPath: DefaultSocket, StartAgent: true, Agents: []string{"http://web-1:9477", "https://b/x"}, EngineSample: 15 * time.Second}},
		{"engine", `{"mode":"engine","engineUrl":"http://mimir/prometheus/","scrapeInterval":"1m"}`,
			Settings{Mode: ModeEngine, SocketPath: DefaultSocket, StartAgent: true, EngineURL: "http://mimir/prometheus", EngineSample: time.Minute}},
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
		`{"mode":"engine","engineUrl":"http://x?a=b"}`: "engineUrl", `{"scrapeInterval":"soon"}`: "scrapeInterval", `[`: "jsonData",
	} {
		var e *Error
		if _, err := Load(backend.DataSourceInstanceSettings{JSONData: []byte(json)}); !errors.As(err, &e) || e.Field != field {
			t.Errorf("%s: got %v, want an error about %s", json, err, field)
		}
	}
}
