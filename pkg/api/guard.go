package api

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// access is who may ask over TCP.
type access struct {
	token func() string // nil: none is asked for
	// loopback: the address can be reached from this host only.
	loopback bool
	origins  func() []string // web origins that may ask from a browser, as they are at each call
}

// open says whether a request is let through whoever sends it: those that supervise the agent know no token.
func open(r *http.Request) bool { return r.URL.Path == "/-/healthy" || r.URL.Path == "/-/ready" }

// guard wraps what is served over TCP. With a token, requests must carry it. Without one, a request that a web page of
// another origin makes is refused: a browser on this host reaches the loopback address, too. There the name in Host
// must be the host's own, so that no page gets in by a name of its own that it lets resolve to 127.0.0.1 (DNS
// rebinding).
func (a access) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Read once: a reload may change them at any moment.
		var origins []string
		if a.origins != nil {
			origins = a.origins()
		}
		switch {
		case open(r):
		case a.token == nil:
			if why := cmp.Or(a.wrongHost(r), wrongOrigin(r, origins)); why != "" {
				http.Error(w, why, http.StatusForbidden)
				return
			}
		// A browser asks by OPTIONS, without the token, whether it may send it; answeredOrigin answers and nothing else
		// is done.
		case r.Method == http.MethodOptions && len(origins) > 0:
		case !carries(r, a.token()):
			w.Header().Set("WWW-Authenticate", `Bearer realm="pscope"`)
			http.Error(w, "This agent asks for its token: send it as \"Authorization: Bearer <token>\" "+
				"(it is in the file the agent was given with --token-file).", http.StatusUnauthorized)
			return
		}
		if !answeredOrigin(w, r, origins) {
			next.ServeHTTP(w, r)
		}
	})
}

// carries says whether a request holds the token (RFC 6750, section 2.1; the scheme's case does not matter, RFC 9110,
// section 11.1).
func carries(r *http.Request, token string) bool {
	scheme, given, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(given))
	return ok && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// wrongHost says why a request is refused for the name it was sent to; empty: it is not.
func (a access) wrongHost(r *http.Request) string {
	if !a.loopback {
		return ""
	}
	name := r.Host
	if h, _, err := net.SplitHostPort(name); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.ToLower(strings.Trim(name, "[]")), ".")
	if ip := net.ParseIP(name); name == "localhost" || strings.HasSuffix(name, ".localhost") || ip != nil &&
		ip.IsLoopback() {
		return ""
	}
	return fmt.Sprintf("This agent asks for no token, so it answers only to the names of this host's loopback "+
		"address, such as 127.0.0.1 or localhost, not to %q: "+
		"use one of them, or start the agent with --token-file.", r.Host)
}

// wrongOrigin says why a request is refused for the web page that makes it; empty: it is not.
func wrongOrigin(r *http.Request, origins []string) string {
	const next = "start the agent with --token-file, or let the page's origin in with --allow-origins."
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err == nil && u.Host == r.Host && u.Host != "" || allowed(origins, origin) {
			return ""
		}
		return fmt.Sprintf("This agent asks for no token, so it answers no web page of another origin (%q): %s", origin,
			next)
	}
	// A page can make a browser fetch an address without an Origin, for example as a picture; the browser says then
	// where it comes from (W3C, Fetch Metadata Request Headers). What a user types is of no site; programs other than
	// browsers send no such header.
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return ""
	}
	return fmt.Sprintf("This agent asks for no token, so it answers nothing that another web page leads to: type the "+
		"address, %s", next)
}

// CheckAccess says why an agent may not serve on a TCP address: it can be reached from other hosts, and neither a token
// nor a client's certificate is asked for. insecure lets anyone in.
func CheckAccess(listen string, token, clientCA, insecure bool) error {
	if listen == "" || token || clientCA || insecure {
		return nil
	}
	if addr, err := net.ResolveTCPAddr("tcp", listen); err != nil || isLoopback(addr) {
		return nil // an address that can't be resolved is refused when it is listened on
	}
	return fmt.Errorf("--listen %s can be reached from other hosts, and anyone there could read what the processes of "+
		"this host do: ask for a token "+
		"(openssl rand -hex 32 > FILE, --token-file FILE) or for certificates (--tls-cert, --tls-key, "+
		"--tls-client-ca), listen on 127.0.0.1, "+
		"or let anyone in with --insecure", listen)
}

func allowed(origins []string, origin string) bool {
	return slices.Contains(origins, origin) || slices.Contains(origins, "*")
}

// answeredOrigin gives a browser on one of the origins leave to read the answer, and answers what browsers ask before
// (CORS). true: nothing else is to be done.
func answeredOrigin(w http.ResponseWriter, r *http.Request, origins []string) bool {
	if len(origins) == 0 {
		return false
	}
	origin := r.Header.Get("Origin")
	if origin != "" && allowed(origins, origin) {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origin)
		h.Add("Vary", "Origin")
		h.Set("Access-Control-Expose-Headers", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin")
		if r.Method == http.MethodOptions {
			h.Set("Access-Control-Allow-Methods", "GET, POST")
			h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, Connect-Protocol-Version, "+
				"Connect-Timeout-Ms, Grpc-Timeout, X-Grpc-Web, X-User-Agent")
			h.Set("Access-Control-Max-Age", "7200")
			w.WriteHeader(http.StatusNoContent)
			return true
		}
	}
	if r.Method == http.MethodOptions {
		http.Error(w, "This origin may not ask this agent from a browser; see --allow-origins.", http.StatusForbidden)
		return true
	}
	return false
}
