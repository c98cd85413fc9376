package kernel

import (
	"fmt"

	"github.com/p-scope/p-scope/pkg/collector/kern"
	"github.com/p-scope/p-scope/pkg/goruntime"
	"github.com/p-scope/p-scope/pkg/goruntime/layout"
)

// What bpf/walk.h reads of an m, from procid on, and of a p, from its beginning, in words of 8 bytes.
const (
	wordsOfM = int32(kern.ScopeReachM_WORDS)
	wordsOfP = int32(kern.ScopeReachP_WORDS)
)

// outOfReach names a field that the kernel side would not find: the programs read the beginning of a p, in which its
// number comes first, and a piece of an m, in which p, nextp and oldp are neighbours. All known releases have them
// there. It is empty if all can be found.
func outOfReach(l *layout.Layout) (field string) {
	for _, f := range []struct {
		name    string
		at, end int32
	}{
		{"m.curg", l.M.CurG, l.M.CurG + 8}, {"m.p", l.M.P, l.M.P + 8},
		{"m.nextp", l.M.NextP, l.M.NextP + 8}, {"m.oldp", l.M.OldP, l.M.OldP + 8},
	} {
		if d := f.at - l.M.ProcID; d < 0 || d%8 != 0 || f.end-l.M.ProcID > 8*wordsOfM {
			return f.name
		}
	}
	if l.M.NextP != l.M.P+8 {
		return "m.nextp"
	}
	if l.M.OldP != l.M.P+16 {
		return "m.oldp"
	}
	if l.P.ID != 0 {
		return "p.id"
	}
	for _, f := range []struct {
		name    string
		at, end int32
	}{
		{"p.status", l.P.Status, l.P.Status + 4}, {"p.link", l.P.Link, l.P.Link + 8},
		{"p.schedtick", l.P.SchedTick, l.P.SchedTick + 4},
		{"p.syscalltick", l.P.SyscallTick, l.P.SyscallTick + 4}, {"p.m", l.P.M, l.P.M + 8},
	} {
		if f.at < 0 || f.at%(f.end-f.at) != 0 || f.end > 8*wordsOfP {
			return f.name
		}
	}
	return ""
}

// BeyondReach says that the kernel side can't observe what runs this program; nil: it can.
func BeyondReach(bin *goruntime.Binary) error {
	if field := outOfReach(&bin.Layout); field != "" {
		return fmt.Errorf("the runtime's field %s lies where the kernel side does not look: use a newer P-Scope for %s",
			field, bin.GoVersion)
	}
	return nil
}
