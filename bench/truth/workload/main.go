// Command workload is a program to be observed: one known kind of load, its own account of it by runtime/trace, and how
// many operations it gets done in a second of CPU time.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/trace"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

var loads = map[string]func(context.Context){
	"cpu":       cpu,
	"channel":   channel,
	"echo":      func(ctx context.Context) { echo(ctx, 64, 0) },
	"echopause": func(ctx context.Context) { echo(ctx, 1024, 100*time.Microsecond) },
	"http":      serve,
	"sleepers":  sleepers,
	"writes":    writes,
	"reads":     reads,
	"gc":        garbage,
	"locked":    locked,
	"procs":     procs,
	"mixed":     mixed,
	"allocwait": allocWait,
	"pipes":     pipes,
	"idle":      idle,
}

func main() {
	traceTo := flag.String("trace", "", "write a runtime/trace of the run to `file`")
	edgesTo := flag.String("edges", "", "write the runtime's own log of takes and gives of Ps to `file` (built by "+
		"bench/truth only)")
	warm := flag.Duration("warm", time.Second, "run this long before the trace starts")
	run := flag.Duration("run", 3*time.Second, "trace this long")
	n := flag.Int("procs", 2, "GOMAXPROCS")
	served := flag.Bool("serve", false, "do what lines on the standard input say: window DURATION, trace on, trace off")
	flag.Parse()
	load, ok := loads[flag.Arg(0)]
	if !ok {
		fmt.Fprintf(os.Stderr, "no workload %q\n", flag.Arg(0))
		os.Exit(2)
	}
	runtime.GOMAXPROCS(*n)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go load(ctx)
	time.Sleep(*warm)
	if *served {
		if err := obey(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "workload:", err)
			os.Exit(1)
		}
		return
	}
	if *edgesTo != "" {
		startEdges(*n)
	}
	var told counters
	var from, to int64
	if *traceTo != "" {
		f, err := os.Create(*traceTo)
		if err != nil {
			panic(err)
		}
		if err := trace.Start(f); err != nil {
			panic(err)
		}
		// The window is what lies between two logs. At the beginning of a trace each thread waits for memory to write
		// to when it takes a P, and only then dates that; at the end some stop to write before others.
		time.Sleep(time.Second)
		before := count()
		trace.Log(ctx, "window", "begin")
		begun := count()
		from = now()
		time.Sleep(*run)
		to = now()
		ending := count()
		trace.Log(ctx, "window", "end")
		told = between(before, begun, ending, count())
		trace.Stop()
		f.Close()
	} else {
		time.Sleep(time.Second)
		from = now()
		time.Sleep(*run)
		to = now()
	}
	if *edgesTo != "" {
		if err := writeEdges(*edgesTo, from, to); err != nil {
			fmt.Fprintln(os.Stderr, "workload:", err)
			os.Exit(1)
		}
	}
	told.print()
	// Stay a little, so that the observer's last look still finds the process.
	time.Sleep(300 * time.Millisecond)
}

// startEdges and writeEdges are there where the runtime keeps a log of takes and gives of Ps
// (bench/truth/runtime_edges.go).
var (
	startEdges func(ps int)
	writeEdges func(path string, from, to int64) error
)

// now is CLOCK_MONOTONIC.
func now() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		for range 1000 {
			sink++
		}
	}
	runtime.KeepAlive(&sink)
}

// sink takes the results of work that must not be optimised away.
var sink int

func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// cpu keeps half of the Ps, at least one, busy.
func cpu(ctx context.Context) {
	each(max(1, runtime.GOMAXPROCS(0)/2), func(int) {
		for x := 0; ctx.Err() == nil; x++ {
			for range 100000 {
				x ^= x << 1
			}
			ops.add(1)
		}
	})
}

func channel(ctx context.Context) {
	a, b := make(chan int), make(chan int)
	go func() {
		for v := range a {
			b <- v
		}
	}()
	var n tally
	for ctx.Err() == nil {
		a <- 1
		<-b
		n.add()
	}
}

// echo has 16 connections over which messages of a size go to a server in the same process and back, with a pause
// between two of them.
func echo(ctx context.Context, size int, pause time.Duration) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c) }()
		}
	}()
	each(16, func(int) {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			panic(err)
		}
		buf := make([]byte, size)
		var n tally
		for ctx.Err() == nil {
			if _, err := c.Write(buf); err != nil {
				return
			}
			if _, err := io.ReadFull(c, buf); err != nil {
				return
			}
			n.add()
			if pause > 0 {
				time.Sleep(pause)
			}
		}
	})
}

