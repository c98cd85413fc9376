//go:build linux

package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/cilium/ebpf"

	pscopev1 "github.com/p-scope/p-scope/pkg/api/pscope/v1"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/agent"
	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/collector"
	"github.com/p-scope/p-scope/pkg/lack"
)

// defaultConfig is where the packages have the agent's configuration.
const defaultConfig = "/etc/pscope/pscope.yaml"

// Each file of a bundle is cut at this size, and there are ten at most.
const mostOfFile = 4 << 20

// bundle is an archive for a bug report: a tar, compressed by gzip.
type bundle struct {
	version string
	path    string
	config  string
	redact  bool

	files []bundled
	lacks []string // what could not be had, and why
}

// bundled is one file of it.
type bundled struct {
	name, what string
	body       []byte
}

// free is an error if the archive's file is there: it is not overwritten.
func (b *bundle) free() error {
	if _, err := os.Lstat(b.path); err == nil {
		return fmt.Errorf("%s is there already and is not overwritten: name another file, or remove it", b.path)
	}
	return nil
}

// add puts a file in.
func (b *bundle) add(name, what string, body []byte) {
	if len(body) > mostOfFile {
		body = append(bytes.Clone(body[:mostOfFile]), "\n(cut here: it was longer)\n"...)
	}
	b.files = append(b.files, bundled{name, what, body})
}

func (b *bundle) lack(what string, err error) {
	b.lacks = append(b.lacks, fmt.Sprintf("%s: %v", what, err))
}

// make gathers everything, says what it is, and writes the archive.
func (b *bundle) make(ctx context.Context, r *Report, o *client.Options, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	names := newNames()
	names.ofReport(r)
	if u, err := url.Parse(o.URL); err == nil && o.URL != "" {
		names.address(u.Host)
	}
	report, err := asJSON(r)
	if err != nil {
		return err
	}
	b.add("doctor.json", "the report of pscope doctor", report)
	b.add("host.txt", "version, kernel and machine", []byte(b.host(r)))
	b.settings()
	b.ofAgent(ctx, o, names)
	b.verifier(r)
	if b.redact {
		b.hideNames(names)
	}
	b.add("README.txt", "what this is", []byte(b.readme()))
	fmt.Fprint(w, b.readme(), "\n")
	if err := b.write(); err != nil {
		return err
	}
	fmt.Fprintf(w, "Written to %s. Look into it before you send it: tar -xzf %s\n", b.path, b.path)
	return nil
}

// asJSON is JSON to be read: names stand in it as they are, so that they are found again.
func asJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return out.Bytes(), err
}

// readme lists what is in it.
func (b *bundle) readme() string {
	var s strings.Builder
	fmt.Fprintf(&s, "A bundle for a bug report, by pscope %s:\n", b.version)
	for _, f := range b.files {
		fmt.Fprintf(&s, "  %-14s %8d bytes  %s\n", f.name, len(f.body), f.what)
	}
	for _, l := range b.lacks {
		fmt.Fprintf(&s, "  not in it: %s\n", l)
	}
	s.WriteString("In it are no tokens, passwords or keys, and neither arguments nor environments of processes.\n")
	if b.redact {
		s.WriteString("Names of processes, hosts, containers and paths are replaced by numbers.\n")
	} else {
		s.WriteString("Names of processes, hosts, containers and programs are in it: --redact replaces them by " +
			"numbers.\n")
	}
	return s.String()
}

// write makes the file, which nobody else may read, or nothing.
func (b *bundle) write() (err error) {
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return b.free()
	}
	if err != nil {
		return fmt.Errorf("can't write the archive: %w; name another file with --bundle", err)
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(b.path)
			err = fmt.Errorf("can't write the archive: %w; name another file with --bundle", err)
		}
	}()
	packed := gzip.NewWriter(f)
	archive := tar.NewWriter(packed)
	for _, file := range b.files {
		h := &tar.Header{Name: "pscope-bundle/" + file.name, Mode: 0o600, Size: int64(len(file.body)),
			ModTime: time.Now()}
		if err := archive.WriteHeader(h); err != nil {
			return err
		}
		if _, err := archive.Write(file.body); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}

