//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/p-scope/p-scope/bench/internal/processes"
)

// agent is a running `pscope agent`.
type agent struct {
	cmd  *exec.Cmd
	http *http.Client
}

// use is what the agent has used of the machine so far; memory in bytes.
type use struct {
	cpu            time.Duration
	rss, pss, anon int64
}

func startAgent(dir, log, budget string) (*agent, error) {
	socket := filepath.Join(dir, "agent.sock")
	data, err := os.MkdirTemp(dir, "data")
	if err != nil {
		return nil, err
	}
	args := []string{"agent", "--socket", socket, "--listen", "", "--data-dir", data, "--include", "^workload$"}
	if budget != "" {
		args = append(args, "--cost-budget", budget)
	}
	a := &agent{cmd: exec.Command(filepath.Join(dir, "pscope"), args...)}
	a.cmd.Stderr = io.Discard
	if log != "" {
		f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		a.cmd.Stderr = f
	}
	a.http = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn,
		error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	return a, a.cmd.Start()
}

func (a *agent) stop() {
	_ = a.cmd.Process.Signal(syscall.SIGTERM)
	_ = a.cmd.Wait()
}

// observed asks the agent how many targets it observes by eBPF.
func (a *agent) observed() (int, error) {
	resp, err := a.http.Get("http://agent/api/v1/query?query=" +
		url.QueryEscape(`count(pscope_target_info{source="ebpf"})`))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Data.Result) == 0 {
		return 0, err
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	return strconv.Atoi(text)
}

func (a *agent) waitFor(n int) error {
	for range 600 {
		if got, err := a.observed(); err == nil && got >= n {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("the agent does not observe %d processes within a minute", n)
}

// look reads /proc of the agent and of the process that keeps its history.
func (a *agent) look() (u use, err error) {
	pid := a.cmd.Process.Pid
	if u, err = usedBy(pid); err != nil {
		return u, err
	}
	for _, child := range processes.Children(pid) {
		c, err := usedBy(child)
		if err != nil {
			return u, err
		}
		u.cpu += c.cpu
		u.rss += c.rss
		u.pss += c.pss
		u.anon += c.anon
	}
	return u, nil
}

// usedBy reads /proc of one process: CPU time comes in steps of 10 ms.
func usedBy(pid int) (u use, err error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return u, err
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(f) < 13 {
		return u, fmt.Errorf("%sstat has %d fields", dir, len(f))
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	u.cpu = time.Duration(user+system) * 10 * time.Millisecond
	maps, err := os.Open(dir + "smaps_rollup")
	if err != nil {
		return u, err
	}
	defer maps.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 3 {
			continue
		}
		kib, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "Rss:":
			u.rss = kib << 10
		case "Pss:":
			u.pss = kib << 10
		case "Anonymous:":
			u.anon = kib << 10
		}
	}
	return u, nil
}
