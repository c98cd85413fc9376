//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/bench/internal/processes"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
)

// rig is one observed program and the agent that a fault happens to.
type rig struct {
	dir, data string
	target    *exec.Cmd
	agent     *exec.Cmd
	started   time.Time // of the agent that runs now
	exited    chan struct{}
	log       *os.File
	live      *watcher
	args      []string
	mounted   bool
	disk      *faultyDisk // nil: an ordinary one
	said      error       // why samples had none
}

// storage is what the history of a rig lies on. The zero value is a directory of this machine.
type storage struct {
	size   int64 // bytes of a file system in memory; 0: none
	faulty bool  // a file system that can be told to fail
	filled bool  // it has a history of 50 minutes
}

// newRig builds nothing: dir has the programs.
func newRig(dir string, on storage, args ...string) (r *rig, err error) {
	r = &rig{dir: dir, args: args}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.data, err = os.MkdirTemp(dir, "data"); err != nil {
		return r, err
	}
	if err = r.prepare(on); err != nil {
		return r, err
	}
	if r.log, err = os.CreateTemp(dir, "log"); err != nil {
		return r, err
	}
	r.target = exec.Command(filepath.Join(dir, "workload"), "-procs", "2", "-warm", "0s", "-run", "24h", "mixed")
	if err = r.target.Start(); err != nil {
		return r, err
	}
	r.live = watch(r)
	if err = r.startAgent(); err != nil {
		return r, err
	}
	if _, err = r.live.next(time.Now(), 5*time.Minute); err != nil {
		return r, err
	}
	// Some history, so that there is something to lose.
	return r, r.waitFor(3*time.Minute, func() bool { return len(r.samples()) >= 5 })
}

// prepare mounts and fills what the history lies on.
func (r *rig) prepare(on storage) (err error) {
	if on.faulty {
		if r.disk, err = mountFaulty(r.data, r.data+"-below"); err != nil {
			return err
		}
	}
	if on.size > 0 {
		if err = unix.Mount("pscope-faults", r.data, "tmpfs", 0, fmt.Sprintf("size=%d", on.size)); err != nil {
			return fmt.Errorf("mount a small disk: %w", err)
		}
		r.mounted = true
	}
	if on.filled {
		if err = oldHistory(filepath.Join(r.data, "history")); err != nil {
			return fmt.Errorf("make a history of 50 minutes: %w", err)
		}
	}
	return nil
}

func (r *rig) close() {
	if r.disk != nil {
		r.disk.heal()
	}
	if r.live != nil {
		r.live.stop()
	}
	if r.agent != nil {
		_ = r.agent.Process.Signal(syscall.SIGTERM)
		select {
		case <-r.exited:
		case <-time.After(time.Minute):
			_ = r.agent.Process.Kill()
		}
	}
	if r.target != nil && r.target.Process != nil {
		_ = r.target.Process.Kill()
		_ = r.target.Wait()
	}
	if r.disk != nil {
		_ = unix.Unmount(r.data, unix.MNT_DETACH)
		r.disk.server.Wait()
	}
	if r.mounted {
		_ = unix.Unmount(r.data, unix.MNT_DETACH)
	}
	if r.log != nil {
		_ = r.log.Close()
	}
}

func (r *rig) socket() string { return filepath.Join(r.dir, "agent.sock") }

func (r *rig) startAgent() error {
	// By its path, so that the programs of another bench on this machine are left alone. What runs is what a link leads
	// to.
	program, err := filepath.EvalSymlinks(filepath.Join(r.dir, "workload"))
	if err != nil {
		return err
	}
	args := append(
		[]string{
			"agent",
			"--socket",
			r.socket(),
			"--listen",
			"",
			"--data-dir",
			filepath.Join(r.data, "history"),
			"--include",
			"^" + regexp.QuoteMeta(program) + "$",
		},
		r.args...)
	r.agent = exec.Command(filepath.Join(r.dir, "pscope"), args...)
	r.agent.Stderr = r.log
	r.started = time.Now()
	if err := r.agent.Start(); err != nil {
		return err
	}
	r.exited = make(chan struct{})
	go func(c *exec.Cmd, over chan struct{}) { _ = c.Wait(); close(over) }(r.agent, r.exited)
	return nil
}

// endAgent sends a signal and waits until the agent is gone.
func (r *rig) endAgent(sig syscall.Signal) error {
	if err := r.agent.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case <-r.exited:
		return nil
	case <-time.After(time.Minute):
		return errors.New("the agent does not end within a minute")
	}
}

// runs says whether the agent has not ended.
func (r *rig) runs() bool {
	select {
	case <-r.exited:
		return false
	default:
		return true
	}
}

