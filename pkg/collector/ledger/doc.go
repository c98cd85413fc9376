// Package ledger keeps the books of a P: how long it has been in which state.
//
// A P's record is memory that the BPF programs and the agent share. Its word says since when the P is in its present
// state; whoever swaps the word adds the time that passed to the totals. The package has the word and the ticks it
// counts in, reads totals that sum to the time that passed, turns them into totals that never decrease, and makes
// intervals of what was sent in between. Nothing of it needs a kernel: all can be tested on any system.
package ledger
