// A library of which C calls Work: the tests look for the runtime in it.
package main

import "C"

import "time"

// Work starts goroutines that keep a CPU busy each, and some that wait.
//
//export Work
func Work(busy, waiting int32) {
	for i := int32(0); i < busy; i++ {
		go func() {
			for n := uint64(1); n != 0; n++ {
			}
		}()
	}
	for i := int32(0); i < waiting; i++ {
		go func() { time.Sleep(time.Hour) }()
	}
}

func main() {}
