package history

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// environment is the child's: the agent's, with the child's own limit of memory.
func environment(limit int64) (env []string) {
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GOMEMLIMIT=") {
			env = append(env, v)
		}
	}
	if limit > 0 {
		env = append(env, fmt.Sprintf("GOMEMLIMIT=%d", limit))
	}
	return env
}

// arena is in which portions the Go runtime maps its heap on 64-bit Linux (runtime/malloc.go, heapArenaBytes). The kernel counts a portion as
// data as soon as it is mapped, used or not.
const arena = 64 << 20

// capMemory makes the kernel refuse this process much more memory than its limit. Queries are refused or cancelled long before; this is for
// what nobody thought of: the process ends, and the agent starts it again. RLIMIT_DATA counts private writable memory since Linux 4.7.
func capMemory(limit int64) error {
	if limit <= 0 {
		return nil
	}
	most := uint64(limit+limit/10+arena-1)/arena*arena + arena
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: most, Max: most})
}
