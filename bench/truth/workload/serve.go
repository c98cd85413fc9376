package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"runtime/trace"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// counter counts operations.
type counter struct{ n atomic.Uint64 }

func (c *counter) add(n uint64) { c.n.Add(n) }

// ops counts the operations of all goroutines.
var ops counter

// tally counts one goroutine's operations and adds them to ops now and then, so that counting costs next to nothing.
type tally struct{ n uint64 }

func (t *tally) add() {
	if t.n++; t.n%256 == 0 {
		ops.add(256)
	}
}

// Window is what the program got done in one window of time.
type Window struct {
	Ops      uint64
	CPU      time.Duration // user and system time of the whole process
	Wall     time.Duration
	Switches uint64 // context switches of the whole process
}

// obey does what the lines of r say and answers each with one line of JSON.
func obey(r io.Reader, w io.Writer) error {
	lines, out := bufio.NewScanner(r), json.NewEncoder(w)
	if err := out.Encode("ready"); err != nil {
		return err
	}
	for lines.Scan() {
		var answer any = "ok"
		verb, arg, _ := strings.Cut(lines.Text(), " ")
		switch {
		case verb == "window":
			d, err := time.ParseDuration(arg)
			if err != nil {
				return err
			}
			answer = window(d)
		case verb == "trace" && arg == "on":
			// The trace goes nowhere: writing it to a file would cost more.
			if err := trace.Start(io.Discard); err != nil {
				return err
			}
		case verb == "trace" && arg == "off":
			trace.Stop()
		default:
			return fmt.Errorf("%q is no order", lines.Text())
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func window(d time.Duration) Window {
	var a, b unix.Rusage
	began, n := time.Now(), ops.n.Load()
	_ = unix.Getrusage(unix.RUSAGE_SELF, &a)
	time.Sleep(d)
	_ = unix.Getrusage(unix.RUSAGE_SELF, &b)
	cpu := func(u *unix.Rusage) time.Duration { return time.Duration(u.Utime.Nano() + u.Stime.Nano()) }
	return Window{
		Ops: ops.n.Load() - n, CPU: cpu(&b) - cpu(&a), Wall: time.Since(began),
		Switches: uint64(b.Nvcsw + b.Nivcsw - a.Nvcsw - a.Nivcsw),
	}
}
