package store

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
)

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
