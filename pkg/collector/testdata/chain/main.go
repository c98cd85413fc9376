// Command chain executes other programs under its own process id, one after the other: chain N MICROSECONDS PROGRAM...
// does a little work, waits up to that long, and becomes the first PROGRAM, with N-1 and the first moved to the end,
// until N is 0. Built in several ways these programs have different code at the same places, so that a probe meant for
// one breaks the other. It is a module of its own, so that old toolchains build it.
package main

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

func main() {
	n, _ := strconv.Atoi(os.Args[1])
	longest, _ := strconv.Atoi(os.Args[2])
	programs := os.Args[3:]
	sum := make(chan int)
	go func() {
		total := 0
		for i := 1; i <= 100; i++ {
			total += i
		}
		sum <- total
	}()
	if <-sum != 5050 {
		os.Exit(3)
	}
	runtime.GC() // stops the world, where probes are
	if longest > 0 {
		time.Sleep(time.Duration(time.Now().UnixNano()/100%int64(longest)) * time.Microsecond)
	}
	runtime.GC()
	if n == 0 {
		os.Stdout.WriteString("done\n")
		return
	}
	args := append([]string{programs[0], strconv.Itoa(n - 1), os.Args[2]}, programs[1:]...)
	args = append(args, programs[0])
	if err := syscall.Exec(programs[0], args, os.Environ()); err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(4)
	}
}