func serve(ctx context.Context) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat("x", 512))
	}))
	tr := &http.Transport{MaxIdleConnsPerHost: 16}
	each(8, func(int) {
		for ctx.Err() == nil {
			r, err := (&http.Client{Transport: tr}).Get(s.URL)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
			ops.add(1)
			time.Sleep(500 * time.Microsecond)
		}
	})
}

func sleepers(ctx context.Context) {
	each(64, func(int) {
		for ctx.Err() == nil {
			time.Sleep(time.Millisecond)
			for range 2000 {
				sink++
			}
			ops.add(1)
		}
	})
}

func writes(ctx context.Context) {
	f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		panic(err)
	}
	b := make([]byte, 16)
	var n tally
	for ctx.Err() == nil {
		_, _ = f.Write(b)
		n.add()
	}
}

// reads makes calls that take some microseconds each: long enough for what tracing a call costs not to matter, short
// enough to stay with the same P.
func reads(ctx context.Context) {
	f, err := os.Open("/dev/zero")
	if err != nil {
		panic(err)
	}
	b := make([]byte, 256<<10)
	var n tally
	for ctx.Err() == nil {
		_, _ = f.Read(b)
		for _, x := range b[:8<<10] {
			sink += int(x)
		}
		n.add()
	}
}

func garbage(ctx context.Context) {
	keep := make([][]byte, 20000)
	each(2, func(int) {
		var n tally
		for i := 0; ctx.Err() == nil; i++ {
			keep[i%len(keep)] = make([]byte, 1024)
			n.add()
			if i%50000 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	})
}

func allocWait(ctx context.Context) {
	each(8, func(int) {
		var keep [64][]byte
		for i := 0; ctx.Err() == nil; i++ {
			keep[i%64] = make([]byte, 32<<10)
			ops.add(1)
			if i%32 == 0 {
				time.Sleep(200 * time.Microsecond)
			}
		}
	})
}

func locked(ctx context.Context) {
	each(4, func(int) {
		runtime.LockOSThread()
		for ctx.Err() == nil {
			spin(200 * time.Microsecond)
			ops.add(1)
			time.Sleep(time.Millisecond)
		}
	})
}

// procs changes GOMAXPROCS back and forth; the trace and the observer have to agree on the Ps that come and go.
func procs(ctx context.Context) {
	n := runtime.GOMAXPROCS(0)
	go sleepers(ctx)
	for i := 0; ctx.Err() == nil; i++ {
		time.Sleep(400 * time.Millisecond)
		runtime.GOMAXPROCS(n + i%2*n)
	}
}

func mixed(ctx context.Context) {
	go echo(ctx, 64, 0)
	go sleepers(ctx)
	allocWait(ctx)
}

// pipes sends a byte back and forth between two threads of one CPU: two context switches a round, and no Go scheduler
// in between.
func pipes(ctx context.Context) {
	there, back := newPipe(), newPipe()
	var first unix.CPUSet
	first.Set(0)
	pin := func() {
		runtime.LockOSThread()
		_ = unix.SchedSetaffinity(0, &first) // where it is not allowed, the two share the CPUs there are
	}
	go func() {
		pin()
		b := make([]byte, 1)
		for {
			if _, err := unix.Read(there[0], b); err != nil {
				return
			}
			if _, err := unix.Write(back[1], b); err != nil {
				return
			}
		}
	}()
	pin()
	b := make([]byte, 1)
	var n tally
	for ctx.Err() == nil {
		if _, err := unix.Write(there[1], b); err != nil {
			return
		}
		if _, err := unix.Read(back[0], b); err != nil {
			return
		}
		n.add()
	}
}

func newPipe() (fds [2]int) {
	if err := unix.Pipe(fds[:]); err != nil {
		panic(err)
	}
	return fds
}

// idle is a service that nobody asks anything: four goroutines wake ten times a second.
func idle(ctx context.Context) {
	each(4, func(int) {
		for ctx.Err() == nil {
			time.Sleep(100 * time.Millisecond)
			ops.add(1)
		}
	})
}
