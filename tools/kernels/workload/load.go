package main

import (
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/p-scope/p-scope/tools/kernels/account"
)

// each runs f in n goroutines until all have returned.
func each(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// spin computes until a time. It looks at the clock now and then, which on a system whose clock needs a system call is
// one.
func spin(until time.Time) {
	x := uint64(1)
	for time.Now().Before(until) {
		for range 20_000 {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
		}
	}
	sink.Store(x)
}

// sink takes results of work that must not be optimised away.
var sink atomic.Uint64

// A goroutine works for three fifths of the time. The pieces are long: where a P is taken or given up nothing announces
// it at the moment, and an emulated CPU that itself waits for one may need milliseconds from there to the event that
// does.
const (
	working = 300 * time.Millisecond
	resting = 200 * time.Millisecond
)

// bursts keeps each P busy for three fifths of the time.
func bursts(d time.Duration) {
	end := time.Now().Add(d)
	each(account.Ps, func(int) {
		for time.Now().Before(end) {
			spin(time.Now().Add(working))
			time.Sleep(resting)
		}
	})
}

// node makes work for the GC's marking.
type node struct {
	next *node
	_    [6]uint64 // as large as usual objects
}

// heap is what stays alive while there are collections.
var heap []*node

// collections allocates, so that there are some a second.
func collections(d time.Duration) {
	end := time.Now().Add(d)
	const lists, length = 64, 4000 // 16 MB: marking them takes longer than the time between two samples
	heap = make([]*node, lists)
	each(account.Ps, func(i int) {
		for n := i; time.Now().Before(end); {
			for rest := time.Now().Add(working); time.Now().Before(rest); n += account.Ps {
				var list *node
				for range length {
					list = &node{next: list}
				}
				heap[n%lists] = list
			}
			time.Sleep(resting)
		}
	})
	heap = nil
}

// callTime is what a call is to take: long enough for the looks at the clock around it not to matter, short enough for
// sysmon, which looks every 20 µs to 10 ms, not to take the P away from it.
const callTime = 200 * time.Microsecond

// reads makes calls and gives the time in them.
func reads(d time.Duration) time.Duration {
	end := time.Now().Add(d)
	f, err := os.Open("/dev/zero")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	read := func(buf []byte) time.Duration {
		began := time.Now()
		if _, err := f.Read(buf); err != nil {
			panic(err)
		}
		return time.Since(began)
	}
	// Machines differ a hundredfold in how fast they fill memory.
	buf := make([]byte, 1<<20)
	size := 4 << 10
	for size < len(buf) && min(read(buf[:size]), read(buf[:size]), read(buf[:size])) < callTime/2 {
		size *= 2
	}
	var in time.Duration
	for time.Now().Before(end) {
		for range 4 {
			in += read(buf[:size])
		}
		spin(time.Now().Add(4 * callTime))
	}
	return in
}

// queue has more goroutines compute than there are Ps.
func queue(d time.Duration) {
	end := time.Now().Add(d)
	each(account.Computing, func(int) { spin(end) })
}
