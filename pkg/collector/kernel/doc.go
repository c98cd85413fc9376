// Package kernel is the agent's side of the BPF programs of bpf/.
//
// It loads the programs and maps their tables into memory, gives targets places in these tables, samples every CPU, and
// puts probes into the code of targets. It tells the programs that the agent lives. What the kernel or the privileges
// don't allow it finds out by trying, and says why and what the user can do.
package kernel
