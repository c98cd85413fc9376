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

// capMemory makes the kernel refuse this process a multiple of its limit. Queries are refused or stopped long before;
// this is for what nobody thought of: the process ends, and the agent starts it again. RLIMIT_DATA counts private
// writable memory since Linux 4.7, used or not, and the Go runtime maps its heap in portions of 64 MiB
// (runtime/malloc.go, heapArenaBytes) and tables beside it: hence the distance.
func capMemory(limit int64) error {
	if limit <= 0 {
		return nil
	}
	most := uint64(2*limit + 256<<20)
	return unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: most, Max: most})
}
