package plugin

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"google.golang.org/protobuf/proto"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// reader gathers a resource's answer as it comes.
type reader struct {
	mu     sync.Mutex
	status int
	header http.Header
	chunks [][]byte
}

func (r *reader) Send(c *backend.CallResourceResponse) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status == 0 {
		r.status, r.header = c.Status, c.Headers
	}
	if len(c.Body) > 0 {
		r.chunks = append(r.chunks, slices.Clone(c.Body))
	}
	return nil
}

func (r *reader) body() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Concat(r.chunks...)
}

func call(ctx context.Context, t *testing.T, d *Datasource, method, path string, header http.Header,
	body []byte) *reader {
	t.Helper()
	r := &reader{}
	route, _, _ := strings.Cut(path, "?")
	if err := d.CallResource(ctx, &backend.CallResourceRequest{Method: method, Path: route, URL: path, Headers: header,
		Body: body}, r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestLists(t *testing.T) {
	a, b := startAgent(t, "web-1", 2, 12), startAgent(t, "web-2", 1, 1)
	for name, settings := range map[string]string{"agents": agentsJSON(a.url, b.url),
		"engine": `{"mode":"engine","engineUrl":"` + a.url + `"}`} {
		d := newDatasource(t, settings)
		hosts := map[string][]string{"agents": {"web-1", "web-2"}, "engine": {"web-1"}}[name]
		for path, want := range map[string][]string{
			"label-values?label=host":                 hosts,
			"label-values?label=process&host=web-1":   {"server-0", "server-1"},
			"label-values?label=pid&process=server-1": {"1001"},
			"label-values?label=p&host=web-1&process=server-0": {"0", "1", "2", "3", "4", "5", "6", "7", "8",
				"9", "10", "11"},
			"label-values?label=container":                              {},
			"label-values?label=process&process=nobody":                 {},
			"label-values?label=process&host=web-1&process=.*-1%7Cx%22": {"server-1"},
		} {
			r := call(t.Context(), t, d, "GET", path, nil, nil)
			if got := strings.TrimSpace(string(r.body())); got != jsonOf(want) {
				t.Errorf("%s, %s: %d %s, want %v", name, path, r.status, got, want)
			}
		}
		r := call(t.Context(), t, d, "GET", "targets?process=server-1", nil, nil)
		var list []targetInfo
		if err := json.Unmarshal(r.body(), &list); err != nil || len(list) != 1 || list[0].PID != 1001 ||
			list[0].Host != "web-1" || list[0].GoVersion != "go1.26.8" {
			t.Errorf("%s: targets %s", name, r.body())
		}
	}
	d := newDatasource(t, agentsJSON(a.url))
	for path, want := range map[string]string{"label-values?label=colour": "there is no label",
		"targets?process=(": "not a regular expression"} {
		if r := call(t.Context(), t, d, "GET", path, nil, nil); r.status != 400 ||
			!strings.Contains(string(r.body()), want) {
			t.Errorf("%s: %d %s", path, r.status, r.body())
		}
	}
	if r := call(t.Context(), t, d, "GET", "health", nil, nil); r.status != 200 ||
		!strings.Contains(string(r.body()), `"ok":true`) {
		t.Errorf("health: %d %s", r.status, r.body())
	}
}

// message packs a protobuf message as gRPC-Web does.
func message(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

func TestScopeServiceStreams(t *testing.T) {
	a, b := startAgent(t, "web-1", 1, 2), startAgent(t, "web-2", 1, 3)
	d := newDatasource(t, agentsJSON(a.url, b.url))
	for _, c := range []struct {
		contentType, which string
		ps                 int
	}{{"application/grpc-web-text", "", 2}, {"application/grpc-web+proto", "1", 3},
		{"application/grpc-web-text+proto", "web-2", 3}} {
		ctx, cancel := context.WithCancel(t.Context())
		body := message(t, &pscopev1.WatchRequest{RateHz: 20})
		isText := strings.HasPrefix(c.contentType, "application/grpc-web-text")
		if isText {
			body = []byte(base64.StdEncoding.EncodeToString(body))
		}
		r := &reader{}
		done := make(chan error, 1)
		go func() {
			done <- d.CallResource(ctx,
				&backend.CallResourceRequest{Method: "POST", Path: "pscope.v1.ScopeService/Watch",
					URL: "pscope.v1.ScopeService/Watch?agent=" + c.which,
					Headers: http.Header{"Content-Type": {c.contentType}, "X-Grpc-Web": {"1"},
						"Cookie": {"grafana_session=secret"}}, Body: body}, r)
		}()
		// Messages come while the stream is open, not at its end.
		deadline := time.Now().Add(5 * time.Second)
		var messages []*pscopev1.WatchResponse
		for len(messages) < 4 && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond)
			messages = unpack(t, r, isText)
		}
		if len(messages) < 4 {
			t.Fatalf("%s: %d messages in 5 s", c.contentType, len(messages))
		}
		if ps := len(messages[0].GetTargets()[0].GetPs()); ps != c.ps {
			t.Errorf("%s, agent %q: %d Ps, want %d", c.contentType, c.which, ps, c.ps)
		}
		cancel()
		select {
		case <-done:
		case <-time.After(2 * time.Second):
			t.Fatal("the call outlives its client")
		}
	}
}

// A browser's client understands an error only in its own protocol: trailers that hold status and words.
func TestScopeServiceSaysWhatIsWrong(t *testing.T) {
	away, guarded := startAgent(t, "web-1", 1, 2), startAgent(t, "web-2", 1, 2)
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "This agent asks for its token.", http.StatusUnauthorized)
	}))
	defer locked.Close()
	d := newDatasource(t, agentsJSON(guarded.url, away.url, elsewhere.URL, locked.URL))
	away.stop()
	for _, c := range []struct {
		which, status, message string
	}{
		{"web-9", "3", "no agent"},
		{"1", "14", "nothing listens at its address"},
		{"2", "12", "No P-Scope agent answers there"},
		{"3", "16", "This agent asks for its token"},
	} {
		for _, contentType := range []string{"application/grpc-web-text", "application/grpc-web+proto"} {
			body := message(t, &pscopev1.WatchRequest{})
			if contentType == "application/grpc-web-text" {
				body = []byte(base64.StdEncoding.EncodeToString(body))
			}
			r := call(t.Context(), t, d, "POST", "pscope.v1.ScopeService/Watch?agent="+c.which,
				http.Header{"Content-Type": {contentType}}, body)
			answer := r.body()
			if contentType == "application/grpc-web-text" {
				var err error
				if answer, err = base64.StdEncoding.DecodeString(string(answer)); err != nil {
					t.Fatal(err)
				}
			}
			if r.status != 200 || !strings.HasPrefix(r.header["Content-Type"][0], contentType) || len(answer) < 5 ||
				answer[0] != 0x80 {
				t.Errorf("agent %s, %s: %d %v %q", c.which, contentType, r.status, r.header, answer)
				continue
			}
			text, err := url.PathUnescape(string(answer[5:]))
			if err != nil || !strings.Contains(text, "grpc-status: "+c.status+"\r\n") ||
				!strings.Contains(text, c.message) {
				t.Errorf("agent %s, %s: %v %q", c.which, contentType, err, text)
			}
		}
	}
	r := call(t.Context(), t, d, "POST", "pscope.v1.ScopeService/ListTargets?agent=1",
		http.Header{"Content-Type": {"application/json"}}, []byte("{}"))
	if r.status != 502 || !strings.Contains(string(r.body()), `"code":"unavailable"`) {
		t.Errorf("a Connect client: %d %s", r.status, r.body())
	}
}

// unpack reads the whole messages that have come.
func unpack(t *testing.T, r *reader, isText bool) (out []*pscopev1.WatchResponse) {
	t.Helper()
	var bin []byte
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.chunks {
		if !isText {
			bin = append(bin, c...)
			continue
		}
		for i := 0; i+4 <= len(c); i += 4 {
			b, err := base64.StdEncoding.DecodeString(string(c[i : i+4]))
			if err != nil {
				t.Fatalf("%q: %v", c, err)
			}
			bin = append(bin, b...)
		}
	}
	for len(bin) >= 5 && len(bin) >= 5+int(binary.BigEndian.Uint32(bin[1:5])) && bin[0] == 0 {
		n := 5 + int(binary.BigEndian.Uint32(bin[1:5]))
		m := &pscopev1.WatchResponse{}
		if err := proto.Unmarshal(bin[5:n], m); err != nil {
			t.Fatal(err)
		}
		out, bin = append(out, m), bin[n:]
	}
	return out
}

func jsonOf(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}
