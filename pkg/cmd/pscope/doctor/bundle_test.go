//go:build linux

package doctor

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/p-scope/p-scope/pkg/cmd/pscope/client"
)

// What must never be in a bundle, each in another place.
var secrets = []string{
	"s3cret-in-token-file", "s3cret-in-comment", "s3cret-for-path", "s3cret-unknown-setting", "s3cret-in-origin",
	"s3cret-argument", "s3cret-of-environment",
	"s3cret-of-doctor", "s3cret-key",
}

// site is a real agent beside a real program, with secrets wherever there is a place for one.
type site struct {
	t       *testing.T
	dir     string
	pscope  string
	socket  string
	config  string // the agent's own
	spoilt  string // one with mistakes
	program string // the name of the observed program
	agent   *os.Process
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), program: "bundle-target-zq"}
	s.pscope = filepath.Join(s.dir, "pscope")
	target := filepath.Join(s.dir, s.program)
	for out, pkg := range map[string]string{s.pscope: "..", target: "../../../collector/testdata/target"} {
		if text, err := exec.Command("go", "build", "-o", out, pkg).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	s.socket = filepath.Join(s.dir, "s")
	token := s.write("token", secrets[0]+"\n")
	s.write("key.pem", "-----BEGIN PRIVATE KEY-----\n"+secrets[8]+"\n")
	s.config = s.write("pscope.yaml", "# "+secrets[1]+"\nsocket: "+s.socket+"\nlisten: 127.0.0.1:0\nmode: "+
		"snapshot\nkeep-privileges: true\n"+
		"show-arguments: true\ndata-dir: "+filepath.Join(s.dir, "data")+"\ninclude: ^"+s.program+"$\ntoken-file: "+
		token+"\n")
	s.spoilt = s.write("spoilt.yaml", "token: "+secrets[3]+"\n"+secrets[3]+": 1\ntoken-file: "+secrets[2]+"\n"+
		"allow-origins: https://admin:"+secrets[4]+
		"@x.example\nretention: "+secrets[2]+"\nlog-level: info # "+secrets[1]+"\n")

	cmd := exec.Command(target, secrets[5])
	cmd.Env = append(os.Environ(), "PASSWORD="+secrets[6])
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })

	agent := exec.Command(s.pscope, "agent", "--config", s.config)
	agent.Env = append(os.Environ(), "PASSWORD="+secrets[6])
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	s.agent = agent.Process
	t.Cleanup(func() { _ = agent.Process.Signal(syscall.SIGTERM); _ = agent.Wait() })
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("unix", s.socket); err == nil {
			c.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the agent does not serve")
		}
	}
	time.Sleep(2 * time.Second) // until the target is there
	return s
}

