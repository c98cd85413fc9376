//go:build cgo

package main

// int nothing(void) { return 0; }
import "C"

var _ = C.nothing()
