// Command gohost is a Go program that loads a shared library of Go by C's loader, so that the process has two runtimes.
// It calls the library's Work with the numbers that follow its path, and waits.
package main

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>

static const char *work(const char *path, int busy, int waiting) {
	void *library = dlopen(path, RTLD_NOW);
	void (*f)(int, int);

	if (!library)
		return dlerror();
	f = (void (*)(int, int))dlsym(library, "Work");
	if (!f)
		return dlerror();
	f(busy, waiting);
	return NULL;
}
*/
import "C"

import (
	"fmt"
	"os"
	"strconv"
	"unsafe"
)

func main() {
	path := C.CString(os.Args[1])
	defer C.free(unsafe.Pointer(path))
	busy, _ := strconv.Atoi(os.Args[2])
	if err := C.work(path, C.int(busy), 1); err != nil {
		fmt.Println(C.GoString(err))
		os.Exit(1)
	}
	fmt.Println("ready")
	os.Stdin.Read(make([]byte, 1))
}
