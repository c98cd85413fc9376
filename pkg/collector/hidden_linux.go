package collector

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
)

// hidden are the processes whose programs may not be read, by pid with their names. Whether they are Go programs can't be told.
type hidden map[int32]string

// named is how many of them a sentence names.
const named = 3

// lack says what that means: missing privileges of the agent, or processes that the kernel shows to nobody like it.
func (h hidden) lack(privileged bool) (Lack, bool) {
	if len(h) == 0 {
		return Lack{}, false
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
		return Lack{"processes of other users", "the programs of " + which + " may not be read", fixFor(syscall.EPERM)}, true
	}
	return Lack{
		"a look at " + which,
		"the kernel does not let the program be read although the agent has CAP_SYS_PTRACE: a security module or a user namespace protects it",
		"There is nothing to do unless it is a Go program that you want to observe: then allow the agent to trace it in the security module's rules",
	}, true
}

// hide notes a process whose program may not be read; show forgets it.
func (a *agentInfo) hide(pid int32, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hidden == nil {
		a.hidden = hidden{}
	}
	a.hidden[pid] = name
}

func (a *agentInfo) show(pid int32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.hidden, pid)
}
