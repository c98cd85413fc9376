package query

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxP is the largest index a P can have: the runtime's _MaxGomaxprocs is 1<<10 (runtime/runtime2.go).
const MaxP = 1<<10 - 1

// ParsePs reads a list of Ps such as "0-3,7" into ascending indices without doubles. It also takes what Grafana makes
// of a variable with several values ("{0,1}", "(0|1)") or with all (".*"). Nil means all Ps.
func ParsePs(list string) ([]int32, error) {
	text := strings.TrimSpace(list)
	if len(text) > 1 && (text[0] == '{' && text[len(text)-1] == '}' || text[0] == '(' && text[len(text)-1] == ')') {
		text = text[1 : len(text)-1]
	}
	switch text {
	case "", ".*", ".+", "*", "$__all":
		return nil, nil
	}
	bad := func(part, why string) error {
		return &Error{Field: "ps", What: fmt.Sprintf("the list of Ps %q can't be read", list),
			Why:  fmt.Sprintf("%q %s", part, why),
			Next: `Write indices and ranges separated by commas, for example "0-3,7"; leave it empty for all Ps`}
	}
	var ps []int32
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '|' }) {
		part = strings.TrimSpace(part)
		lowText, highText, isRange := strings.Cut(part, "-")
		low, err := strconv.Atoi(strings.TrimSpace(lowText))
		if err != nil || low < 0 {
			return nil, bad(part, "is no index")
		}
		high := low
		if isRange {
			if high, err = strconv.Atoi(strings.TrimSpace(highText)); err != nil {
				return nil, bad(part, "is no range")
			}
			if high < low {
				return nil, bad(part, "runs backwards")
			}
		}
		if high > MaxP {
			return nil, bad(part, fmt.Sprintf("is above %d, the largest index Go allows", MaxP))
		}
		for p := low; p <= high; p++ {
			ps = append(ps, int32(p))
		}
	}
	if ps == nil {
		return nil, bad(list, "names no P")
	}
	slices.Sort(ps)
	return slices.Compact(ps), nil
}

// FormatPs is the shortest list that ParsePs reads back into ps; empty for none.
func FormatPs(ps []int32) string {
	var b strings.Builder
	for i := 0; i < len(ps); {
		j := i
		for j+1 < len(ps) && ps[j+1] == ps[j]+1 {
			j++
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(ps[i])))
		if j > i {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(int(ps[j])))
		}
		i = j + 1
	}
	return b.String()
}
