//go:build linux

package demo

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A phase is one act of the script. run starts the work on procs Ps and returns at the latest soon after ctx has ended,
// with every goroutine it started gone.
type phase struct {
	name   string
	expect string // what an observer should see
	run    func(ctx context.Context, procs int)
}

// allPhases lists the phases in the order of the script. Phases d and dcall are run by the driver: they need the slow
// file.
func allPhases() []phase {
	return []phase{
		{"busy", "every P runs Go code all the time", runBusy},
		{"idle", "every P is idle", runIdle},
		{"syscall", "half the Ps block 5 ms at a time in a system call, the others make short ones without a pause",
			runSyscall},
		{"gc", "a storm of garbage collections: mark workers, assists and many stops", runGC},
		{"imbalance", "one goroutine computes: one P at a time is busy, the others are idle", runImbalance},
		{"queue", "one P has up to 200 goroutines in its queue, all the others have none", runQueue},
		{"echo", "16 TCP connections echo over loopback: short bursts on every P, netpoller wakes", runEcho},
		{"chan", "two goroutines hand a value to and fro over a channel", runChan},
		{"d", "one P says running while its thread waits in uninterruptible sleep (D) for a page of a slow file; the " +
			"others work", nil},
		{"dcall", "a thread waits in D inside a system call for a page of a slow file: the runtime has taken its P " +
			"away, which works on, and still has a D share of 1", nil},
	}
}

// defaultPhases is the script played without --phases.
func defaultPhases() []string {
	return []string{"busy", "idle", "syscall", "gc", "imbalance", "queue", "echo", "d"}
}

func phaseNames(ps []phase) []string {
	var names []string
	for _, p := range ps {
		names = append(names, p.name)
	}
	return names
}

// parallel runs n copies of f and waits for them.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// flagOf gives a flag that is cheap to read in a hot loop and set when ctx ends.
func flagOf(ctx context.Context) *atomic.Bool {
	stop := new(atomic.Bool)
	context.AfterFunc(ctx, func() { stop.Store(true) })
	return stop
}

// work burns CPU for n steps; the result depends on each of them so that none can be left out.
func work(n int) uint64 {
	x := uint64(88172645463325252)
	for range n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

// spin burns CPU for about d.
func spin(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		sink.Store(work(2000))
	}
}

var sink atomic.Uint64

func runBusy(ctx context.Context, procs int) {
	stop := flagOf(ctx)
	parallel(procs, func(int) {
		for !stop.Load() {
			sink.Store(work(10000))
		}
	})
}

func runIdle(ctx context.Context, _ int) { <-ctx.Done() }

func runSyscall(ctx context.Context, procs int) {
	stop := flagOf(ctx)
	null, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer null.Close()
	fd := int(null.Fd())
	parallel(procs, func(i int) {
		var buf [16]byte
		for !stop.Load() {
			if i%2 == 0 {
				// Shorter than the 10 ms after which sysmon takes the P away although nobody needs it.
				_ = unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
			} else {
				_, _ = unix.Write(fd, buf[:])
			}
		}
	})
}

func runGC(ctx context.Context, procs int) {
	stop := flagOf(ctx)
	// A live heap of pointers gives the mark phase something to do; the low goal makes the cycles follow one another.
	defer debug.SetGCPercent(debug.SetGCPercent(15))
	type node struct {
		next *node
		_    [6]uint64
	}
	parallel(procs, func(int) {
		const live = 150_000 // about 8 MB for each P
		ring := make([]*node, live)
		for i := range ring {
			ring[i] = &node{}
		}
		for i := 0; !stop.Load(); i++ {
			ring[i%live] = &node{next: ring[(i+7919)%live]}
			ring[(i+7919)%live].next = nil // chains stay short, so that the heap does not grow
		}
		runtime.KeepAlive(ring)
	})
}

// runImbalance keeps one P busy with one goroutine that never waits. Preempted every 10 ms, it goes through the global
// queue, where its own thread finds it again before another has woken up; so it seldom moves.
func runImbalance(ctx context.Context, _ int) {
	stop := flagOf(ctx)
	for !stop.Load() {
		sink.Store(work(10000))
	}
}

// runQueue keeps all Ps but one busy with a goroutine each, so that none looks for work to steal, while the last one
// works through batches of short goroutines which it spawns itself and which therefore wait in its own queue.
func runQueue(ctx context.Context, procs int) {
	stop := flagOf(ctx)
	var wg sync.WaitGroup
	for range procs - 1 {
		wg.Go(func() {
			for !stop.Load() {
				sink.Store(work(10000))
			}
		})
	}
	// Let the other Ps get their goroutine before there is something to steal.
	time.Sleep(50 * time.Millisecond)
	for !stop.Load() {
		var batch sync.WaitGroup
		for range 200 {
			batch.Go(func() { spin(100 * time.Microsecond) })
		}
		batch.Wait()
	}
	wg.Wait()
}

func runEcho(ctx context.Context, _ int) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn // the accepted ones
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { _, _ = io.Copy(c, struct{ io.Reader }{c}) }) // the wrapper keeps io.Copy from using splice
		}
	})
	for range 16 {
		wg.Go(func() {
			c, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				return
			}
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
			var buf [64]byte
			for ctx.Err() == nil {
				if _, err := c.Write(buf[:]); err != nil {
					return
				}
				if _, err := io.ReadFull(c, buf[:]); err != nil {
					return
				}
			}
		})
	}
	<-ctx.Done()
	_ = ln.Close()
	mu.Lock()
	for _, c := range conns {
		_ = c.Close()
	}
	mu.Unlock()
	wg.Wait()
}

func runChan(ctx context.Context, _ int) {
	ping, pong := make(chan int), make(chan int)
	var wg sync.WaitGroup
	wg.Go(func() {
		for v := range ping {
			pong <- v
		}
	})
	for i := 0; ctx.Err() == nil; i++ {
		ping <- i
		<-pong
	}
	close(ping)
	wg.Wait()
}
