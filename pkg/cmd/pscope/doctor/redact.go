//go:build linux

package doctor

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// names are those that a bundle can be rid of, and what stands for each. One name has one number throughout, so that
// what belongs together is still seen.
type names struct {
	by map[string]string
	n  map[string]int // given so far, by kind
}

func newNames() *names {
	n := &names{by: map[string]string{}, n: map[string]int{}}
	if host, err := os.Hostname(); err == nil {
		n.add("host", host)
	}
	return n
}

// own are words of P-Scope: processes may be called so, too, and the texts could not be read without them.
var own = []string{"", "pscope", "agent", "history", "go", "ebpf", "snapshot", "refused", "none", "default", "/", ".",
	"process",
	"host", "path", "pid", "runtime", "exe", "reason", "targets"}

// add gives a name its number. Where it is quoted it has it, too.
func (n *names) add(kind, name string) {
	if _, known := n.by[name]; known || slices.Contains(own, name) {
		return
	}
	n.n[kind]++
	stands := fmt.Sprintf("%s-%d", kind, n.n[kind])
	n.by[name] = stands
	quoted := strconv.Quote(name) // in logs and, but for rare characters, in labels
	for _, form := range []string{quoted[1 : len(quoted)-1], inJSON(name, false), inJSON(name, true)} {
		if _, known := n.by[form]; !known {
			n.by[form] = stands
		}
	}
}

// inJSON is a text as it stands within quotes, also where the JSON may stand in a web page.
func inJSON(text string, escapeHTML bool) string {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(escapeHTML)
	if enc.Encode(text) != nil {
		return text
	}
	return strings.TrimSuffix(out.String()[1:], "\"\n")
}

// address takes the host of an address, with or without a port. What is every machine's is no name.
func (n *names) address(a string) {
	host, _, err := net.SplitHostPort(a)
	if err != nil {
		host = strings.Trim(a, "[]")
	}
	if ip := net.ParseIP(host); ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) || host == "localhost" {
		return
	}
	n.add("host", host)
}

func (n *names) ofReport(r *Report) {
	for _, p := range r.Processes {
		n.add("path", p.Exe)
		n.add("process", p.Process)
		n.add("process", path.Base(p.Exe))
		n.add("library", p.Runtime)
	}
}

func (n *names) ofTarget(t *target) {
	n.add("path", t.Exe)
	n.add("process", t.Process)
	n.add("process", path.Base(t.Exe))
	n.add("library", t.Runtime)
	n.add("module", t.Module)
	n.add("container", t.Container)
	n.add("pod", t.Pod)
	n.add("namespace", t.Namespace)
	n.add("cgroup", t.Cgroup)
	n.add("host", t.Host)
}

