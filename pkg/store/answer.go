package store

import (
	"compress/gzip"
	"net/http"
	"strings"
	"time"
)

// How an answer leaves: in parts, so that its text is never in memory as a whole; and to a reader who takes each part within a time, because the
// result behind it holds a share of the memory until then.
const (
	partBytes  = 64 << 10
	partWithin = 20 * time.Second
	allWithin  = 2 * time.Minute
	smallText  = 1400 // bytes that fit into one packet are not compressed
)

// answer writes one answer.
type answer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	code    int
	gzip    bool
	zipped  *gzip.Writer
	begun   time.Time // when the first part left
	failed  bool      // the reader is gone
}

func newAnswer(w http.ResponseWriter, r *http.Request) *answer {
	w.Header().Set("Content-Type", "application/json")
	return &answer{w: w, control: http.NewResponseController(w), code: http.StatusOK, gzip: strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")}
}

// part writes b if it is long enough, and gives a slice to append to.
func (a *answer) part(b []byte) []byte {
	if len(b) < partBytes {
		return b
	}
	a.write(b)
	return b[:0]
}

// end writes the rest.
func (a *answer) end(b []byte) {
	if a.begun.IsZero() && len(b) <= smallText {
		a.gzip = false
	}
	a.write(b)
	if a.zipped != nil {
		_ = a.zipped.Close()
	}
	_ = a.control.SetWriteDeadline(time.Time{})
}

func (a *answer) write(b []byte) {
	if a.failed {
		return
	}
	if a.begun.IsZero() {
		a.begun = time.Now()
		if a.gzip {
			a.w.Header().Set("Content-Encoding", "gzip")
			a.w.Header().Set("Vary", "Accept-Encoding")
			a.zipped, _ = gzip.NewWriterLevel(a.w, gzip.BestSpeed)
		}
		a.w.WriteHeader(a.code)
	}
	within := min(partWithin, allWithin-time.Since(a.begun))
	_ = a.control.SetWriteDeadline(time.Now().Add(within)) // where there are none, the server's own bounds hold
	var err error
	if a.zipped != nil {
		_, err = a.zipped.Write(b)
	} else {
		_, err = a.w.Write(b)
	}
	a.failed = err != nil
}
