package discover

import (
	"strings"
	"testing"
)

func TestHiddenProcessesAreNamed(t *testing.T) {
	var h hidden
	if l, ok := h.lack(true); ok {
		t.Errorf("nothing is hidden: %v", l)
	}
	h = hidden{1: "init"}
	if l, _ := h.lack(true); !strings.Contains(l.What, "init (pid 1)") || strings.Contains(l.Fix, "root") {
		t.Errorf("an agent with all privileges is told to get some: %v", l)
	}
	h = hidden{1: "a", 2: "b", 30: "c", 4: "d", 5: "e"}
	if l, _ := h.lack(false); l.What != "processes of other users" ||
		!strings.Contains(l.Why, "a (pid 1), b (pid 2), d (pid 4), 2 more") || !strings.Contains(l.Fix, "setcap") {
		t.Errorf("an agent without privileges: %v", l)
	}
	var list HiddenProcesses
	list.hide(7, "x")
	list.show(7)
	if l, n := list.Lack(); n != 0 || l.What != "" {
		t.Errorf("a process that ended: %v", l)
	}
}
