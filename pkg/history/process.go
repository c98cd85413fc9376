//go:build linux

package history

import (
	"encoding/gob"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/internal/confine"
)

// child is one life of the process.
type child struct {
	cmd     *exec.Cmd
	stream  *net.UnixConn
	proxy   http.Handler
	close   func()
	started time.Time

	// Guarded by Supervisor.mu.
	last     report
	measures []confine.Measure
	waiting  time.Time // since when seconds wait for an answer; zero: none does
}

// start starts a child and gives it its settings.
func (s *Supervisor) start() (*child, error) {
	stream, theirStream, err := pair(unix.SOCK_STREAM, "history-samples")
	if err != nil {
		return nil, err
	}
	defer theirStream.Close()
	requests, theirRequests, err := pair(unix.SOCK_SEQPACKET, "history-requests")
	if err != nil {
		_ = stream.Close()
		return nil, err
	}
	defer theirRequests.Close()
	c := &child{started: time.Now()}
	c.cmd = exec.Command(s.opts.Command[0], s.opts.Command[1:]...)
	c.cmd.Args[0] = "pscope"
	c.cmd.Stderr = os.Stderr
	if s.opts.Stderr != nil {
		c.cmd.Stderr = s.opts.Stderr
		c.cmd.WaitDelay = time.Second // what is left in the pipe of a child that has ended
	}
	c.cmd.ExtraFiles = []*os.File{theirStream, theirRequests}
	c.cmd.Env = environment(s.opts.MemoryLimit)
	over, err := connOf(requests)
	if err == nil {
		c.stream, err = connOf(stream)
	}
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("start the history process: %w", err)
	}
	transport := &http.Transport{DialContext: (&dialer{over: over}).dial, MaxIdleConnsPerHost: 4,
		IdleConnTimeout: time.Minute, DisableCompression: true}
	c.proxy = s.newProxy(transport)
	c.close = func() {
		transport.CloseIdleConnections()
		_ = over.Close()
	}
	return c, nil
}

// send writes setup and every second to the child.
func (s *Supervisor) send(c *child, over <-chan struct{}) {
	o := s.opts.Store
	s.mu.Lock()
	level := s.logLevel
	s.mu.Unlock()
	out := gob.NewEncoder(c.stream)
	if out.Encode(setup{o.Dir, o.Host, o.Version, o.Interval, o.Retention, o.MaxBytes, s.opts.MemoryLimit,
		level, s.opts.Confine}) != nil {
		return // the child is gone, or will be killed
	}
	var sent uint64
	var buf []byte
	for {
		next, ok, ended := s.queue.after(sent)
		if ok {
			s.mu.Lock()
			if c.waiting.IsZero() {
				c.waiting = time.Now()
			}
			s.mu.Unlock()
			switch err := writeSecond(c.stream, &next, &buf); {
			case errors.Is(err, errLarge):
				s.queue.refuse(next.Seq)
			case err != nil:
				return
			}
			sent = next.Seq
			continue
		}
		if ended {
			_ = c.stream.CloseWrite() // it writes the last and ends
			select {
			case <-over:
			case <-time.After(endWithin):
				_ = c.cmd.Process.Kill()
			}
			return
		}
		select {
		case <-s.queue.more:
		case <-over:
			return
		}
	}
}

// receive takes the child's reports.
func (s *Supervisor) receive(c *child) {
	in := gob.NewDecoder(c.stream)
	for {
		var r report
		if in.Decode(&r) != nil {
			return
		}
		s.queue.ack(r.Acked)
		waiting, _ := s.queue.state()
		s.mu.Lock()
		if r.Acked > c.last.Acked || waiting == 0 {
			c.waiting = time.Time{}
			if waiting > 0 {
				c.waiting = time.Now()
			}
		}
		opened := r.Open != c.last.Open
		if r.Measures != nil {
			c.measures = r.Measures
		}
		c.last = r
		if opened {
			s.signal()
		}
		s.mu.Unlock()
	}
}

// watch kills a child that no longer answers.
func (s *Supervisor) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.child; c != nil && c.last.Open && !c.waiting.IsZero() && time.Since(c.waiting) > hungAfter {
		s.log.Error("the history process has not answered for long and is ended", "pid", c.cmd.Process.Pid,
			"seconds", int(time.Since(c.waiting).Seconds()))
		_ = c.cmd.Process.Kill()
		c.waiting = time.Now() // the kernel may take its time
	}
}
