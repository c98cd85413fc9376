//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// kills are the ends of processes.
func kills() []kind {
	return []kind{
		{
			name:   "agent killed (SIGKILL)",
			happen: func(dir string) (*outcome, error) { return agentEnds(dir, storage{}, syscall.SIGKILL, nil) },
		},
		{
			name:   "agent told to end (SIGTERM)",
			happen: func(dir string) (*outcome, error) { return agentEnds(dir, storage{}, syscall.SIGTERM, nil) },
		},
		{name: "history process killed", happen: historyKilled},
		{
			name:   "plugin killed (SIGKILL)",
			happen: func(dir string) (*outcome, error) { return pluginEnds(dir, syscall.SIGKILL) },
		},
		{
			name:   "plugin told to end (SIGTERM)",
			happen: func(dir string) (*outcome, error) { return pluginEnds(dir, syscall.SIGTERM) },
		},
		{name: "another observed program killed, 20 times", happen: neighbourKilled},
		{name: "agent stopped for 10 s", happen: agentStopped},
	}
}

// agentEnds ends the agent at some moment and starts another.
func agentEnds(dir string, on storage, sig syscall.Signal, meanwhile func(data string) error) (*outcome, error) {
	r, err := newRig(dir, on)
	if err != nil {
		return nil, err
	}
	defer r.close()
	time.Sleep(rand.N(every))
	f := r.begin()
	f.anew = true
	// Between the last look at what is kept and the end some samples more are taken.
	time.Sleep(rand.N(3 * every))
	f.down = time.Now()
	if err := r.endAgent(sig); err != nil {
		return nil, err
	}
	ending := time.Since(f.down)
	// The process that keeps the history ends with the agent; a service manager waits for it, too.
	time.Sleep(200 * time.Millisecond)
	if meanwhile != nil {
		if err := meanwhile(r.data); err != nil {
			return nil, err
		}
	}
	if err := r.startAgent(); err != nil {
		return nil, err
	}
	f.up = r.started
	if _, err := r.live.next(f.up, 2*time.Minute); err != nil {
		return nil, err
	}
	o, err := r.verdict(f, f.up)
	if err == nil && sig == syscall.SIGTERM {
		o.Note = fmt.Sprintf("ended within %d s", int(ending.Seconds())+1)
	}
	return o, err
}

func historyKilled(dir string) (*outcome, error) {
	return during(dir, storage{},
		func(r *rig) (string, error) { return "", syscall.Kill(r.history(), syscall.SIGKILL) })
}

// neighbourKilled kills programs that are observed, one after another, as a supervisor does whose program does not come
// up.
func neighbourKilled(dir string) (*outcome, error) {
	return during(dir, storage{}, func(r *rig) (string, error) {
		for range 20 {
			c := exec.Command(filepath.Join(dir, "workload"), "-procs", "8", "-warm", "0s", "-run", "1h", "sleepers")
			if err := c.Start(); err != nil {
				return "", err
			}
			time.Sleep(200*time.Millisecond + rand.N(800*time.Millisecond))
			err := c.Process.Kill()
			_ = c.Wait()
			if err != nil {
				return "", err
			}
		}
		return "", nil
	})
}

func agentStopped(dir string) (*outcome, error) {
	r, err := newRig(dir, storage{})
	if err != nil {
		return nil, err
	}
	defer r.close()
	f := r.begin()
	f.down = time.Now()
	if err := r.agent.Process.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	time.Sleep(10 * time.Second)
	f.up = time.Now()
	if err := r.agent.Process.Signal(syscall.SIGCONT); err != nil {
		return nil, err
	}
	return r.verdict(f, f.up)
}
