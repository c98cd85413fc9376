// Command target is what the collector's tests observe. It does what it is told on standard input, a word a line.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
	"runtime/trace"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/p-scope/p-scope/bench/pauses"
)

// object is something that the GC has to follow.
type object struct {
	next *object
	body [48]byte
}

var heap *object

func main() {
	fmt.Println("ready", runtime.Version())
	in := bufio.NewScanner(os.Stdin)
	var stop *atomic.Bool
	for in.Scan() {
		word, arg, _ := strings.Cut(in.Text(), " ")
		n, _ := strconv.Atoi(arg)
		switch word {
		case "procs":
			runtime.GOMAXPROCS(n)
		case "busy":
			stop = new(atomic.Bool)
			for range n {
				go spin(stop)
			}
		case "idle":
			if stop != nil {
				stop.Store(true)
			}
		case "chatter": // n goroutines that sleep and wake
			for range n {
				go func() {
					for {
						time.Sleep(time.Millisecond)
					}
				}()
			}
		// short system calls, one after another; the trace that is made of them sees to it that the P is often taken
		// away in one
		case "calls":
			null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				panic(err)
			}
			if err := trace.Start(io.Discard); err != nil {
				panic(err)
			}
			go func() {
				for b := make([]byte, 16); ; {
					if _, err := syscall.Write(int(null.Fd()), b); err != nil {
						panic(err)
					}
				}
			}()
		case "threads": // n threads asleep in system calls
			for range n {
				go func() {
					ts := syscall.Timespec{Sec: 3600}
					_ = syscall.Nanosleep(&ts, nil)
				}()
			}
		// a page of a file that is written back, under the lock of the address space, as it is unmapped; then map
		case "unmap":
			file, err := os.OpenFile(arg, os.O_RDWR, 0)
			if err != nil {
				panic(err)
			}
			page, err := syscall.Mmap(int(file.Fd()), 0, 4096, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
			if err != nil {
				panic(err)
			}
			page[0]++
			// When this has been answered. Whoever waits to change the address space keeps those from it who want to
			// read it.
			time.AfterFunc(100*time.Millisecond, func() { _ = syscall.Munmap(page) })
			time.AfterFunc(300*time.Millisecond, func() {
				_, _ = syscall.Mmap(-1, 0, 4096, syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_ANON)
			})
		case "gc":
			for range n {
				runtime.GC()
			}
		case "heap": // n objects for the GC to mark
			for range n {
				heap = &object{next: heap}
			}
		case "worked":
			classes := []metrics.Sample{{Name: "/cpu/classes/gc/mark/dedicated:cpu-seconds"},
				{Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
			metrics.Read(classes)
			fmt.Println("worked", classes[0].Value.Float64()+classes[1].Value.Float64())
			continue
		case "queue": // n goroutines that can't run, because the one that made them does not let go of the only P
			runtime.GOMAXPROCS(1)
			stop = new(atomic.Bool)
			for range n {
				go spin(stop)
			}
		case "setuid":
			if err := syscall.Setuid(n); err != nil {
				fmt.Println(err)
				continue
			}
		case "exec":
			if err := syscall.Exec("/proc/self/exe", os.Args, os.Environ()); err != nil {
				panic(err)
			}
		case "pauses":
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Println("pauses", m.NumGC, m.PauseTotalNs)
			continue
		// n stops of the world, and what the runtime itself says they lasted together, at least and at most
		case "stops":
			const other = "/sched/pauses/total/other:seconds"
			before := pauses.Read(other)
			for range n {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
			}
			after := pauses.Read(other)
			fmt.Println("stops", after.N-before.N, int64(after.Least-before.Least), int64(after.Most-before.Most))
			continue
		case "exit":
			return
		}
		fmt.Println("ok", word)
	}
}

func spin(stop *atomic.Bool) {
	for x := 1; !stop.Load(); x++ {
		for range 10000 {
			x ^= x << 3
		}
	}
}
