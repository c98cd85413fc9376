//go:build linux

package agent

import (
	"flag"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/collector"
)

// Config is everything that can be set. Each setting is a flag; a configuration file holds the same names. A flag wins
// over the file.
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

	// File is what --config names; empty: none. Check is --check: an agent is not wanted.
	File  string
	Check bool

	MemoryLimit int64 // of the agent and the process that keeps its history together; 0: none
	LogLevel    slog.Level

	setLevel func(slog.Level) // changes the level of the log that is in use; nil: it stays

	hangups chan os.Signal // SIGHUP, each of which reads File again; nil: there is no File

	folded func() uint64 // counts messages that were not logged one by one; nil: all were

	logTo   io.Writer     // where the log goes, also that of the process that keeps the history; nil: standard error
	lastLog func() string // the last lines of the log; nil: they are not kept

	args   []string          // of the command line
	values map[string]string // each setting as text, to see what a reload changes
	lines  map[string]int    // of File, where a setting stands that counts

	defaults map[string]string // of each setting, as text
	withheld *strings.Replacer // takes values that may be secrets out of a text; nil: there are none
}

// reloadable are the settings that an agent takes up while it runs.
var reloadable = []string{"allow-origins", "exclude", "include", "log-level"}

// ParseConfig reads the flags, and the file that --config names. Output of --help goes to w. Its error, unless it is
// flag.ErrHelp, are Problems: all of them.
func ParseConfig(args []string, w io.Writer) (*Config, error) {
	c := &Config{Mode: collector.ModeAuto, args: args}
	fs := flag.NewFlagSet("pscope agent", flag.ContinueOnError)
	text := c.register(fs)
	found := problems{lines: map[string]int{}}
	if err := found.parseFlags(fs, args, w); err != nil {
		return nil, err
	}
	c.File, found.file = text.file, text.file
	if c.File != "" {
		found.readFile(fs)
	}
	c.settle(text, &found)
	c.validate(&found)
	c.values, c.defaults, c.lines = map[string]string{}, map[string]string{}, found.lines
	fs.VisitAll(func(f *flag.Flag) { c.values[f.Name], c.defaults[f.Name] = f.Value.String(), f.DefValue })
	c.withhold()
	if len(found.all) > 0 {
		found.all.sort()
		return c, found.all
	}
	return c, nil
}

// unsettled are settings that are read as text.
type unsettled struct{ file, socketMode, mode, origins string }

