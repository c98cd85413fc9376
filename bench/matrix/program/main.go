// Command program is what bench/matrix builds with every toolchain and watches: it computes, sleeps, blocks in system
// calls and collects garbage, and says at the end how often. It is a module of its own, so that the oldest toolchain
// builds it.
package main

import (
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

var sink [][]byte

func main() {
	os.Stdout.WriteString("ready\n")
	word := make([]byte, 16)
	os.Stdin.Read(word) // the word to begin
	before := pauses()
	stop := make(chan bool)
	go func() { // a P busy half of the time
		for {
			for end := time.Now().Add(5 * time.Millisecond); time.Now().Before(end); {
				spin()
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	go func() { // system calls too short for the P to be taken away
		for {
			ts := syscall.Timespec{Nsec: 3e6}
			syscall.Nanosleep(&ts, nil)
			crossToC()
		}
	}()
	go func() { // goroutines that hand each other work
		ping, pong := make(chan int), make(chan int)
		go func() {
			for x := range ping {
				pong <- x + 1
			}
		}()
		for x := 0; ; x++ {
			ping <- x
			<-pong
			if x%1000 == 0 {
				time.Sleep(2 * time.Millisecond)
			}
		}
	}()
	done := make(chan bool)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				sink = append(sink[:0], make([]byte, 1<<20))
				runtime.GC()
			}
		}
	}()
	os.Stdin.Read(word) // the word to end
	close(stop)
	<-done
	n := pauses() - before
	os.Stdout.WriteString("collections " + strconv.Itoa(int(n)) + "\n")
	os.Stdin.Read(word)
}

// pauses is how many collections there have been.
func pauses() uint32 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.NumGC
}

var spun uint64

func spin() {
	for i := 0; i < 5000; i++ {
		spun ^= spun<<3 + 1
	}
}
