package settings

import (
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzLoad reads what Grafana stored of a data source. Nothing but sockets that the server allows and plain addresses
// may come out of it.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		`{"socketPath":"/run/pscope/../x.sock","startAgent":false}`,
		`{"mode":"agents","agents":["web-1:9477"," https://b/x/ ",""]}`,
		`{"mode":"engine","engineUrl":"http://u:p@h","scrapeInterval":"15s"}`,
		`{"mode":"agents","agents":["http://[::1%25a]:1"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		fuzztest.Within(t, fuzztest.Small, len(text), func() {
			s, err := Load(backend.DataSourceInstanceSettings{JSONData: text})
			if err != nil {
				if err.Error() == "" {
					t.Error("refused without a word")
				}
				return
			}
			below, _ := filepath.Rel(OwnDir(), s.SocketPath)
			if s.SocketPath != DefaultSocket && !filepath.IsLocal(below) {
				t.Errorf("the socket %q is let in", s.SocketPath)
			}
			for _, a := range append(s.Agents, s.EngineURL) {
				u, err := url.Parse(a)
				if err != nil || a != "" && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") ||
					u.User != nil {
					t.Errorf("the address %q is let in (%v)", a, err)
				}
			}
			if s.EngineSample < time.Second {
				t.Errorf("a sample each %v", s.EngineSample)
			}
		})
	})
}
