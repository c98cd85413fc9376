package plugin

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

// lived makes a process with a value of GOMAXPROCS for every second from start on.
func lived(pid int32, start int64, values ...float64) *life {
	l := &life{host: "web-1", process: "api", pid: pid}
	for i, v := range values {
		l.points = append(l.points, model.SamplePair{Timestamp: model.TimeFromUnix(start + int64(i)),
			Value: model.SampleValue(v)})
	}
	return l
}

func TestChangesOfGOMAXPROCS(t *testing.T) {
	var got []string
	for _, e := range resizes(lived(7, 100, 4, 4, 8, 8, 2)) {
		got = append(got, fmt.Sprintf("%s %d–%d pid %d", e.GetReason(), e.GetStartUnixNano()/1e9,
			e.GetEndUnixNano()/1e9, e.GetKey().GetPid()))
	}
	if want := "[GOMAXPROCS 4 → 8 101–102 pid 7 GOMAXPROCS 8 → 2 103–104 pid 7]"; fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}

func TestRestarts(t *testing.T) {
	other := lived(20, 103, 1, 1)
	other.process = "db"
	lives := []*life{
		lived(1, 100, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4), // there all the time
		lived(2, 100, 4, 4, 4),                         // replaced by 3 after a pause
		lived(3, 106, 4, 4, 4, 4, 4),
		other, // comes and goes
	}
	var got []string
	for _, e := range restarts(lives, time.Unix(100, 0), time.Unix(110, 0), time.Second) {
		got = append(got, fmt.Sprintf("%s %d–%d;", e.GetReason(), e.GetStartUnixNano()/1e9, e.GetEndUnixNano()/1e9))
	}
	want := "[db started (pid 20) 103–103; api restarted (pid 2 → 3) 102–106; db ended (pid 20) 104–104;]"
	if fmt.Sprint(got) != want {
		t.Errorf("got  %v\nwant %s", got, want)
	}
}
