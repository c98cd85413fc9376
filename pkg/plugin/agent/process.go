package agent

import (
	"bufio"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/p-scope/p-scope/pkg/plugin/logs"
)

// How the bundled agent is kept running.
const (
	firstBackoff = time.Second
	lastBackoff  = 30 * time.Second
	// steady is how long an agent must have run for its next end to count as a new trouble.
	steady = time.Minute
	// stopPatience is how long it may take to end when told to.
	stopPatience = 5 * time.Second
)

// process is one bundled agent under supervision. There is one per socket, whatever the number of data sources that use
// it.
type process struct {
	binary string
	place  place
	users  int // guarded by processes.mu

	stop    chan struct{} // closed when the last user is gone
	stopped chan struct{} // closed when nothing of it runs any more

	mu    sync.Mutex
	cmd   *exec.Cmd
	words []string      // the last lines it wrote
	ended chan struct{} // closed at its first end within the present trouble
}

// processes are the agents this plugin runs, by socket.
var processes struct {
	mu sync.Mutex
	by map[string]*process
}

// hold starts the agent of a place, or joins those who use it already.
func hold(binary string, at place) *process {
	processes.mu.Lock()
	defer processes.mu.Unlock()
	if p := processes.by[at.socket]; p != nil {
		p.users++
		return p
	}
	p := &process{binary: binary, place: at, users: 1, stop: make(chan struct{}), stopped: make(chan struct{}),
		ended: make(chan struct{})}
	if processes.by == nil {
		processes.by = map[string]*process{}
	}
	processes.by[at.socket] = p
	go p.supervise()
	return p
}

// release ends the agent when the last user lets go of it, and waits until it is gone.
func release(p *process) {
	processes.mu.Lock()
	p.users--
	last := p.users == 0
	if last {
		delete(processes.by, p.place.socket)
	}
	processes.mu.Unlock()
	if last {
		close(p.stop)
		<-p.stopped
	}
}

// supervise runs the agent again and again until stop.
func (p *process) supervise() {
	defer close(p.stopped)
	backoff := firstBackoff
	for {
		began := time.Now()
		err := p.run()
		select {
		case <-p.stop:
			return
		default:
		}
		if time.Since(began) > steady {
			backoff = firstBackoff
		}
		logs.Log.Warn("the bundled agent ended", "error", err, "lastWords", p.lastWords(), "restartIn", backoff)
		p.markEnded()
		select {
		case <-p.stop:
			return
		case <-time.After(backoff):
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// run starts the agent once and waits for its end.
func (p *process) run() error {
	// No TCP port: the socket serves everything, and a port might be taken.
	cmd := exec.Command(p.binary, "agent", "--socket", p.place.socket, "--listen", "", "--data-dir", p.place.data,
		"--until-stdin-closes")
	cmd.SysProcAttr = childAttributes()
	// Its standard input closes with this process, however that ends. The kernel's own way, prctl(PR_SET_PDEATHSIG), is
	// undone for a program with file capabilities (fs/exec.c, begin_new_exec), which is how most will run it.
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	defer stdin.Close()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		p.say(err.Error())
		return err
	}
	p.mu.Lock()
	p.cmd = cmd
	p.mu.Unlock()
	done := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		select {
		case <-done:
			return
		case <-p.stop:
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(stopPatience):
			_ = cmd.Process.Kill()
		}
	})
	p.listen(stderr)
	err = cmd.Wait()
	close(done)
	watcher.Wait()
	p.mu.Lock()
	p.cmd = nil
	p.mu.Unlock()
	return err
}

// listen passes on what the agent writes and remembers the end of it.
func (p *process) listen(r io.Reader) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		p.say(lines.Text())
		logs.Log.Info("bundled agent: " + lines.Text())
	}
	// A line too long for the scanner must not stop the agent by filling its pipe.
	_, _ = io.Copy(io.Discard, r)
}

func (p *process) say(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	const most = 5
	p.words = append(p.words, firstLine(line))
	p.words = p.words[max(0, len(p.words)-most):]
}

// lastWords is the last line the agent wrote.
func (p *process) lastWords() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.words) == 0 {
		return "it said nothing; Grafana's log has more"
	}
	return strings.TrimSpace(p.words[len(p.words)-1])
}

// failed is closed once the agent has ended by itself.
func (p *process) failed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

func (p *process) markEnded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
	default:
		close(p.ended)
	}
}

func (p *process) pid() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return 0, false
	}
	return p.cmd.Process.Pid, true
}
