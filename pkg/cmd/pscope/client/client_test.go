//go:build linux

package client

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Requests carry the token, or else the name and password of the URL. Messages repeat neither.
func TestRequestsCarryCredentials(t *testing.T) {
	t.Setenv("PSCOPE_TOKEN", "")
	var got http.Header
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header }))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	named := strings.Replace(srv.URL, "http://", "http://ann:pass@", 1)
	for name, c := range map[string]struct {
		opts Options
		want string
	}{
		"nothing":              {Options{URL: srv.URL}, ""},
		"a token":              {Options{URL: srv.URL, TokenFile: file}, "Bearer secret"},
		"a name":               {Options{URL: named}, "Basic YW5uOnBhc3M="},
		"a token beside names": {Options{URL: named, TokenFile: file}, "Bearer secret"},
	} {
		if _, _, err := c.opts.Fetch(t.Context(), "/", 10); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if auth := got.Get("Authorization"); auth != c.want {
			t.Errorf("%s: Authorization is %q, want %q", name, auth, c.want)
		}
		if target := c.opts.Target(); target != srv.URL {
			t.Errorf("%s: messages name %q", name, target)
		}
	}
}
