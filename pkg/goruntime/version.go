package goruntime

import (
	"strconv"
	"strings"
)

// goVersion is a Go toolchain version taken apart.
type goVersion struct {
	minor       int    // 26 in go1.26.8
	patch       int    // 8 in go1.26.8; 0 for release candidates
	experiments string // "nogreenteagc" in "go1.26.8 X:nogreenteagc"; empty for a plain toolchain
	plain       bool   // a release or a release candidate, a vendor's included: the layout is that of the Go 1.x line
}

// OldestMinor and NewestMinor bound the Go 1.x lines of the embedded table.
const (
	OldestMinor = 21
	NewestMinor = 27
)

// parseGoVersion reads the forms of runtime.Version: "go1.26.8", "go1.27rc2", "go1.22.9 (Red Hat 1.22.9-2.el9)", "go1.26.8 X:boringcrypto",
// "devel go1.28-0123abc Tue …", "go1.25.5-custom". ok is false where no Go 1.x is named at all.
func parseGoVersion(s string) (v goVersion, ok bool) {
	rest, found := strings.CutPrefix(s, "go1.")
	v.plain = found
	if !found {
		// A development toolchain: "devel go1.N-hash date".
		_, rest, found = strings.Cut(s, "go1.")
		if !found {
			return v, false
		}
	}
	if v.minor, rest, found = leadingNumber(rest); !found {
		return v, false
	}
	if after, dot := strings.CutPrefix(rest, "."); dot {
		v.patch, rest, _ = leadingNumber(after)
	}
	word, tail, _ := strings.Cut(rest, " ")
	if strings.HasPrefix(word, "-devel") {
		v.plain = false // "go1.28-devel_0123abc Tue …": a commit between two releases, whose layout is neither's
	}
	// The linker appends the experiments with a blank if there is one already and, since Go 1.26, with a hyphen otherwise
	// (cmd/link/internal/ld/main.go, buildVersion).
	if _, x, ok := strings.Cut(word, "-X:"); ok {
		v.experiments = x
	}
	for f := range strings.FieldsSeq(tail) {
		if x, found := strings.CutPrefix(f, "X:"); found {
			v.experiments = x
		}
	}
	return v, true
}

// leadingNumber cuts a small decimal number off the beginning of s.
func leadingNumber(s string) (n int, rest string, ok bool) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(s[:digits])
	if err != nil || n > 1000 {
		return 0, s, false
	}
	return n, s[digits:], true
}
