//go:build linux

// Package client connects the command line to an agent, over its unix socket or by its address.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/common/config"

	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
)

// DefaultSocket is where an agent listens unless told otherwise.
const DefaultSocket = "/run/pscope/pscope.sock"

// Options say how to reach an agent.
type Options struct {
	Socket    string // path of a unix socket; used when URL is empty
	URL       string // base URL, for example http://127.0.0.1:9477
	TokenFile string // file with the bearer token; empty: the environment variable PSCOPE_TOKEN, or no token
	CAFile    string // PEM file with the authority that signed the agent's certificate; empty: the system's
}

// Register adds the options to a flag set.
func (o *Options) Register(fs *flag.FlagSet) {
	fs.StringVar(&o.Socket, "socket", DefaultSocket, "the agent's unix socket")
	fs.StringVar(&o.URL, "agent", "", "the agent's address instead of its socket, for example http://127.0.0.1:9477")
	fs.StringVar(&o.TokenFile, "token-file", "",
		"file with the agent's token; without it the environment variable PSCOPE_TOKEN")
	fs.StringVar(&o.CAFile, "ca-file", "", "PEM file with the authority that signed the agent's certificate")
}

// Target is how messages name the agent.
func (o *Options) Target() string {
	if o.URL != "" {
		base, _, _ := o.split()
		return base
	}
	return o.Socket
}

// split gives the base URL, and apart from it the name and password that may stand in it: what is said of the agent
// does not repeat those.
func (o *Options) split() (base string, user *url.Userinfo, err error) {
	if !strings.HasPrefix(o.URL, "http://") && !strings.HasPrefix(o.URL, "https://") {
		return "(no URL)", nil, errors.New("what --agent names must start with http:// or https://")
	}
	u, err := url.Parse(o.URL)
	if err != nil {
		return "(no URL)", nil, errors.New("what --agent names is no URL; write it like http://127.0.0.1:9477")
	}
	user, u.User = u.User, nil
	u.RawQuery, u.Fragment = "", ""
	return u.String(), user, nil
}

// Dial gives a client; nothing is sent yet.
func (o *Options) Dial() (pscopev1connect.ScopeServiceClient, error) {
	c, base, err := o.http()
	if err != nil {
		return nil, err
	}
	return pscopev1connect.NewScopeServiceClient(c, base), nil
}

// http gives a client that reaches the agent, and the base of the addresses to ask it for.
func (o *Options) http() (c *http.Client, base string, err error) {
	token := os.Getenv("PSCOPE_TOKEN")
	if o.TokenFile != "" {
		b, err := os.ReadFile(o.TokenFile)
		if err != nil {
			return nil, "", fmt.Errorf("can't read the token: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	transport := &http.Transport{DisableCompression: true}
	var user *url.Userinfo
	base = o.URL
	if base == "" {
		base = "http://pscope"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: 3 * time.Second}).DialContext(ctx, "unix", o.Socket)
		}
	} else {
		if base, user, err = o.split(); err != nil {
			return nil, "", err
		}
		transport.DialContext = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
		if o.CAFile != "" {
			pem, err := os.ReadFile(o.CAFile)
			if err != nil {
				return nil, "", fmt.Errorf("can't read the authority's certificate: %w", err)
			}
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(pem) {
				return nil, "", fmt.Errorf("%s holds no certificate in PEM form", o.CAFile)
			}
			transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		}
	}
	var rt http.RoundTripper = transport
	switch {
	case token != "":
		rt = config.NewAuthorizationCredentialsRoundTripper("Bearer", config.NewInlineSecret(token), transport)
	case user != nil:
		password, _ := user.Password()
		rt = config.NewBasicAuthRoundTripper(config.NewInlineSecret(user.Username()), config.NewInlineSecret(password),
			transport)
	}
	return &http.Client{Transport: rt}, base, nil
}

// Fetch gets what the agent answers to a path with, but at most so many bytes of it; cut says that there was more.
func (o *Options) Fetch(ctx context.Context, path string, most int64) (body []byte, cut bool, err error) {
	c, base, err := o.http()
	if err != nil {
		return nil, false, err
	}
	defer c.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return nil, false, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, false, fmt.Errorf("it answers %s to %s", resp.Status, path)
	}
	body, err = io.ReadAll(io.LimitReader(resp.Body, most+1))
	if int64(len(body)) > most {
		body, cut = body[:most], true
	}
	return body, cut, err
}

// Explain turns an error of a call into one that says what to do.
func (o *Options) Explain(err error) error {
	switch {
	case err == nil:
		return nil
	case o.URL == "" && errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("no agent listens on %s; start one with 'sudo pscope agent', or name its socket with "+
			"--socket "+
			"or its address with --agent", o.Socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no agent listens on %s any more; start one with 'sudo pscope agent', or name another with "+
			"--socket or --agent", o.Target())
	case o.URL == "" && errors.Is(err, os.ErrPermission):
		return fmt.Errorf("no permission for %s; run this as root or as a member of the socket's group (see 'ls "+
			"-l %s')",
			o.Socket, o.Socket)
	case connect.CodeOf(err) == connect.CodeUnauthenticated:
		return fmt.Errorf("the agent at %s wants a token; give it with --token-file or in PSCOPE_TOKEN", o.Target())
	}
	return fmt.Errorf("the agent at %s: %w", o.Target(), err)
}
