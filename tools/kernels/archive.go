package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// archive is Debian's archive as this machine's apt reaches it: its own mirror and proxy, its own checks.
type archive struct {
	site  string // URL of the archive's top
	cache string // directory for packages
}

// mirrorVariable names the archive where apt has none, as on Ubuntu.
const mirrorVariable = "PSCOPE_DEBIAN_MIRROR"

// debianNames are the suites by which an archive is known as Debian's.
var debianNames = []string{"bullseye", "bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing",
	"unstable"}

// openArchive asks apt where Debian's archive is.
func openArchive(ctx context.Context, cache string) (*archive, error) {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, err
	}
	if site := os.Getenv(mirrorVariable); site != "" {
		return &archive{site: strings.TrimSuffix(site, "/"), cache: cache}, nil
	}
	out, err := output(ctx, "apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)",
		"Created-By: Packages")
	if err != nil {
		return nil, fmt.Errorf("ask apt for its sources: %w", err)
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 && slices.Contains(debianNames, f[1]) && f[2] == "main" {
			return &archive{site: strings.TrimSuffix(f[0], "/"), cache: cache}, nil
		}
	}
	return nil, fmt.Errorf("apt has no source of Debian's archive; set %s to the URL of a mirror", mirrorVariable)
}

// fetched is a package on this machine.
type fetched struct {
	Path    string
	Package string
	Version string
	Instead string // why it is another than the pinned one; empty where it is that
}

// fetch brings a package here, unless it is here already. Where the archive has the pinned one no more, the newest of
// its kind is taken.
func (a *archive) fetch(ctx context.Context, p pin) (fetched, error) {
	at := filepath.Join(a.cache, filepath.Base(p.File))
	if sum, err := sumOf(at); err == nil && sum == p.SHA256 {
		return fetched{Path: at, Package: p.Package, Version: p.Version}, nil
	}
	err := a.download(ctx, p.File, at, p.SHA256)
	if err == nil {
		return fetched{Path: at, Package: p.Package, Version: p.Version}, nil
	}
	other, err2 := a.newest(ctx, p)
	if err2 != nil {
		return fetched{}, fmt.Errorf("fetch %s %s: %w; and for another of its kind: %w", p.Package, p.Version, err,
			err2)
	}
	other.Instead = fmt.Sprintf("instead of the pinned %s %s: %v", p.Package, p.Version, err)
	return other, nil
}

// download fetches one file. apt checks the sum and puts nothing in place that has another.
func (a *archive) download(ctx context.Context, file, to, sum string) error {
	from := a.site + "/" + file
	if path, ok := strings.CutPrefix(from, "file:"); ok {
		from = "copy:" + path // apt leaves files of this machine where they are
	}
	if _, err := output(ctx, "/usr/lib/apt/apt-helper", "download-file", from, to, "SHA256:"+sum); err != nil {
		return err
	}
	// apt-helper leaves a file that failed the check under another name, but ends with 0 in some versions if it was
	// there before.
	if got, err := sumOf(to); err != nil || got != sum {
		return errors.Join(fmt.Errorf("%s has the SHA256 %s instead of %s", to, got, sum), err)
	}
	return nil
}

// entry is what a Packages index says of one package.
type entry struct{ name, version, file, sum string }

// newest takes the newest package of a pin's kind from the archive's own index, which apt fetches and whose signature
// it checks.
func (a *archive) newest(ctx context.Context, p pin) (fetched, error) {
	index, err := a.index(ctx, p)
	if err != nil {
		return fetched{}, err
	}
	var best entry
	for _, e := range index {
		if !p.others.MatchString(e.name) {
			continue
		}
		newer := best.name == ""
		if !newer {
			_, err := output(ctx, "dpkg", "--compare-versions", e.version, "gt", best.version)
			newer = err == nil
		}
		if newer {
			best = e
		}
	}
	if best.name == "" {
		return fetched{}, fmt.Errorf("the index of %s for %s has no package like %s", p.Suite, p.Arch, p.others)
	}
	at := filepath.Join(a.cache, filepath.Base(best.file))
	if sum, err := sumOf(at); err != nil || sum != best.sum {
		if err := a.download(ctx, best.file, at, best.sum); err != nil {
			return fetched{}, fmt.Errorf("fetch %s %s: %w", best.name, best.version, err)
		}
	}
	return fetched{Path: at, Package: best.name, Version: best.version}, nil
}

// index has apt fetch a suite's index into directories of our own, so that the machine's lists stay as they are.
func (a *archive) index(ctx context.Context, p pin) ([]entry, error) {
	dir := filepath.Join(a.cache, "apt", p.Suite+"-"+p.Arch)
	for _, d := range []string{"lists/partial", "archives/partial", "empty"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	source := fmt.Sprintf("deb [arch=%s] %s %s main\n", p.Arch, a.site, p.Suite)
	list := filepath.Join(dir, "sources.list")
	if err := os.WriteFile(list, []byte(source), 0o644); err != nil {
		return nil, err
	}
	own := []string{
		"-o", "Dir::Etc::SourceList=" + list, "-o", "Dir::Etc::SourceParts=" + filepath.Join(dir, "empty"),
		"-o", "Dir::State::Lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + dir,
		"-o", "APT::Architecture=" + p.Arch, "-o", "APT::Architectures=" + p.Arch, "-o", "APT::Sandbox::User=root",
	}
	if keys := "/usr/share/keyrings/debian-archive-keyring.gpg"; exists(keys) {
		own = append(own, "-o", "Dir::Etc::Trusted="+keys)
	}
	// apt's exit code is 0 when an index can't be had, unless told otherwise.
	if _, err := output(ctx, "apt-get", append(own, "-o", "APT::Update::Error-Mode=any", "update")...); err != nil {
		return nil, fmt.Errorf("fetch the index of %s: %w", p.Suite, err)
	}
	format := []string{"indextargets", "--format", "$(FILENAME)", "Created-By: Packages"}
	file, err := output(ctx, "apt-get", append(own, format...)...)
	if err != nil {
		return nil, err
	}
	text, err := output(ctx, "/usr/lib/apt/apt-helper", append(own, "cat-file", strings.TrimSpace(file))...)
	if err != nil {
		return nil, fmt.Errorf("read the index of %s: %w", p.Suite, err)
	}
	return parseIndex(strings.NewReader(text))
}

// parseIndex reads a Packages file (deb822 paragraphs).
func parseIndex(r io.Reader) (all []entry, err error) {
	var e entry
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), ": ")
		switch {
		case lines.Text() == "":
			if e.name != "" {
				all = append(all, e)
			}
			e = entry{}
		case !ok:
		case name == "Package":
			e.name = value
		case name == "Version":
			e.version = value
		case name == "Filename":
			e.file = value
		case name == "SHA256":
			e.sum = value
		}
	}
	if e.name != "" {
		all = append(all, e)
	}
	return all, lines.Err()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// output runs a command and gives what it prints; an error has its last words.
func output(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(errs.String())
		if said == "" {
			said = strings.TrimSpace(out.String())
		}
		lines := strings.Split(said, "\n")
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, strings.Join(lines[max(0, len(lines)-5):], "; "))
	}
	return out.String(), nil
}
