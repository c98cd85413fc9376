// Command workload is the program that is observed: it does what lines on its standard input say, and accounts for
// itself.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/p-scope/p-scope/bench/pauses"
	"github.com/p-scope/p-scope/tools/kernels/account"
)

func main() {
	runtime.GOMAXPROCS(account.Ps)
	if err := obey(); err != nil {
		fmt.Fprintln(os.Stderr, "workload:", err)
		os.Exit(1)
	}
}

func obey() error {
	in := bufio.NewScanner(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var seconds float64
		word, rest, _ := strings.Cut(in.Text(), " ")
		if rest != "" {
			if _, err := fmt.Sscan(rest, &seconds); err != nil {
				return fmt.Errorf("%q: %w", in.Text(), err)
			}
		}
		d := time.Duration(seconds * float64(time.Second))
		var answer any
		switch word {
		case account.Count:
			answer = counters()
		case account.Mixed:
			answer = timed(func() (calls time.Duration) { return mixed(d) })
		case account.Queue:
			answer = timed(func() time.Duration { queue(d); return 0 })
		default:
			return fmt.Errorf("there is nothing called %q to do", word)
		}
		if err := out.Encode(answer); err != nil {
			return err
		}
	}
	return in.Err()
}

// counters must not stop the world, or they would count themselves.
func counters() account.Counters {
	return account.Counters{GC: pauses.Read("/sched/pauses/total/gc:seconds").N,
		Other: pauses.Read("/sched/pauses/total/other:seconds").N}
}

// timed does something between two collections and gives the runtime's account of the time between their ends.
func timed(do func() (calls time.Duration)) account.Times {
	runtime.GC()
	before := readClasses()
	calls := do()
	runtime.GC()
	t := readClasses().since(before)
	t.Calls = calls.Seconds()
	// Sweeping goes on after a collection has ended; the next question is to find the program at rest.
	time.Sleep(100 * time.Millisecond)
	return t
}

// mixed divides its time between what P-Scope tells apart, and gives the time in calls.
func mixed(d time.Duration) (calls time.Duration) {
	bursts(d / 4)
	collections(d / 4)
	stops()
	calls = reads(d / 4)
	time.Sleep(d / 4)
	return calls
}

// stops are explicit ones, of three kinds.
func stops() {
	var m runtime.MemStats
	buf := make([]byte, 64<<10)
	for range 5 {
		runtime.ReadMemStats(&m)
		time.Sleep(5 * time.Millisecond)
		runtime.Stack(buf, true)
		time.Sleep(5 * time.Millisecond)
		runtime.GC()
	}
}
