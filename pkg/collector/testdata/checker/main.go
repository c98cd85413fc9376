// Command checker is a program that would notice if being observed changed what it computes. It checks its own results
// round after round, with garbage collections, growing stacks, channels, system calls and children in between, and ends
// with code 3 at the first that is wrong. A line on standard input asks how many rounds there have been; the end of
// standard input ends it.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	var rounds atomic.Uint64
	checks := []func(round uint64) error{channels, hashes, stacks, pipes, panics, sleeps, children}
	for i, check := range checks {
		go func() {
			for n := uint64(i); ; n++ {
				if err := check(n); err != nil {
					fmt.Println("wrong:", err)
					os.Exit(3)
				}
				rounds.Add(1)
				time.Sleep(time.Millisecond) // a load, but one that leaves the machine to others as well
			}
		}()
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println("rounds", rounds.Load())
	}
}

// channels sums numbers that pass through a chain of goroutines.
func channels(n uint64) error {
	const stages, numbers = 8, 500
	first := make(chan uint64)
	c := first
	for range stages {
		next := make(chan uint64, n%3)
		go func(in <-chan uint64, out chan<- uint64) {
			for v := range in {
				out <- v + 1
			}
			close(out)
		}(c, next)
		c = next
	}
	go func() {
		for i := range uint64(numbers) {
			first <- i
		}
		close(first)
	}()
	var sum uint64
	for v := range c {
		sum += v
	}
	if want := uint64(numbers*(numbers-1)/2 + numbers*stages); sum != want {
		return fmt.Errorf("a chain of channels sums to %d, want %d", sum, want)
	}
	return nil
}

type node struct {
	left, right *node
	text        []byte
}

func grow(depth int, seed byte) *node {
	if depth == 0 {
		return nil
	}
	return &node{grow(depth-1, seed*3+1), grow(depth-1, seed*5+2), bytes.Repeat([]byte{seed}, int(seed)+1)}
}

func (t *node) sum(h interface{ Write([]byte) (int, error) }) {
	if t != nil {
		t.left.sum(h)
		_, _ = h.Write(t.text)
		t.right.sum(h)
	}
}

// hashes compares a tree before and after the garbage collector has looked at it, moved nothing and thrown nothing
// away.
func hashes(n uint64) error {
	t := grow(9, byte(n))
	a, b := sha256.New(), sha256.New()
	t.sum(a)
	runtime.GC()
	t.sum(b)
	if !bytes.Equal(a.Sum(nil), b.Sum(nil)) {
		return fmt.Errorf("a tree of seed %d has changed", byte(n))
	}
	return nil
}

// stacks makes a stack grow with pointers into it.
func stacks(n uint64) error {
	var wg sync.WaitGroup
	var wrong atomic.Bool
	for i := range 4 {
		wg.Go(func() {
			total := 0
			descend(300, &total)
			if total != 300*301/2 {
				wrong.Store(true)
			}
			_ = i
		})
	}
	wg.Wait()
	if wrong.Load() {
		return fmt.Errorf("a recursion lost count in round %d", n)
	}
	return nil
}

func descend(depth int, total *int) {
	if depth == 0 {
		return
	}
	var room [64]int
	here := depth
	p := &here
	room[depth%64] = depth
	descend(depth-1, total)
	*total += room[depth%64] + *p - here
}

// pipes sends bytes through the kernel.
func pipes(n uint64) error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	want := bytes.Repeat([]byte{byte(n), 1, 2, byte(n >> 8)}, 5000)
	go func() {
		_, _ = w.Write(want)
		w.Close()
	}()
	var got bytes.Buffer
	if _, err := got.ReadFrom(r); err != nil {
		return err
	}
	if !bytes.Equal(got.Bytes(), want) {
		return fmt.Errorf("%d bytes came through a pipe unlike the %d sent", got.Len(), len(want))
	}
	return nil
}

// panics unwinds stacks, which a probe on a return address would break.
func panics(n uint64) (err error) {
	deep := func() (got any) {
		defer func() { got = recover() }()
		func() {
			defer runtime.Gosched()
			var p *node
			if n%2 == 0 {
				_ = p.left // a fault that the runtime turns into a panic
			}
			panic(n)
		}()
		return nil
	}
	if got := deep(); n%2 == 1 && got != any(n) || got == nil {
		return fmt.Errorf("recovered %v in round %d", got, n)
	}
	return nil
}

func sleeps(uint64) error {
	began := time.Now()
	time.Sleep(500 * time.Microsecond)
	ts := syscall.Timespec{Nsec: 300_000}
	_ = syscall.Nanosleep(&ts, nil)
	if d := time.Since(began); d < 500*time.Microsecond {
		return fmt.Errorf("slept for %v", d)
	}
	runtime.GOMAXPROCS(2 + int(began.UnixNano()%3)) // the world stops, and Ps come and go
	time.Sleep(20 * time.Millisecond)
	return nil
}

// children forks.
func children(uint64) error {
	out, err := exec.Command("/bin/echo", "x").Output()
	if err != nil || string(out) != "x\n" {
		return fmt.Errorf("a child said %q: %w", out, err)
	}
	time.Sleep(20 * time.Millisecond)
	return nil
}
