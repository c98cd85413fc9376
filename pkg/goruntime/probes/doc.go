// Package probes says where uprobes may go in a Go program.
//
// P-Scope probes few functions of the runtime: [StopWorld] and [StartWorld], [WorldStarted] at the end of a stop, and
// [Started] where a goroutine starts to run. [Find] picks the instruction in each: a [Site] at which a call is seen
// once, with its arguments in their registers, and which the kernel emulates where that is possible.
//
// All are entry probes. A return probe replaces return addresses on the stack, which the Go runtime walks and moves.
// [StopReason] gives the runtime's words for the first argument of stopTheWorldWithSema.
package probes
