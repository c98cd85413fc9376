package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"

	"github.com/p-scope/p-scope/tools/kernels/plan"
)

func TestExtractKernel(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name, text string
		kind       byte
	}{
		{"./boot/", "", tar.TypeDir}, {"./boot/config-6.1", "no", tar.TypeReg}, {"./vmlinuz", "", tar.TypeSymlink},
		{"./boot/vmlinuz-6.1", "the kernel", tar.TypeReg}, {"./boot/vmlinuz-6.2", "another", tar.TypeReg},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: f.kind, Size: int64(len(f.text)),
			Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "vmlinuz")
	if found, err := extractKernel(bytes.NewReader(b.Bytes()), to); !found || err != nil {
		t.Fatal(found, err)
	}
	if got, err := os.ReadFile(to); string(got) != "the kernel" {
		t.Errorf("%q, %v", got, err)
	}
	// Cut short: nothing may be left that the next run takes for a kernel.
	to += "-cut"
	if found, err := extractKernel(bytes.NewReader(b.Bytes()[:512*5+5]), to); found || err == nil || exists(to) {
		t.Error(found, err, exists(to))
	}
}

func TestInitramfs(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "init")
	if err := os.WriteFile(program, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "initramfs")
	todo := plan.Plan{Jobs: []plan.Job{{Name: "a", Args: []string{"/payload/deep/b"}}}}
	if err := writeInitramfs(to, program, todo, []inGuest{{program, "/payload/deep/b"}}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var names []string
	for r := cpio.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		if text, err := io.ReadAll(r); h.Name == "payload/deep/b" &&
			(string(text) != "program" || h.Mode.Perm() != 0o755) {
			t.Errorf("%q, %o, %v", text, h.Mode, err)
		}
	}
	if got := strings.Join(names, " "); got != "dev payload payload/deep proc run sys tmp var var/lib init "+
		"payload/deep/b plan.json" {
		t.Error(got)
	}
}

// A console has the lines of the first process among those of the kernel and of programs.
func TestReadConsole(t *testing.T) {
	o := outcome{codes: map[string]int{}, failed: map[string]string{}}
	var lines []string
	console := "SeaBIOS\r\n\r\n@guest started 0\r\nhello\r\nhalf a line[    1.0] @guest ended 0 3\r\n@guest started " +
		"1\r\n@guest failed 1 no such file\r\nend"
	o.read(strings.NewReader(console), time.Now().Add(-time.Second),
		func(job, text string) { lines = append(lines, job+":"+text) })
	if got := strings.Join(lines, "|"); got != ":SeaBIOS|:|0:hello|:end" {
		t.Error(got)
	}
	if o.codes["0"] != 3 || o.failed["1"] != "no such file" || o.booted < time.Second {
		t.Errorf("%+v", o)
	}
}

func TestCause(t *testing.T) {
	o := outcome{console: []string{"[    6.2] Oops: int3: 0000 [#1] SMP NOPTI", "[    6.3] CPU: 0"}}
	if !errors.Is(o.cause(), errPatching) {
		t.Error(o.cause())
	}
	o.console = []string{"[    6.2] Oops: general protection fault, maybe for address 0x1"}
	if errors.Is(o.cause(), errPatching) {
		t.Error("every fault is taken for the emulator's")
	}
}

// aptHere skips a test where Debian's tools are missing.
func aptHere(t *testing.T) {
	t.Helper()
	for _, program := range []string{"apt-get", "dpkg", "/usr/lib/apt/apt-helper"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
}

// A package is taken only with the right content, and a failure says what failed.
func TestFetch(t *testing.T) {
	aptHere(t)
	site, cache := t.TempDir(), filepath.Join(t.TempDir(), "cache")
	t.Setenv(mirrorVariable, "file://"+site)
	if err := os.Mkdir(filepath.Join(site, "pool"), 0o755); err != nil {
		t.Fatal(err)
	}
	content := []byte("a package")
	if err := os.WriteFile(filepath.Join(site, "pool", "k_1_amd64.deb"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	ctx := context.Background()
	a, err := openArchive(ctx, cache)
	if err != nil {
		t.Fatal(err)
	}
	p := pin{Line: "6.1", Arch: "amd64", Suite: "bookworm", Package: "k", Version: "1", File: "pool/k_1_amd64.deb",
		SHA256: strings.Repeat("0", 64)}
	if got, err := a.fetch(ctx, p); err == nil {
		t.Errorf("another content was accepted: %+v", got)
	} else {
		t.Log(err)
	}
	p.SHA256 = hex.EncodeToString(sum[:])
	for range 2 { // the second time from the cache
		got, err := a.fetch(ctx, p)
		if err != nil || got.Instead != "" || got.Version != "1" {
			t.Fatalf("%+v, %v", got, err)
		}
		if err := os.RemoveAll(filepath.Join(site, "pool")); err != nil {
			t.Fatal(err)
		}
	}
	p.File, p.SHA256 = "pool/gone_1_amd64.deb", strings.Repeat("1", 64)
	if _, err := a.fetch(ctx, p); err == nil || !strings.Contains(err.Error(), "index") {
		t.Errorf("a package that is gone: %v", err)
	}
}

func TestParseIndex(t *testing.T) {
	text := "Package: a\nVersion: 1\nDescription: x\n more: y\nFilename: pool/a.deb\nSHA256: 12\n\nPackage: " +
		"b\nVersion: 2\n"
	got, err := parseIndex(strings.NewReader(text))
	if err != nil || len(got) != 2 || got[0] != (entry{"a", "1", "pool/a.deb", "12"}) || got[1].name != "b" {
		t.Errorf("%+v, %v", got, err)
	}
}