// history gives the id of the process that keeps the history, 0 if none runs.
func (r *rig) history() int {
	for _, child := range processes.Children(r.agent.Process.Pid) {
		return child
	}
	return 0
}

func (r *rig) waitFor(most time.Duration, is func() bool) error {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if is() {
			return nil
		}
	}
	log, _ := os.ReadFile(r.log.Name())
	return fmt.Errorf("not within %v (%w); the agent says: %s", most, r.said, log[max(0, len(log)-2000):])
}

// client asks the agent over its socket.
func (r *rig) client(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", r.socket())
			},
		},
	}
}

// get gives the answer to a path, at most 64 MiB of it.
func (r *rig) get(timeout time.Duration, path string) (string, int, error) {
	resp, err := r.client(timeout).Get("http://agent" + path)
	if err != nil {
		return "", 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return string(b), resp.StatusCode, err
}

// sample is one stored state of the program: the sum of the seconds of all its Ps' states.
type sample struct {
	at  time.Time
	sum float64
	old bool // of a history from before: see oldHistory
}

// samples gives the history of the program, of the last 55 minutes, oldest first, with what is there of a history from
// before; nil if it can't be had now.
func (r *rig) samples() []sample {
	c, err := api.NewClient(api.Config{Address: "http://agent", RoundTripper: r.client(20 * time.Second).Transport})
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	query := fmt.Sprintf(`pscope_p_seconds_total{process_pid=~"%d|1000"}[55m]`, r.target.Process.Pid)
	answer, _, _, err := promv1.NewAPI(c).Query(ctx, query, time.Now())
	series, ok := answer.(model.Matrix)
	if err != nil || !ok {
		r.said = err
		return nil
	}
	sums, old := map[model.Time]float64{}, map[model.Time]bool{}
	for _, s := range series {
		before := s.Metric["host"] == oldHost
		for _, v := range s.Values {
			if before {
				old[v.Timestamp] = true
			} else {
				sums[v.Timestamp] += float64(v.Value)
			}
		}
	}
	var all []sample
	for at := range old {
		all = append(all, sample{at: at.Time(), old: true})
	}
	for at, sum := range sums {
		all = append(all, sample{at: at.Time(), sum: sum})
	}
	slices.SortFunc(all, func(a, b sample) int { return a.at.Compare(b.at) })
	return all
}

// restarts is how often the process that keeps the history was started again.
func (r *rig) restarts() float64 {
	text, _, _ := r.get(10*time.Second, "/metrics")
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "pscope_history_restarts_total{"); ok {
			n, _ := strconv.ParseFloat(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:len(rest)-1], 64)
			return n
		}
	}
	return 0
}

// logHas says whether the agent's log has some words.
func (r *rig) logHas(words string) bool {
	text, _ := os.ReadFile(r.log.Name())
	return strings.Contains(string(text), words)
}

// losses are the agent's own counts of what is missing, by reason; nil if it does not say.
func (r *rig) losses() map[string]float64 {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	all, err := (&client.Options{Socket: r.socket()}).Losses(ctx)
	if err != nil {
		return nil
	}
	found := map[string]float64{}
	for _, l := range all {
		found[l.Reason] += l.Count
	}
	return found
}

// watcher asks for the present state ten times a second.
type watcher struct {
	mu   sync.Mutex
	seen []time.Time // when an answer came that had the program
	done context.CancelFunc
	over chan struct{}
}

func watch(r *rig) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{done: cancel, over: make(chan struct{})}
	go func() {
		defer close(w.over)
		want := fmt.Sprintf(`process_pid="%d"`, r.target.Process.Pid)
		for ctx.Err() == nil {
			text, status, err := r.get(2*time.Second, "/metrics")
			if err == nil && status == http.StatusOK && strings.Contains(text, "pscope_p_seconds_total{") &&
				strings.Contains(text, want) {
				w.mu.Lock()
				w.seen = append(w.seen, time.Now())
				w.mu.Unlock()
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return w
}

func (w *watcher) stop() { w.done(); <-w.over }

// next waits for the first answer after a moment.
func (w *watcher) next(after time.Time, most time.Duration) (time.Time, error) {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		w.mu.Lock()
		i, _ := slices.BinarySearchFunc(w.seen, after, time.Time.Compare)
		if i < len(w.seen) {
			defer w.mu.Unlock()
			return w.seen[i], nil
		}
		w.mu.Unlock()
	}
	return time.Time{}, fmt.Errorf("the agent does not show the program within %v", most)
}

// longestSince is the longest time without an answer from a moment on.
func (w *watcher) longestSince(from time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	longest, last := time.Duration(0), from
	for _, at := range w.seen {
		if at.After(from) {
			longest = max(longest, at.Sub(last))
			last = at
		}
	}
	return max(longest, time.Since(last))
}
