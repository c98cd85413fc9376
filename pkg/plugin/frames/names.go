package frames

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/grafana/grafana-plugin-sdk-go/data"

	"github.com/p-scope/p-scope/pkg/pstate"
)

// NameLabels are the labels that name a series within its process, in the order in which names have them.
func NameLabels() []string { return slices.Clone(specific) }

// NamePrefixes are what a name may start with, the shortest first.
func NamePrefixes() [][]string { return slices.Clone(prefixes) }

// OrderLabels are the labels by whose values series are ordered, as numbers where both are some. States as legends show
// them, and all else, follow.
func OrderLabels() []string { return slices.Clone(ordering) }

// specific are the labels that name a series within its process, in the order in which names have them.
var specific = []string{"runtime", "p", "cpu", "from", "to", "state", "thread_state", "reason", "band"}

// prefixes are what a name may start with, the shortest first.
var prefixes = [][]string{nil, {"process"}, {"process", "process_pid"}, {"host", "process"},
	{"host", "process", "process_pid"}}

// Names gives each label set the shortest name that tells it from the others: "P3", "worker P3" when there are several
// processes, "17 P3" when these have the same name, "web-1 worker 17 P3" when nothing less will do. alone names a set
// without labels. Equal sets get equal names.
func Names(sets []data.Labels, alone string) []string {
	names := make([]string, len(sets))
	constant := constantLabels(sets)
	for _, prefix := range prefixes {
		if len(sets) > 1 {
			// What all have in common tells nobody apart; beside a heatmap there is no room for it.
			prefix = slices.DeleteFunc(slices.Clone(prefix),
				func(k string) bool { _, same := constant[k]; return same })
		}
		clear := true
		seen := map[string]string{}
		for i, l := range sets {
			names[i] = name(l, prefix)
			if other, taken := seen[names[i]]; names[i] == "" || taken && other != l.String() {
				clear = false
			}
			seen[names[i]] = l.String()
		}
		if clear {
			return names
		}
	}
	// Labels of the user's own, or none at all.
	for i, l := range sets {
		var rest []string
		for _, k := range slices.Sorted(maps.Keys(l)) {
			if _, same := constant[k]; !same {
				rest = append(rest, word(k, l[k]))
			}
		}
		if names[i] = strings.Join(rest, " "); names[i] == "" {
			names[i] = alone
		}
	}
	return names
}

// fieldName is the name of a field in a frame that a stream continues; what is shown is its display name. When the Ps
// change in mid-stream, Grafana finds the earlier values of each field by this name alone, so that fields which had it
// in common would from then on be one and the same.
func fieldName(what string, l data.Labels) string {
	if len(l) == 0 {
		return what
	}
	return what + " " + l.String()
}

func name(l data.Labels, prefix []string) string {
	var words []string
	for _, k := range prefix {
		if l[k] != "" {
			words = append(words, l[k])
		}
	}
	for _, k := range specific {
		if l[k] != "" {
			words = append(words, word(k, l[k]))
		}
	}
	return strings.Join(words, " ")
}

func word(label, value string) string {
	switch label {
	case "p":
		return "P" + value
	case "cpu":
		return "CPU " + value
	case "to":
		return "→ " + value
	}
	return value
}

func constantLabels(sets []data.Labels) data.Labels {
	if len(sets) == 0 {
		return nil
	}
	constant := maps.Clone(sets[0])
	for _, l := range sets[1:] {
		maps.DeleteFunc(constant, func(k, v string) bool { return l[k] != v })
	}
	return constant
}

var legendField = regexp.MustCompile(`\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}`)

// legend fills a template such as "{{process}} P{{p}}". A label the series doesn't have becomes nothing.
func legend(template string, l data.Labels) string {
	return strings.TrimSpace(legendField.ReplaceAllStringFunc(template, func(m string) string {
		key := legendField.FindStringSubmatch(m)[1]
		if key == "pid" && l[key] == "" {
			key = "process_pid"
		}
		return l[key]
	}))
}

// ordering are the labels by whose values label sets are ordered.
var ordering = []string{"host", "process", "process_pid", "runtime", "p", "cpu"}

// byLabels orders label sets by host, process, pid and runtime, then P and CPU as numbers, then states as legends show
// them, then all else.
func byLabels(a, b data.Labels) int {
	for _, k := range ordering {
		if c := compareNumbers(a[k], b[k]); c != 0 {
			return c
		}
	}
	return cmp.Or(
		cmp.Compare(rank(pstate.States(), a["state"]), rank(pstate.States(), b["state"])),
		cmp.Compare(rank(pstate.ThreadStates(), a["thread_state"]), rank(pstate.ThreadStates(), b["thread_state"])),
		cmp.Compare(a.String(), b.String()))
}

// rank is the place of a word in a list of states; -1 if it is none.
func rank[S fmt.Stringer](states []S, word string) int {
	return slices.IndexFunc(states, func(s S) bool { return s.String() == word })
}

// compareNumbers compares as numbers where both are, else as text.
func compareNumbers(a, b string) int {
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	if errX == nil && errY == nil {
		return cmp.Compare(x, y)
	}
	return cmp.Compare(a, b)
}
