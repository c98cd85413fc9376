package promapi

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
)

// deadlines is a connection that knows whether each write has a deadline.
type deadlines struct {
	*httptest.ResponseRecorder
	t      *testing.T
	until  time.Time
	writes int
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.until = at
	return nil
}

func (d *deadlines) Write(b []byte) (int, error) {
	if left := time.Until(d.until); left <= 0 || left > partTimeout {
		d.t.Errorf("%d bytes are written with %v left", len(b), left)
	}
	d.writes++
	return d.ResponseRecorder.Write(b)
}

// A long answer leaves in parts with a deadline for each, compressed where the client accepts that.
func TestAnswersLeaveInParts(t *testing.T) {
	a, s := open(t)
	fill(t, s, viewtest.New(20, 8, start), start, start.Add(5*time.Second))
	get := func(query, accept string) (*deadlines, string) {
		t.Helper()
		r := httptest.NewRequest(http.MethodGet, "/api/v1/query?"+url.Values{"query": {query},
			"time": {start.Add(4 * time.Second).Format(time.RFC3339)}}.Encode(), nil)
		r.Header.Set("Accept-Encoding", accept)
		d := &deadlines{ResponseRecorder: httptest.NewRecorder(), t: t}
		a.Handler().ServeHTTP(d, r)
		body := io.Reader(d.Body)
		if d.Header().Get("Content-Encoding") == "gzip" {
			var err error
			if body, err = gzip.NewReader(d.Body); err != nil {
				t.Fatal(err)
			}
		}
		text, err := io.ReadAll(body)
		if err != nil || d.Code != http.StatusOK {
			t.Fatalf("%s: %d, %v", query, d.Code, err)
		}
		return d, string(text)
	}
	const every = `{__name__=~".+"}`
	plain, want := get(every, "identity")
	if n := len(want) / (2 * partBytes); plain.writes < n || n < 2 {
		t.Errorf("%d bytes left in %d parts", len(want), plain.writes)
	}
	zipped, got := get(every, "gzip, deflate")
	if zipped.Header().Get("Content-Encoding") != "gzip" || !strings.Contains(zipped.Header().Get("Vary"),
		"Accept-Encoding") {
		t.Errorf("a long answer has the headers %v", zipped.Header())
	}
	if got != want || zipped.writes < 2 {
		t.Errorf("compressed it has %d bytes instead of %d, in %d parts", len(got), len(want), zipped.writes)
	}
	for query, accept := range map[string]string{"1": "gzip", every: "gzip;q=0"} {
		if d, _ := get(query, accept); d.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s with %s is compressed", query, accept)
		}
	}
}
