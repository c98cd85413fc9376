//go:build linux

package agent

import (
	"bytes"
	"sync"
)

// mostOfLog is how much of its own log an agent remembers, for who asks for it with a bug report in mind.
const mostOfLog = 64 << 10

// lastLog keeps the last lines that were written to it.
type lastLog struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	if len(l.text) > 2*mostOfLog {
		l.text = append([]byte(nil), l.tail()...)
	}
	return len(b), nil
}

// tail is what is told: whole lines.
func (l *lastLog) tail() []byte {
	if len(l.text) <= mostOfLog {
		return l.text
	}
	cut := l.text[len(l.text)-mostOfLog:]
	return cut[bytes.IndexByte(cut, '\n')+1:]
}

// String gives the last lines.
func (l *lastLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.tail())
}
