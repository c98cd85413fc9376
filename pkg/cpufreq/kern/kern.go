// Package kern holds the program that follows changes of CPU frequency in the kernel: bpf/cpu_frequency.bpf.c,
// compiled.
//
// The objects are committed, so building needs no clang; `go generate` makes them anew.
package kern

//go:generate go tool bpf2go -go-package kern -target amd64,arm64 -cc clang -no-strip -cflags "-O2 -g -Wall -Werror -mcpu=v3" -type cpu Cpufreq ../../../bpf/cpu_frequency.bpf.c
