//go:build linux

package agent

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// checked runs --check and gives what it prints and its exit code.
func checked(t *testing.T, args ...string) (string, int) {
	t.Helper()
	c, err := ParseConfig(append(args, "--check"), io.Discard)
	if c == nil || !c.Check {
		t.Fatalf("--check was not understood: %v", err)
	}
	var out bytes.Buffer
	code := check(c, err, &out)
	return out.String(), code
}

// Every problem is named with its line, in one go.
func TestCheckNamesAllProblemsWithTheirLines(t *testing.T) {
	dir := t.TempDir()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	token, file := filepath.Join(dir, "token"), filepath.Join(dir, "file")
	for _, f := range []string{token, file} {
		if err := os.WriteFile(f, []byte("two words\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := writeConfig(t, strings.Join([]string{
		"listen: " + busy.Addr().String(),
		"lisen: 1",
		"retention: soon",
		"include: (",
		"sample-hz: 5000",
		"token-file: " + token,
		"socket-mode: rw",
		"sample-hz: 1",
		"data-dir: " + filepath.Join(file, "data"),
		"socket: " + file,
		"socket-group: no-such-group",
		"tls-key: x",
		"exclude: [a]",
		"mode: magic",
	}, "\n"))
	out, code := checked(t, "--config", path, "--interval", "1ms", "--max-ps", "many")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	for line, part := range map[int]string{
		1: "taken by another program", 2: `no setting "lisen"`, 3: "36h", 4: "missing closing", 5: "from 1 to 1000",
		6: "holds no token", 7: "octal",
		8: "stands in line 5", 9: "is no directory", 10: "is not a socket", 11: "no-such-group",
		12: "go together", 13: "single value", 14: "auto, ebpf",
	} {
		if !has(out, fmt.Sprintf("%s:%d: ", path, line), part) {
			t.Errorf("line %d: nothing about %q", line, part)
		}
	}
	for _, part := range []string{"interval is 1ms", "-max-ps"} {
		if !has(out, part) {
			t.Errorf("the flag: nothing about %q", part)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

// has says whether one line has all parts.
func has(out string, parts ...string) bool {
	for line := range strings.Lines(out) {
		all := strings.HasPrefix(line, "wrong")
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}

func TestCheckOfAGoodFileTouchesNothing(t *testing.T) {
	dir := t.TempDir()
	path := writeConfig(t, "listen: 127.0.0.1:0\nsocket: "+filepath.Join(dir, "run",
		"s")+"\ndata-dir: "+filepath.Join(dir, "data")+"\n")
	out, code := checked(t, "--config", path)
	if code != 0 || strings.Contains(out, "wrong") || strings.Contains(out, "warning") {
		t.Errorf("code %d: %s", code, out)
	}
	_ = filepath.WalkDir(dir, func(at string, _ fs.DirEntry, _ error) error {
		if at != dir {
			t.Errorf("%s was made", at)
		}
		return nil
	})
	if out, code := checked(t, "--config", filepath.Join(dir, "absent.yaml")); code != 1 || !has(out, "can't read") {
		t.Errorf("code %d: %s", code, out)
	}
	if out, code := checked(t, "--config", writeConfig(t,
		"listen: 127.0.0.1:1\n  retention: 1d\n")); code != 1 || !has(out, ":2: no YAML") {
		t.Errorf("code %d: %s", code, out)
	}
	if _, code := checked(t, "--config", writeConfig(t, "# nothing\n"), "--listen", "", "--socket",
		filepath.Join(dir, "s"), "--data-dir", dir); code != 0 {
		t.Errorf("an empty file ends with code %d", code)
	}
}

// Certificates: their dates, and who may read the key.
func TestCheckOfCertificates(t *testing.T) {
	for name, tc := range map[string]struct {
		from, to time.Duration
		mode     os.FileMode
		code     int
		want     string
	}{
		"good":           {-time.Hour, 90 * 24 * time.Hour, 0o600, 0, "can start"},
		"expired":        {-2 * time.Hour, -time.Hour, 0o600, 1, "has expired"},
		"not yet":        {time.Hour, 2 * time.Hour, 0o600, 1, "not valid before"},
		"expires soon":   {-time.Hour, 24 * time.Hour, 0o600, 0, "expires soon"},
		"key for anyone": {-time.Hour, 90 * 24 * time.Hour, 0o644, 0, "may be read by others"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
			certify(t, cert, key, time.Now().Add(tc.from), time.Now().Add(tc.to), tc.mode)
			path := writeConfig(t, "listen: 127.0.0.1:0\nsocket:\ndata-dir: "+dir+"\ntls-cert: "+cert+"\ntls-key: "+key+
				"\n")
			out, code := checked(t, "--config", path)
			if code != tc.code || !strings.Contains(out, tc.want) {
				t.Errorf("code %d: %s", code, out)
			}
			if tc.want != "can start" && !strings.Contains(out, path+":4: ") {
				t.Errorf("without the line: %s", out)
			}
		})
	}
}

func certify(t *testing.T, cert, key string, from, to time.Time, keyMode os.FileMode) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "host"}, NotBefore: from,
		NotAfter: to, DNSNames: []string{"host"}}
	raw, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		keyMode); err != nil {
		t.Fatal(err)
	}
}

// The file that is shipped, and the one in the packages, are good.
func TestShippedConfigurationIsGood(t *testing.T) {
	c, err := ParseConfig([]string{"--config", "../../../../deploy/systemd/pscope.yaml"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if p := c.inspectFiles(nil).fatal(); len(p) > 0 {
		t.Error(p)
	}
}
