// Command cgotarget is a program with C code that has thread-local variables of its own, beside which the slot of G is
// not where it usually is.
package main

/*
static __thread int pad[5];
static int touch(int i) { return pad[i % 5]++; }
*/
import "C"

import "os"

func main() {
	C.touch(3)
	os.Stdin.Read(make([]byte, 1))
}
