// Package grpcwebtext lets a binary gRPC-Web handler speak grpc-web-text as well: the only form in which a browser's
// XMLHttpRequest gets a server stream bit by bit. It knows nothing of messages: the request's body is base64, and so is
// every flushed chunk of the response, each padded on its own, as the npm package grpc-web reads it.
package grpcwebtext

import (
	"encoding/base64"
	"io"
	"net/http"
	"strings"
)

const (
	textType   = "application/grpc-web-text"
	binaryType = "application/grpc-web"
)

// Handler passes everything on to next; requests of content type application/grpc-web-text are translated to
// application/grpc-web and back.
func Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		suffix, isText := strings.CutPrefix(r.Header.Get("Content-Type"), textType)
		if !isText {
			next.ServeHTTP(w, r)
			return
		}
		if suffix == "" {
			suffix = "+proto"
		}
		in := r.Clone(r.Context())
		in.Header.Set("Content-Type", binaryType+suffix)
		in.Header.Set("Accept", binaryType+suffix)
		in.Header.Del("Content-Length")
		in.ContentLength = -1
		in.Body = struct {
			io.Reader
			io.Closer
		}{base64.NewDecoder(base64.StdEncoding, r.Body), r.Body}
		out := &writer{ResponseWriter: w}
		next.ServeHTTP(out, in)
		out.FlushError() //nolint:errcheck // the client is gone: nobody is left to tell
	})
}

// writer gathers what is written and sends it as base64 when flushed.
type writer struct {
	http.ResponseWriter
	pending []byte
	started bool
}

// maxPending bounds what is held back when a handler writes much without flushing. A multiple of three needs no
// padding.
const maxPending = 3 << 14

func (w *writer) WriteHeader(status int) {
	if w.started {
		return
	}
	w.started = status >= 200
	h := w.Header()
	if suffix, ok := strings.CutPrefix(h.Get("Content-Type"), binaryType); ok {
		h.Set("Content-Type", textType+suffix)
	}
	h.Del("Content-Length")
	w.ResponseWriter.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	w.pending = append(w.pending, p...)
	if len(w.pending) >= maxPending {
		whole := len(w.pending) / 3 * 3
		if err := w.send(w.pending[:whole]); err != nil {
			return 0, err
		}
		w.pending = append(w.pending[:0], w.pending[whole:]...)
	}
	return len(p), nil
}

func (w *writer) send(p []byte) error {
	buf := make([]byte, base64.StdEncoding.EncodedLen(len(p)))
	base64.StdEncoding.Encode(buf, p)
	_, err := w.ResponseWriter.Write(buf)
	return err
}

// Flush implements http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() }

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	if len(w.pending) > 0 {
		err := w.send(w.pending)
		w.pending = w.pending[:0]
		if err != nil {
			return err
		}
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap gives http.ResponseController the deadlines of the connection.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
