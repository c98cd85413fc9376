// Command safety attaches an agent to a program that checks its own results, and detaches it or kills it, a thousand
// times; and it lets programs execute one another under one process id while an agent attaches to them. The programs
// must go on, and right. It writes bench/results/safety.md.
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
	what := flag.String("do", "attach,kill,exec", "attach: attach and detach; kill: the agent dies by SIGKILL; exec: "+
		"programs execute one another")
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
			line, err = withCheckers(dir, n, atOnce, "attached and detached", attach)
		case "kill":
			line, err = withCheckers(dir, n, 1, "attached, and the agent killed by SIGKILL,", kill)
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
	text := "# What being observed does to a program\n\nMade by `go run ./bench/safety` (see there for what the " +
		"programs check of themselves).\n\n" + strings.Join(lines, "\n") + "\n"
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

// atOnce is to how many programs an agent attaches at once where it is not killed: most of the time goes into loading
// its own programs.
const atOnce = 4

func waitUntilSeen(c collector.Collector, programs int) error {
	// Looks are counted and not time: this process may be halted in between.
	for range 30_000 {
		if len(c.Views(time.Now())) >= programs {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("fewer than %d programs were observed: %+v", programs, c.Targets())
}

func beAgent() {
	c, _, err := observing()
	if err == nil {
		err = waitUntilSeen(c, 1)
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
	return waitUntilSeen(c, atOnce)
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

// checker is a program that checks itself.
type checker struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Scanner
	rounds int
}

func startChecker(bin string) (*checker, error) {
	c := &checker{cmd: exec.Command(bin)}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	pipe, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.cmd.Stderr = os.Stderr
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.out = bufio.NewScanner(pipe)
	c.out.Scan() // that it is ready
	return c, nil
}

// goesOn waits until it has made another round.
func (c *checker) goesOn() error {
	for last := c.rounds; c.rounds == last; {
		if _, err := io.WriteString(c.in, "\n"); err != nil {
			return fmt.Errorf("the program is gone: %w", err)
		}
		if !c.out.Scan() {
			return fmt.Errorf("the program is gone: %w", c.cmd.Wait())
		}
		var err error
		if c.rounds, err = strconv.Atoi(strings.TrimPrefix(c.out.Text(), "rounds ")); err != nil {
			return fmt.Errorf("the program says %q", c.out.Text())
		}
	}
	return nil
}

func (c *checker) end() error {
	c.in.Close()
	return c.cmd.Wait()
}

// withCheckers does something to programs that check themselves, so often that it makes n times one of them, and asks
// each every time whether it has gone on.
func withCheckers(dir string, n, programs int, done string, do func(i int) error) (line string, err error) {
	bin := filepath.Join(dir, "safety-checker")
	if err := build("checker", bin, nil); err != nil {
		return "", err
	}
	var checkers []*checker
	defer func() {
		for _, c := range checkers {
			err = errors.Join(err, c.end())
		}
	}()
	for range programs {
		c, err := startChecker(bin)
		if err != nil {
			return "", err
		}
		checkers = append(checkers, c)
	}
	turns := (n + programs - 1) / programs
	for i := range turns {
		if err := do(i); err != nil {
			return "", fmt.Errorf("time %d: %w", i+1, err)
		}
		for _, c := range checkers {
			if err := c.goesOn(); err != nil {
				return "", fmt.Errorf("after time %d: %w", i+1, err)
			}
		}
	}
	rounds := 0
	for _, c := range checkers {
		rounds += c.rounds
	}
	by, who := "", "the program"
	if programs > 1 {
		who = "they"
		by = fmt.Sprintf(" (%d agents, %d programs each)", turns, programs)
	}
	return fmt.Sprintf("%s %d times%s: %s made %d rounds of checks meanwhile, all right", done, turns*programs, by, who,
		rounds), nil
}

// execs lets programs with different code at the same places execute one another n times in each of four processes,
// while an agent attaches to whatever it meets.
func execs(dir string, n int) (string, error) {
	var programs []string
	for name, how := range map[string][]string{"plain": {"CGO_ENABLED=0"}, "pie": {"CGO_ENABLED=0"},
		"cgo": {"CGO_ENABLED=1"}, "older": {"CGO_ENABLED=0", "GOTOOLCHAIN=go1.25.14"}} {
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
	return fmt.Sprintf("%d executions of another program under the same process id, in %d processes at once: all "+
		"ended well; %d of the programs were observed", n*chains, chains, len(seen)), nil
}
