package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/p-scope/p-scope/pkg/plugin/settings"
)

// How long to wait for parties that don't answer. There is no limit on a whole response: Watch streams as long as
// someone looks.
const (
	dialTimeout   = 3 * time.Second
	headerTimeout = 30 * time.Second
)

// socketURL is the base URL used over a unix socket; its host is never resolved.
const socketURL = "http://agent.socket"

// tlsConfig of the settings; nil when they name nothing beyond the defaults.
func tlsConfig(s settings.Settings) (*tls.Config, error) {
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: s.TLSServerName,
		// The user's own choice, off unless switched on in the settings, where it is called what it is.
		InsecureSkipVerify: s.TLSSkipVerify, //nolint:gosec
	}
	if s.TLSCACert != "" {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM([]byte(s.TLSCACert)) {
			return nil, &settings.Error{Field: "tlsCACert", Why: "it holds no certificate",
				Next: "Paste the PEM text " +
					"of the authority that signed the agents' certificates"}
		}
	}
	switch {
	case s.TLSClientCert != "" && s.TLSClientKey != "":
		cert, err := tls.X509KeyPair([]byte(s.TLSClientCert), []byte(s.TLSClientKey))
		if err != nil {
			return nil, &settings.Error{Field: "tlsClientCert", Why: err.Error(), Next: "Paste the PEM text of the " +
				"certificate and of the key that belongs to it"}
		}
		c.Certificates = []tls.Certificate{cert}
	case s.TLSClientCert != "" || s.TLSClientKey != "":
		return nil, &settings.Error{Field: "tlsClientCert", Why: "certificate and key go together",
			Next: "Enter both or none"}
	}
	return c, nil
}

// newTransport makes connections over TCP, or by dial when it is not nil.
func newTransport(config *tls.Config, dial func(context.Context) (net.Conn, error)) *http.Transport {
	t := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: headerTimeout,
	}
	if dial != nil {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
		return t
	}
	t.Proxy = http.ProxyFromEnvironment
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext
	return t
}

// bearer adds the token to every request.
type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}

var errRedirect = errors.New("it redirects elsewhere; enter the final address in the data source's settings")

// newClient refuses redirects: they would carry the token to wherever they point.
func newClient(rt http.RoundTripper) *http.Client {
	return &http.Client{Transport: rt, CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}
}
