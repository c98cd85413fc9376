package process

import (
	"maps"
	"slices"
)

// evidence counts, for each field of a layout that was found by search, how often the memory of a process agreed with
// it and how often not. A zero in a place that may hold zero counts for neither: most of memory is zero.
type evidence map[string]*counts

type counts struct{ right, wrong int }

// contradicted says whether a field was seen wrong at least as often as right.
func (c *counts) contradicted() bool { return c.wrong > 0 && c.wrong >= c.right }

// note counts what a look showed.
func (e evidence) note(field string, agrees bool) {
	if agrees {
		e.add(field, counts{right: 1})
	} else {
		e.add(field, counts{wrong: 1})
	}
}

func (e evidence) add(field string, c counts) {
	if e[field] == nil {
		e[field] = new(counts)
	}
	e[field].right += c.right
	e[field].wrong += c.wrong
}

// against names a field that memory contradicts: it was wrong at least as often as right. The process goes on while it
// is read, so single contradictions are normal. A field that is read in the wrong place is wrong nearly always.
func (e evidence) against() (field string) {
	for _, name := range slices.Sorted(maps.Keys(e)) {
		if e[name].contradicted() {
			return name
		}
	}
	return ""
}

// clean reports whether nothing was contradicted.
func (e evidence) clean() bool {
	for _, c := range e {
		if c.wrong > 0 {
			return false
		}
	}
	return true
}

// doubtful reports whether against would name a field only by chance: it was seen seldom, or was right at times as
// well.
func (e evidence) doubtful() bool {
	for _, c := range e {
		if c.contradicted() && (c.right > 0 || c.wrong < maxProofs) {
			return true
		}
	}
	return false
}

// maxProofs is how often a process is read to prove a layout; maxDoubts is how often if that leaves a doubt. maxProofGs
// is how many goroutines of each reading are looked at.
const (
	maxProofs  = 8
	maxDoubts  = 64
	maxProofGs = 512
)
