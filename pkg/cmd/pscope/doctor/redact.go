//go:build linux

package doctor

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
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

func (n *names) add(kind, name string) {
	if _, known := n.by[name]; known || slices.Contains(own, name) {
		return
	}
	n.n[kind]++
	n.by[name] = fmt.Sprintf("%s-%d", kind, n.n[kind])
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

// Where names stand in files that are read by a fixed form: labels of metrics, keys of the log, and sentences about one
// process.
var (
	labels = regexp.MustCompile(`\b(host|process|container|pod|namespace|cgroup|runtime|set_by)="((?:[^"\\]|\\.)*)"`)
	keys   = regexp.MustCompile(`\b(process|host|runtime|exe|path|file|files|socket|dir|cgroup)=` +
		`("(?:[^"\\]|\\.)*"|[^ \n]*)`)
	about  = regexp.MustCompile(`a look at (.+?) \(pid \d+\)`)
	chosen = regexp.MustCompile(`(?m)^(include|exclude|host|socket-group|allow-origins|` +
		`listen|socket|data-dir|token-file|tls-[a-z-]+): .*$`)
	paths = regexp.MustCompile(`(^|[\s"'(=:])((?:/[\w.@%+~:-]+){2,})`)
)

// hideNames replaces names in every file that is there so far.
func (b *bundle) hideNames(n *names) {
	for _, f := range b.files {
		for _, m := range labels.FindAllStringSubmatch(string(f.body), -1) {
			n.add(m[1], m[2])
		}
		for _, m := range about.FindAllStringSubmatch(string(f.body), -1) {
			n.add("process", m[1])
		}
	}
	for i := range b.files {
		f := &b.files[i]
		text := string(f.body)
		if f.name == "config.txt" {
			text = chosen.ReplaceAllString(text, "$1: (left out)")
		}
		if f.name == "log.txt" {
			for _, m := range keys.FindAllStringSubmatch(text, -1) {
				n.add(m[1], strings.Trim(m[2], `"`))
			}
		}
		f.body = []byte(text)
	}
	replace := n.replacer()
	for i := range b.files {
		f := &b.files[i]
		text := replace(string(f.body))
		f.body = []byte(paths.ReplaceAllStringFunc(text, func(found string) string {
			m := paths.FindStringSubmatch(found)
			if public(m[2]) {
				return found
			}
			n.add("path", m[2])
			return m[1] + n.by[m[2]]
		}))
		f.what = replace(f.what)
	}
	for i := range b.lacks {
		b.lacks[i] = replace(b.lacks[i])
	}
}

// public says of a path that it tells nothing: the kernel has it on every machine, or P-Scope has.
func public(p string) bool {
	for _, start := range []string{"/proc/sys/", "/sys/", "/api/v1", "/etc/pscope", "/run/pscope/", "/var/lib/pscope",
		"/etc/sysctl.d"} {
		if strings.HasPrefix(p, start) {
			return true
		}
	}
	return false
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
