// Package settings holds how a data source is configured: where its answers come from and what it needs to get them.
package settings

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend"
	"github.com/grafana/grafana-plugin-sdk-go/backend/gtime"
)

// Mode says where answers come from.
type Mode string

// The modes.
const (
	ModeLocal  Mode = "local"  // the agent on Grafana's own host, over its socket
	ModeAgents Mode = "agents" // agents by address
	// a Prometheus-compatible engine for history; agents, where given, for raw intervals and live data
	ModeEngine Mode = "engine"
)

// DefaultSocket is where an agent listens unless told otherwise.
const DefaultSocket = "/run/pscope/pscope.sock"

// Distances of samples: agents take one a second; an engine scrapes when it is told to, 15 s being the custom.
const (
	agentSample         = time.Second
	defaultEngineSample = 15 * time.Second
)

// Settings of one data source. URLs are absolute and without a trailing slash.
type Settings struct {
	Mode       Mode
	SocketPath string // never empty
	// SocketChosen is true when the user named the socket: then no other place is tried.
	SocketChosen bool
	StartAgent   bool
	Agents       []string
	EngineURL    string
	// EngineSample is the scrape interval of the engine.
	EngineSample time.Duration

	TLSSkipVerify bool
	TLSServerName string
	// Secrets. PEM text except the token.
	Token, TLSCACert, TLSClientCert, TLSClientKey string
}

// jsonData is the part of the settings that Grafana shows to browsers.
type jsonData struct {
	Mode           Mode     `json:"mode"`
	SocketPath     string   `json:"socketPath"`
	StartAgent     *bool    `json:"startAgent"`
	Agents         []string `json:"agents"`
	EngineURL      string   `json:"engineUrl"`
	ScrapeInterval string   `json:"scrapeInterval"`
	TLSSkipVerify  bool     `json:"tlsSkipVerify"`
	TLSServerName  string   `json:"tlsServerName"`
}

// Error is a setting that can't be used. Its text says which, why, and what to do.
type Error struct{ Field, Why, Next string }

func (e *Error) Error() string {
	return fmt.Sprintf("the data source's setting %q can't be used: %s. %s", e.Field, e.Why, e.Next)
}

// Load reads what Grafana stores. Errors are *Error.
func Load(s backend.DataSourceInstanceSettings) (Settings, error) {
	var j jsonData
	if len(s.JSONData) > 0 {
		if err := json.Unmarshal(s.JSONData, &j); err != nil {
			return Settings{}, &Error{"jsonData", err.Error(), "Open the data source's settings and save them again"}
		}
	}
	out := Settings{
		Mode: j.Mode, SocketPath: j.SocketPath, SocketChosen: j.SocketPath != "", StartAgent: j.StartAgent == nil ||
			*j.StartAgent,
		TLSSkipVerify: j.TLSSkipVerify, TLSServerName: j.TLSServerName, EngineSample: defaultEngineSample,
		Token: s.DecryptedSecureJSONData["token"], TLSCACert: s.DecryptedSecureJSONData["tlsCACert"],
		TLSClientCert: s.DecryptedSecureJSONData["tlsClientCert"],
		TLSClientKey:  s.DecryptedSecureJSONData["tlsClientKey"],
	}
	if out.SocketPath == "" || out.SocketPath == DefaultSocket {
		out.SocketPath, out.SocketChosen = DefaultSocket, false
	} else if err := checkSocket(out.SocketPath); err != nil {
		return Settings{}, err
	}
	for _, a := range j.Agents {
		if strings.TrimSpace(a) == "" {
			continue
		}
		u, err := baseURL("agents", a)
		if err != nil {
			return Settings{}, err
		}
		out.Agents = append(out.Agents, u)
	}
	if j.ScrapeInterval != "" {
		d, err := gtime.ParseDuration(j.ScrapeInterval)
		if err != nil || d < time.Second {
			return Settings{}, &Error{"scrapeInterval", fmt.Sprintf("%q is no duration of a second or more",
				j.ScrapeInterval), `Write for example "15s"`}
		}
		out.EngineSample = d
	}
	switch out.Mode {
	case "":
		out.Mode = ModeLocal
	case ModeLocal:
	case ModeAgents:
		if len(out.Agents) == 0 {
			return Settings{}, &Error{"agents", "no agent is named",
				`Add the address of at least one, for example "http://web-1:9477"`}
		}
	case ModeEngine:
		u, err := baseURL("engineUrl", j.EngineURL)
		if err != nil {
			return Settings{}, err
		}
		out.EngineURL = u
	default:
		return Settings{}, &Error{"mode", fmt.Sprintf("there is no mode %q", out.Mode), "Choose local, agents or " +
			"engine"}
	}
	return out, nil
}

// AgentSample is the distance of samples in an agent's store.
func (s Settings) AgentSample() time.Duration { return agentSample }

// allowedSockets is the environment variable in which Grafana hands over allowed_sockets of
// [plugin.pscope-pscope-datasource] in its own configuration.
const allowedSockets = "GF_PLUGIN_ALLOWED_SOCKETS"

// OwnDir is the plugin's own directory, of the user Grafana runs as.
func OwnDir() string { return filepath.Join(os.TempDir(), fmt.Sprintf("pscope-%d", os.Getuid())) }

// checkSocket refuses sockets that Grafana's server has not allowed: who may edit a data source could else reach any
// socket of the host, and have folders made there. Allowed are those below OwnDir, and the paths that allowedSockets
// names, separated by commas; one that ends in / allows every socket below it.
func checkSocket(path string) error {
	e := &Error{Field: "socketPath", Next: fmt.Sprintf("Leave it empty for %s, or let the administrator of Grafana's "+
		"server add the path to allowed_sockets in "+
		"[plugin.pscope-pscope-datasource] of Grafana's configuration", DefaultSocket)}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		e.Why = fmt.Sprintf("%q is no absolute path in its shortest form", path)
		return e
	}
	allowed := []string{OwnDir() + "/"}
	for p := range strings.SplitSeq(os.Getenv(allowedSockets), ",") {
		if p = strings.TrimSpace(p); filepath.IsAbs(p) {
			allowed = append(allowed, p)
		}
	}
	for _, p := range allowed {
		if path == p || strings.HasSuffix(p, "/") && strings.HasPrefix(path, p) {
			return nil
		}
	}
	e.Why = fmt.Sprintf("Grafana's server does not allow the socket %q", path)
	return e
}

// baseURL checks an address and gives it without a trailing slash. "host:port" alone means http.
func baseURL(field, text string) (string, error) {
	text = strings.TrimSpace(text)
	if text != "" && !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", &Error{field, fmt.Sprintf("%q is no http or https address", text),
			`Write for example "http://web-1:9477"`}
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", &Error{field, fmt.Sprintf("%q holds more than an address", u.Redacted()), "Leave out user, " +
			"password and query; a token has its own secret field"}
	}
	return strings.TrimRight(u.String(), "/"), nil
}
