//go:build linux

package doctor

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
	"github.com/p-scope/p-scope/pkg/lack"
)

// redacted gives what is left of a text in a file of a bundle.
func redacted(t *testing.T, file, text string) string {
	t.Helper()
	b := &bundle{redact: true}
	b.add(file, "", []byte(text))
	b.hideNames(newNames())
	return string(b.files[0].body)
}

// Every process that a sentence names is found, also in a list and with blanks and commas in its name.
func TestRedactedSentencesAboutProcesses(t *testing.T) {
	const which = "sshd (pid 1), acme db (pid 22), a,b (pid 333), 4 more"
	for _, l := range []lack.Lack{lack.HiddenFromUser(which), lack.HiddenFromAll(which),
		{What: "acme db (pid 22)", Why: "process a,b (pid 333) can't be observed"},
		{What: "/usr/bin", Why: "another agent (pid 7) already listens; sshd (pid 1)"}} {
		text, err := asJSON([]lack.Lack{l})
		if err != nil {
			t.Fatal(err)
		}
		got := redacted(t, "targets.json", string(text))
		for _, name := range []string{"sshd", "acme db", "a,b"} {
			if strings.Contains(got, name) {
				t.Errorf("%q is left: %s", name, got)
			}
		}
		for _, stays := range []string{"may not be read", "a look at", "4 more", "can't be observed",
			"already listens"} {
			if strings.Contains(string(text), stays) != strings.Contains(got, stays) {
				t.Errorf("%q is gone: %s", stays, got)
			}
		}
		if !json.Valid([]byte(got)) {
			t.Errorf("no JSON: %s", got)
		}
	}
}

func TestRedactedPaths(t *testing.T) {
	for text, want := range map[string]string{
		"open /home/jürgen/x: no":                               "open path-1: no",
		"open /home/My Files/a b: no":                           "open path-1: no",
		"a=/x,/yy,[/zz],</ww>;(/vv)":                            "a=path-1,path-2,[path-3],<path-4>;(path-5)",
		`"/home/a\"b"`:                                          `"path-1"b"`,
		`"/home/a\nb"`:                                          `"path-1"`,
		"/etc/pscope-acme/x /etc/pscope":                        "path-1 /etc/pscope",
		"/etc/pscope/acme.pem":                                  "path-1",
		"/sys/fs/cgroup/acme.slice/x":                           "path-1",
		"/sys/fs/cgroup /sys/kernel/btf/vmlinux":                "/sys/fs/cgroup /sys/kernel/btf/vmlinux",
		"/system/x /apis /api/v1/query":                         "path-1 path-2 /api/v1/query",
		"/proc/12/maps /proc/sys/kernel/x. /proc/1/root/home/x": "/proc/12/maps /proc/sys/kernel/x. path-1",
		"/etc/pscope/pscope.yaml:6: bad":                        "/etc/pscope/pscope.yaml:6: bad",
		"/srv/acme.yaml:6: bad":                                 "path-1:6: bad",
		"/var/lib/pscope/wal/0 /var/lib/pscope/../acme":         "/var/lib/pscope/wal/0 path-1",
		"1 / 2, MB/s, and/or, r1 /= 2, /* text */ // text":      "1 / 2, MB/s, and/or, r1 /= 2, /* text */ // text",
		"https://docs.example/a":                                "https://docs.example/a",
		"GET /metrics /-/log":                                   "GET /metrics /-/log",
	} {
		// A quote within a path ends it: what is left of it is no path any more.
		if text == `"/home/a\"b"` {
			want = `"path-1\"b"`
		}
		if got := redacted(t, "x.txt", text); got != want {
			t.Errorf("%s\n got %s\nwant %s", text, got, want)
		}
	}
}

// Names are found as they stand in JSON, labels and logs.
func TestRedactedNamesThatAreQuoted(t *testing.T) {
	for _, name := range []string{"R&D-api", "a<b>", `say "x"`, `back\slash`, "Jürgen"} {
		r := &Report{Processes: []Process{{Process: name, Exe: "/usr/bin/" + name}}}
		text, err := asJSON(r)
		if err != nil {
			t.Fatal(err)
		}
		escaped, _ := json.Marshal(name)
		n := newNames()
		n.ofReport(r)
		b := &bundle{}
		b.add("doctor.json", "", text)
		b.add("log.txt", "", []byte("msg=x process="+string(escaped)+"\n"))
		b.add("metrics.txt", "", []byte("m{process="+inLabel(name)+"} 1\n"))
		b.hideNames(n)
		for _, f := range b.files {
			for _, part := range []string{name, "R\\u0026D", inLabel(name)} {
				if strings.Contains(string(f.body), part) {
					t.Errorf("%s has %s: %s", f.name, part, f.body)
				}
			}
		}
		if !json.Valid(b.files[0].body) || !strings.Contains(string(b.files[2].body), `process="process-1"`) {
			t.Errorf("%s %s", b.files[0].body, b.files[2].body)
		}
	}
}

func inLabel(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}

// The agent's address: its host is a name, and a password in it is nobody's business.
func TestAddressesInABundle(t *testing.T) {
	o := &client.Options{URL: "https://user:pass-w0rd@db1.corp.example:1?key=pass-w0rd"}
	a := askAgent(t.Context(), o)
	text, err := asJSON(a)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"pass-w0rd", "user:"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("it holds %s: %s", secret, text)
		}
	}
	if !strings.Contains(a.Address, "https://db1.corp.example:1") {
		t.Errorf("the address is %s", a.Address)
	}
	if a := askAgent(t.Context(), &client.Options{URL: "pass-w0rd@x"}); strings.Contains(a.Address+a.Error,
		"pass-w0rd") {
		t.Errorf("what is no address is repeated: %s, %s", a.Address, a.Error)
	}

	n := newNames()
	n.address("db1.corp.example:9477")
	b := &bundle{}
	b.add("doctor.json", "", text)
	b.add("log.txt", "", []byte("msg=observing listen=10.1.2.3:9477 socket=/run/x\nmsg=x listen=[fd00::7]:9477\n"+
		"msg=x listen=127.0.0.1:9477\n"))
	b.add("targets.json", "", []byte(`"protection of 10.1.2.3:9477, 172.16.0.9"`))
	b.hideNames(n)
	for _, f := range b.files {
		for _, name := range []string{"db1", "corp", "10.1.2.3", "172.16", "fd00"} {
			if strings.Contains(string(f.body), name) {
				t.Errorf("%s has %s: %s", f.name, name, f.body)
			}
		}
	}
	if !strings.Contains(string(b.files[1].body), "127.0.0.1:9477") {
		t.Errorf("what every machine has is hidden: %s", b.files[1].body)
	}
}
