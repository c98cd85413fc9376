// Package cleantext makes text that an observed program chose safe to pass on: names of processes and threads, paths,
// arguments, versions. Any local user can start a program whose name is not UTF-8, which Protocol Buffers refuse, or
// holds characters that drive a terminal, end a line, or turn the direction of writing.
//
// Each such text is cleaned once, where it enters: in pkg/collector and in the doctor. What reads it from there on gets
// valid UTF-8 of printable characters only, bounded in length.
package cleantext

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The most bytes of cleaned texts.
const (
	MaxName    = 256  // of a process, a thread, a version
	MaxPath    = 1024 // of a file or a cgroup
	MaxCmdline = 1024
	MaxReason  = 2048
)

// Name cleans a name by which something is told apart and selected: different names stay different. A byte that is not
// UTF-8 or controls a terminal becomes \xNN, another character that can't be seen \uNNNN or \UNNNNNNNN, all digits in
// lower case. A backslash stays as it is, but for one that would make the name look as if it held such an escape: that
// one becomes \x5c. What is longer than most bytes is cut and ends in "…" and eight digits that depend on all of it.
func Name(s string, most int) string {
	if plain(s) && len(s) <= most {
		return s
	}
	return clean(s, most, true)
}

// Text cleans text that is only read, such as a sentence: as Name does, but backslashes all stay, and what is cut ends
// in "…".
func Text(s string, most int) string {
	if plain(s) && len(s) <= most {
		return s
	}
	return clean(s, most, false)
}

// plain says that s is printable ASCII without a backslash, as nearly all names are.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	return true
}

const (
	ellipsis  = "…"
	sumDigits = 8
)

func clean(s string, most int, name bool) string {
	tail := ellipsis
	if name {
		sum := sha256.Sum256([]byte(s))
		tail += hex.EncodeToString(sum[:])[:sumDigits]
	}
	var b strings.Builder
	fits := 0 // length of what would be left with a tail
	for rest := s; rest != ""; {
		r, n := utf8.DecodeRuneInString(rest)
		switch {
		case r == utf8.RuneError && n == 1:
			escape(&b, 'x', uint64(rest[0]), 2)
		case r == '\\' && name && escapes(rest):
			escape(&b, 'x', '\\', 2)
		case visible(r):
			b.WriteString(rest[:n])
		case r <= 0x7f:
			escape(&b, 'x', uint64(r), 2)
		case r <= 0xffff:
			escape(&b, 'u', uint64(r), 4)
		default:
			escape(&b, 'U', uint64(r), 8)
		}
		rest = rest[n:]
		if b.Len() <= most-len(tail) {
			fits = b.Len()
		}
		if b.Len() > most {
			return b.String()[:fits] + tail[:min(len(tail), max(0, most))]
		}
	}
	return b.String()
}

func escape(b *strings.Builder, kind byte, v uint64, digits int) {
	text := strconv.FormatUint(v, 16)
	b.WriteByte('\\')
	b.WriteByte(kind)
	b.WriteString(strings.Repeat("0", digits-len(text)))
	b.WriteString(text)
}

// visible says whether a character shows, as itself, where it stands. Letters that draw nothing (Hangul fillers) and
// variation selectors don't.
func visible(r rune) bool {
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// escapes says whether s, which begins with a backslash, begins with what could be an escape of ours.
func escapes(s string) bool {
	if len(s) < 2 {
		return false
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[1]]
	if digits == 0 || len(s) < 2+digits {
		return false
	}
	for i := range digits {
		if c := s[2+i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	if digits > 2 {
		return true
	}
	// systemd writes - in names of slices as \x2d: that is none of ours.
	v, err := strconv.ParseUint(s[2:4], 16, 8)
	return err == nil && (v < ' ' || v >= 0x7f || v == '\\')
}
