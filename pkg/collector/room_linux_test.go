package collector

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// text is a log that may be read while it is written.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *text) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(b)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// TestPsWithoutRoomAreCountedAndLoggedOnce: each snapshot that leaves Ps out counts, and the log says it once for each number of Ps.
func TestPsWithoutRoomAreCountedAndLoggedOnce(t *testing.T) {
	log := new(text)
	c, _ := collectIn(t, ModeEBPF, func(o *Options) {
		o.MaxPs, o.Log = chunkPs, slog.New(slog.NewTextHandler(log, nil))
	})
	p := start(t, "GOMAXPROCS=2")
	pid := p.cmd.Process.Pid
	seen(t, c, pid)
	p.say("procs 11")
	p.say("busy 11") // a target that rests is not read
	waitFor(t, "ten snapshots without room", func() bool { return view(c, pid).Lost["no_room"] >= 10 })
	if n := len(view(c, pid).Ps); n > chunkPs {
		t.Errorf("%d Ps are observed where there is room for %d", n, chunkPs)
	}
	told := func() int { return strings.Count(log.String(), "not every P is observed") }
	if n := told(); n != 1 {
		t.Errorf("logged %d times", n)
	}
	p.say("procs 12")
	waitFor(t, "a second line in the log", func() bool { return told() == 2 })
	time.Sleep(300 * time.Millisecond)
	if n := told(); n != 2 {
		t.Errorf("logged %d times after another change of GOMAXPROCS", n)
	}
}
