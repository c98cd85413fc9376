package api

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// FuzzAccess sends any headers to an agent on loopback, without and with a token: no page of another origin, and nobody
// without the token, is let in.
func FuzzAccess(f *testing.F) {
	f.Add("127.0.0.1:9477", "", "", "")
	f.Add("localhost.:1", "http://localhost.:1", "cross-site", "Bearer secret")
	f.Add("[::1%25x]:1", "null", "none", "bearer  secret")
	f.Add("127.0.0.1.evil.example", "http://127.0.0.1", "", "Bearer secret ")
	f.Fuzz(func(t *testing.T, host, origin, site, authorization string) {
		fuzztest.Within(t, fuzztest.Small, len(host)+len(origin), func() {
			for _, a := range []access{{loopback: true}, {token: func() string { return "secret" }}} {
				in := false
				h := a.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { in = true }))
				r := &http.Request{Method: http.MethodGet, URL: httptest.NewRequest(http.MethodGet, "/metrics",
					nil).URL,
					Host:   host,
					Header: http.Header{"Origin": {origin}, "Sec-Fetch-Site": {site}, "Authorization": {authorization}}}
				h.ServeHTTP(httptest.NewRecorder(), r)
				if !in {
					continue
				}
				if a.token != nil {
					if scheme, given, _ := strings.Cut(authorization, " "); !strings.EqualFold(scheme, "Bearer") ||
						given != "secret" {
						t.Errorf("let in with %q", authorization)
					}
					continue
				}
				if !own(host) || origin != "" && !strings.HasSuffix(origin, "://"+host) && !strings.Contains(origin,
					"://"+host+"/") &&
					!strings.Contains(origin, "@"+host) && !strings.Contains(origin, "://"+host+"?") &&
					!strings.Contains(origin,
						"://"+host+"#") &&
					!strings.HasPrefix(origin, "//"+host) {
					t.Errorf("a page of %q is let in, sent to %q", origin, host)
				}
			}
		})
	})
}

// own says whether a name in Host is one of this host's loopback addresses, by another way than the one that is tested.
func own(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	ip, err := netip.ParseAddr(name)
	return name == "localhost" || strings.HasSuffix(name, ".localhost") || err == nil && ip.Unmap().IsLoopback()
}

// FuzzToken reads a token file.
func FuzzToken(f *testing.F) {
	for _, s := range []string{"secret\n", "two\nlines", "", "a\x00b", "ü", strings.Repeat("x", 5000), "\ufeffabc"} {
		f.Add([]byte(s))
	}
	path := filepath.Join(f.TempDir(), "token")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		fuzztest.Within(t, fuzztest.Small, len(b), func() {
			token, err := readToken(path)
			if err != nil {
				return
			}
			if token == "" || len(token) > mostOfToken || strings.ContainsFunc(token,
				func(r rune) bool { return r <= ' ' || r > '~' }) {
				t.Errorf("the token %q is accepted", token)
			}
			if !carries(&http.Request{Header: http.Header{"Authorization": {"Bearer " + token}}}, token) {
				t.Errorf("the token %q does not let in", token)
			}
		})
	})
}

// FuzzCertificates reads the files of TLS.
func FuzzCertificates(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n"))
	path := filepath.Join(f.TempDir(), "pem")
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 64<<10 {
			return
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		fuzztest.Within(t, 5*time.Second, len(b), func() {
			if c, err := readTLS(path, path, path, slog.New(slog.DiscardHandler)); err == nil &&
				c.ClientAuth != tls.RequireAndVerifyClientCert {
				t.Error("clients' certificates are not asked for")
			}
		})
	})
}

// FuzzService sends any body to each procedure that answers once, as JSON and as protocol buffers: it is answered or
// refused.
func FuzzService(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"selector":{"process":"(a{9}){9}","ps":[0,-1]}}`,
		`{"fromUnixNano":"-9223372036854775808","toUnixNano":"9223372036854775807"}`,
		`{"maxPerP":4294967295,"selector":{"pids":[1000]}}`, `{"windowSeconds":1e308}`,
	} {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(3))
	}
	source := viewtest.New(2, 4, time.Now().Add(-time.Minute))
	s, err := NewServer(Options{Collector: source, Timeline: timeline.New(timeline.Options{}), Host: "h", Version: "1",
		Sys:    f.TempDir(),
		Socket: filepath.Join(f.TempDir(), "s")})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	var unary []string
	methods := pb.File_pscope_v1_scope_proto.Services().ByName("ScopeService").Methods()
	for i := range methods.Len() {
		if !methods.Get(i).IsStreamingServer() {
			unary = append(unary, "/"+pscopev1connect.ScopeServiceName+"/"+string(methods.Get(i).Name()))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, which uint8) {
		if len(body) > 64<<10 {
			return
		}
		procedure := unary[int(which>>1)%len(unary)]
		req := httptest.NewRequest(http.MethodPost, procedure, bytes.NewReader(body))
		req.Header.Set("Content-Type", []string{"application/json", "application/proto"}[which&1])
		rec := httptest.NewRecorder()
		fuzztest.Within(t, 5*time.Second, len(body), func() { s.Handler().ServeHTTP(rec, req) })
		if rec.Code == http.StatusInternalServerError || rec.Code == 0 {
			t.Errorf("%s of %q: %d %s", procedure, body, rec.Code, rec.Body)
		}
	})
}
