package api

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// TestBeyondLoopbackSomebodyMustAuthenticate: TLS without a client's certificate encrypts and lets anyone in.
func TestBeyondLoopbackSomebodyMustAuthenticate(t *testing.T) {
	cert, key, _, _ := certificates(t)
	load := func(ca string) *tls.Config {
		c, err := LoadTLS(cert, key, ca, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	token := func() string { return "secret" }
	for name, c := range map[string]struct {
		change func(o *Options)
		ok     bool
	}{
		"nothing":                     {func(*Options) {}, false},
		"TLS only":                    {func(o *Options) { o.TLS = load("") }, false},
		"token":                       {func(o *Options) { o.Token = token }, true},
		"clients' certificates":       {func(o *Options) { o.TLS = load(cert) }, true},
		"insecure":                    {func(o *Options) { o.Insecure = true }, true},
		"nothing on loopback":         {func(o *Options) { o.Listen = "127.0.0.1:0" }, true},
		"nothing on loopback of IPv6": {func(o *Options) { o.Listen = "[::1]:0" }, true},
	} {
		o := Options{Collector: viewtest.New(1, 1, time.Now()), Timeline: timeline.New(timeline.Options{}), Host: "h",
			Listen: ":0", Sys: t.TempDir()}
		c.change(&o)
		s, err := NewServer(o)
		if err != nil && strings.Contains(err.Error(), "cannot assign") {
			continue // no IPv6 here
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = s.Close()
		} else if !strings.Contains(err.Error(), "--token-file") || !strings.Contains(err.Error(), "--insecure") {
			t.Errorf("%s: %q does not say what to do", name, err)
		}
	}
}

// TestWebPagesAreKeptOut: any page in a browser on the host reaches 127.0.0.1.
func TestWebPagesAreKeptOut(t *testing.T) {
	f := serve(t, func(o *Options) { o.AllowOrigins = []string{"https://grafana.example"} })
	host := strings.TrimPrefix(f.url, "http://")
	_, port, _ := net.SplitHostPort(host)
	scope := "/pscope.v1.ScopeService/ListTargets"
	for _, c := range []struct {
		what, host string
		header     map[string]string
		code       int
	}{
		{"a program", host, nil, 200},
		{"by the name localhost", "localhost:" + port, nil, 200},
		{"by an IPv6 address", "[::1]:" + port, nil, 200},
		{"another name that leads here", "evil.example:" + port, nil, 403},
		{"another name that begins alike", "localhost.evil.example:" + port, nil, 403},
		{"an address of another host", "192.0.2.1:" + port, nil, 403},
		{"a page of its own", host, map[string]string{"Origin": "http://" + host}, 200},
		{"a page of another origin", host, map[string]string{"Origin": "https://evil.example"}, 403},
		{"a page of another port", host, map[string]string{"Origin": "http://127.0.0.1:1"}, 403},
		{"a page without an origin", host, map[string]string{"Origin": "null"}, 403},
		{"a page that may", host, map[string]string{"Origin": "https://grafana.example"}, 200},
		{"a picture in another page", host, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"a picture in a page of another port", host, map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"a user who types", host, map[string]string{"Sec-Fetch-Site": "none"}, 200},
	} {
		for _, r := range []struct{ method, path, contentType, body string }{
			{"GET", "/metrics", "", ""},
			{"POST", scope, "application/json", "{}"},
			{"POST", scope, "application/grpc-web+proto", "\x00\x00\x00\x00\x00"},
			{"POST", scope, "application/grpc-web-text", "AAAAAAA="},
			{"GET", "/-/healthy", "", ""},
		} {
			req, err := http.NewRequest(r.method, f.url+r.path, strings.NewReader(r.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			if r.contentType != "" {
				req.Header.Set("Content-Type", r.contentType)
			}
			for k, v := range c.header {
				req.Header.Set(k, v)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(res.Body)
			res.Body.Close()
			want := c.code
			if r.path == "/-/healthy" {
				want = 200 // says nothing but whether it works
			}
			if res.StatusCode != want {
				t.Errorf("%s, %s %s %s: %d, want %d: %s", c.what, r.method, r.path, r.contentType, res.StatusCode, want,
					text)
			}
			if allowed := res.Header.Get("Access-Control-Allow-Origin"); want == 403 && allowed != "" {
				t.Errorf("%s: the browser is told that %s may read", c.what, allowed)
			}
		}
	}
}

func TestTokenNeedsItsScheme(t *testing.T) {
	f := serve(t, func(o *Options) { o.Token = func() string { return "secret" } })
	for value, want := range map[string]int{"Bearer secret": 200, "bearer secret": 200, "secret": 401,
		"Basic secret": 401, "Bearer ": 401, "": 401, "Bearer secret2": 401} {
		req, _ := http.NewRequest("GET", f.url+"/metrics", nil)
		req.Header.Set("Authorization", value)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%q: %d, want %d", value, res.StatusCode, want)
		}
	}
	req, _ := http.NewRequest("OPTIONS", f.url+"/metrics", nil)
	if res, err := http.DefaultClient.Do(req); err != nil || res.StatusCode != 401 {
		t.Errorf("OPTIONS without a token: %v, %v", res.Status, err)
	}
}

// words is a log that can be read while it is written.
type words struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *words) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func (w *words) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	write := func(text string, mode os.FileMode) {
		t.Helper()
		// As it is replaced in practice: another file of the same name.
		if err := os.WriteFile(path+".new", []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path+".new", mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	for text, part := range map[string]string{"": "is empty", "\n": "is empty", "one\ntwo\n": "more than one line",
		"one\r\ntwo": "more than one line", "two words\n": "without blanks", "b\xffd": "printable"} {
		write(text, 0o600)
		if _, err := LoadToken(path, slog.New(slog.DiscardHandler)); err == nil ||
			!strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, want one that says %q", text, err, part)
		}
	}
	said := &words{}
	log := slog.New(slog.NewTextHandler(said, nil))
	write("first\n", 0o600)
	token, err := LoadToken(path, log)
	if err != nil || token() != "first" || said.String() != "" {
		t.Fatalf("%v, log %q", err, said)
	}
	becomes := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); token() != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the token is %q, want %q; log %s", token(), want, said)
			}
		}
	}
	write("second\n", 0o644)
	becomes("second")
	if s := said.String(); !strings.Contains(s, "level=WARN") || !strings.Contains(s, "chmod 0600") {
		t.Errorf("nothing is said of a token that anyone can read: %s", s)
	}
	write("one\ntwo\n", 0o600)
	time.Sleep(2 * lookEvery)
	if token() != "second" || !strings.Contains(said.String(), "more than one line") {
		t.Errorf("a file with two lines: token %q, log %s", token(), said)
	}
	write("third\n", 0o600)
	becomes("third")
}

