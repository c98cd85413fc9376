package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"connectrpc.com/connect"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
)

// Error is a failure of an agent or engine. Its text says what failed, why, and what to do next.
type Error struct {
	Source string // which agent or engine
	Why    string
	Next   string
	Err    error
	// Refused is true when the request itself was at fault (bad PromQL, bad selector), so that other sources would
	// refuse it, too.
	Refused bool
	// Missing is true when the agent has no such target: an answer rather than a failure, since another agent may have
	// it.
	Missing bool
}

func (e *Error) Error() string {
	s := e.Source + ": " + e.Why
	if e.Next != "" {
		s += ". " + e.Next
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// NoAgent says that nothing listens on the local agent's socket and that the bundled agent can't be started.
type NoAgent struct {
	Socket string
	Why    string
	// Commands are ways to have an agent, each a line for a shell; the first is the simplest.
	Commands []Command
}

// Command is a line for a shell and what it is good for.
type Command struct {
	Purpose string `json:"purpose"`
	Line    string `json:"command"`
}

func (e *NoAgent) Error() string {
	s := fmt.Sprintf("no agent listens on %s, and %s", e.Socket, e.Why)
	for i, c := range e.Commands {
		if i == 0 {
			s += ". " + c.Purpose + ": " + c.Line
		} else {
			s += "; or " + c.Purpose + ": " + c.Line
		}
	}
	return s
}

// explain turns what a client returned into an *Error.
func explain(source string, err error) error {
	if err == nil {
		return nil
	}
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	e := &Error{Source: source, Err: err}
	var none *NoAgent
	var connectErr *connect.Error
	var promErr *promv1.Error
	var dns *net.DNSError
	switch {
	case errors.As(err, &none):
		e.Why = none.Error()
	case errors.Is(err, context.Canceled):
		e.Why = "the request was cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		e.Why, e.Next = "no answer in time", "Check that it runs and is not overloaded, or choose a shorter time range"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Why, e.Next = "nothing listens at its address", "Start the agent there, or correct the address in the data "+
			"source's settings"
	case errors.Is(err, fs.ErrPermission):
		e.Why, e.Next = "its socket may not be used by the user Grafana runs as", "Start the agent with "+
			"--socket-group "+ownGroup()+", or let Grafana's user into the socket's group"
	case errors.As(err, &dns):
		e.Why, e.Next = "its name "+dns.Name+" can't be resolved", "Correct the address in the data source's settings"
	case e.explainTLS(err):
	case errors.As(err, &promErr):
		e.Why = promErr.Msg
		switch promErr.Type {
		case promv1.ErrBadData:
			e.Refused, e.Next = true, "Correct the query"
		case promv1.ErrTimeout, promv1.ErrCanceled:
			e.Next = "Choose a shorter time range or fewer targets"
		default:
			if promErr.Detail != "" {
				e.Why += ": " + firstLine(promErr.Detail)
			}
			e.Next = "Check the address and, for 401 or 403, the token in the data source's settings"
		}
	case errors.As(err, &connectErr):
		e.Why = connectErr.Message()
		switch connectErr.Code() {
		case connect.CodeInvalidArgument, connect.CodeOutOfRange:
			e.Refused, e.Next = true, "Correct the query"
		case connect.CodeUnauthenticated, connect.CodePermissionDenied:
			e.Next = "Enter the agent's token in the data source's settings"
		case connect.CodeNotFound:
			e.Missing = true
		case connect.CodeFailedPrecondition:
			// The message says what to do.
		case connect.CodeUnimplemented:
			e.Why, e.Next = "no P-Scope agent answers there", "Correct the address: an agent listens on port 9477 "+
				"unless told otherwise"
		case connect.CodeUnavailable:
			e.Next = "Check that the agent runs"
		}
	default:
		e.Why, e.Next = firstLine(err.Error()), "Check the data source's settings"
	}
	return e
}

// closedEarly tells a connection that the server closed before it answered anything.
func closedEarly(text string) bool {
	return strings.Contains(text, "http2: client conn could not be established") ||
		strings.HasSuffix(text, "write: broken pipe") || strings.HasSuffix(text, "connection reset by peer")
}

// explainTLS says what is wrong with certificates, and which side has to change; false if err is about something else.
func (e *Error) explainTLS(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	text := err.Error()
	switch {
	case errors.As(err, &unknown):
		e.Why, e.Next = "its certificate is signed by an authority that is not trusted here", "Paste that authority's "+
			"certificate into CA certificate in the data source's settings"
	case errors.As(err, &name):
		e.Why, e.Next = "its certificate is for other names: "+name.Error(), "Use an address that the certificate "+
			"names, or enter such a name as server name in the data source's settings"
	case errors.As(err, &invalid):
		e.Why, e.Next = "its certificate is not valid: "+invalid.Error(), "Give the server a new certificate"
	case strings.Contains(text, "tls: certificate required"), strings.Contains(text, "tls: bad certificate"),
		strings.Contains(text, "tls: unknown certificate authority"):
		// Alerts of RFC 8446, section 6.2, by their names in crypto/tls.
		e.Why = "it lets in only clients whose certificate its authority has signed, and did not accept this one's"
		e.Next = "Paste a client certificate and its key that the authority in the agent's --tls-client-ca has " +
			"signed " +
			"into the data source's settings"
	case strings.HasPrefix(e.Source, "https:") && closedEarly(text):
		// In TLS 1.3 the server judges the client's certificate after the client has begun to write; the alert that
		// says so can be lost with the connection.
		e.Why = "it closed the connection right after the handshake, as an agent does that lets in only clients " +
			"whose " +
			"certificate its authority has signed and did not accept this one's"
		e.Next = "Paste a client certificate and its key that the authority in the agent's --tls-client-ca has " +
			"signed " +
			"into the data source's settings"
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		e.Why, e.Next = "it does not speak TLS", "Write http:// instead of https:// in the data source's settings, or "+
			"give the agent --tls-cert and --tls-key"
	case strings.HasSuffix(text, "400 Bad Request") && !strings.HasPrefix(e.Source, "https:"):
		// What servers that speak TLS alone answer to plain HTTP.
		e.Why, e.Next = "it answered 400 Bad Request", "Write https:// instead of http:// in the data source's "+
			"settings if it speaks TLS"
	default:
		return false
	}
	return true
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	if len(line) > 300 {
		line = line[:300] + "…"
	}
	return line
}
