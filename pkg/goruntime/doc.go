// Package goruntime answers one question for the rest of P-Scope: where do P, M and G live in this Go binary and in this process?
//
// [Inspect] reads an ELF file and yields a [Binary]: the runtime's field offsets ([Layout]), the link-time addresses of its variables ([Vars]),
// the thread-local slot of the current G ([TLS]) and the instructions at which uprobes are cheap and safe ([ProbeSite]).
// [OpenProcess] binds a Binary to a live process, [Process.Validate] checks the two against each other, and [Process.Snapshot] reads every P
// with a handful of process_vm_readv calls.
//
// Offsets come from the binary's own DWARF, else from the embedded table of Go releases (layouts_gen.go, written by tools/gen-layouts), else from
// the code of its runtime (search.go), of which at least two functions must agree on each field; Validate then proves those against the process's
// memory. What cannot be answered is refused with a [RefusedError]; nothing is guessed. Neither ELF bytes nor target memory are trusted: every
// size, count and pointer is bounded, and malformed input is an error, never a panic.
package goruntime
