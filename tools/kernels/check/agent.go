//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"golang.org/x/sys/unix"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/api/pscope/v1/pscopev1connect"
	"github.com/p-scope/p-scope/tools/kernels/plan"
)

// agent is a running one, asked as its users ask it: over its socket.
type agent struct {
	socket string
	cmd    *exec.Cmd
	log    *bytes.Buffer
	ended  chan error
	http   *http.Client
	api    pscopev1connect.ScopeServiceClient
}

// startAgent starts it as a user, in a directory of that user's.
func startAgent(program, dir string, u plan.User, include string) (*agent, error) {
	a := &agent{socket: filepath.Join(dir, "agent.sock"), log: &bytes.Buffer{}, ended: make(chan error, 1)}
	// Nothing is left out to save cost: an emulated machine has other costs than a real one.
	a.cmd = exec.Command(program, "agent", "--socket", a.socket, "--listen", "", "--data-dir",
		filepath.Join(dir, "data"),
		"--include", include, "--cost-budget", "0")
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	a.cmd.Dir, a.cmd.Env = dir, []string{"PATH=/bin:/usr/bin", "HOME=" + dir}
	u.Become(a.cmd)
	if err := a.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the agent: %w", err)
	}
	go func() { a.ended <- a.cmd.Wait() }()
	a.http = &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", a.socket)
		},
	}}
	a.api = pscopev1connect.NewScopeServiceClient(a.http, base)
	return a, nil
}

const base = "http://pscope"

// end stops the agent and gives its log.
func (a *agent) end() string {
	_ = a.cmd.Process.Signal(unix.SIGTERM)
	select {
	case <-a.ended:
	case <-time.After(30 * time.Second):
		_ = a.cmd.Process.Kill()
		<-a.ended
	}
	return a.log.String()
}

// until asks again and again, as long as the agent lives.
func (a *agent) until(ctx context.Context, limit time.Duration, what string, ok func() (bool, error)) error {
	deadline := time.Now().Add(limit)
	var last error
	for {
		done, err := ok()
		if done {
			return nil
		}
		if err != nil {
			last = err
		}
		select {
		case err := <-a.ended:
			a.ended <- err
			return fmt.Errorf("the agent ended before %s: %v", what, err)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("no %s within %s", what, limit), last)
		}
	}
}

// targets asks for what it observes.
func (a *agent) targets(ctx context.Context) (*pscopev1.ListTargetsResponse, error) {
	r, err := a.api.ListTargets(ctx, connect.NewRequest(&pscopev1.ListTargetsRequest{}))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// target finds one process among them; nil: it is not there yet.
func (a *agent) target(ctx context.Context, pid int) (*pscopev1.Target, error) {
	all, err := a.targets(ctx)
	if err != nil {
		return nil, err
	}
	for _, t := range all.Targets {
		if t.Key.Pid == int32(pid) {
			return t, nil
		}
	}
	return nil, nil
}

// get fetches one address.
func (a *agent) get(ctx context.Context, path, accept string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", accept)
	resp, err := a.http.Do(r)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		err = fmt.Errorf("%s: %s", path, resp.Status)
	}
	return resp, err
}

// scrape is /metrics at one moment.
type scrape struct {
	began, ended time.Time
	families     map[string]*dto.MetricFamily
}

func (a *agent) scrape(ctx context.Context) (*scrape, error) {
	s := &scrape{began: time.Now(), families: map[string]*dto.MetricFamily{}}
	resp, err := a.get(ctx, "/metrics", string(expfmt.NewFormat(expfmt.TypeProtoDelim)))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	d := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header))
	for {
		f := &dto.MetricFamily{}
		if err := d.Decode(f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		s.families[f.GetName()] = f
	}
	s.ended = time.Now()
	return s, nil
}

// query asks the agent's store for an instant vector and gives the number of its series.
func (a *agent) query(ctx context.Context, promQL string) (int, error) {
	resp, err := a.get(ctx, "/api/v1/query?query="+url.QueryEscape(promQL), "application/json")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var r struct {
		Data struct {
			Result []json.RawMessage
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return 0, err
	}
	return len(r.Data.Result), nil
}

// lastLines are those of a log.
func lastLines(log string, n int) []string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return lines[max(0, len(lines)-n):]
}

// ownedBy makes a directory for a user.
func ownedBy(dir string, id uint32) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chown(dir, int(id), int(id))
}
