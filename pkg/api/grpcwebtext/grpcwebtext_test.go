package grpcwebtext

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestTranslatesBothWays(t *testing.T) {
	h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ct := r.Header.Get("Content-Type"); ct != "application/grpc-web+proto" {
			t.Errorf("the handler sees content type %q", ct)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/grpc-web+proto")
		w.Header().Set("Content-Length", "99")
		for _, part := range []string{"a", "bc", string(body)} {
			_, _ = io.WriteString(w, part)
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, "tail") // not flushed by the handler
	}))
	for _, ct := range []string{"application/grpc-web-text", "application/grpc-web-text+proto"} {
		req := httptest.NewRequest(http.MethodPost, "/x",
			strings.NewReader(base64.StdEncoding.EncodeToString([]byte("hello"))))
		req.Header.Set("Content-Type", ct)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if got := rec.Header().Get("Content-Type"); got != "application/grpc-web-text+proto" {
			t.Errorf("content type %q", got)
		}
		if rec.Header().Get("Content-Length") != "" {
			t.Error("the length of the binary form was passed on")
		}
		want := "YQ==" + "YmM=" + "aGVsbG8=" + "dGFpbA=="
		if got := rec.Body.String(); got != want {
			t.Errorf("got %q, want each flushed chunk padded on its own: %q", got, want)
		}
	}
}

func TestOthersPassUntouched(t *testing.T) {
	h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		_, _ = w.Write(body)
	}))
	for _, ct := range []string{"application/grpc-web+proto", "application/grpc", "application/json", ""} {
		req := httptest.NewRequest(http.MethodPost, "/x", strings.NewReader("plain"))
		req.Header.Set("Content-Type", ct)
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		if rec.Body.String() != "plain" {
			t.Errorf("%q: body %q", ct, rec.Body)
		}
	}
}

func TestLargeUnflushedResponseIsSentInPieces(t *testing.T) {
	const n = 1 << 20
	rec := httptest.NewRecorder()
	h := Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range n / 1000 {
			_, _ = w.Write(make([]byte, 1000))
			if len(w.(*writer).pending) > maxPending+1000 {
				t.Fatal("the whole response is held back")
			}
		}
	}))
	req := httptest.NewRequest(http.MethodPost, "/x", nil)
	req.Header.Set("Content-Type", "application/grpc-web-text")
	h.ServeHTTP(rec, req)
	got, err := base64.StdEncoding.DecodeString(rec.Body.String())
	if err != nil || len(got) != n/1000*1000 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestBrokenBase64IsAnErrorOfTheBody(t *testing.T) {
	h := Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err == nil {
			t.Error("no error")
		}
	}))
	req := httptest.NewRequest(http.MethodPost, "/x", strings.NewReader("!!!!"))
	req.Header.Set("Content-Type", "application/grpc-web-text")
	h.ServeHTTP(httptest.NewRecorder(), req)
}
