package discover

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/p-scope/p-scope/pkg/lack"
)

// hidden are the processes whose programs may not be read, by pid with their names. Whether they are Go programs can't
// be told.
type hidden map[int32]string

// named is how many of them a sentence names.
const named = 3

// lack says what that means: missing privileges of the agent, or processes that the kernel shows to nobody like it.
func (h hidden) lack(privileged bool) (lack.Lack, bool) {
	if len(h) == 0 {
		return lack.Lack{}, false
	}
	var names []string
	for _, pid := range slices.Sorted(maps.Keys(h)) {
		if len(names) == named {
			names = append(names, fmt.Sprintf("%d more", len(h)-named))
			break
		}
		names = append(names, fmt.Sprintf("%s (pid %d)", h[pid], pid))
	}
	which := strings.Join(names, ", ")
	if !privileged {
		return lack.HiddenFromUser(which), true
	}
	return lack.HiddenFromAll(which), true
}

// HiddenProcesses is hidden for several goroutines.
type HiddenProcesses struct {
	mu sync.Mutex
	of hidden
}

// hide notes a process whose program may not be read; show forgets it.
func (l *HiddenProcesses) hide(pid int32, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = hidden{}
	}
	l.of[pid] = name
}

func (l *HiddenProcesses) show(pid int32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, pid)
}

// Lack says what they mean for this agent, and how many there are.
func (l *HiddenProcesses) Lack() (what lack.Lack, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	what, _ = l.of.lack(mayTrace())
	return what, len(l.of)
}

// mayTrace is whether the agent has CAP_SYS_PTRACE, which reading the program of any process takes (proc_pid_exe(5)).
func mayTrace() bool { return lack.ReadHost("/").Held.Has(lack.CapSysPtrace) }
