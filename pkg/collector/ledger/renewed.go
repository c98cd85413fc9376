package ledger

// A word's since has 36 bits, 73 minutes of ticks, and what lies more than half of that back is taken to lie ahead. So
// words that have not changed for a while are written anew, with the time that has passed added to the totals. Since
// when they have really been so is kept beside them.

// renewAfter is ten minutes, in ticks.
const renewAfter = uint64(600e9) >> TickShift

// NeedsRenewal says whether a word must be written anew.
func NeedsRenewal(now, word uint64) bool { return Elapsed(now, word) >= renewAfter }

// Renewed is a word that was written anew, and since when it has really been so.
type Renewed struct{ Word, since uint64 }

// Renew notes that the word old is written anew at the tick now, and gives the new one. r is what was noted of old.
func (r Renewed) Renew(old Word, now uint64) Renewed {
	next := NewWord(now, old.Owner(), old.State(), old.Thread())
	return Renewed{uint64(next), r.SinceOf(uint64(old), Since(now, uint64(old)))}
}

// SinceOf gives since when a word has been so, if this is the one that was written anew; else it is since.
func (r Renewed) SinceOf(word, since uint64) uint64 {
	if r.Word == word && r.Word != 0 {
		return r.since
	}
	return since
}