func (s *site) write(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// doctor runs it, and gives what it prints.
func (s *site) doctor(args ...string) (string, error) {
	cmd := exec.Command(s.pscope, append([]string{"doctor", "--socket", s.socket, "--patience", "3s"}, args...)...)
	cmd.Env = append(os.Environ(), "PSCOPE_TOKEN="+secrets[7], "PASSWORD="+secrets[6])
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// unpacked reads an archive.
func unpacked(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for a := tar.NewReader(z); ; {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(a)
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has the mode %o", h.Name, h.Mode)
		}
		out[strings.TrimPrefix(h.Name, "pscope-bundle/")] = string(body)
	}
}

func TestBundle(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(s.dir, "report.tar.gz")
	said, err := s.doctor("--bundle", path, "--config", s.config)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	files := unpacked(t, path)
	for name, want := range map[string]string{
		"README.txt": "no tokens", "doctor.json": `"verdict"`, "host.txt": "BTF: ",
		"config.txt":  "token-file: " + filepath.Join(s.dir, "token"),
		"metrics.txt": "pscope_build_info", "lost.txt": "", "targets.json": s.program, "log.txt": "msg=observing",
	} {
		text, ok := files[name]
		if !ok || !strings.Contains(text, want) {
			t.Errorf("%s lacks %q: %q", name, want, text)
		}
		if !strings.Contains(said, name) {
			t.Errorf("%s is in it, and doctor does not say so", name)
		}
	}
	if !json.Valid([]byte(files["doctor.json"])) || !json.Valid([]byte(files["targets.json"])) {
		t.Error("no JSON")
	}
	if !strings.Contains(said, "--redact") {
		t.Errorf("doctor does not say that names are in it: %s", said)
	}
	noSecrets(t, files, said)

	// It is not overwritten.
	before, _ := os.ReadFile(path)
	if said, err := s.doctor("--bundle", path); err == nil || !strings.Contains(said, "not overwritten") {
		t.Errorf("%v %s", err, said)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the archive that was there is another now")
	}
	link := filepath.Join(s.dir, "link")
	if err := os.Symlink(filepath.Join(s.dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := s.doctor("--bundle", link); err == nil {
		t.Error("a link was followed")
	}
	if said, err := s.doctor("--bundle", filepath.Join(s.dir, "no", "such",
		"folder")); err == nil || !strings.Contains(said, "can't write") {
		t.Errorf("%v %s", err, said)
	}
}

// A file with mistakes in it is the one that bug reports are about.
func TestBundleOfSpoiltSettings(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(s.dir, "report.tar.gz")
	said, err := s.doctor("--bundle", path, "--config", s.spoilt)
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	files := unpacked(t, path)
	noSecrets(t, files, said)
	for _, want := range []string{"line 1: a setting that there is not", "retention can't be what it is",
		"token-file: (left out", "log-level: INFO"} {
		if !strings.Contains(files["config.txt"], want) {
			t.Errorf("the settings lack %q:\n%s", want, files["config.txt"])
		}
	}
}

// The agent's own file is spoilt while it runs, and it is told to read it again: it says so in its log and to whoever
// asks it, and all that is in the bundle.
func TestBundleAfterAReloadOfSpoiltSettings(t *testing.T) {
	s := newSite(t)
	for i, text := range []string{
		"token-file: " + secrets[2] + "\n", // found when files are looked at
		"token-file: " + secrets[2] + "\nretention: " + secrets[2] + "\n" + secrets[3] +
			": 1\nallow-origins: https://admin:" +
			secrets[4] + "@x.example\n", // found when the file is read
	} {
		s.write("pscope.yaml", text)
		if err := s.agent.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // until it has been read
		path := filepath.Join(s.dir, fmt.Sprint("report", i))
		said, err := s.doctor("--bundle", path, "--config", s.config)
		if err != nil {
			t.Fatalf("%v\n%s", err, said)
		}
		files := unpacked(t, path)
		noSecrets(t, files, said)
		for name, want := range map[string]string{"log.txt": "can't be used; the settings before stay in use",
			"targets.json": fmt.Sprintf("pscope.yaml:%d: ", i+1),
			"doctor.json":  fmt.Sprintf("pscope.yaml:%d: ", i+1),
			"config.txt":   "token-file: (left out"} {
			if !strings.Contains(files[name], want) {
				t.Errorf("%s lacks %q: %s", name, want, files[name])
			}
		}
	}
}

// journalOf puts a journalctl into the path that gives a text. What it replaces needs systemd.
func journalOf(t *testing.T, text string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte("#!/bin/sh\nexec cat "+dir+"/text\n"),
		0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// What an agent that did not start wrote into the journal tells where the fault is, and no value.
func TestBundleTakesNoValuesFromTheJournal(t *testing.T) {
	s := newSite(t) // its program, as the one that does not start
	out, err := exec.Command(s.pscope, "agent", "--config", s.spoilt).CombinedOutput()
	if err == nil {
		t.Fatalf("it starts: %s", out)
	}
	noSecrets(t, map[string]string{"the journal": string(out)}, "")
	former := "time=2026-01-01T10:00:00.000Z level=INFO msg=observing\n" +
		"time=2026-01-01T10:00:01.000Z level=ERROR msg=\"the configuration can't be used; " +
		"the settings before stay in use\" " +
		"err=\"/etc/pscope/pscope.yaml:3: retention is " + secrets[2] + "\"\n" +
		"pscope agent: /etc/pscope/pscope.yaml:2: can't read the token: open " + secrets[2] + ": no such file\n" +
		"/etc/pscope/pscope.yaml:4: there is no setting \"" + secrets[3] + "\"\n" + secrets[4] + "\n" +
		"pscope-agent.service: Main process exited, code=exited, status=2/INVALIDARGUMENT\n" +
		"panic: something\n\tmain.go:1\n"
	journalOf(t, former+string(out))
	b := &bundle{}
	b.log(t.Context(), &client.Options{Socket: filepath.Join(s.dir, "none")})
	if len(b.files) != 1 {
		t.Fatalf("%v", b.lacks)
	}
	text := string(b.files[0].body)
	noSecrets(t, map[string]string{"log.txt": text}, "")
	for _, want := range []string{"msg=observing\n", "/etc/pscope/pscope.yaml:4: (left out", "pscope.yaml:2: (left out",
		"stay in use\" (left out", "status=2/INVALIDARGUMENT\n", "panic: something\n\tmain.go:1\n", "spoilt.yaml:1: "} {
		if !strings.Contains(text, want) {
			t.Errorf("the log lacks %q:\n%s", want, text)
		}
	}

	// An agent elsewhere does not write into this journal.
	b = &bundle{}
	b.log(t.Context(), &client.Options{URL: "http://127.0.0.1:1"})
	if len(b.files) != 0 || len(b.lacks) != 1 {
		t.Errorf("%d files: this machine's journal is taken for that of an agent elsewhere; %v", len(b.files), b.lacks)
	}
}

func noSecrets(t *testing.T, files map[string]string, said string) {
	t.Helper()
	files["what it prints"] = said
	for name, text := range files {
		for _, secret := range secrets {
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(text, form) {
					t.Errorf("%s holds %q:\n%s", name, secret, text)
				}
			}
		}
	}
}

// With --redact neither the program's name nor its path nor the host's name are in it, and what belongs together is
// still seen.
func TestRedactedBundle(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(s.dir, "report.tar.gz")
	settings := filepath.Join(s.dir, "settings.yaml")
	if err := os.Rename(s.config, settings); err != nil {
		t.Fatal(err)
	}
	said, err := s.doctor("--bundle", path, "--config", settings, "--redact")
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	files := unpacked(t, path)
	noSecrets(t, files, "")
	noSettings := filepath.Join(s.dir, "absent", "settings.yaml")
	if said, err := s.doctor("--bundle", path+"2", "--config", noSettings, "--redact"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	files["README.txt without settings"] = unpacked(t, path+"2")["README.txt"]
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		for _, hidden := range []string{s.program, s.dir, "settings.yaml", `"` + host + `"`} {
			if strings.Contains(text, hidden) {
				at := strings.Index(text, hidden)
				t.Errorf("%s holds %q: …%s…", name, hidden, text[max(0, at-80):min(len(text), at+80)])
			}
		}
	}
	if !json.Valid([]byte(files["doctor.json"])) || !json.Valid([]byte(files["targets.json"])) {
		t.Error("no JSON any more")
	}
	var list struct{ Targets []target }
	if err := json.Unmarshal([]byte(files["targets.json"]), &list); err != nil || len(list.Targets) != 1 {
		t.Fatalf("%v %s", err, files["targets.json"])
	}
	if name := list.Targets[0].Process; !strings.HasPrefix(name, "process-") || !strings.Contains(files["metrics.txt"],
		`process="`+name+`"`) {
		t.Errorf("the program is %q in the list and not in the metrics", name)
	}
}

// Without an agent, and as somebody who may do nothing, it is made all the same, and says what is not in it.
func TestBundleWithoutAnAgent(t *testing.T) {
	s := &site{t: t, dir: t.TempDir(), pscope: "", socket: "/nonexistent/s"}
	s.pscope = filepath.Join(s.dir, "pscope")
	if text, err := exec.Command("go", "build", "-o", s.pscope, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	path := filepath.Join(s.dir, "report.tar.gz")
	said, err := s.doctor("--bundle", path, "--config", "/nonexistent/pscope.yaml")
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	files := unpacked(t, path)
	if _, ok := files["doctor.json"]; !ok {
		t.Error("no report")
	}
	for _, want := range []string{"the agent's metrics", "the agent's settings"} {
		if !strings.Contains(files["README.txt"], "not in it: "+want) {
			t.Errorf("it does not say that %s are missing: %s", want, files["README.txt"])
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, "elsewhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// The archive is bounded, whatever an agent answers.
func TestBundleIsBounded(t *testing.T) {
	b := &bundle{version: "test", path: filepath.Join(t.TempDir(), "b")}
	b.add("large.txt", "", bytes.Repeat([]byte("x"), 3*mostOfFile))
	if n := len(b.files[0].body); n > mostOfFile+100 || !bytes.Contains(b.files[0].body, []byte("cut here")) {
		t.Errorf("%d bytes", n)
	}
}

// Names inside of words stay; each name has one number.
func TestReplacer(t *testing.T) {
	n := newNames()
	for _, name := range []string{"api", "api-worker", "go", "näme"} {
		n.add("process", name)
	}
	got := n.replacer()("api capi api-worker näme näme2 go api")
	want := n.by["api"] + " capi " + n.by["api-worker"] + " " + n.by["näme"] + " näme2 go " + n.by["api"]
	if got != want || slices.Contains([]string{n.by["api"], n.by["näme"]}, n.by["api-worker"]) {
		t.Errorf("got %q, want %q", got, want)
	}
}
