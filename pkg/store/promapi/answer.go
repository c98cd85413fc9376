package promapi

import (
	"net/http"
	"time"

	"github.com/klauspost/compress/gzhttp"
	"github.com/klauspost/compress/gzip"
)

// An answer leaves in parts, so that its text is never in memory as a whole. The reader has a deadline for each part,
// because the result holds a share of the memory until all of it has been encoded.
const (
	partBytes   = 64 << 10
	partTimeout = 20 * time.Second
	allTimeout  = 2 * time.Minute
	minGzip     = 1400 // bytes: a shorter answer fits into one packet as it is
)

// compress compresses the answers of a handler where the client accepts gzip.
var compress = func() func(http.Handler) http.HandlerFunc {
	wrap, err := gzhttp.NewWrapper(gzhttp.MinSize(minGzip), gzhttp.CompressionLevel(gzip.BestSpeed),
		gzhttp.EnableZstd(false))
	if err != nil {
		panic(err) // the options are constant
	}
	return wrap
}()

// answer writes one answer.
type answer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	code    int
	started time.Time // when the first part left
	failed  bool      // the reader is gone
}

func newAnswer(w http.ResponseWriter) *answer {
	w.Header().Set("Content-Type", "application/json")
	return &answer{w: w, control: http.NewResponseController(w), code: http.StatusOK}
}

// part writes b if it is long enough, and gives a slice to append to.
func (a *answer) part(b []byte) []byte {
	if len(b) < partBytes {
		return b
	}
	a.write(b)
	return b[:0]
}

// write writes b. The deadline stays until net/http has sent what is left; then net/http takes it away.
func (a *answer) write(b []byte) {
	if a.failed {
		return
	}
	if a.started.IsZero() {
		a.started = time.Now()
		a.w.WriteHeader(a.code)
	}
	timeout := min(partTimeout, allTimeout-time.Since(a.started))
	// Where the writer has no deadlines, the server's own timeouts hold.
	_ = a.control.SetWriteDeadline(time.Now().Add(timeout))
	_, err := a.w.Write(b)
	a.failed = err != nil
}
