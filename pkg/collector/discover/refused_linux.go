package discover

import (
	"errors"
	"os"

	"github.com/p-scope/p-scope/pkg/goruntime/refusal"
	"github.com/p-scope/p-scope/pkg/lack"
)

// FixForRefused says what to do about a program or process that is refused; empty if nothing can be done.
func FixForRefused(err error) string {
	var r *refusal.Error
	if !errors.As(err, &r) {
		if errors.Is(err, os.ErrPermission) {
			return lack.GivePrivileges()
		}
		return ""
	}
	switch r.Reason {
	case refusal.GoTooOld:
		return "build the program with Go 1.21 or later"
	case refusal.GoUnknown:
		return "update P-Scope, or build the program with debugging information (without -ldflags=-w)"
	case refusal.Memory:
		return "report this program, with its Go version; with debugging information (without -ldflags=-w) it needs " +
			"no search"
	case refusal.NoVariables:
		return "build the program with its symbol table (without -ldflags=-s)"
	case refusal.Arch:
		return "only amd64 and arm64 programs can be observed"
	case refusal.Obfuscated:
		return "build the program without garble"
	case refusal.Packed:
		return "if it is a Go program, run it unpacked (upx -d FILE), or strip it instead of packing it " +
			"(-ldflags='-s -w')"
	case refusal.Forked:
		return "nothing needs to be done: a program that it executes is observed"
	case refusal.OtherGo:
		return "build the program with 'go build' of a Go release"
	case refusal.Unreadable, refusal.NoPrivilege:
		return lack.GivePrivileges()
	case refusal.Replaced:
		return "restart the process, so that it loads the library that is there now; or give the agent " +
			"CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN as well"
	case refusal.NoAnswer:
		return "see whether the file system answers on which it lies; or exclude the process with --exclude"
	case refusal.TooMuch:
		return "exclude the process with --exclude, if it is not to be listed"
	}
	return ""
}
