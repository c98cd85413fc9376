package kernel

import (
	"testing"

	"github.com/p-scope/p-scope/pkg/goruntime/layout"
)

// What the kernel side does not reach must be refused before it looks elsewhere.
func TestOutOfReach(t *testing.T) {
	good := layout.Layout{
		M: layout.M{ProcID: 64, CurG: 184, P: 208, NextP: 216, OldP: 224},
		P: layout.P{ID: 0, Status: 4, Link: 8, SchedTick: 16, SyscallTick: 20, M: 48},
	}
	if field := outOfReach(&good); field != "" {
		t.Errorf("the layout of Go 1.26 is out of reach: %s", field)
	}
	for want, move := range map[string]func(l *layout.Layout){
		"m.curg":        func(l *layout.Layout) { l.M.CurG = 56 },
		"m.p":           func(l *layout.Layout) { l.M.P, l.M.NextP, l.M.OldP = 40, 48, 56 },
		"m.nextp":       func(l *layout.Layout) { l.M.NextP = 64 + 8*wordsOfM },
		"m.oldp":        func(l *layout.Layout) { l.M.OldP += 8 },
		"p.id":          func(l *layout.Layout) { l.P.ID = 24 },
		"p.status":      func(l *layout.Layout) { l.P.Status = 64 },
		"p.link":        func(l *layout.Layout) { l.P.Link = 12 },
		"p.schedtick":   func(l *layout.Layout) { l.P.SchedTick = 72 },
		"p.syscalltick": func(l *layout.Layout) { l.P.SyscallTick = 1 << 12 },
		"p.m":           func(l *layout.Layout) { l.P.M = 60 },
	} {
		l := good
		move(&l)
		if field := outOfReach(&l); field != want {
			t.Errorf("%s moved: %q is out of reach", want, field)
		}
	}
}
