package collector

import (
	"context"
	"log/slog"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/lack"
)

// crowd starts n targets and gives their pids.
func crowd(t *testing.T, n int, env ...string) map[int32]bool {
	t.Helper()
	pids := map[int32]bool{}
	for range n {
		pids[int32(start(t, env...).cmd.Process.Pid)] = true
	}
	return pids
}

// TestManyTargetsAtOnce: each of many processes is listed soon after the start, comes to be probed, and the agent's
// exit waits for none of them in turn. PSCOPE_TEST_TARGETS is how many.
func TestManyTargetsAtOnce(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("PSCOPE_TEST_TARGETS"))
	if err != nil {
		n = 38
	}
	pids := crowd(t, n, "GOMAXPROCS=2")
	c, err := New(Options{Mode: ModeEBPF, Include: regexp.MustCompile("^pscope-test-target$")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var run sync.WaitGroup
	begun := time.Now()
	run.Go(func() { _ = c.Run(ctx) })
	var first time.Duration
	listed := waitFor(t, "all are listed", func() bool {
		observed := 0
		for _, v := range c.Views(time.Now()) {
			if pids[v.PID] {
				observed++
			}
		}
		if observed > 0 && first == 0 {
			first = time.Since(begun)
		}
		return observed == n
	})
	waitFor(t, "all are probed", func() bool {
		probed := 0
		for _, v := range c.Views(time.Now()) {
			if pids[v.PID] && !strings.Contains(v.Reason, lack.StopsComing) {
				probed++
			}
		}
		return probed == n
	})
	probed := time.Since(begun)
	stopped := time.Now()
	cancel()
	run.Wait()
	exit := time.Since(stopped)
	t.Logf(
		"%d targets: the first seen after %v, all after %v, probed after %v; exit took %v",
		n,
		first,
		listed,
		probed,
		exit,
	)
	if exit > 5*time.Second {
		t.Errorf("the exit took %v with %d targets", exit, n)
	}
}

// TestShortLivedProgramsAreObserved: of programs that live for less than half a second, thirty started a second, each
// is observed. PSCOPE_TEST_SHORT_LIVED is how many, PSCOPE_TEST_LIFE how long each lives.
func TestShortLivedProgramsAreObserved(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("PSCOPE_TEST_SHORT_LIVED"))
	if err != nil {
		n = 60
	}
	life, err := time.ParseDuration(os.Getenv("PSCOPE_TEST_LIFE"))
	if err != nil {
		life = 400 * time.Millisecond
	}
	log := new(text)
	c, rec := collectIn(t, ModeEBPF, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(log, nil)) })
	first := start(t)
	seen(t, c, first.cmd.Process.Pid)
	bin, err := targetBinary()
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			cmd := exec.Command(bin)
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Error(err)
				return
			}
			if err := cmd.Start(); err != nil {
				t.Error(err)
				return
			}
			time.Sleep(life)
			in.Close()
			_ = cmd.Wait()
		})
		time.Sleep(time.Second / 33)
	}
	all.Wait()
	time.Sleep(time.Second)
	rec.mu.Lock()
	observed := len(rec.ended)
	rec.mu.Unlock()
	t.Logf("%d of %d programs that lived %v were observed", observed, n, life)
	if observed < n*95/100 {
		t.Errorf("%d of %d programs were observed:\n%s", observed, n, log)
	}
}
