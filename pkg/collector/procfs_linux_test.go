package collector

import (
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

func TestParseStat(t *testing.T) {
	line := "4242 (a (b) c) D 1 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 987654 1 2 3"
	s, err := parseStat([]byte(line))
	if err != nil || s.comm != "a (b) c" || s.state != 'D' || s.flags != 4194560 || s.startTime != 987654 || s.size != 1 {
		t.Errorf("%q gives %+v, %v", line, s, err)
	}
	for _, bad := range []string{"", "1", "1 (a", "1 (a) R", ") (", "1 (a) R 1 1 1 0 -1 x 1 2 3 4 5 6 7 8 20 0 9 0 1 2"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a stat line", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 1 2 3"))
	f.Fuzz(func(t *testing.T, b []byte) {
		defer fuzztest.Bound(t, fuzztest.Small, len(b))()
		if s, err := parseStat(b); err == nil && len(s.comm) > len(b) {
			t.Errorf("%q gives a longer command %q", b, s.comm)
		}
	})
}