// Where names stand in files that are read by a fixed form: labels of metrics, keys of the log, and addresses.
var (
	labels = regexp.MustCompile(`\b(host|process|container|pod|namespace|cgroup|runtime|set_by)="((?:[^"\\]|\\.)*)"`)
	keys   = regexp.MustCompile(`\b(process|host|runtime|exe|path|file|files|socket|dir|cgroup|listen)=` +
		`("(?:[^"\\]|\\.)*"|[^ \n]*)`)
	chosen = regexp.MustCompile(`(?m)^(include|exclude|host|socket-group|allow-origins|` +
		`listen|socket|data-dir|token-file|tls-[a-z-]+): .*$`)
	ipv4 = regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}\b`)
)

// Where paths stand. The first finds those with blanks in them, in errors of the operating system (os.PathError), the
// second all others: what begins with a slash and a letter or the like, as far as quotes, blanks and brackets.
var (
	failed = regexp.MustCompile(
		`\b(?:open|openat|stat|lstat|statx|readlink|readdirent|read|write|mkdir|unlink|unlinkat|` +
			`remove|rename|chmod|chown|fork/exec|exec|listen unix|dial unix|bind) (/[^"\n]*?): `)
	paths = regexp.MustCompile(`(^|[\s"'(=:,;|\[{<>])(/[\pL\pN._~@%+$-](?:[^\s"',)\]}<>|;\\]|\\[^"\s])*)`)
	// lineIn follows a path in a message about a line of the file.
	lineIn = regexp.MustCompile(`(?::\d+)?[.:]*$`)
)

// withPID follows the name of a process in a sentence.
var withPID = regexp.MustCompile(` \(pid \d+\)`)

// before are words before the name of a process in a sentence.
var before = []string{"; ", "a look at ", "the programs of ", "the process ", "process "}

// processesIn finds every name before " (pid N)": alone, at the end of a sentence, or in a list.
func processesIn(text string) (found []string) {
	at := 0
	for _, m := range withPID.FindAllStringIndex(text, -1) {
		name, first := text[at:m[0]], at == 0
		at = m[1]
		if i := strings.LastIndexAny(name, "\n\""); i >= 0 {
			name, first = name[i+1:], true
		}
		for _, words := range before {
			if i := strings.LastIndex(name, words); i >= 0 {
				name, first = name[i+len(words):], true
			}
		}
		if !first {
			name = strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(name, ","), " and"), " ")
		}
		// A kernel's name of a process has 15 bytes (proc_pid_comm(5)), a program's 255. What is longer is a sentence.
		if name = strings.TrimSuffix(name, `\`); name != "" && len(name) <= 255 &&
			!strings.HasSuffix(name, "another agent") {
			found = append(found, name)
		}
	}
	return found
}

// collect takes up the names that stand in a text.
func (n *names) collect(text string) {
	for _, m := range labels.FindAllStringSubmatch(text, -1) {
		n.add(m[1], unquoted(`"`+m[2]+`"`))
	}
	for _, name := range processesIn(text) {
		n.add("process", name)
	}
	for _, m := range failed.FindAllStringSubmatch(text, -1) {
		if !public(m[1]) {
			n.add("path", m[1])
		}
	}
	for _, a := range ipv4.FindAllString(text, -1) {
		if net.ParseIP(a) != nil {
			n.address(a)
		}
	}
}

// collectKeys takes up the names in a log.
func (n *names) collectKeys(log string) {
	for _, m := range keys.FindAllStringSubmatch(log, -1) {
		value := unquoted(m[2])
		switch {
		case m[1] == "listen":
			n.address(value)
		case !public(value):
			n.add(m[1], value)
		}
	}
}

func unquoted(text string) string {
	if s, err := strconv.Unquote(text); err == nil {
		return s
	}
	return strings.Trim(text, `"`)
}

// hideNames replaces names in every file that is there so far, and in what is said of the files.
func (b *bundle) hideNames(n *names) {
	for i := range b.files {
		f := &b.files[i]
		text := string(f.body)
		switch f.name {
		case "config.txt":
			text = chosen.ReplaceAllString(text, "$1: (left out)")
		case "log.txt":
			n.collectKeys(text)
		}
		n.collect(text)
		f.body = []byte(text)
	}
	for _, l := range b.lacks {
		n.collect(l)
	}
	hide := n.hider()
	for i := range b.files {
		f := &b.files[i]
		f.body, f.what = []byte(hide(string(f.body))), hide(f.what)
	}
	for i := range b.lacks {
		b.lacks[i] = hide(b.lacks[i])
	}
}

// hider replaces first the names that are known by now, then all other paths.
func (n *names) hider() func(string) string {
	replace := n.replacer()
	return func(text string) string {
		return paths.ReplaceAllStringFunc(replace(text), func(found string) string {
			m := paths.FindStringSubmatch(found)
			end := lineIn.FindString(m[2])
			path := strings.TrimSuffix(m[2], end)
			if public(path) {
				return found
			}
			n.add("path", path)
			return m[1] + n.by[path] + end
		})
	}
}

// Paths that tell nothing: the kernel has them on every machine, or P-Scope has. What is below the former counts too,
// but for folders in which names stand.
var (
	publicBelow = []string{"/proc/sys", "/sys", "/dev/null", "/api/v1", "/-", "/var/lib/pscope", "/etc/sysctl.d"}
	namesBelow  = []string{"/sys/fs/cgroup", "/sys/fs/bpf"}
	publicPaths = append([]string{"/", "/metrics", "/etc/os-release", "/etc/pscope", "/etc/pscope/pscope.yaml",
		"/etc/pscope/token", "/run/pscope", "/run/pscope/pscope.sock", "/sys/fs/cgroup", "/sys/fs/bpf"}, publicBelow...)
	ofProcess = regexp.MustCompile(`^/proc/(\d+|self|thread-self)(/[a-z_]+)?$`)
)

// public says of a path that it tells nothing.
func public(p string) bool {
	below := func(folder string) bool { return strings.HasPrefix(p, folder+"/") }
	return slices.Contains(publicPaths, p) || ofProcess.MatchString(p) ||
		slices.ContainsFunc(publicBelow, below) && !slices.ContainsFunc(namesBelow, below) &&
			!strings.Contains(p, "/..")
}

// replacer replaces whole names, the longest first.
func (n *names) replacer() func(string) string {
	all := make([]string, 0, len(n.by))
	for name := range n.by {
		all = append(all, name)
	}
	if len(all) == 0 {
		return func(s string) string { return s }
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	quoted := make([]string, len(all))
	for i, name := range all {
		quoted[i] = regexp.QuoteMeta(name)
	}
	any := regexp.MustCompile(strings.Join(quoted, "|"))
	return func(text string) string {
		var out strings.Builder
		at := 0
		for at < len(text) {
			m := any.FindStringIndex(text[at:])
			if m == nil {
				break
			}
			from, to := at+m[0], at+m[1]
			before, _ := utf8.DecodeLastRuneInString(text[:from])
			after, _ := utf8.DecodeRuneInString(text[to:])
			out.WriteString(text[at:from])
			if part(before) && from > 0 || part(after) && to < len(text) {
				// Within another word: go on behind its first letter.
				_, size := utf8.DecodeRuneInString(text[from:])
				out.WriteString(text[from : from+size])
				at = from + size
				continue
			}
			out.WriteString(n.by[text[from:to]])
			at = to
		}
		out.WriteString(text[at:])
		return out.String()
	}
}

func part(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) }
