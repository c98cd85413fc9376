package collector

// A word's since has 36 bits, 73 minutes of ticks, and what lies more than half of that back is taken to lie ahead. So
// words that have not changed for a while are written anew, with the time that has passed added to the totals. Since
// when they have really been so is kept beside them.

// renewAfter is ten minutes, in ticks.
const renewAfter = uint64(600e9) >> tickShift

// needsRenewal says whether a word must be written anew.
func needsRenewal(now, word uint64) bool { return elapsed(now, word) >= renewAfter }

// renewed is a word that was written anew, and since when it has really been so.
type renewed struct{ word, since uint64 }

// renew notes that the word old is written anew at the tick now, and gives the new one. r is what was noted of old.
func (r renewed) renew(old word, now uint64) renewed {
	next := wordOf(now, old.owner(), old.state(), old.thread())
	return renewed{uint64(next), r.of(uint64(old), sinceTick(now, uint64(old)))}
}

// of gives since when a word has been so, if this is the one that was written anew; else it is since.
func (r renewed) of(word, since uint64) uint64 {
	if r.word == word && r.word != 0 {
		return r.since
	}
	return since
}
