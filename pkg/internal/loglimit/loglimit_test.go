package loglimit

import (
	"bytes"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// limited gives a log into a buffer, and a function that ends the minute.
func limited(level slog.Level) (log *slog.Logger, h *Handler, out *bytes.Buffer, minute func()) {
	out = &bytes.Buffer{}
	h = New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	var end func()
	h.after = func(d time.Duration, f func()) {
		if d != Window {
			panic(d)
		}
		end = f
	}
	return slog.New(h), h, out, func() {
		if end != nil {
			f := end
			end = nil
			f()
		}
	}
}

var more = regexp.MustCompile(`and (\d+) more`)

// told counts the messages that a log tells of: each line is one, and what it says of others.
func told(t *testing.T, out string) (lines, messages int) {
	t.Helper()
	for line := range strings.Lines(out) {
		lines++
		messages++
		if m := more.FindStringSubmatch(line); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			messages += n
		}
	}
	return lines, messages
}

func TestRepeatedMessagesAreFoldedAndCounted(t *testing.T) {
	log, h, out, minute := limited(slog.LevelInfo)
	for i := range 1000 {
		log.With("disk", "sda").Error("history not written", "try", i)
	}
	log.Info("observing", "pid", 1)
	if lines, _ := told(t, out.String()); lines != eachKind+1 {
		t.Errorf("%d lines before the minute is over, want %d and the one of another kind", lines, eachKind)
	}
	minute()
	lines, messages := told(t, out.String())
	if lines != eachKind+2 || messages != 1001 || h.Folded() != 1000-eachKind {
		t.Errorf("%d lines tell of %d messages, %d were folded:\n%s", lines, messages, h.Folded(), out)
	}
	const sum = `msg="history not written … and 979 more like it in the last minute" disk=sda try=999`
	if s := out.String(); !strings.Contains(s, sum) {
		t.Errorf("the last one and their number are not told:\n%s", s)
	}
	// The next minute begins anew.
	out.Reset()
	log.Error("history not written")
	if lines, _ := told(t, out.String()); lines != 1 {
		t.Error("the first of the next minute is not written")
	}
	minute()
	if lines, _ := told(t, out.String()); lines != 1 {
		t.Error("a line about nothing")
	}
}

// Texts with numbers are of one kind; texts from outside can't make the limiter grow or write without bound.
func TestTextsFromOutside(t *testing.T) {
	log, h, out, minute := limited(slog.LevelDebug)
	for i := range 300 {
		log.Warn(fmt.Sprintf("TLS handshake error from 10.0.0.%d:%d: EOF", i%256, 40000+i))
	}
	if lines, _ := told(t, out.String()); lines != eachKind {
		t.Errorf("%d lines, want %d: only the numbers differ", lines, eachKind)
	}
	minute()
	out.Reset()
	h.folded = 0
	const all = 100_000
	for i := range all {
		log.Warn(strings.Repeat(string(rune('a'+i%26)), 1+i/26%200) + string(rune('a'+i/5200)))
	}
	if len(h.kinds) > mostKinds+1 {
		t.Errorf("%d kinds are kept", len(h.kinds))
	}
	minute()
	lines, messages := told(t, out.String())
	if lines > allKinds+mostKinds+1 || messages != all || h.Folded() == 0 {
		t.Errorf("%d lines tell of %d messages of %d, %d folded", lines, messages, all, h.Folded())
	}
}

// The same from many goroutines, with real time: nothing is lost or counted twice.
func TestFromManyGoroutines(t *testing.T) {
	out := &safe{}
	h := New(slog.NewTextHandler(out, nil))
	h.after = func(_ time.Duration, f func()) { time.AfterFunc(time.Millisecond, f) }
	log := slog.New(h)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5000 {
				log.WithGroup("g").Warn("busy", "k", 1)
			}
		})
	}
	wg.Wait()
	h.Flush()
	time.Sleep(20 * time.Millisecond)
	h.Flush()
	if _, messages := told(t, out.String()); messages != 40_000 {
		t.Errorf("the log tells of %d messages, there were 40000", messages)
	}
}

type safe struct {
	mu sync.Mutex
	bytes.Buffer
}

func (s *safe) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Buffer.Write(b)
}
