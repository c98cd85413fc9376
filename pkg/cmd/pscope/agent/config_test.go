//go:build linux

package agent

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pscope.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigDefaults(t *testing.T) {
	c, err := ParseConfig(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket != "/run/pscope/pscope.sock" || c.Listen != "127.0.0.1:9477" || c.DataDir != "/var/lib/pscope" ||
		c.Interval != time.Second || c.SocketMode != 0o660 || c.Migrations {
		t.Errorf("defaults differ from what is documented: %+v", c)
	}
}

func TestConfigFileAndFlags(t *testing.T) {
	path := writeConfig(t, "listen: 0.0.0.0:1\nmode: snapshot\nretention: 30d\nretention-size: 512MB\ninclude: "+
		"^prom\nsample-hz: 49\nmigrations: true\nsocket: null\n")
	c, err := ParseConfig([]string{"--config", path, "--listen", "127.0.0.1:2"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:2" {
		t.Errorf("the flag must win over the file, but listen is %q", c.Listen)
	}
	if c.Mode != "snapshot" || c.Retention != 30*24*time.Hour || c.RetentionSize != 512e6 || c.SampleHz != 49 ||
		!c.Migrations || c.Socket != "" {
		t.Errorf("the file's settings did not arrive: %+v", c)
	}
	if c.Include == nil || !c.Include.MatchString("prometheus") || c.Include.MatchString("grafana") {
		t.Errorf("include is %v", c.Include)
	}
}

func TestConfigErrors(t *testing.T) {
	for _, tc := range []struct {
		name, file string
		args       []string
		want       string // part of the message: it must name what is wrong
	}{
		{name: "unknown key", file: "lisen: x\n", want: `no setting "lisen"`},
		{name: "config in config", file: "config: x\n", want: `no setting "config"`},
		{name: "list", file: "include: [a, b]\n", want: "single value"},
		{name: "not a map", file: "- a\n", want: "no YAML map"},
		{name: "bad value", file: "retention: soon\n", want: "36h"},
		{name: "no file", args: []string{"--config", "/nonexistent/x.yaml"}, want: "can't read"},
		{name: "mode", args: []string{"--mode", "magic"}, want: "auto, ebpf or snapshot"},
		{name: "regexp", args: []string{"--include", "("}, want: "missing closing"},
		{name: "nowhere to serve", args: []string{"--socket", "", "--listen", ""}, want: "set one of them"},
		{name: "any page", args: []string{"--allow-origins", "*"}, want: "token-file"},
		{name: "half of TLS", args: []string{"--tls-cert", "x"}, want: "go together"},
		{name: "argument", args: []string{"run"}, want: `unexpected argument "run"`},
		{name: "size", args: []string{"--memory-limit", "much"}, want: "512MiB"},
		{name: "three dashes", args: []string{"---mode", "auto"}, want: "bad flag syntax"},
		{name: "no name", args: []string{"--=x"}, want: "bad flag syntax"},
		{name: "no name at the end", args: []string{"--listen", "", "---"}, want: "bad flag syntax"},
		{name: "socket mode", args: []string{"--socket-mode", "rw"}, want: "octal"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := tc.args
			if tc.file != "" {
				args = append(args, "--config", writeConfig(t, tc.file))
			}
			_, err := ParseConfig(args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1": 1, "512MiB": 512 << 20, "2GB": 2e9, "1.5KiB": 1536, "7B": 7} {
		var s size
		if err := s.Set(in); err != nil || int64(s) != want {
			t.Errorf("%q is %d, %v; want %d", in, s, err, want)
		}
	}
	for _, s := range []size{0, 1, 32 << 20, 2 << 30, 1000} {
		var back size
		if err := back.Set(s.String()); err != nil || back != s {
			t.Errorf("%d prints as %q, which reads as %d, %v", s, s.String(), back, err)
		}
	}
}
