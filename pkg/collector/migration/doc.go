// Package migration is tier 2: it counts how often goroutines start on another P than the one that they ran on before.
//
// A probe at the place where every goroutine starts costs more than the rest together. So a Counter puts it into the
// target's code for short windows at random times, as the budget allows, and extrapolates. docs/decisions/migrations.md
// says why.
package migration
