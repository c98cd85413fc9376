package plugin

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect"

	"github.com/p-scope/p-scope/pkg/plugin/agent"
	"github.com/p-scope/p-scope/pkg/plugin/query"
)

const grpcWeb = "application/grpc-web"

// scopeError is an error of an RPC with the code that says what kind it is.
type scopeError struct {
	code connect.Code
	err  error
}

func (e *scopeError) Error() string { return e.err.Error() }
func (e *scopeError) Unwrap() error { return e.err }

// refusal is the error of an answer that is none of the RPC protocol: one of the agent's guard, of a proxy before it,
// or of some other server at its address. A client would only say that it does not know the content type.
func refusal(r *http.Request, from *agent.Agent, resp *http.Response) error {
	if !isGRPCWeb(r) || strings.HasPrefix(resp.Header.Get("Content-Type"), grpcWeb) {
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // what can't be read can't be told
	_ = resp.Body.Close()
	e := &agent.Error{Source: from.Name, Why: fmt.Sprintf("it answered %q", resp.Status)}
	if line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n"); line != "" &&
		strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		e.Why += ": " + line
	}
	code := connect.CodeUnavailable
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		code, e.Next = connect.CodeUnauthenticated, "Enter the agent's token in the data source's settings"
	case http.StatusForbidden:
		code, e.Next = connect.CodePermissionDenied, "Enter a token that the agent accepts in the data source's "+
			"settings"
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType, http.StatusOK:
		code, e.Next = connect.CodeUnimplemented, "No P-Scope agent answers there. Correct the address: an agent "+
			"listens on port 9477 unless told otherwise"
	}
	return &scopeError{code: code, err: e}
}

func isGRPCWeb(r *http.Request) bool { return strings.HasPrefix(r.Header.Get("Content-Type"), grpcWeb) }

// scopeCode is the code of an error that a call of ScopeService is answered with.
func scopeCode(err error) connect.Code {
	var own *scopeError
	var queryErr *query.Error
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.As(err, &queryErr):
		return connect.CodeInvalidArgument
	}
	return connect.CodeUnavailable
}

// writeScopeError answers a call in the protocol it was made in. In gRPC-Web an error is an answer of status 200 whose
// body is trailers alone (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-WEB.md); a Connect client reads code
// and message from JSON.
func writeScopeError(w http.ResponseWriter, r *http.Request, err error) {
	code := scopeCode(err)
	if isGRPCWeb(r) {
		trailers := fmt.Sprintf("grpc-status: %d\r\ngrpc-message: %s\r\n", code, url.PathEscape(err.Error()))
		const trailersFlag = 0x80
		body := binary.BigEndian.AppendUint32([]byte{trailersFlag}, uint32(len(trailers)))
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = w.Write(append(body, trailers...)) // the reader is gone: nobody is left to tell
		return
	}
	status, _ := classify(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status))
	_ = json.NewEncoder(w).Encode(map[string]string{"code": code.String(), "message": err.Error()})
}
