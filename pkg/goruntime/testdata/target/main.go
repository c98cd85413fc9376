// Command target is the program the tests of package goruntime look at from outside. It does on its standard input's
// command what the test wants to see, and answers with a line once that is so. It uses as little of the standard
// library as possible, so that it builds quickly with every toolchain.
package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
	"unsafe"
)

var sink [][]byte

func main() {
	buf := make([]byte, 64)
	for {
		n, err := syscall.Read(0, buf)
		if n <= 0 || err != nil {
			return
		}
		for _, c := range buf[:n] {
			command(c)
		}
	}
}

func command(c byte) {
	switch c {
	case '1', '2', '3', '4', '5', '6', '7', '8', '9': // GOMAXPROCS
		runtime.GOMAXPROCS(int(c - '0'))
	case 'x':
		runtime.GOMAXPROCS(64)
	case 'q': // one goroutine that never yields, behind which 100 others queue up on its P; no further commands
		time.Sleep(20 * time.Millisecond) // lets the runtime's own goroutines, new at the start, run and park
		go queue()
		select {}
	case 's': // a thread in a system call that does not return
		go sleepInSyscall()
		time.Sleep(50 * time.Millisecond)
	case 'y': // system calls of 5 ms, one after the other: too short for the P to be taken away
		go func() {
			for {
				ts := syscall.Timespec{Nsec: 5e6}
				syscall.Nanosleep(&ts, nil)
				runtime.Gosched() // or else sysmon finds that the P has not scheduled for 10 ms, and takes it
			}
		}()
	case 'g': // garbage collections without end
		go func() {
			for i := 0; ; i++ {
				sink = append(sink, make([]byte, 64<<10))
				if len(sink) > 500 {
					sink = nil
				}
			}
		}()
		time.Sleep(50 * time.Millisecond)
	case 't': // many threads
		for range [40]int{} {
			go sleepInSyscall()
		}
		time.Sleep(100 * time.Millisecond)
	case 'b': // busy goroutines that yield
		for range [16]int{} {
			go func() {
				for {
					runtime.Gosched()
				}
			}()
		}
	case 'p': // pairs of goroutines that wake each other, so that an M runs each for a microsecond
		for range [4]int{} {
			ping, pong := make(chan int), make(chan int)
			go func() {
				for v := range ping {
					pong <- v
				}
			}()
			go func() {
				for {
					ping <- 1
					<-pong
				}
			}()
		}
	case 'w': // short system calls, many of which lose their P
		for range [8]int{} {
			go func() {
				for {
					ts := syscall.Timespec{Nsec: 20e3}
					syscall.Nanosleep(&ts, nil)
				}
			}()
		}
	case 'e': // another program: this one again
		syscall.Exec("/proc/self/exe", []string{"target", "again"}, nil)
	}
	os.Stdout.WriteString("ok\n")
}

func queue() {
	var ran uint64
	for range [100]int{} {
		go func() { ran++ }()
	}
	// On a slow machine this goroutine was preempted meanwhile, and some of the others have run: say how many wait.
	// This is not written through the scheduler, which might take the opportunity to run others. From here on nothing
	// does, with one P and GODEBUG=asyncpreemptoff=1.
	waiting := 100 - ran
	answer := []byte{'0' + byte(waiting/100), '0' + byte(waiting/10%10), '0' + byte(waiting%10), '\n'}
	syscall.RawSyscall(syscall.SYS_WRITE, 1, uintptr(unsafe.Pointer(&answer[0])), uintptr(len(answer)))
	for {
		spin++
	}
}

var spin uint64

func sleepInSyscall() {
	ts := syscall.Timespec{Sec: 3600}
	syscall.Nanosleep(&ts, nil)
}