// issue writes a certificate with the given dates and a serial number, which serves as its own authority.
func issue(t *testing.T, dir string, serial int64, from, until time.Time) (cert, key string) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "pscope test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   from, NotAfter: until, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &priv.PublicKey, priv)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der},
		key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestCertificatesHaveDatesAndAreReadAgain(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	said := &words{}
	log := slog.New(slog.NewTextHandler(said, nil))
	day := 24 * time.Hour
	cert, key := issue(t, dir, 1, now.Add(-2*day), now.Add(-day))
	if _, err := LoadTLS(cert, key, "", log); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("an expired certificate: %v", err)
	}
	cert, key = issue(t, dir, 2, now.Add(day), now.Add(2*day))
	if _, err := LoadTLS(cert, key, "", log); err == nil || !strings.Contains(err.Error(), "not valid before") {
		t.Errorf("a certificate of tomorrow: %v", err)
	}
	cert, key = issue(t, dir, 3, now.Add(-day), now.Add(100*day))
	old, _ := issue(t, t.TempDir(), 4, now.Add(-2*day), now.Add(-day))
	if _, err := LoadTLS(cert, key, old, log); err == nil || !strings.Contains(err.Error(), "has expired") {
		t.Errorf("an expired authority: %v", err)
	}
	secure, err := LoadTLS(cert, key, "", log)
	if err != nil {
		t.Fatal(err)
	}
	f := serve(t, func(o *Options) { o.TLS = secure })
	serial := func() int64 {
		c, err := tls.Dial("tcp", f.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return -1
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	becomes := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); serial() != want; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("certificate %d is shown, want %d; log %s", serial(), want, said)
			}
		}
	}
	becomes(3)
	issue(t, dir, 5, now.Add(-day), now.Add(2*day))
	becomes(5)
	if !strings.Contains(said.String(), "expires soon") {
		t.Errorf("nothing is said of a certificate that ends in two days: %s", said)
	}
	issue(t, dir, 6, now.Add(-2*day), now.Add(-day))
	time.Sleep(2 * lookEvery)
	if n := serial(); n != 5 || !strings.Contains(said.String(), "has expired") {
		t.Errorf("a renewed certificate that has expired: %d is shown, log %s", n, said)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	issue(t, dir, 7, now.Add(-day), now.Add(100*day))
	becomes(7)
	if !strings.Contains(said.String(), "chmod 0600") {
		t.Errorf("nothing is said of a key that anyone can read: %s", said)
	}
}
