package grpcwebtext

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// FuzzHandler sends any body with any content type and has it sent back in parts: what comes back is what was read, and
// what was read is never more than what was sent.
func FuzzHandler(f *testing.F) {
	f.Add("application/grpc-web-text", []byte("aGVsbG8="))
	f.Add("application/grpc-web-text+proto", []byte("AAAAAAU=aGVs\nbG8"))
	f.Add("application/grpc-web-text;x", []byte("====\xff"))
	f.Add("application/grpc-web+proto", []byte("\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		if len(body) > 64<<10 {
			return
		}
		fuzztest.Within(t, fuzztest.Small, len(body), func() {
			var read []byte
			h := Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				read, _ = io.ReadAll(r.Body) // a body that is no base64 ends early
				w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
				for part := range bytes.Lines(read) {
					_, _ = w.Write(part)
					w.(http.Flusher).Flush()
				}
			}))
			req := httptest.NewRequest(http.MethodPost, "/x", bytes.NewReader(body))
			req.Header["Content-Type"] = []string{contentType}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, req)
			got := rec.Body.Bytes()
			if strings.HasPrefix(contentType, textType) {
				// Each part is padded on its own, so that groups of four are decoded one by one.
				var text []byte
				for len(got) > 0 {
					var err error
					if text, err = base64.StdEncoding.AppendDecode(text, got[:min(4, len(got))]); err != nil {
						t.Fatalf("%q is no base64: %v", rec.Body, err)
					}
					got = got[min(4, len(got)):]
				}
				got = text
			}
			if len(read) > len(body) || !bytes.Equal(got, read) {
				t.Errorf("of %q, %q was read and %q sent back", body, read, got)
			}
		})
	})
}