// host is what the machine is. Neither its name nor the kernel's command line are in it.
func (b *bundle) host(r *Report) string {
	var s strings.Builder
	h := lack.ReadHost("/")
	fmt.Fprintf(&s, "pscope: %s, %s\nkernel: %s %s\n", b.version, runtime.Version(), r.Kernel, r.Arch)
	fmt.Fprintf(&s, "kernel built: %s", readSmall("/proc/sys/kernel/version"))
	fmt.Fprintf(&s, "BTF: %v, %d bytes\nlockdown: %q\nseccomp: %v\nuser namespace: %v\nPID namespace: %v\n", h.BTF,
		h.BTFBytes, h.Lockdown, h.Seccomp, h.Nested, h.PIDNamespace)
	fmt.Fprintf(&s, "CPUs: %d\n", runtime.NumCPU())
	for _, line := range strings.Split(readSmall("/proc/meminfo"), "\n") {
		if strings.HasPrefix(line, "MemTotal") || strings.HasPrefix(line, "MemAvailable") {
			fmt.Fprintln(&s, line)
		}
	}
	for _, line := range strings.Split(readSmall("/etc/os-release"), "\n") {
		if strings.HasPrefix(line, "PRETTY_NAME=") {
			fmt.Fprintln(&s, line)
		}
	}
	return s.String()
}

// settings are those of the agent's configuration file.
func (b *bundle) settings() {
	if _, err := os.Stat(b.config); err != nil {
		b.lack("the agent's settings", fmt.Errorf("%w; name its file with --config", err))
		return
	}
	b.add("config.txt", "the settings in "+b.config, []byte(agent.Describe(b.config)))
}

// target is one Go process as the agent lists it, without its command line.
type target struct {
	PID        int32  `json:"pid"`
	Process    string `json:"process"`
	Exe        string `json:"exe"`
	Runtime    string `json:"runtime,omitempty"`
	GoVersion  string `json:"go_version"`
	Module     string `json:"module,omitempty"`
	Source     string `json:"source"`
	Layout     string `json:"layout,omitempty"`
	Reason     string `json:"reason,omitempty"`
	GOMAXPROCS int32  `json:"gomaxprocs"`
	Container  string `json:"container,omitempty"`
	Pod        string `json:"pod,omitempty"`
	Namespace  string `json:"namespace,omitempty"`
	Cgroup     string `json:"cgroup,omitempty"`
	Host       string `json:"host"`
	Started    int64  `json:"started_unix_nano"`
	Ended      int64  `json:"ended_unix_nano,omitempty"`
}

// ofAgent is what a running agent answers.
func (b *bundle) ofAgent(ctx context.Context, o *client.Options, names *names) {
	b.log(ctx, o)
	body, cut, err := o.Fetch(ctx, "/metrics", mostOfFile)
	if err != nil {
		b.lack("the agent's metrics and targets", o.Explain(err))
		return
	}
	if cut {
		b.lack("all metrics", errors.New("they are too long, the first are there"))
	}
	b.add("metrics.txt", "what the agent exposes on /metrics", body)
	var lost []byte
	for line := range bytes.Lines(body) {
		if bytes.HasPrefix(line, []byte("pscope_lost_events_total")) {
			lost = append(lost, line...)
		}
	}
	b.add("lost.txt", "pscope_lost_events_total of it", lost)
	c, err := o.Dial()
	if err == nil {
		var resp *connect.Response[pscopev1.ListTargetsResponse]
		if resp, err = c.ListTargets(ctx, connect.NewRequest(&pscopev1.ListTargetsRequest{})); err == nil {
			b.targets(resp.Msg, names)
			return
		}
	}
	b.lack("the agent's targets", o.Explain(err))
}

func (b *bundle) targets(list *pscopev1.ListTargetsResponse, names *names) {
	a := list.GetAgent()
	out := struct {
		Version, Kernel, Mode string
		Started               int64            `json:"started_unix_nano"`
		Lacks                 []collector.Lack `json:"lacks"`
		Targets               []target         `json:"targets"`
	}{Version: a.GetVersion(), Kernel: a.GetKernel(), Mode: a.GetMode(), Started: a.GetStartedUnixNano()}
	names.add("host", a.GetHost())
	for _, l := range a.GetLacks() {
		out.Lacks = append(out.Lacks, collector.Lack{What: l.GetWhat(), Why: l.GetWhy(), Fix: l.GetFix()})
	}
	for _, t := range list.GetTargets() {
		one := target{PID: t.GetKey().GetPid(), Process: t.GetProcess(), Exe: t.GetExe(),
			Runtime:   t.GetKey().GetRuntime(),
			GoVersion: t.GetGoVersion(),
			Module:    t.GetModule(), Source: t.GetSource(), Layout: t.GetLayout(), Reason: t.GetReason(),
			GOMAXPROCS: t.GetGomaxprocs(),
			Container:  t.GetContainer(), Pod: t.GetPod(), Namespace: t.GetNamespace(), Cgroup: t.GetCgroup(),
			Host:    t.GetHost(),
			Started: t.GetStartedUnixNano(), Ended: t.GetEndedUnixNano()}
		names.ofTarget(&one)
		out.Targets = append(out.Targets, one)
	}
	text, err := asJSON(out)
	if err != nil {
		b.lack("the agent's targets", err)
		return
	}
	b.add("targets.json", "the processes that the agent lists, by name", text)
}

