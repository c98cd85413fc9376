package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The docs say what is tested, word for word.
func TestDocsSayWhatIsPromised(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "install.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := docsTable(); !strings.Contains(string(text), want) {
		t.Errorf("docs/install.md lacks the table of tools/kernels/promises.go:\n%s", want)
	}
}

// Each line of the promises is tried on a pinned kernel, and so are both architectures.
func TestPromisesAreTried(t *testing.T) {
	for _, p := range promises {
		tried := false
		for _, k := range pins {
			if got, err := promised(k.Line, p.User); err == nil && got == p {
				tried = true
			}
		}
		if tried && untried[p.From] != "" {
			t.Errorf("a pinned kernel tries what is promised from %s on", p.From)
		}
		if !tried && untried[p.From] == "" {
			t.Errorf("no pinned kernel tries what is promised to %s from %s on", p.User, p.From)
		}
	}
	archs := map[string]bool{}
	for _, k := range pins {
		archs[k.Arch] = true
		if !k.others.MatchString(k.Package) {
			t.Errorf("%s does not match its own kind %s", k.Package, k.others)
		}
		if len(k.SHA256) != 64 || !strings.HasSuffix(k.File, "_"+k.Version+"_"+k.Arch+".deb") {
			t.Errorf("%s: %s, %s", k.Package, k.File, k.SHA256)
		}
	}
	if !archs["amd64"] || !archs["arm64"] {
		t.Error("an architecture is missing")
	}
}
