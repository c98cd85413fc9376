package process

import "testing"

// TestArrayOfPsIsReadAsLongAsItHasHoles: the runtime fills in the Ps of an array whose length it has told already
// (runtime/proc.go, procresize).
func TestArrayOfPsIsReadAsLongAsItHasHoles(t *testing.T) {
	p := arenaProcess()
	healthyArena(&p.bin.Layout)
	const second = 8<<10 + 8 // of allp
	addr := ref(16<<10 + 20<<10)
	look := func(what string, ok bool) {
		t.Helper()
		var s Snapshot
		if err := p.Snapshot(&s, false); err != nil || len(s.Ps) != 2 || !s.Ps[0].OK || s.Ps[1].OK != ok {
			t.Errorf("%s: %v, %+v", what, err, s.Ps)
		}
	}
	put(second, 0)
	look("a hole", false)
	look("still a hole", false)
	put(second, addr)
	look("the hole is filled", true)
	if !p.complete {
		t.Error("an array without holes is read again")
	}
	look("the array is not read", true)

	// What is named there is no P any more: whatever happened, the array says anew.
	id := 36<<10 + int(p.bin.Layout.P.ID)
	put32(id, 7)
	look("no P", false)
	if p.complete {
		t.Error("the array is not asked again")
	}
	put32(id, 1)
	look("a P again", true)
}
