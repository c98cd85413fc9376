package api

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestHealthFailsWhenALoopStandsStill: the agent once hung for ever while /-/healthy said ok.
func TestHealthFailsWhenALoopStandsStill(t *testing.T) {
	f := serve(t, nil)
	get := func(path string) (int, string) {
		t.Helper()
		res, err := http.Get(f.url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	for _, c := range []struct {
		still          time.Duration
		healthy, ready int
	}{
		{0, http.StatusOK, http.StatusOK},
		{notReadyAfter + time.Second, http.StatusOK, http.StatusServiceUnavailable},
		{unhealthyAfter + time.Second, http.StatusServiceUnavailable, http.StatusServiceUnavailable},
		{0, http.StatusOK, http.StatusOK},
	} {
		f.source.StoodStill.Store(int64(c.still))
		if code, body := get("/-/healthy"); code != c.healthy || code != http.StatusOK &&
			!strings.Contains(body, collectorStands) {
			t.Errorf("the collector stands still for %v: healthy answers %d %q", c.still, code, body)
		}
		if code, body := get("/-/ready"); code != c.ready || code != http.StatusOK &&
			!strings.Contains(body, collectorStands) {
			t.Errorf("the collector stands still for %v: ready answers %d %q", c.still, code, body)
		}
	}
	// The server's own loop.
	f.stop()
	f.observed.Store(1)
	f.service.started = time.Now().Add(-unhealthyAfter - time.Second)
	if what, _ := f.standsStill(unhealthyAfter); what != serverStands {
		t.Errorf("the server's loop stands still and it is said of %q", what)
	}
}
