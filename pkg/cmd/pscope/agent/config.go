//go:build linux

package agent

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/collector"
)

// Config is everything that can be set. Each setting is a flag; a configuration file holds the same names. A flag wins over the file.
type Config struct {
	Socket     string      // unix socket; empty: none
	SocketMode os.FileMode // permissions of the socket
	// SocketGroup owns the socket, so that its members (Grafana) may ask; empty: the agent's own group.
	SocketGroup string
	Listen      string // TCP address; empty: none
	DataDir     string // history on disk
	Host        string // label host; empty: the kernel's host name

	Mode    collector.Mode
	Include *regexp.Regexp
	Exclude *regexp.Regexp

	Interval       time.Duration // between two states in the store
	Retention      time.Duration // age at which history is dropped
	RetentionSize  int64         // bytes at which the oldest history is dropped; 0: no limit
	IntervalMemory int64         // bytes for raw intervals
	SnapshotEvery  time.Duration
	SampleHz       int
	MaxPs          int     // 0: by the number of CPUs
	MaxThreads     int     // 0: by MaxPs
	CostBudget     float64 // percent of a target's CPU time; 0: no limit
	Migrations     bool    // count goroutine migrations
	ShowArguments  bool    // show command lines whole

	TokenFile    string // bearer token every request over TCP must carry
	Insecure     bool   // let anyone in who reaches the TCP address
	TLSCert      string // PEM files
	TLSKey       string
	TLSClientCA  string
	AllowOrigins []string // web origins that may call from a browser directly

	KeepPrivileges bool // give up nothing after the start

	UntilStdinCloses bool // end when standard input does

	MemoryLimit int64 // of the agent and the process that keeps its history together; 0: none
	LogLevel    slog.Level
}

// size is a flag in bytes with an optional unit.
type size int64

var units = []struct {
	name   string
	factor int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}}

