//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/bench/internal/processes"
)

// kind is one fault.
type kind struct {
	name   string
	once   bool // it takes long, and shows in one time what it shows
	happen func(dir string) (*outcome, error)
}

func faults(churn time.Duration) []kind {
	return []kind{
		{
			name:   "agent killed (SIGKILL)",
			happen: func(dir string) (*outcome, error) { return agentEnds(dir, syscall.SIGKILL, nil) },
		},
		{
			name:   "agent told to end (SIGTERM)",
			happen: func(dir string) (*outcome, error) { return agentEnds(dir, syscall.SIGTERM, nil) },
		},
		{name: "history process killed", happen: historyKilled},
		{name: "another observed program killed", happen: neighbourKilled},
		{name: "agent stopped for 10 s", happen: agentStopped},
		{name: "disk full for 20 s", happen: diskFull},
		{
			name:   "log torn: 100 bytes cut off its end",
			happen: func(dir string) (*outcome, error) { return agentEnds(dir, syscall.SIGKILL, cutLog) },
		},
		{
			name:   "log damaged: a byte flipped in its last tenth",
			happen: func(dir string) (*outcome, error) { return agentEnds(dir, syscall.SIGKILL, flipLog) },
		},
		{name: "queries dearer than the memory limit", happen: dearQueries},
		{name: "50 busy processes for 20 s", happen: starved},
		{name: "no descriptors left for 10 s", happen: noDescriptors},
		{name: "50 clients that read a byte a second", happen: slowReaders},
		{name: "1,000 processes a second for 10 s, 20 of them Go", happen: execStorm},
		{
			name:   "churn for " + churn.String(),
			once:   true,
			happen: func(dir string) (*outcome, error) { return comeAndGo(dir, churn) },
		},
	}
}

// agentEnds ends the agent at some moment and starts another.
func agentEnds(dir string, sig syscall.Signal, meanwhile func(data string) error) (*outcome, error) {
	r, err := newRig(dir, 0)
	if err != nil {
		return nil, err
	}
	defer r.close()
	time.Sleep(rand.N(every))
	f := r.begin()
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

// lastLog gives the newest segment of the log.
func lastLog(data string) (string, int64, error) {
	all, err := filepath.Glob(filepath.Join(data, "history", "raw", "wal", "[0-9]*"))
	if err != nil || len(all) == 0 {
		return "", 0, fmt.Errorf("no log in %s (%v)", data, err)
	}
	slices.Sort(all)
	fi, err := os.Stat(all[len(all)-1])
	if err != nil {
		return "", 0, err
	}
	return all[len(all)-1], fi.Size(), nil
}

func cutLog(data string) error {
	file, size, err := lastLog(data)
	if err != nil {
		return err
	}
	return os.Truncate(file, max(size-100, 0))
}

func flipLog(data string) error {
	file, size, err := lastLog(data)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	at := size - size/10
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 0x40
	_, err = f.WriteAt(b[:], at)
	return err
}

// during makes a rig, does something to it, and gives the verdict.
func during(dir string, size int64, do func(r *rig) (note string, err error), args ...string) (*outcome, error) {
	r, err := newRig(dir, size, args...)
	if err != nil {
		return nil, err
	}
	defer r.close()
	f := r.begin()
	note, err := do(r)
	if err != nil {
		return nil, err
	}
	o, err := r.verdict(f, time.Now())
	if err == nil {
		o.Note = note
	}
	return o, err
}

func historyKilled(dir string) (*outcome, error) {
	return during(dir, 0, func(r *rig) (string, error) { return "", syscall.Kill(r.history(), syscall.SIGKILL) })
}

func neighbourKilled(dir string) (*outcome, error) {
	return during(dir, 0, func(r *rig) (string, error) {
		c := exec.Command(filepath.Join(dir, "workload"), "-procs", "8", "-warm", "0s", "-run", "1h", "sleepers")
		if err := c.Start(); err != nil {
			return "", err
		}
		time.Sleep(3 * time.Second)
		err := c.Process.Kill()
		_ = c.Wait()
		return "", err
	})
}

func agentStopped(dir string) (*outcome, error) {
	return during(dir, 0, func(r *rig) (string, error) {
		if err := r.agent.Process.Signal(syscall.SIGSTOP); err != nil {
			return "", err
		}
		time.Sleep(10 * time.Second)
		return "", r.agent.Process.Signal(syscall.SIGCONT)
	})
}

const smallDisk = 96 << 20

func diskFull(dir string) (*outcome, error) {
	return during(dir, smallDisk, func(r *rig) (string, error) {
		ballast := filepath.Join(r.data, "ballast")
		f, err := os.Create(ballast)
		if err != nil {
			return "", err
		}
		defer f.Close()
		// What becomes free meanwhile is taken, too.
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			for err = nil; err == nil; {
				_, err = f.Write(make([]byte, 64<<10))
			}
			if !errors.Is(err, syscall.ENOSPC) {
				return "", err
			}
		}
		return "", os.Remove(ballast)
	})
}

