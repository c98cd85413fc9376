//go:build linux

package history

import (
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/internal/viewtest"
)

// Boards over a hundred processes of 8 Ps, many at once, hostile queries in between: each is answered, or refused with
// a reason, and the child's own memory stays within its limit and a tenth. It is the same child afterwards.
func TestMemoryStaysWithinItsLimit(t *testing.T) {
	if measuredWithoutRace(t) {
		return
	}
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	const limit = 160 << 20
	k := keep(t, func(o *Options) { o.MemoryLimit = limit })
	k.src = viewtest.New(100, 8, time.Now().Add(-time.Hour))
	at := time.Now().Truncate(time.Second).Add(-4 * time.Minute)
	for i := range 120 {
		k.put(at.Add(time.Duration(i) * time.Second))
		if i%5 == 0 {
			k.settle()
		}
	}
	k.settle()
	pid := k.childPID()
	idle := anonymous(pid)
	var most atomic.Int64
	stop := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				most.Store(max(most.Load(), anonymous(pid)))
			}
		}
	})
	end := at.Add(119 * time.Second).Unix()
	panels := []string{
		`sum by (process, process_pid, p) (rate(pscope_p_seconds_total{state=~"running|gc|syscall"}[4s]))`,
		`rate(pscope_p_thread_seconds_total[4s])`,
		`avg_over_time(pscope_p_runq_depth[4s])`,
		`histogram_quantile(0.99, sum by (process) (rate(pscope_p_wake_wait_seconds[30s])))`,
		`max_over_time(vector(1)[100y:1ms])`,
		`max_over_time(vector(1)[7d:1ms])`,
		`max_over_time(vector(1)[1d:100ms])`,
		`{__name__=~".+"}`,
		`count by (__name__, process, p) ({__name__=~".+"})`,
		`label_replace({__name__=~"pscope_p_.*"}, "q", "$1", "p", "(.*)")`,
		`sort(pscope_p_transitions_total * on (process, p, from, to) group_left pscope_p_transitions_total)`,
	}
	codes := make(map[int]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 2 * len(panels) {
		wg.Go(func() {
			form := url.Values{"query": {panels[i%len(panels)]}, "start": {strconv.FormatInt(end-3600, 10)},
				"end": {strconv.FormatInt(end, 10)}, "step": {"4"}}
			begun := time.Now()
			r, err := http.Get(k.srv.URL + "/api/v1/query_range?" + form.Encode())
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			mu.Lock()
			codes[r.StatusCode]++
			mu.Unlock()
			t.Logf("%v %d %s: %.100s", time.Since(begun).Round(time.Millisecond), r.StatusCode, form.Get("query"), body)
			switch text := string(body[:min(len(body), 300)]); {
			case err != nil:
				t.Errorf("%s: %v", form.Get("query"), err)
			case r.StatusCode == http.StatusOK:
			case r.StatusCode == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "" &&
				!strings.Contains(text, "ended while"):
			case r.StatusCode == http.StatusUnprocessableEntity && strings.Contains(text, "step"):
			default:
				t.Errorf("%s: %d %s", form.Get("query"), r.StatusCode, text)
			}
		})
	}
	wg.Wait()
	close(stop)
	watch.Wait()
	t.Logf("anonymous memory: %d MiB before, %d MiB at most, limit %d MiB; answers by status: %v", idle>>20,
		most.Load()>>20, limit>>20, codes)
	if most.Load() > limit+limit/10 {
		t.Errorf("%d MiB of anonymous memory, the limit is %d MiB", most.Load()>>20, limit>>20)
	}
	if k.pid() != pid {
		t.Error("the child did not survive it")
	}
	if codes[http.StatusOK] == 0 {
		t.Error("no query was answered")
	}
}

// measuredWithoutRace runs a test of memory once more, in a binary without the race detector, and says so: that one
// takes several times the memory for itself, and the limits under test would be its.
func measuredWithoutRace(t *testing.T) bool {
	t.Helper()
	if !underRace {
		return false
	}
	out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-run", "^"+t.Name()+"$",
		".").CombinedOutput()
	t.Logf("without the race detector:\n%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("without the race detector: %v", err)
	}
	return true
}

// What no budget has foreseen ends the child, not the agent: the kernel refuses the memory.
func TestTheKernelBoundsTheChild(t *testing.T) {
	if measuredWithoutRace(t) {
		return
	}
	k := keep(t, func(o *Options) { o.MemoryLimit = 64 << 20 })
	k.put(time.Now().Add(-time.Minute))
	k.settle()
	text := readLimits(t, k.childPID())
	if !strings.Contains(text, "Max data size") ||
		strings.Contains(strings.Split(strings.SplitAfter(text, "Max data size")[1], "\n")[0], "unlimited") {
		t.Errorf("limits of the child:\n%s", text)
	}
}
