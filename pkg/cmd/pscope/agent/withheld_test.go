//go:build linux

package agent

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What stands at a wrong place may be a secret. None of these may be told where others read it.
const (
	stray    = "c3RyYXktc2VjcmV0"
	strayAbs = "/c3RyYXkvc2VjcmV0=="
)

// spoilt are the lines of files that no agent can be run with, each with a secret at another place.
var spoilt = map[string]string{
	"the token as its file":         "token-file: " + stray + "\n",
	"a token that looks like paths": "token-file: " + strayAbs + "\n",
	"a key as its file":             "tls-cert: " + stray + "\ntls-key: " + strayAbs + "\n",
	"a duration":                    "retention: " + stray + "\n",
	"a size":                        "memory-limit: " + stray + "\n",
	"a number":                      "max-ps: " + stray + "\n",
	"a switch":                      "insecure: " + stray + "\n",
	"a level":                       "log-level: " + stray + "\n",
	"a mode":                        "mode: " + stray + "\n",
	"permissions":                   "socket-mode: " + stray + "\n",
	"a pattern":                     "include: (" + stray + "\n",
	"an unknown setting":            stray + ": 1\n",
	"an unknown setting, twice":     stray + ": 1\n" + stray + ": 1\n",
	"a reference":                   "include: *" + stray + "\n",
	"a list":                        "token-file: [" + stray + "]\n",
	"a setting twice":               "include: a\ninclude: " + stray + "\n",
}

func secretless(t *testing.T, where, text string) {
	t.Helper()
	for _, part := range []string{stray, strings.Trim(strayAbs, "/="), "c3RyYXkv", "/c3RyYXk"} {
		if strings.Contains(text, part) {
			t.Errorf("%s holds %q:\n%s", where, part, text)
		}
	}
}

// A reload of a spoilt file: neither the log nor what the agent answers repeats a value, and both name line and
// setting.
func TestReloadTellsNoValues(t *testing.T) {
	a := startReloading(t, "include: ^no such process$\n")
	for name, lines := range spoilt {
		t.Run(name, func(t *testing.T) {
			text, _, _ := strings.Cut(a.base, "mode: ")
			if err := os.WriteFile(a.path, []byte(text+lines), 0o600); err != nil {
				t.Fatal(err)
			}
			a.reload("can't be used; the settings before stay in use")
			last := a.log.String()
			last = last[strings.LastIndex(last, "can't be used; the settings before"):]
			asked := lacks(t, a.socket)
			kept, _ := a.get("/-/log", "")
			for where, said := range map[string]string{"the log": last, "the lack": asked, "/-/log": kept} {
				secretless(t, where, said)
				if name == "a reference" {
					continue // the library does not know the line
				}
				if !strings.Contains(said, "pscope.yaml:4: ") && !strings.Contains(said, "pscope.yaml:5: ") {
					t.Errorf("%s does not name the line: %s", where, said)
				}
			}
			setting, _, _ := strings.Cut(lines, ":")
			if !strings.HasPrefix(setting, stray) && name != "a reference" && !strings.Contains(asked, setting) {
				t.Errorf("the lack does not name %s: %s", setting, asked)
			}
		})
	}
}

// An agent that does not start says why on its standard error, which a journal keeps, without a value.
func TestStartTellsNoValuesButOnATerminal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	alone := map[string]string{ // what is found only when it is opened
		"an address": "socket:\nlisten: " + stray + "\n",
		"a group":    "listen:\nsocket: " + filepath.Join(t.TempDir(), "s") + "\nsocket-group: " + stray + "\n",
	}
	for name, lines := range spoilt {
		alone[name] = lines
	}
	for name, lines := range alone {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			base := "data-dir: " + filepath.Join(dir, "data") + "\n"
			path := filepath.Join(dir, "pscope.yaml")
			if err := os.WriteFile(path, []byte(base+lines), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self, "--keep-privileges", "--config", path)
			if name != "a mode" {
				cmd.Args = append(cmd.Args, "--mode", "snapshot")
			}
			cmd.Env = append(os.Environ(), asAgent+"=1")
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("it starts: %s", out)
			}
			secretless(t, "its standard error", string(out))
			if name != "a list" && name != "a setting twice" && !strings.Contains(string(out), "--check") {
				t.Errorf("it does not say where the values are: %s", out)
			}
			// Whoever wrote the file sees what is wrong with it.
			c, err := ParseConfig([]string{"--config", path, "--check"}, io.Discard)
			var told strings.Builder
			if code := check(c, err, &told); code != 1 {
				t.Errorf("--check finds nothing: %s", &told)
			}
			secretless(t, "the description for a bug report", Describe(path))
		})
	}
	// Flags are told likewise.
	for _, args := range [][]string{{"--max-ps", stray}, {"--" + stray}, {stray}, {"--include", "(" + stray}} {
		_, err := ParseConfig(args, io.Discard)
		found, _ := err.(Problems)
		if len(found) == 0 {
			t.Fatalf("%v is taken", args)
		}
		secretless(t, "without values", found.withoutValues().Error())
		if args[0] == "--max-ps" && !strings.Contains(found.withoutValues().Error(), "--max-ps") {
			t.Errorf("the flag is not named: %s", found.withoutValues())
		}
	}
}

// The description for a bug report has the values of good settings alone.
func TestDescribeLeavesOutWhatIsNoSetting(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	good := writeConfig(t, "listen: 127.0.0.1:1\nsocket: "+dir+"/s\ntoken-file: "+token+"\ndata-dir: "+dir+
		"/a/b\nmode: ebpf\nhost: db-1.example\nsocket-mode: 0600\nsocket-group: root\nretention: 3d\n")
	for _, want := range []string{"listen: 127.0.0.1:1\n", "socket: " + dir + "/s\n", "token-file: " + token + "\n",
		"data-dir: " + dir + "/a/b\n", "mode: ebpf\n", "host: db-1.example\n", "socket-mode: 0600\n",
		"socket-group: root\n", "retention: 3d\n"} {
		if !strings.Contains(Describe(good), want) {
			t.Errorf("it lacks %q:\n%s", want, Describe(good))
		}
	}
	for _, setting := range []string{"mode", "socket-mode", "listen", "socket-group", "token-file", "tls-cert",
		"data-dir",
		"socket", "max-ps", "allow-origins"} {
		for _, value := range []string{stray, strayAbs} {
			said := Describe(writeConfig(t, setting+": "+value+"\n"))
			secretless(t, setting, said)
			if !strings.Contains(said, setting+": (left out: ") {
				t.Errorf("it does not say that %s is left out:\n%s", setting, said)
			}
		}
	}
	secretless(t, "host", Describe(writeConfig(t, "host: "+strayAbs+"\n")))
}
