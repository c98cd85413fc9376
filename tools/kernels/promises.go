package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// promise is what docs/install.md says that a user gets on a kernel. A cell of the results is green if it shows just
// that.
type promise struct {
	From   string // the oldest kernel for which it holds, up to the next one's
	User   string
	Source string // ebpf or snapshot
	Stops  bool   // every stop of the world is seen; else none, with the reason
	// Says is how the docs put it.
	Says string
}

// promises are in order of kernels. docs/install.md is checked against them by a test.
var promises = []promise{
	{From: "6.1", User: plan.Root, Source: "ebpf", Stops: true, Says: "everything"},
	{From: "6.1", User: plan.Documented, Source: "ebpf", Says: "everything but stops and goroutine migrations"},
	{From: "6.1", User: plan.WithAdmin, Source: "ebpf", Stops: true, Says: "everything"},
	{From: "6.1", User: plan.Unprivileged, Source: "snapshot", Says: "snapshots of its own processes"},
	{From: "6.6", User: plan.Root, Source: "ebpf", Stops: true, Says: "everything"},
	{
		From: "6.6", User: plan.Documented, Source: "ebpf", Stops: true,
		Says: "everything; a probe lies in all processes that run the same file, each pays about 1 µs a stop",
	},
	{From: "6.6", User: plan.WithAdmin, Source: "ebpf", Stops: true, Says: "everything"},
	{From: "6.6", User: plan.Unprivileged, Source: "snapshot", Says: "snapshots of its own processes"},
	{From: "6.10", User: plan.Root, Source: "ebpf", Stops: true, Says: "everything"},
	{From: "6.10", User: plan.Documented, Source: "ebpf", Stops: true, Says: "everything"},
	{From: "6.10", User: plan.WithAdmin, Source: "ebpf", Stops: true, Says: "everything"},
	{From: "6.10", User: plan.Unprivileged, Source: "snapshot", Says: "snapshots of its own processes"},
}

// untried says of lines of kernels why none of them is pinned.
var untried = map[string]string{
	"6.6": "not tried: there is no Debian package of them; what the agent does there is tried on 6.18 by making it " +
		"choose that way",
}

// promised gives what a user is promised on a kernel, named by its release, for example "6.1.0-50-cloud-amd64".
func promised(release, user string) (promise, error) {
	if user == plan.WithSysctl {
		user = plan.Documented
	}
	var best *promise
	for i := range promises {
		if p := &promises[i]; p.User == user && !olderLine(release, p.From) {
			best = p
		}
	}
	if best == nil {
		return promise{}, fmt.Errorf("nothing is promised to the user %s on Linux %s", user, release)
	}
	return *best, nil
}

// usersOf are those worth trying on a kernel: one capability more where the documented ones do not give everything; a
// setting only in a guest.
func usersOf(release string, guest bool) []string {
	users := []string{plan.Root, plan.Documented}
	if guest {
		users = append(users, plan.WithSysctl)
	}
	if p, err := promised(release, plan.Documented); err == nil && !p.Stops {
		users = append(users, plan.WithAdmin)
	}
	return append(users, plan.Unprivileged)
}

// mostParanoid is the highest kernel.perf_event_paranoid with which CAP_PERFMON opens perf events. Debian's and
// Ubuntu's kernels know higher ones.
const mostParanoid = 2

// withoutSamples says whether a user gets no samples, as docs/install.md has it: on a CPU, everything is `running`
// then.
func withoutSamples(user string, paranoid int) bool {
	return user == plan.Documented && paranoid > mostParanoid
}

// olderLine compares the first two numbers of two kernel releases.
func olderLine(a, b string) bool {
	x, y := lineOf(a), lineOf(b)
	return x[0] < y[0] || x[0] == y[0] && x[1] < y[1]
}

func lineOf(release string) (n [2]int) {
	for i, part := range strings.SplitN(release, ".", 3) {
		if i < 2 {
			n[i], _ = strconv.Atoi(strings.TrimRightFunc(part, func(r rune) bool { return r < '0' || r > '9' }))
		}
	}
	return n
}

// docsTable is the table of docs/install.md.
func docsTable() string {
	var b strings.Builder
	b.WriteString("| Linux | root | the four capabilities | these and CAP_SYS_ADMIN | any other user | tried on |\n| " +
		"--- | --- | --- | --- | --- | --- |\n")
	for i := 0; i < len(promises); i++ {
		from := promises[i].From
		cells := map[string]string{}
		next := ""
		for ; i < len(promises); i++ {
			if promises[i].From != from {
				next = promises[i].From
				i--
				break
			}
			cells[promises[i].User] = promises[i].Says
		}
		name := from + " and later"
		if next != "" {
			n := lineOf(next)
			name = fmt.Sprintf("%s to %d.%d", from, n[0], n[1]-1)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", name,
			cells[plan.Root], cells[plan.Documented], cells[plan.WithAdmin], cells[plan.Unprivileged],
			strings.Join(triedOn(from, next), ", "))
	}
	return b.String()
}

// triedOn are the pinned kernels from one line up to another.
func triedOn(from, below string) (out []string) {
	for _, p := range pins {
		if olderLine(p.Line, from) || below != "" && !olderLine(p.Line, below) {
			continue
		}
		out = append(out, fmt.Sprintf("%s (Debian %s, %s)", p.Line, p.Suite, p.Arch))
	}
	if why := untried[from]; why != "" {
		out = append(out, why)
	}
	return out
}
