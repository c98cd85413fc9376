// Package kern holds the kernel side of the collector: the compiled BPF programs of bpf/ and the Go types of what they
// share with the agent.
//
// The objects are committed, so building needs no clang; `go generate` makes them anew.
package kern

//go:generate go run ../../../tools/bpf-shared -o ../../../bpf/shared.h
//go:generate go tool bpf2go -go-package kern -target amd64,arm64 -cc clang -no-strip -cflags "-O2 -g -Wall -Werror -mcpu=v3" -type run_times_bounds -type timed_program -type run_lengths -type switch_order -type target -type p_record -type thread -type thread_set -type layout -type interval_event -type stop_event -type exec_event -type activity -type lag -type migration_window -type p_start_counts -type ran_set -type lost_reason -type event_kind -type word_bits -type chunks -type p_place_bounds -type lag_bounds -type hints -type reach -type thread_key -type cpu_samples Scope ../../../bpf/pscope.bpf.c
