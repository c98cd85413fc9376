//go:build cgo

package main

/*
// Beside a thread-local variable of the program's own the slot of G is not where it usually is.
static __thread int pad[5];
static int touch(int i) { return pad[i % 5]++; }
*/
import "C"

func crossToC() { C.touch(3) }