func (s *size) Set(v string) error {
	factor := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(v, u.name); ok {
			v, factor = rest, u.factor
			break
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if err != nil || !(n >= 0) || n*float64(factor) > 1<<60 { // NaN is no size, either
		return errors.New("write it like 512MiB, 2GB or 0 for no limit")
	}
	*s = size(n * float64(factor))
	return nil
}

func (s *size) String() string {
	for _, u := range slices.Backward(units[:4]) {
		if *s != 0 && int64(*s)%u.factor == 0 {
			return fmt.Sprintf("%d%s", int64(*s)/u.factor, u.name)
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// span is a flag like 500ms, 36h or 7d.
type span time.Duration

func (d *span) Set(v string) error {
	p, err := model.ParseDuration(v)
	if err != nil {
		return errors.New("write it like 500ms, 36h or 7d")
	}
	*d = span(p)
	return nil
}

func (d *span) String() string { return model.Duration(*d).String() }

// pattern is a flag holding a regular expression; empty is none.
type pattern struct{ to **regexp.Regexp }

func (p pattern) Set(v string) (err error) {
	if v == "" {
		*p.to = nil
		return nil
	}
	*p.to, err = regexp.Compile(v)
	return err
}

func (p pattern) String() string {
	if p.to == nil || *p.to == nil {
		return ""
	}
	return (*p.to).String()
}

// ParseConfig reads the flags, and the file that --config names. Output of --help and the like goes to w.
func ParseConfig(args []string, w io.Writer) (*Config, error) {
	c := &Config{Mode: collector.ModeAuto}
	fs := flag.NewFlagSet("pscope agent", flag.ContinueOnError)
	fs.SetOutput(w)
	file := fs.String("config", "", "YAML file with settings, named as these flags; flags win")
	fs.StringVar(&c.Socket, "socket", client.DefaultSocket, "unix socket to serve on; empty for none")
	mode := fs.String("socket-mode", "0660", "permissions of the socket")
	fs.StringVar(&c.SocketGroup, "socket-group", "", "group that owns the socket, so that its members may ask, for example grafana")
	fs.StringVar(&c.Host, "host", "", "value of the label host; empty for the host's name")
	fs.StringVar(&c.Listen, "listen", "127.0.0.1:9477", "TCP address to serve on; empty for none")
	fs.StringVar(&c.DataDir, "data-dir", "/var/lib/pscope", "directory for the history")
	observe := fs.String("mode", string(collector.ModeAuto), "auto, ebpf or snapshot: how processes are observed")
	fs.Var(pattern{&c.Include}, "include", "observe only processes whose name or path matches this regular expression")
	fs.Var(pattern{&c.Exclude}, "exclude", "leave out processes whose name or path matches this regular expression")
	duration := func(to *time.Duration, name string, value time.Duration, usage string) {
		*to = value
		fs.Var((*span)(to), name, usage)
	}
	duration(&c.Interval, "interval", time.Second, "time between two states in the history")
	duration(&c.Retention, "retention", 7*24*time.Hour, "age at which history is dropped")
	duration(&c.SnapshotEvery, "snapshot-every", 100*time.Millisecond, "time between two snapshots of a process' Ps")
	bytes := func(to *int64, name string, value int64, usage string) {
		*to = value
		fs.Var((*size)(to), name, usage)
	}
	bytes(&c.RetentionSize, "retention-size", 2<<30, "size at which the oldest history is dropped; 0 for no limit")
	bytes(&c.IntervalMemory, "interval-memory", 16<<20, "memory for raw intervals")
	bytes(&c.MemoryLimit, "memory-limit", 256<<20, "memory of the agent, five eighths of it for the history and its queries; 0 for no limit")
	fs.IntVar(&c.MaxPs, "max-ps", 0, "room for Ps of all processes together; 0 for 64 for each CPU, at least 4096")
	fs.IntVar(&c.MaxThreads, "max-threads", 0, "room for threads of all processes together; 0 for 4 for each P")
	fs.IntVar(&c.SampleHz, "sample-hz", 99, "samples a second on each CPU")
	fs.Float64Var(&c.CostBudget, "cost-budget", 2, "percent of a process' CPU time that observing it may take; what would pass it is left out step by step; 0 for no limit")
	fs.BoolVar(&c.Migrations, "migrations", false, "count goroutines that move from P to P: for short windows a probe is where goroutines start, as often as cost-budget allows")
	fs.StringVar(&c.TokenFile, "token-file", "", "file with the token that every request over TCP must carry")
	fs.BoolVar(&c.Insecure, "insecure", false, "serve on an address beyond loopback though neither a token nor a client's certificate is asked for: anyone who reaches it is let in")
	fs.BoolVar(&c.ShowArguments, "show-arguments", false, "show the arguments of processes to whoever may ask the agent; they often hold passwords")
	fs.StringVar(&c.TLSCert, "tls-cert", "", "certificate for TCP, PEM")
	fs.StringVar(&c.TLSKey, "tls-key", "", "key of the certificate, PEM")
	fs.StringVar(&c.TLSClientCA, "tls-client-ca", "", "authority whose clients alone are let in (mTLS), PEM")
	origins := fs.String("allow-origins", "", "origins of web pages that may call the agent directly, separated by commas; Grafana needs none")
	fs.BoolVar(&c.KeepPrivileges, "keep-privileges", false, "give up nothing after the start: neither capabilities "+
		"nor system calls that the agent does not need")
	fs.BoolVar(&c.UntilStdinCloses, "until-stdin-closes", false, "end when standard input is closed, for a program that starts the agent for itself")
	fs.TextVar(&c.LogLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	fs.Usage = func() {
		fmt.Fprintln(w, "pscope agent observes the Go processes of this host and serves what it sees.\n\nFlags:")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; all settings are flags, see 'pscope agent --help'", fs.Arg(0))
	}
	if *file != "" {
		if err := readFile(*file, fs); err != nil {
			return nil, err
		}
	}
	m, err := strconv.ParseUint(*mode, 8, 32)
	if err != nil || m > 0o777 {
		return nil, fmt.Errorf("socket-mode is %q; write it in octal, like 0660", *mode)
	}
	for o := range strings.SplitSeq(*origins, ",") {
		if o = strings.TrimSpace(o); o != "" {
			c.AllowOrigins = append(c.AllowOrigins, o)
		}
	}
	c.SocketMode, c.Mode = os.FileMode(m), collector.Mode(*observe)
	return c, c.validate()
}

// readFile sets every flag that the YAML file names and the command line does not.
func readFile(path string, fs *flag.FlagSet) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("can't read the configuration: %w", err)
	}
	var settings map[string]any
	if err := yaml.Unmarshal(text, &settings); err != nil {
		return fmt.Errorf("%s is no YAML map of settings: %w", path, err)
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var names []string
	fs.VisitAll(func(f *flag.Flag) {
		if f.Name != "config" {
			names = append(names, f.Name)
		}
	})
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%s: there is no setting %q; the settings are %s", path, name, strings.Join(names, ", "))
		}
		value := settings[name]
		switch value.(type) {
		case nil:
			value = ""
		case string, bool, int, int64, uint64, float64:
		default:
			return fmt.Errorf("%s: %s must be a single value, not a list or a map", path, name)
		}
		if given[name] {
			continue
		}
		if err := fs.Set(name, fmt.Sprint(value)); err != nil {
			return fmt.Errorf("%s: %s is %v: %w", path, name, value, err)
		}
	}
	return nil
}

func (c *Config) validate() error {
	switch c.Mode {
	case collector.ModeAuto, collector.ModeEBPF, collector.ModeSnapshot:
	default:
		return fmt.Errorf("mode is %q; choose auto, ebpf or snapshot", c.Mode)
	}
	switch {
	case c.Socket == "" && c.Listen == "":
		return errors.New("both socket and listen are empty, so that nobody could ask this agent anything; set one of them")
	case c.DataDir == "":
		return errors.New("data-dir is empty; name a directory that can be written, for example /var/lib/pscope")
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("tls-cert and tls-key go together; set both or none")
	case c.TLSClientCA != "" && c.TLSCert == "":
		return errors.New("tls-client-ca needs tls-cert and tls-key, too")
	case slices.Contains(c.AllowOrigins, "*") && c.TokenFile == "":
		return errors.New("allow-origins is *, so that any web page could ask; name the origins, or set token-file, too")
	case c.Interval < 100*time.Millisecond:
		return fmt.Errorf("interval is %v; at least 100ms", c.Interval)
	case c.SnapshotEvery < 10*time.Millisecond:
		return fmt.Errorf("snapshot-every is %v; at least 10ms", c.SnapshotEvery)
	case c.MaxPs < 0 || c.MaxPs > collector.MostPs:
		return fmt.Errorf("max-ps is %d; from 1 to %d, or 0 for what fits the machine", c.MaxPs, collector.MostPs)
	case c.MaxThreads < 0 || c.MaxThreads > collector.MostThreads:
		return fmt.Errorf("max-threads is %d; from 1 to %d, or 0 for what fits the machine", c.MaxThreads,
			collector.MostThreads)
	case c.SampleHz < 1 || c.SampleHz > 1000:
		return fmt.Errorf("sample-hz is %d; from 1 to 1000", c.SampleHz)
	case !(c.CostBudget >= 0 && c.CostBudget <= 100): // nor NaN
		return fmt.Errorf("cost-budget is %v; from 0 to 100 percent", c.CostBudget)
	case c.Retention < time.Minute:
		return fmt.Errorf("retention is %v; at least 1m", c.Retention)
	case c.IntervalMemory < 1<<20:
		return errors.New("interval-memory is too small; at least 1MiB")
	}
	return nil
}
