// Package refusal says why P-Scope does not observe a program or a process.
//
// P-Scope refuses what it is not sure of. Each refusal is an [*Error] with a [Reason], which is a stable word for
// machines, and with a sentence for people. The agent shows the Reason in the label `reason` of pscope_target_info.
// Callers compare with the variables of this package: errors.Is(err, refusal.ErrExited).
package refusal

import "fmt"

// Reason is the word for machines.
type Reason string

// The reasons for which a program's file is refused.
const (
	NotGo    Reason = "not_go"     // nothing in the file is of Go
	GoTooOld Reason = "go_too_old" // before Go 1.21
	// newer than the table, or a modified runtime; it has no DWARF, and the search of its code failed
	GoUnknown   Reason = "go_unknown"
	Arch        Reason = "arch"          // neither amd64 nor arm64
	Malformed   Reason = "malformed_elf" // not an ELF executable, or one that contradicts itself
	NoVariables Reason = "no_variables"  // the runtime's variables were not found
	Unreadable  Reason = "unreadable"    // the file cannot be read
	Replaced    Reason = "replaced"      // the file has no name any more, and opening it needs more privileges
	NoAnswer    Reason = "no_answer"     // the file system did not answer in time
	TooMuch     Reason = "too_much"      // the file needs more bytes or time to read than any file may take
	// garble, or a similar tool, has scrambled the data by which the runtime's structures are found
	Obfuscated Reason = "obfuscated"
	Packed     Reason = "packed"        // UPX hides what is inside
	OtherGo    Reason = "other_runtime" // built with gccgo, TinyGo or another compiler; their runtimes have no Ps
)

// The reasons for which a process is refused, or a reading of it failed.
const (
	// the process was forked from a Go process and has not executed a program since: it lacks the runtime's threads
	Forked      Reason = "forked"
	Exited      Reason = "exited"       // the process has exited; its pid may belong to another one
	Execed      Reason = "execed"       // the process runs another program than the one inspected
	NoPrivilege Reason = "no_privilege" // the kernel does not let the agent read the process
	Torn        Reason = "torn"         // the process changed while it was being read; try again
	Memory      Reason = "memory"       // the memory does not look like the runtime that is expected
	NotStarted  Reason = "not_started"  // the runtime has not initialised its Ps yet; try again
	Unsupported Reason = "unsupported"  // this operating system has no way to read a process
)

// Error says why a program or a process cannot be observed: a Reason for machines, a sentence for people.
//
// errors.Is compares the Reason of two Errors. So callers write errors.Is(err, refusal.ErrExited).
type Error struct {
	Reason Reason
	Detail string // one sentence for people, without a final stop
	Err    error  // the cause, may be nil
}

// Error gives the sentence, followed by the cause if there is one.
func (e *Error) Error() string {
	s := e.Detail
	if s == "" {
		s = string(e.Reason)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is an Error with the same Reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// Values to compare with by errors.Is.
var (
	ErrExited      = &Error{Reason: Exited, Detail: "the process has exited"}
	ErrExeced      = &Error{Reason: Execed, Detail: "the process has executed another program"}
	ErrNoPrivilege = &Error{Reason: NoPrivilege, Detail: "no permission to read the process"}
	ErrTorn        = &Error{Reason: Torn, Detail: "the process changed while it was being read"}
	ErrNotStarted  = &Error{Reason: NotStarted, Detail: "the Go runtime of the process has not started yet"}
	ErrNoAnswer    = &Error{Reason: NoAnswer, Detail: "a file or memory did not answer in time"}
	ErrNotGo       = &Error{Reason: NotGo, Detail: "the file is not a Go program"}
)

// New makes an [*Error]. The sentence is formatted as by fmt.Sprintf; cause may be nil.
func New(r Reason, cause error, format string, args ...any) error {
	return &Error{Reason: r, Detail: fmt.Sprintf(format, args...), Err: cause}
}
