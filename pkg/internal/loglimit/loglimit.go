// Package loglimit keeps one noisy cause from filling a log. Of messages of one kind the first few of a minute are
// written as they come; the rest are counted, and the last of them is written at the minute's end with their number.
// Nothing is left out without being counted.
package loglimit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Window is the time after which what was left out is told of.
const Window = time.Minute

// How much is written within a Window.
const (
	eachKind   = 20  // of one kind
	eachDebug  = 200 // of one kind, of level debug: who asks for that wants to see much
	allKinds   = 600 // of all kinds together
	mostKinds  = 200 // kinds that are told apart; texts may come from outside
	longestKey = 100 // characters of a message that tell its kind
)

// others stands for all kinds that are not told apart.
const others = "messages of other kinds"

// Handler is a slog.Handler that limits what it passes on.
type Handler struct {
	next slog.Handler
	*shared
}

// shared is what a handler and all that come from it by With have in common.
type shared struct {
	after func(time.Duration, func()) // time.AfterFunc, but in tests

	mu      sync.Mutex
	open    bool // a window has begun
	written int  // in this window
	kinds   map[string]*kind
	folded  uint64
}

// kind are the messages of one kind in a window.
type kind struct {
	written int
	more    int // left out
	last    slog.Record
	to      slog.Handler
}

// New limits what goes to next.
func New(next slog.Handler) *Handler {
	return &Handler{next, &shared{kinds: map[string]*kind{},
		after: func(d time.Duration, f func()) { time.AfterFunc(d, f) }}}
}

// Folded counts the messages that were not written one by one.
func (h *Handler) Folded() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.folded
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(ctx context.Context, l slog.Level) bool { return h.next.Enabled(ctx, l) }

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &Handler{h.next.WithAttrs(attrs), h.shared}
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	return &Handler{h.next.WithGroup(name), h.shared}
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if !h.admit(r) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// admit says whether a message is written now; else it is counted.
func (h *Handler) admit(r slog.Record) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		h.open = true
		h.after(Window, h.Flush)
	}
	key := keyOf(r)
	k := h.kinds[key]
	if k == nil && len(h.kinds) >= mostKinds {
		key = others
		k = h.kinds[key]
	}
	if k == nil {
		k = &kind{}
		h.kinds[key] = k
	}
	most := eachKind
	if r.Level < slog.LevelInfo {
		most = eachDebug
	}
	if k.written < most && h.written < allKinds {
		k.written++
		h.written++
		return true
	}
	k.more++
	h.folded++
	k.last, k.to = r.Clone(), h.next
	return false
}

// keyOf tells the kind of a message: its level and text, whatever the numbers in it.
func keyOf(r slog.Record) string {
	var b strings.Builder
	b.WriteString(r.Level.String())
	digit := false
	for i, c := range r.Message {
		if i >= longestKey {
			break
		}
		was := digit
		digit = c >= '0' && c <= '9'
		switch {
		case !digit:
			b.WriteRune(c)
		case !was:
			b.WriteByte('0')
		}
	}
	return b.String()
}

// Flush ends the window and tells of what was left out in it. Call it at the end of the program.
func (h *shared) Flush() {
	h.mu.Lock()
	kinds := h.kinds
	h.kinds, h.open, h.written = map[string]*kind{}, false, 0
	h.mu.Unlock()
	for key, k := range kinds {
		if k.more == 0 {
			continue
		}
		if k.more > 1 {
			what := "like it"
			if key == others {
				what = "of other kinds"
			}
			k.last.Message += fmt.Sprintf(" … and %d more %s in the last minute", k.more-1, what)
		}
		_ = k.to.Handle(context.Background(), k.last) // as slog does with errors of handlers
	}
}
