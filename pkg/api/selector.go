package api

import (
	"fmt"
	"regexp"
	"slices"

	"connectrpc.com/connect"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/pstate"
)

// Matcher decides which targets and Ps a pscope.v1.Selector chooses.
type Matcher struct {
	host, process, container, pod *regexp.Regexp
	pids                          []int32
	ps                            []int32
	keys                          []pstate.Key
}

// NewMatcher compiles a selector; nil chooses everything. A regular expression that can't be compiled is an error with
// code invalid_argument.
func NewMatcher(sel *pb.Selector) (*Matcher, error) {
	m := &Matcher{pids: sel.GetPids(), ps: sel.GetPs()}
	for _, k := range sel.GetTargets() {
		m.keys = append(m.keys, pstate.Key{PID: k.GetPid(), StartTime: k.GetStartTime(), Runtime: k.GetRuntime()})
	}
	for _, f := range []struct {
		name, expr string
		to         **regexp.Regexp
	}{
		{"host", sel.GetHost(), &m.host},
		{"process", sel.GetProcess(), &m.process},
		{"container", sel.GetContainer(), &m.container},
		{"pod", sel.GetPod(), &m.pod},
	} {
		if f.expr == "" {
			continue
		}
		// As it was written first: "a)|(b" makes sense only inside the brackets that anchor it.
		_, err := regexp.Compile(f.expr)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument,
				fmt.Errorf("selector.%s %q is not a regular expression (RE2): %w", f.name, f.expr, err))
		}
		re, err := regexp.Compile(`^(?:` + f.expr + `)$`)
		if err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("selector.%s %q can't be anchored: %w",
				f.name, f.expr, err))
		}
		*f.to = re
	}
	return m, nil
}

// Target says whether the selector chooses the target on the given host.
func (m *Matcher) Target(host string, t *pstate.Target) bool {
	return matches(m.host, host) && matches(m.process, t.Process) && matches(m.container, t.Container) &&
		matches(m.pod, t.Pod) &&
		(len(m.pids) == 0 || slices.Contains(m.pids, t.PID)) &&
		(len(m.keys) == 0 || slices.Contains(m.keys, t.Key))
}

// P says whether the selector chooses the P.
func (m *Matcher) P(p int32) bool { return len(m.ps) == 0 || slices.Contains(m.ps, p) }

func matches(re *regexp.Regexp, s string) bool { return re == nil || re.MatchString(s) }
