package query

import (
	"strconv"
	"strings"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// Selector is the target in the words of ScopeService. ok is false when the pid field is an expression that is no list
// of numbers: the service knows numbers only, so the caller looks the targets up and sets Selector.targets.
func (q *Query) Selector() (s *pscopev1.Selector, ok bool) {
	s = &pscopev1.Selector{
		Host: q.Target.Host, Process: q.Target.Process, Container: q.Target.Container, Pod: q.Target.Pod, Ps: q.PList,
	}
	pids, ok := parsePIDs(q.Target.PID)
	s.Pids = pids
	return s, ok
}

// parsePIDs reads "12" or "12|34" or "(12|34)"; nil and true for no restriction.
func parsePIDs(re string) ([]int32, bool) {
	if len(re) > 1 && re[0] == '(' && re[len(re)-1] == ')' {
		re = re[1 : len(re)-1]
	}
	switch re {
	case "", ".*", ".+":
		return nil, true
	}
	var pids []int32
	for part := range strings.SplitSeq(re, "|") {
		pid, err := strconv.ParseInt(part, 10, 32)
		if err != nil || pid <= 0 {
			return nil, false
		}
		pids = append(pids, int32(pid))
	}
	return pids, true
}
