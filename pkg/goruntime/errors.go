package goruntime

import "fmt"

// Reason is the stable, machine-readable word for a refusal; it ends up in the label `reason` of pscope_target_info.
type Reason string

// The reasons for which a binary is refused.
const (
	ReasonNotGo       Reason = "not_go"        // nothing in the file is of Go
	ReasonGoTooOld    Reason = "go_too_old"    // before Go 1.21
	ReasonGoUnknown   Reason = "go_unknown"    // newer than the table (or a modified runtime), without DWARF to tell the layout, and the search of its code failed
	ReasonArch        Reason = "arch"          // neither amd64 nor arm64
	ReasonMalformed   Reason = "malformed_elf" // not an ELF executable, or one that contradicts itself
	ReasonNoVariables Reason = "no_variables"  // the runtime's variables could not be located
	ReasonUnreadable  Reason = "unreadable"    // the file could not be read
	ReasonReplaced    Reason = "replaced"      // the file has no name any more, and the kernel leads to it only with more privileges
	ReasonNoAnswer    Reason = "no_answer"     // the file's file system did not answer in time
	ReasonTooMuch     Reason = "too_much"      // reading the file took more bytes or time than any may take
	// garble, or what does as it does, has scrambled what the runtime's structures are found by
	ReasonObfuscated Reason = "obfuscated"
	ReasonPacked     Reason = "packed"        // UPX hides what is inside
	ReasonOtherGo    Reason = "other_runtime" // Go, but built with gccgo or TinyGo, whose runtimes have no Ps, or others
)

// The reasons for which a process is refused, or a reading of it failed.
const (
	// a copy of a Go process by fork without exec, to which the runtime's threads did not come along
	ReasonForked      Reason = "forked"
	ReasonExited      Reason = "exited"       // the process is gone, or its pid belongs to another one by now
	ReasonExeced      Reason = "execed"       // the process runs another program image than the one inspected
	ReasonNoPrivilege Reason = "no_privilege" // the kernel does not let us read the target
	ReasonTorn        Reason = "torn"         // the target changed while it was being read; the next attempt may succeed
	ReasonMemory      Reason = "memory"       // the target's memory does not look like the runtime we expect
	ReasonNotStarted  Reason = "not_started"  // the target is being executed, or its runtime has not initialised its Ps yet: try again
	ReasonUnsupported Reason = "unsupported"  // this operating system cannot do it
)

// RefusedError says why a binary or process cannot be observed: a stable Reason for machines, a sentence for people.
//
// errors.Is matches two RefusedErrors by Reason, so callers write errors.Is(err, goruntime.ErrExited).
type RefusedError struct {
	Reason Reason
	Detail string // one sentence for people, without a final stop
	Err    error  // the cause, may be nil
}

// Error gives the sentence, followed by the cause if there is one.
func (e *RefusedError) Error() string {
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
func (e *RefusedError) Unwrap() error { return e.Err }

// Is reports whether target is a RefusedError for the same Reason.
func (e *RefusedError) Is(target error) bool {
	t, ok := target.(*RefusedError)
	return ok && t.Reason == e.Reason
}

// Values to compare against with errors.Is.
var (
	ErrExited      = &RefusedError{Reason: ReasonExited, Detail: "the process has exited"}
	ErrExeced      = &RefusedError{Reason: ReasonExeced, Detail: "the process has executed another program"}
	ErrNoPrivilege = &RefusedError{Reason: ReasonNoPrivilege, Detail: "no permission to read the process"}
	ErrTorn        = &RefusedError{Reason: ReasonTorn, Detail: "the process changed while it was being read"}
	ErrNotStarted  = &RefusedError{Reason: ReasonNotStarted, Detail: "the Go runtime of the process has not started yet"}
	ErrNoAnswer    = &RefusedError{Reason: ReasonNoAnswer, Detail: "a file or memory did not answer in time"}
	ErrNotGo       = &RefusedError{Reason: ReasonNotGo, Detail: "the file is not a Go program"}
)

func refuse(r Reason, cause error, format string, args ...any) *RefusedError {
	return &RefusedError{Reason: r, Detail: fmt.Sprintf(format, args...), Err: cause}
}

// Refuse makes a refusal, for those who read the files that this package is given.
func Refuse(r Reason, cause error, format string, args ...any) error {
	return refuse(r, cause, format, args...)
}
