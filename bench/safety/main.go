// Command safety attaches an agent to a program that checks its own results, and detaches it or kills it, a thousand times; and it lets programs execute one another under
// one process id while an agent attaches to them. The programs must go on, and right. It writes bench/results/safety.md.
//
// Run it in the root of the repository, as root.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/p-scope/p-scope/pkg/collector"
)

var checked = regexp.MustCompile("^safety-")

func main() {
	n := flag.Int("n", 1000, "how often")
	what := flag.String("do", "attach,kill,exec", "attach: attach and detach; kill: the agent dies by SIGKILL; exec: programs execute one another")
	out := flag.String("out", filepath.Join("bench", "results", "safety.md"), "file for the results; empty: none")
	agent := flag.Bool("agent", false, "be the agent that is killed")
	flag.Parse()
	if *agent {
		beAgent()
	}
	if err := run(*n, strings.Split(*what, ","), *out); err != nil {
		fmt.Fprintln(os.Stderr, "safety:", err)
		os.Exit(1)
	}
}

func run(n int, what []string, out string) error {
	dir, err := os.MkdirTemp("", "pscope-safety")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var lines []string
	for _, w := range what {
		began := time.Now()
		var line string
		switch w {
		case "attach":
			line, err = withChecker(dir, n, "attached and detached", attach)
		case "kill":
			line, err = withChecker(dir, n, "attached, and the agent killed by SIGKILL,", kill)
		case "exec":
			line, err = execs(dir, n)
		default:
			err = fmt.Errorf("-do knows no %q", w)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
		line += fmt.Sprintf(" (%v)", time.Since(began).Round(time.Second))
		fmt.Println(line)
		lines = append(lines, "- "+line)
	}
	if out == "" {
		return nil
	}
	text := "# What being observed does to a program\n\nMade by `go run ./bench/safety` (see there for what the programs check of themselves).\n\n" + strings.Join(lines, "\n") + "\n"
	return os.WriteFile(out, []byte(text), 0o644)
}

// observing is an agent in this process; stop ends it.
func observing() (c collector.Collector, stop func(), err error) {
	if c, err = collector.New(collector.Options{Mode: collector.ModeEBPF, Include: checked}); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	return c, func() { cancel(); wg.Wait() }, nil
}

func waitUntilSeen(c collector.Collector) error {
	for deadline := time.Now().Add(30 * time.Second); len(c.Views(time.Now())) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("nothing was observed: %+v", c.Targets())
		}
	}
	return nil
}

func beAgent() {
	c, _, err := observing()
	if err == nil {
		err = waitUntilSeen(c)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("observing")
	select {}
}

func attach(int) error {
	c, stop, err := observing()
	if err != nil {
		return err
	}
	defer stop()
	return waitUntilSeen(c)
}

func kill(i int) error {
	agent := exec.Command("/proc/self/exe", "-agent")
	out, err := agent.StdoutPipe()
	if err != nil {
		return err
	}
	if err := agent.Start(); err != nil {
		return err
	}
	defer func() { _ = agent.Wait() }()
	line, _ := bufio.NewReader(out).ReadString('\n')
	time.Sleep(time.Duration(i*7%40) * time.Millisecond)
	if err := agent.Process.Kill(); err != nil {
		return err
	}
	if line != "observing\n" {
		return fmt.Errorf("the agent said %q", line)
	}
	return nil
}

// build makes a test program of the collector.
func build(source, out string, env []string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-buildvcs=false", "-o", out}, flags...), ".")...)
	cmd.Dir = filepath.Join("pkg", "collector", "testdata", source)
	cmd.Env = append(append(os.Environ(), "GOFLAGS=", "GOWORK=off"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", source, err, text)
	}
	return nil
}

// withChecker does something n times to a program that checks itself, and asks it each time whether it has gone on.
func withChecker(dir string, n int, done string, do func(i int) error) (line string, err error) {
	bin := filepath.Join(dir, "safety-checker")
	if err := build("checker", bin, nil); err != nil {
		return "", err
	}
	cmd := exec.Command(bin)
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	defer func() {
		in.Close()
		err = errors.Join(err, cmd.Wait())
	}()
	out := bufio.NewScanner(pipe)
	out.Scan() // that it is ready
	rounds := 0
	for i := range n {
		if err := do(i); err != nil {
			return "", fmt.Errorf("time %d: %w", i+1, err)
		}
		for last := rounds; rounds == last; {
			if _, err := io.WriteString(in, "\n"); err != nil {
				return "", fmt.Errorf("after time %d the program is gone: %w", i+1, err)
			}
			if !out.Scan() {
				return "", fmt.Errorf("after time %d the program is gone: %w", i+1, cmd.Wait())
			}
			if rounds, err = strconv.Atoi(strings.TrimPrefix(out.Text(), "rounds ")); err != nil {
				return "", fmt.Errorf("after time %d the program says %q", i+1, out.Text())
			}
		}
	}
	return fmt.Sprintf("%s %d times: the program made %d rounds of checks meanwhile, all right", done, n, rounds), nil
}

// execs lets programs with different code at the same places execute one another n times in each of four processes, while an agent attaches to whatever it meets.
func execs(dir string, n int) (string, error) {
	var programs []string
	for name, how := range map[string][]string{"plain": {"CGO_ENABLED=0"}, "pie": {"CGO_ENABLED=0"}, "cgo": {"CGO_ENABLED=1"}, "older": {"CGO_ENABLED=0", "GOTOOLCHAIN=go1.25.14"}} {
		path := filepath.Join(dir, "safety-"+name)
		var flags []string
		if name == "pie" {
			flags = []string{"-buildmode=pie"}
		}
		if err := build("chain", path, how, flags...); err != nil {
			return "", err
		}
		programs = append(programs, path)
	}
	c, stop, err := observing()
	if err != nil {
		return "", err
	}
	defer stop()
	const chains = 4
	failed := make([]error, chains)
	seen := map[string]bool{}
	var wg sync.WaitGroup
	for i := range chains {
		wg.Go(func() {
			args := append([]string{strconv.Itoa(n), strconv.Itoa(i * 15_000)}, programs...)
			if out, err := exec.Command(programs[i], args...).CombinedOutput(); err != nil || string(out) != "done\n" {
				failed[i] = fmt.Errorf("chain %d: %w\n%.2000s", i, err, out)
			}
		})
	}
	ended := make(chan struct{})
	go func() { wg.Wait(); close(ended) }()
	for running := true; running; {
		select {
		case <-ended:
			running = false
		case <-time.After(time.Millisecond):
			for _, v := range c.Views(time.Now()) {
				seen[fmt.Sprint(v.Key, v.Exe)] = true
			}
		}
	}
	if err := errors.Join(failed...); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d executions of another program under the same process id, in %d processes at once: all ended well; %d of the programs were observed", n*chains, chains, len(seen)), nil
}
