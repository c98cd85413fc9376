//go:build !linux

// Command pscope is the agent and its tools; it runs on Linux only.
package main

import (
	"fmt"
	"os"
	"runtime"
)

func main() {
	fmt.Fprintf(os.Stderr, "pscope: this is %s, and the agent observes Linux only; run it on a Linux host and point "+
		"Grafana's P-Scope data source at its address\n", runtime.GOOS)
	os.Exit(2)
}
