// Package goruntime answers where P, M and G live in a Go program.
//
// [Inspect] reads the ELF file of a program or shared library and gives a [Binary]: the offsets of the runtime's
// fields, the addresses of its variables, where a thread keeps its current G, and the instructions at which uprobes may
// go.
//
// The work is done in the packages below this one. Each imports only packages that come later in this list; this
// package stands between memory and probes.
//
//   - process binds a Binary to a live process, proves that the two fit, and takes snapshots of its Ps.
//   - memory reads the memory of other processes, and gives up on those that do not answer.
//   - probes finds the instructions for uprobes.
//   - codewalk learns from the runtime's machine code what the file does not say.
//   - layout has the types for offsets and addresses, and the table of Go releases.
//   - binary reads ELF files: symbols, the table of functions, DWARF, the Go version.
//   - refusal says why something is not observed.
//
// The offsets come from the binary's own DWARF, else from the table of Go releases, else from a search of the runtime's
// code. What P-Scope cannot find out it refuses with a [refusal.Error]; it guesses nothing. It trusts neither the bytes
// of a file nor the memory of a process: every size, count and pointer has a bound, and malformed input is an error,
// never a panic.
package goruntime
