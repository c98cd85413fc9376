// Command target is the program the tests of package goruntime look at from outside. It does on its standard input's command what the test wants to
// see, and answers with a line once that is so. It uses as little of the standard library as possible, so that it builds quickly with every toolchain.
package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
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
	case 'q': // one goroutine that never yields, behind which 100 others queue up on its P
		started := make(chan bool)
		go queue(started)
		<-started
	case 's': // a thread in a system call that does not return
		go sleepInSyscall()
		time.Sleep(50 * time.Millisecond)
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
	case 'e': // another program: this one again
		syscall.Exec("/proc/self/exe", []string{"target", "again"}, nil)
	}
	os.Stdout.WriteString("ok\n")
}

func queue(started chan bool) {
	for i := range [100]int{} {
		i := i
		go func() { sink[i%len(sink)] = nil }()
	}
	// The write is a system call too short to lose the P to. From here on nothing can take goroutines away when there is one P.
	sink = make([][]byte, 1)
	close(started)
	for {
		spin++
	}
}

var spin uint64

func sleepInSyscall() {
	ts := syscall.Timespec{Sec: 3600}
	syscall.Nanosleep(&ts, nil)
}
