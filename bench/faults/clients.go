//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// clients are what those who ask the agent can do to it.
func clients() []kind {
	return []kind{
		{name: "queries dearer than the memory limit", happen: dearQueries},
		{name: "memory cgroup of 128 MiB, dear queries, limit of 256 MiB", happen: smallCgroup},
		{name: "no descriptors left for 10 s", happen: noDescriptors},
		{name: "50 clients that read a byte a second", happen: slowReaders},
		{name: "50 scrapes that hang", happen: hungScrapes},
	}
}

// askDear asks 20 queries that take more memory than there is, at once, and gives how they were answered. meanwhile is
// called all the time.
func askDear(r *rig, meanwhile func()) string {
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
	for {
		select {
		case <-ended:
			var all []string
			for status, n := range answers {
				all = append(all, fmt.Sprintf("%d: %d", status, n))
			}
			slices.Sort(all)
			return strings.Join(all, ", ")
		case <-time.After(20 * time.Millisecond):
			meanwhile()
		}
	}
}

func dearQueries(dir string) (*outcome, error) {
	const limit = 128 << 20
	return during(dir, storage{}, func(r *rig) (string, error) {
		most := int64(0)
		answers := askDear(r, func() { most = max(most, anonymous(r.agent.Process.Pid)+anonymous(r.history())) })
		return fmt.Sprintf("20 queries, answers %s; anonymous memory at most %.0f %% of the limit", answers,
			float64(most)/limit*100), nil
	}, "--memory-limit", strconv.Itoa(limit))
}

// smallCgroup gives the agent less than its flag says, as a container does whose limit was not told to it.
func smallCgroup(dir string) (*outcome, error) {
	group := fmt.Sprintf("/sys/fs/cgroup/memory/pscope-faults-%d", os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		return nil, fmt.Errorf("%w: this machine has no cgroup v1 for memory", errNotHere)
	}
	defer func() { // when the agent is gone
		for range 50 {
			if os.Remove(group) == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	put := func(file, text string) error { return os.WriteFile(filepath.Join(group, file), []byte(text), 0o644) }
	if err := put("memory.limit_in_bytes", "134217728"); err != nil {
		return nil, err
	}
	return during(dir, storage{size: oldDisk, filled: true}, func(r *rig) (string, error) {
		for _, pid := range []int{r.agent.Process.Pid, r.history()} {
			if err := put("cgroup.procs", strconv.Itoa(pid)); err != nil {
				return "", err
			}
		}
		before := r.restarts()
		answers := askDear(r, func() {})
		killed := "?"
		if text, err := os.ReadFile(filepath.Join(group, "memory.oom_control")); err == nil {
			if _, n, ok := strings.Cut(string(text), "oom_kill "); ok && !strings.HasPrefix(n, "disable") {
				killed = strings.TrimSpace(strings.TrimPrefix(n, "disable"))
			}
		}
		return fmt.Sprintf("20 queries, answers %s; the kernel killed %s processes, history started again %.0f times",
			answers, lastWord(killed),
			r.restarts()-before), nil
	})
}

func lastWord(s string) string {
	f := strings.Fields(s)
	if len(f) == 0 {
		return "0"
	}
	return f[len(f)-1]
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

// noDescriptors leaves the agent eight descriptors, and takes them.
func noDescriptors(dir string) (*outcome, error) {
	return during(dir, storage{}, func(r *rig) (string, error) {
		pid := r.agent.Process.Pid
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			return "", err
		}
		var old unix.Rlimit
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
			return "", err
		}
		less := unix.Rlimit{Cur: uint64(len(open) + 8), Max: old.Max}
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &less, nil); err != nil {
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

// slowReaders ask for all that there is and take a byte a second.
func slowReaders(dir string) (*outcome, error) {
	return during(dir, storage{}, func(r *rig) (string, error) {
		request := fmt.Sprintf("GET /api/v1/query?query=%s HTTP/1.1\r\nHost: agent\r\n\r\n",
			url.QueryEscape(`{__name__=~".+"}[5m]`))
		return "", fifty(r, request, func(c net.Conn) error {
			var b [1]byte
			_, err := c.Read(b[:])
			return err
		})
	})
}

// hungScrapes ask for /metrics, again and again on one connection, and never read.
func hungScrapes(dir string) (*outcome, error) {
	return during(dir, storage{}, func(r *rig) (string, error) {
		request := strings.Repeat("GET /metrics HTTP/1.1\r\nHost: agent\r\n\r\n", 50)
		return "", fifty(r, request, func(net.Conn) error { return nil })
	})
}

// fifty clients send a request and do something once a second, for 15 s.
func fifty(r *rig, request string, eachSecond func(c net.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	failed := make(chan error, 50)
	for range 50 {
		wg.Go(func() {
			c, err := net.Dial("unix", r.socket())
			if err != nil {
				failed <- err
				return
			}
			defer c.Close()
			_ = c.SetWriteDeadline(time.Now().Add(15 * time.Second)) // whom nobody reads can't write for ever
			_, _ = c.Write([]byte(request))
			for ctx.Err() == nil && eachSecond(c) == nil {
				time.Sleep(time.Second)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