// register makes a flag of each setting.
func (c *Config) register(fs *flag.FlagSet) *unsettled {
	text := &unsettled{}
	fs.StringVar(&text.file, "config", "", "YAML file with settings, named as these flags; flags win")
	fs.BoolVar(&c.Check, "check", false, "check the settings and the files that they name, say what is wrong, and "+
		"end: with code 0 if an agent would start "+
		"with them, else 1")
	fs.StringVar(&c.Socket, "socket", client.DefaultSocket, "unix socket to serve on; empty for none")
	fs.StringVar(&text.socketMode, "socket-mode", "0660", "permissions of the socket")
	fs.StringVar(&c.SocketGroup, "socket-group", "", "group that owns the socket, so that its members may ask, for "+
		"example grafana")
	fs.StringVar(&c.Host, "host", "", "value of the label host; empty for the host's name")
	fs.StringVar(&c.Listen, "listen", "127.0.0.1:9477", "TCP address to serve on; empty for none")
	fs.StringVar(&c.DataDir, "data-dir", "/var/lib/pscope", "directory for the history")
	fs.StringVar(&text.mode, "mode", string(collector.ModeAuto), "auto, ebpf or snapshot: how processes are observed")
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
	bytes(&c.MemoryLimit, "memory-limit", 256<<20, "memory of the agent, five eighths of it for the history and its "+
		"queries; 0 for no limit")
	fs.IntVar(&c.MaxPs, "max-ps", 0, "room for Ps of all processes together, shared by user where it is short; 0 for "+
		"64 for each CPU, at least 4096")
	fs.IntVar(&c.MaxThreads, "max-threads", 0, "room for threads of all processes together, likewise; 0 for 4 for "+
		"each P")
	fs.IntVar(&c.SampleHz, "sample-hz", 99, "samples a second on each CPU")
	fs.Float64Var(&c.CostBudget, "cost-budget", 2, "percent of a process' CPU time that observing it may take; what "+
		"would pass it is left out step by step; 0 for no limit")
	fs.BoolVar(&c.Migrations, "migrations", false, "count goroutines that move from P to P: for short windows a probe "+
		"is where goroutines start, as often as cost-budget allows")
	fs.StringVar(&c.TokenFile, "token-file", "", "file with the token that every request over TCP must carry")
	fs.BoolVar(&c.Insecure, "insecure", false, "serve on an address beyond loopback though neither a token nor a "+
		"client's certificate is asked for: anyone who reaches it is let in")
	fs.BoolVar(&c.ShowArguments, "show-arguments", false, "show the arguments of processes to whoever may ask the "+
		"agent; they often hold passwords")
	fs.StringVar(&c.TLSCert, "tls-cert", "", "certificate for TCP, PEM")
	fs.StringVar(&c.TLSKey, "tls-key", "", "key of the certificate, PEM")
	fs.StringVar(&c.TLSClientCA, "tls-client-ca", "", "authority whose clients alone are let in (mTLS), PEM")
	fs.StringVar(&text.origins, "allow-origins", "", "origins of web pages that may call the agent directly, "+
		"separated by commas; Grafana needs none")
	fs.BoolVar(&c.KeepPrivileges, "keep-privileges", false, "give up nothing after the start: neither capabilities "+
		"nor system calls that the agent does not need")
	fs.BoolVar(&c.UntilStdinCloses, "until-stdin-closes", false, "end when standard input is closed, for a program "+
		"that starts the agent for itself")
	fs.TextVar(&c.LogLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	fs.VisitAll(func(f *flag.Flag) {
		if slices.Contains(reloadable, f.Name) {
			f.Usage += "; changed by a reload"
		}
	})
	return text
}

const help = "pscope agent observes the Go processes of this host and serves what it sees.\n\n" +
	"SIGHUP makes it read the file of --config again (systemctl reload). Settings marked so are changed by that, all " +
	"others by a restart; files that hold a token or\n" +
	"certificates are read again by themselves when they change.\n\nFlags:"

// settle makes values of what was read as text.
func (c *Config) settle(text *unsettled, found *problems) {
	m, err := strconv.ParseUint(text.socketMode, 8, 32)
	if err != nil || m > 0o777 {
		found.add("socket-mode", "socket-mode is %q; write it in octal, like 0660", text.socketMode)
	}
	c.SocketMode, c.Mode = os.FileMode(m), collector.Mode(text.mode)
	for o := range strings.SplitSeq(text.origins, ",") {
		if o = strings.TrimSpace(o); o != "" {
			c.AllowOrigins = append(c.AllowOrigins, o)
		}
	}
}

// validate finds values that no agent can have, and settings that don't go together.
func (c *Config) validate(found *problems) {
	wrong := func(is bool, setting, format string, args ...any) {
		if is {
			found.add(setting, format, args...)
		}
	}
	wrong(!slices.Contains([]collector.Mode{collector.ModeAuto, collector.ModeEBPF, collector.ModeSnapshot}, c.Mode),
		"mode", "mode is %q; choose auto, ebpf or snapshot", c.Mode)
	wrong(c.Socket == "" && c.Listen == "",
		"socket", "both socket and listen are empty, so that nobody could ask this agent anything; set one of them")
	wrong(c.DataDir == "", "data-dir", "data-dir is empty; name a directory that can be written, for example "+
		"/var/lib/pscope")
	wrong(c.TLSCert != "" && c.TLSKey == "", "tls-cert", "tls-cert and tls-key go together; set both or none")
	wrong(c.TLSCert == "" && c.TLSKey != "", "tls-key", "tls-cert and tls-key go together; set both or none")
	wrong(c.TLSClientCA != "" && c.TLSCert == "", "tls-client-ca", "tls-client-ca needs tls-cert and tls-key, too")
	wrong(slices.Contains(c.AllowOrigins, "*") && c.TokenFile == "", "allow-origins",
		"allow-origins is *, so that any web page could ask; name the origins, or set token-file, too")
	wrong(c.Interval < 100*time.Millisecond, "interval", "interval is %v; at least 100ms", c.Interval)
	wrong(c.SnapshotEvery < 10*time.Millisecond, "snapshot-every", "snapshot-every is %v; at least 10ms",
		c.SnapshotEvery)
	wrong(c.MaxPs < 0 || c.MaxPs > collector.MostPs, "max-ps",
		"max-ps is %d; from 1 to %v, or 0 for what fits the machine", c.MaxPs, known(strconv.Itoa(collector.MostPs)))
	wrong(c.MaxThreads < 0 || c.MaxThreads > collector.MostThreads, "max-threads",
		"max-threads is %d; from 1 to %v, or 0 for what fits the machine", c.MaxThreads,
		known(strconv.Itoa(collector.MostThreads)))
	wrong(c.SampleHz < 1 || c.SampleHz > 1000, "sample-hz", "sample-hz is %d; from 1 to 1000", c.SampleHz)
	wrong(!(c.CostBudget >= 0 && c.CostBudget <= 100), "cost-budget", "cost-budget is %v; from 0 to 100 percent",
		c.CostBudget)
	wrong(c.Retention < time.Minute, "retention", "retention is %v; at least 1m", c.Retention)
	wrong(c.IntervalMemory < 1<<20, "interval-memory", "interval-memory is too small; at least 1MiB")
}
