//go:build linux

package plugin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"

	"github.com/p-scope/p-scope/pkg/api"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// identity is a certificate and its key in PEM.
type identity struct{ cert, key string }

// newIdentity makes a certificate that is its own authority, for servers on this host and for clients.
func newIdentity(t *testing.T, name string) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return identity{
		cert: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		key:  string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})),
	}
}

// startSecureAgent serves made-up targets over TLS, to clients of the given identity that know the token.
func startSecureAgent(t *testing.T, server, client identity, token string) (url string) {
	t.Helper()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config, err := api.LoadTLS(file("cert.pem", server.cert), file("key.pem", server.key), file("ca.pem", client.cert),
		slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s, err := api.NewServer(api.Options{
		Collector: viewtest.New(1, 2, time.Now().Add(-time.Minute)), Timeline: timeline.New(timeline.Options{}),
		Host: "web-1", Version: "1.2.3",
		Listen: "127.0.0.1:0", TLS: config, Token: func() string { return token }, Sys: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "https://" + s.Addr().String()
}

func TestAgentWithCertificatesAndToken(t *testing.T) {
	server, client, stranger := newIdentity(t, "server"), newIdentity(t, "client"), newIdentity(t, "stranger")
	url := startSecureAgent(t, server, client, "open sesame")
	good := map[string]string{"token": "open sesame", "tlsCACert": server.cert, "tlsClientCert": client.cert,
		"tlsClientKey": client.key}
	for _, c := range []struct {
		name    string
		change  map[string]string // "": left out
		message string            // empty: it works
	}{
		{"everything right", nil, ""},
		{"another token", map[string]string{"token": "guess"}, "token"},
		{"no token", map[string]string{"token": ""}, "token"},
		{"another authority", map[string]string{"tlsCACert": stranger.cert}, "not trusted here. Paste that " +
			"authority's certificate"},
		{"no authority", map[string]string{"tlsCACert": ""}, "not trusted here"},
		{"a stranger's certificate", map[string]string{"tlsClientCert": stranger.cert, "tlsClientKey": stranger.key},
			"did not accept this one's"},
		{"no certificate", map[string]string{"tlsClientCert": "", "tlsClientKey": ""}, "--tls-client-ca"},
		{"a key of another certificate", map[string]string{"tlsClientKey": stranger.key}, "tlsClientCert"},
		{"a certificate that is none", map[string]string{"tlsCACert": "hello"}, "tlsCACert"},
	} {
		t.Run(c.name, func(t *testing.T) {
			secrets := map[string]string{}
			for k, v := range good {
				if news, changed := c.change[k]; changed {
					v = news
				}
				if v != "" {
					secrets[k] = v
				}
			}
			instance, err := New(t.Context(), backend.DataSourceInstanceSettings{UID: "pscope",
				JSONData: []byte(agentsJSON(url)), DecryptedSecureJSONData: secrets})
			if err != nil {
				t.Fatal(err)
			}
			d := instance.(*Datasource)
			defer d.Dispose()
			r, _ := checkHealth(t, d)
			if c.message == "" {
				if r.Status != backend.HealthStatusOk {
					t.Errorf("%v %q", r.Status, r.Message)
				}
				return
			}
			if r.Status != backend.HealthStatusError || !strings.Contains(r.Message, c.message) {
				t.Errorf("%v %q lacks %q", r.Status, r.Message, c.message)
			}
			for _, secret := range []string{"open sesame", "guess", "PRIVATE KEY"} {
				text, _ := json.Marshal(r)
				if strings.Contains(string(text), secret) {
					t.Errorf("the report tells %q", secret)
				}
			}
			t.Log(r.Message)
		})
	}
}

func TestTheWrongScheme(t *testing.T) {
	id := newIdentity(t, "server")
	for url, want := range map[string]string{
		strings.Replace(startSecureAgent(t, id, id, ""), "https", "http", 1):  "Write https://",
		strings.Replace(startAgent(t, "web-1", 1, 1).url, "http", "https", 1): "Write http://",
	} {
		if r, _ := checkHealth(t, newDatasource(t, agentsJSON(url))); r.Status != backend.HealthStatusError ||
			!strings.Contains(r.Message, want) {
			t.Errorf("%s: %v %q lacks %q", url, r.Status, r.Message, want)
		}
	}
}

// Secrets in jsonData would reach every browser: they are not read from there.
func TestSecretsAreReadFromSecureDataAlone(t *testing.T) {
	server, client := newIdentity(t, "server"), newIdentity(t, "client")
	url := startSecureAgent(t, server, client, "open sesame")
	plain, _ := json.Marshal(map[string]any{"mode": "agents", "agents": []string{url}, "token": "open sesame",
		"tlsCACert":     server.cert,
		"tlsClientCert": client.cert, "tlsClientKey": client.key})
	if r, _ := checkHealth(t, newDatasource(t, string(plain))); r.Status != backend.HealthStatusError {
		t.Errorf("%v %q", r.Status, r.Message)
	}
}
