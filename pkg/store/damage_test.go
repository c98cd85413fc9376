package store

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/metrics"
	"github.com/p-scope/p-scope/pkg/store/promapi"
)

// flip changes a bit of a file.
func flip(t *testing.T, file string, at func(size int64) int64) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text[at(int64(len(text)))] ^= 0x40
	if err := os.WriteFile(file, text, 0o640); err != nil {
		t.Fatal(err)
	}
}

func half(size int64) int64 { return size / 2 }

// states is how many samples a series has.
func states(t *testing.T, s *Store, at time.Time) float64 {
	t.Helper()
	return value(t, s, at, `count_over_time(pscope_p_seconds_total{process="server-0",p="0",state="idle"}[1h])`)
}

func named(s *Store) bool {
	return slices.ContainsFunc(s.Conditions(), func(c Condition) bool {
		return c.What == Damaged &&
			strings.Contains(c.Fix, "disk")
	})
}

// A byte in the middle of the log costs the page it is in, not everything that was logged after it.
func TestAFlippedByteInTheLogCostsAPage(t *testing.T) {
	dir := t.TempDir()
	src := viewtest.New(4, 4, start.Add(-time.Hour))
	const each = 300
	for i := range 3 { // each opening begins another segment
		s, err := Open(Options{Dir: dir, Host: "h", MinAge: time.Nanosecond,
			Now: func() time.Time { return start.Add(time.Hour) }})
		if err != nil {
			t.Fatal(err)
		}
		from := start.Add(time.Duration(i*each) * time.Second)
		fill(t, s, src, from, from.Add(each*time.Second))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := filepath.Glob(filepath.Join(dir, "raw", "wal", "0*"))
	if err != nil || len(segments) < 3 {
		t.Fatalf("%v, %v", segments, err)
	}
	written := int64(0)
	if text, err := os.ReadFile(segments[1]); err == nil {
		written = int64(len(strings.TrimRight(string(text), "\x00")))
	}
	flip(t, segments[1], func(int64) int64 { return written / 2 })
	s := open(t, func(o *Options) { o.Dir, o.Now = dir, func() time.Time { return start.Add(time.Hour) } })
	at := start.Add((3*each - 1) * time.Second)
	perPage := float64(each) / float64(max(1, written/logPage))
	// Chunks that were complete are in files of their own, so that none need be missing.
	if n := states(t, s, at); n < 3*each-2*perPage-1 {
		t.Errorf("%v of %d states are there; a page has %.0f", n, 3*each, perPage)
	}
	if s.Losses()["history_damaged_pages"] != 1 || !named(s) {
		t.Errorf("losses %v, conditions %+v", s.Losses(), s.Conditions())
	}
	if _, err := os.Stat(filepath.Join(dir, damaged, "raw", filepath.Base(segments[1]))); err != nil {
		t.Error(err)
	}
}

// withBlock makes a history whose first half hour is in a block, closed, and gives its directory and the block's.
func withBlock(t *testing.T) (dir, block string, end time.Time) {
	t.Helper()
	dir = t.TempDir()
	s, err := Open(Options{Dir: dir, Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	end = time.Now().Truncate(time.Second)
	from := end.Add(-50 * time.Minute)
	fill(t, s, viewtest.New(1, 1, from.Add(-time.Minute)), from, end)
	for until := time.Now().Add(time.Minute); block == "" &&
		time.Now().Before(until); time.Sleep(20 * time.Millisecond) {
		if all, _ := filepath.Glob(filepath.Join(dir, "raw", "*[0-9A-Z]", "meta.json")); len(all) > 0 {
			block = filepath.Dir(all[0])
		}
	}
	if err := s.Close(); err != nil || block == "" {
		t.Fatalf("block %q, %v", block, err)
	}
	return dir, block, end
}

// A block that can't be opened does not keep the rest from being opened.
func TestABlockThatCantBeOpenedIsPutAside(t *testing.T) {
	dir, block, end := withBlock(t)
	if err := os.Truncate(filepath.Join(block, "index"), 10); err != nil {
		t.Fatal(err)
	}
	s := open(t, func(o *Options) { o.Dir = dir })
	if n := states(t, s, end.Add(-time.Second)); n < 15*60 {
		t.Errorf("%v states are there", n)
	}
	if s.Losses()["history_damaged_blocks"] != 1 || !named(s) {
		t.Errorf("losses %v, conditions %+v", s.Losses(), s.Conditions())
	}
}

// everything asks the HTTP API for all samples of the 50 minutes before at.
func everything(t *testing.T, s *Store, at time.Time) (code int, body string) {
	t.Helper()
	api := promapi.New(s, promapi.Options{})
	defer api.Close()
	form := url.Values{"query": {`{__name__=~".+"}[50m]`}, "time": {strconv.FormatInt(at.Unix(), 10)}}
	w := httptest.NewRecorder()
	api.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/query?"+form.Encode(), nil))
	return w.Code, w.Body.String()
}

// A sample of a block that can't be read fails the query that meets it, and the next start puts the block aside; then
// queries are answered.
func TestABlockWithAFlippedSampleIsPutAside(t *testing.T) {
	dir, block, end := withBlock(t)
	flip(t, filepath.Join(block, "chunks", "000001"), half)
	s, err := Open(Options{Dir: dir, Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	if code, body := everything(t, s, end.Add(-time.Second)); code == 200 || !strings.Contains(body, "ask again") {
		t.Errorf("%d %.300s", code, body)
	}
	s.opened = s.opened.Add(-reopenAfter)
	snap := metrics.Snapshot{Mode: "ebpf"}
	if err := s.Append(end.Add(time.Second), &snap); !errors.Is(err, ErrReopen) {
		t.Errorf("the next state: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, func(o *Options) { o.Dir = dir })
	if code, body := everything(t, s, end.Add(-time.Second)); code != 200 {
		t.Errorf("%d %.300s", code, body)
	}
	if s.Losses()["history_damaged_blocks"] != 1 || !named(s) {
		t.Errorf("losses %v, conditions %+v", s.Losses(), s.Conditions())
	}
}

// Only what the database says of a checksum is taken for damage.
func TestNoteDamage(t *testing.T) {
	s := open(t, nil)
	if s.NoteDamage(nil) || s.NoteDamage(errors.New("query timed out")) || s.suspect.Load() {
		t.Error("another error is taken for damage")
	}
	err := errors.New("checksum mismatch expected:6f1a9b2c, actual:00000000")
	if !s.NoteDamage(fmt.Errorf("cannot populate chunk 8 from block X: %w", err)) || !s.suspect.Load() {
		t.Error("damage is not noted")
	}
}

// What is wrong with the machine is not wrong with a block.
func TestPassingErrors(t *testing.T) {
	for err, want := range map[error]bool{
		fmt.Errorf("open: %w", unix.EMFILE): true, fmt.Errorf("read: %w", unix.EIO): true,
		errors.New("invalid magic number 0"): false, fmt.Errorf("open: %w", unix.ENOENT): false,
	} {
		if passing(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}
