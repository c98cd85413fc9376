//go:build !race

package history

// underRace is whether the race detector is in this binary, and so in the children that the tests start from it.
const underRace = false