// log are the last lines of a running agent, else of the journal if the agent is this machine's.
func (b *bundle) log(ctx context.Context, o *client.Options) {
	body, _, err := o.Fetch(ctx, "/-/log", mostOfFile)
	if err == nil {
		b.add("log.txt", "the last lines that the agent logged", body)
		return
	}
	why := o.Explain(err)
	if o.URL != "" {
		b.lack("the agent's log", fmt.Errorf("%w; add what it wrote to its standard error. The journal of this "+
			"machine is "+
			"that of another agent", why))
		return
	}
	journal := exec.CommandContext(ctx, "journalctl", "--unit", "pscope-agent", "--lines", "500", "--no-pager",
		"--output", "cat")
	journal.WaitDelay = time.Second
	if text, err := journal.Output(); err == nil && len(bytes.TrimSpace(text)) > 0 && !bytes.HasPrefix(text,
		[]byte("-- No entries")) {
		b.add("log.txt", "the last lines of pscope-agent in the journal", withoutProblems(text))
		return
	}
	b.lack("the agent's log", fmt.Errorf("%w; add what it wrote to its standard error", why))
}

const (
	// startFailed begins the lines of an agent that did not start, reloadFailed is in a line about a spoilt file, and
	// leftOut stands for the rest of such lines.
	startFailed  = "pscope agent: "
	reloadFailed = "can't be used; the settings before stay in use"
	leftOut      = "(left out: it may repeat the value of a wrong setting)"
)

var (
	// logged begins lines that are not about why an agent did not start: those of log/slog, of systemd, and of the
	// runtime when a program ends by a panic.
	logged = regexp.MustCompile(`^(time=|Start|Stop|Reload|Main process|Failed|Deactivated|Consumed|Scheduled|` +
		`pscope-agent\.service|panic: |fatal error: |goroutine |SIG|-- )`)
	position = regexp.MustCompile(`^((?:pscope agent: )?/[^:]*:\d+: )`)
)

// withoutProblems leaves out of a journal what is wrong with settings, and keeps in which line of their file it is: the
// agents of former versions told the values, which may be secrets.
func withoutProblems(journal []byte) []byte {
	var out bytes.Buffer
	problem := false
	for line := range bytes.Lines(journal) {
		switch {
		case bytes.HasPrefix(line, []byte(startFailed)):
			problem = true
		case logged.Match(line):
			problem = bytes.Contains(line, []byte(reloadFailed))
		}
		if !problem {
			out.Write(line)
			continue
		}
		if at, _, slog := bytes.Cut(line, []byte(" msg=")); slog && bytes.HasPrefix(line, []byte("time=")) {
			fmt.Fprintf(&out, "%s msg=%q %s\n", at, "the configuration "+reloadFailed, leftOut)
			problem = false
			continue
		}
		fmt.Fprintf(&out, "%s%s\n", position.Find(line), leftOut)
	}
	return out.Bytes()
}

// verifier adds what the kernel said of programs that it refuses.
func (b *bundle) verifier(r *Report) {
	if r.Mode == string(collector.ModeEBPF) {
		return
	}
	c, err := collector.New(collector.Options{Mode: collector.ModeEBPF, Only: int32(os.Getpid())})
	if err == nil {
		done, cancel := context.WithCancel(context.Background())
		cancel()
		_ = c.Run(done) // to give up what was loaded
		b.lack("a verifier's log", errors.New("the programs load now"))
		return
	}
	var refused *ebpf.VerifierError
	if !errors.As(err, &refused) {
		b.lack("a verifier's log", fmt.Errorf("it was not the verifier that refused: %w", err))
		return
	}
	b.add("verifier.txt", "why the kernel's verifier refuses a program",
		[]byte(err.Error()+"\n\n"+strings.Join(refused.Log, "\n")+"\n"))
}
