package binary

import (
	"strconv"
	"strings"
)

// Version is the version of a Go toolchain, taken apart.
type Version struct {
	Minor       int    // 26 in go1.26.8
	Patch       int    // 8 in go1.26.8; 0 for release candidates
	Experiments string // "nogreenteagc" in "go1.26.8 X:nogreenteagc"; empty without GOEXPERIMENT
	Release     bool   // a release or a release candidate, a vendor's included; false for a development version
}

// OldestMinor and NewestMinor bound the Go 1.x lines that P-Scope knows.
const (
	OldestMinor = 21
	NewestMinor = 27
)

// ParseVersion reads the forms of runtime.Version: "go1.26.8", "go1.27rc2", "go1.22.9 (Red Hat 1.22.9-2.el9)",
// "go1.26.8 X:boringcrypto", "devel go1.28-0123abc Tue …", "go1.25.5-custom". ok is false where no Go 1.x is named at
// all.
func ParseVersion(s string) (v Version, ok bool) {
	rest, found := strings.CutPrefix(s, "go1.")
	v.Release = found
	if !found {
		// A development toolchain: "devel go1.N-hash date".
		_, rest, found = strings.Cut(s, "go1.")
		if !found {
			return v, false
		}
	}
	if v.Minor, rest, found = leadingNumber(rest); !found {
		return v, false
	}
	if after, dot := strings.CutPrefix(rest, "."); dot {
		v.Patch, rest, _ = leadingNumber(after)
	}
	word, tail, _ := strings.Cut(rest, " ")
	if strings.HasPrefix(word, "-devel") {
		v.Release = false // "go1.28-devel_0123abc Tue …": a commit between two releases, whose layout is neither's
	}
	// The linker appends the experiments with a blank if there is one already and, since Go 1.26, with a hyphen
	// otherwise (cmd/link/internal/ld/main.go, buildVersion).
	if _, x, ok := strings.Cut(word, "-X:"); ok {
		v.Experiments = x
	}
	for f := range strings.FieldsSeq(tail) {
		if x, found := strings.CutPrefix(f, "X:"); found {
			v.Experiments = x
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
