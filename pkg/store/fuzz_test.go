package store

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
)

// FuzzQuery sends any form to each handler of the HTTP API over a small history: it is answered or refused within what
// one query may take.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{
		`query=sum+by+(p)+(rate(pscope_p_seconds_total[10s]))&time=1700000030`,
		`query=max_over_time(vector(1)[100y:1ms])&time=1700000030`, `query=x&start=1700000000&end=1700000060&step=1e-9`,
		`query=x&start=NaN&end=Inf&step=-1`, `match[]={__name__=~".%2B"}&start=1e308`, `match[]=x&limit=-1`,
		`query=1&timeout=-1s&limit=9e9`,
		`query=label_replace(x,"a","b","c","(a{9}){9}")&time=2024-01-01T00:00:00Z`,
		`query=pscope_p_runq_depth@+end()+offset+-1d&start=1700000000&end=1700000060&step=1`,
	} {
		for which := range uint8(6) {
			f.Add(s, which)
		}
	}
	s := open(f, func(o *Options) { o.QueryTimeout = 5 * time.Second })
	fill(f, s, viewtest.New(2, 2, start), start, start.Add(time.Minute))
	h := s.Handler()
	paths := []string{"query", "query_range", "series", "labels", "label/process/values", "format_query"}
	f.Fuzz(func(t *testing.T, form string, which uint8) {
		if len(form) > 64<<10 {
			return
		}
		r := httptest.NewRequest(http.MethodPost, "/api/v1/"+paths[int(which)%len(paths)], strings.NewReader(form))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		fuzztest.Within(t, 8*time.Second, len(form), func() { h.ServeHTTP(w, r) })
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s of %q: %s", r.URL.Path, form, w.Body)
		}
	})
}

// FuzzLog changes the log that a killed agent left, cuts it off, or leaves another file beside it, and opens the
// history again. It must open, and take new samples.
func FuzzLog(f *testing.F) {
	whole := f.TempDir()
	s, err := Open(Options{Dir: whole, Host: "h"})
	if err != nil {
		f.Fatal(err)
	}
	began := time.Now().Add(-time.Minute).Truncate(time.Second)
	source := viewtest.New(1, 1, began)
	fill(f, s, source, began, began.Add(5*time.Second))
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	log, err := os.ReadFile(filepath.Join(whole, "raw", "wal", "00000000"))
	if err != nil {
		f.Fatal(err)
	}
	log = bytes.TrimRight(log, "\x00")
	f.Add(uint16(0), uint16(100), []byte(nil))
	f.Add(uint16(len(log)/2), uint16(0), []byte("garbage garbage"))
	f.Add(uint16(3), uint16(0), []byte{0xff})
	f.Add(uint16(len(log)-2), uint16(1), []byte{5, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3})
	f.Fuzz(func(t *testing.T, at, cut uint16, put []byte) {
		dir := t.TempDir()
		wal := filepath.Join(dir, "raw", "wal")
		if err := os.MkdirAll(wal, DirMode); err != nil {
			t.Fatal(err)
		}
		changed := bytes.Clone(log)
		copy(changed[min(int(at), len(changed)):], put)
		changed = changed[:len(changed)-min(int(cut), len(changed))]
		if err := os.WriteFile(filepath.Join(wal, "00000000"), changed, 0o640); err != nil {
			t.Fatal(err)
		}
		fuzztest.Within(t, 10*time.Second, len(put), func() {
			s, err := Open(Options{Dir: dir, Host: "h"})
			if err != nil {
				t.Fatalf("the history does not open: %v", err)
			}
			defer s.Close()
			fill(t, s, source, time.Now().Truncate(time.Second), time.Now().Add(2*time.Second))
		})
	})
}

// FuzzPutAside gives what a block that was put aside says of itself.
func FuzzPutAside(f *testing.F) {
	f.Add("01HQ0000000000000000000000",
		[]byte(`{"ulid":"01HQ0000000000000000000000","minTime":1,"maxTime":2,"version":1}`))
	f.Add("01HQ0000000000000000000000", []byte(`{"ulid":"01HQ0000000000000000000001","minTime":9e99}`))
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		if !filepath.IsLocal(name) || strings.ContainsAny(name, "/\x00") || len(name) > 200 {
			return
		}
		dir := t.TempDir()
		block := filepath.Join(dir, ahead, "raw", name)
		if err := os.MkdirAll(block, DirMode); err != nil {
			t.Skip(err)
		}
		if err := os.WriteFile(filepath.Join(block, "meta.json"), meta, 0o640); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, ahead, takeBackMark), nil, 0o640); err != nil {
			t.Fatal(err)
		}
		fuzztest.Within(t, 5*time.Second, len(meta), func() {
			s, err := Open(Options{Dir: dir, Host: "h"})
			if err != nil {
				if err.Error() == "" {
					t.Error("refused without a word")
				}
				return
			}
			_ = s.Close()
		})
	})
}