func dearQueries(dir string) (*outcome, error) {
	const limit = 128 << 20
	return during(dir, 0, func(r *rig) (string, error) {
		var wg sync.WaitGroup
		var mu sync.Mutex
		answers := map[int]int{}
		for i := range 20 {
			wg.Go(func() {
				q := []string{`max_over_time(vector(1)[100y:1ms])`, `max_over_time(pscope_p_seconds_total[7d:1ms])`,
					`{__name__=~".+"}[7d]`, strings.Repeat("(", 150_000)}[i%4]
				_, status, _ := r.get(60*time.Second, "/api/v1/query?query="+url.QueryEscape(q))
				mu.Lock()
				answers[status]++
				mu.Unlock()
			})
		}
		ended := make(chan struct{})
		go func() { wg.Wait(); close(ended) }()
		most := int64(0)
		for {
			select {
			case <-ended:
				var all []string
				for status, n := range answers {
					all = append(all, fmt.Sprintf("%d: %d", status, n))
				}
				slices.Sort(all)
				return fmt.Sprintf(
					"20 queries, answers %s; anonymous memory at most %.0f %% of the limit",
					strings.Join(all, ", "),
					float64(most)/limit*100,
				), nil
			case <-time.After(20 * time.Millisecond):
				most = max(most, anonymous(r.agent.Process.Pid)+anonymous(r.history()))
			}
		}
	}, "--memory-limit", strconv.Itoa(limit))
}

// anonymous is the anonymous memory of a process in bytes, 0 if it is not known.
func anonymous(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

func starved(dir string) (*outcome, error) {
	return during(dir, 0, func(*rig) (string, error) {
		stop, err := processes.Burn(50)
		if err != nil {
			return "", err
		}
		time.Sleep(20 * time.Second)
		stop()
		return "", nil
	})
}

func noDescriptors(dir string) (*outcome, error) {
	return during(dir, 0, func(r *rig) (string, error) {
		pid := r.agent.Process.Pid
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return "", err
		}
		var old unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
			return "", err
		}
		if err := unix.Prlimit(
			pid,
			unix.RLIMIT_NOFILE,
			&unix.Rlimit{Cur: uint64(len(open) + 8), Max: old.Max},
			nil,
		); err != nil {
			return "", err
		}
		var conns []net.Conn
		for range 200 {
			if c, err := net.DialTimeout("unix", r.socket(), time.Second); err == nil {
				conns = append(conns, c)
			}
		}
		time.Sleep(10 * time.Second)
		for _, c := range conns {
			_ = c.Close()
		}
		return "", unix.Prlimit(pid, unix.RLIMIT_NOFILE, &old, nil)
	})
}

func slowReaders(dir string) (*outcome, error) {
	return during(dir, 0, func(r *rig) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				c, err := net.Dial("unix", r.socket())
				if err != nil {
					return
				}
				defer c.Close()
				fmt.Fprintf(
					c,
					"GET /api/v1/query?query=%s HTTP/1.1\r\nHost: agent\r\n\r\n",
					url.QueryEscape(`{__name__=~".+"}[5m]`),
				)
				var b [1]byte
				for ctx.Err() == nil {
					if _, err := c.Read(b[:]); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
		}
		wg.Wait()
		return "", nil
	})
}

func execStorm(dir string) (*outcome, error) {
	return during(dir, 0, func(*rig) (string, error) {
		started := 0
		begun := time.Now()
		for time.Since(begun) < 10*time.Second {
			var c *exec.Cmd
			if started%50 == 0 {
				c = exec.Command(filepath.Join(dir, "workload"), "-procs", "2", "-warm", "0s", "-run", "100ms", "mixed")
			} else {
				c = exec.Command("/bin/true")
			}
			if err := c.Start(); err == nil {
				go func() { _ = c.Wait() }()
				started++
			}
			if ahead := time.Duration(started)*time.Millisecond - time.Since(begun); ahead > 0 {
				time.Sleep(ahead)
			}
		}
		return fmt.Sprintf("%d processes a second came about", (started+50)/1000*100), nil
	})
}

func comeAndGo(dir string, long time.Duration) (*outcome, error) {
	return during(dir, 0, func(r *rig) (string, error) {
		level := func() string {
			fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.agent.Process.Pid))
			maps, _ := os.ReadFile(fmt.Sprintf("/proc/%d/maps", r.agent.Process.Pid))
			return fmt.Sprintf(
				"%.0f MB anonymous, %d descriptors, %d mappings",
				float64(anonymous(r.agent.Process.Pid)+anonymous(r.history()))/1e6,
				len(fds),
				strings.Count(string(maps), "\n"),
			)
		}
		comes := func(until time.Time) {
			for time.Now().Before(until) {
				c := exec.Command(filepath.Join(dir, "workload"), "-procs", "8", "-warm", "0s", "-run", "1s", "mixed")
				if c.Start() == nil {
					go func() { _ = c.Wait() }()
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
		begun := time.Now()
		comes(begun.Add(long / 4))
		first := level()
		comes(begun.Add(long))
		time.Sleep(3 * time.Second)
		return "ten programs of 8 Ps a second; after a quarter: " + first + "; at the end: " + level(), nil
	})
}
