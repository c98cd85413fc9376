package cleantext

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

func TestName(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"prometheus", "prometheus"},
		{"with blank", "with blank"},
		{"Müller-日本", "Müller-日本"},
		{"bad\xff", `bad\xff`},
		{"cut in the mi\xe2\x94", `cut in the mi\xe2\x94`},
		{"\x1b[2Jgone", `\x1b[2Jgone`},
		{"two\nrows\t", `two\x0arows\x09`},
		{"c1 \u009b2J", `c1 \u009b2J`},
		{"del\x7f", `del\x7f`},
		{"\u202egnp.exe", `\u202egnp.exe`},
		{"\u2066isolate\u2069", `\u2066isolate\u2069`},
		{"zero\u200bwidth\ufeff", `zero\u200bwidth\ufeff`},
		{"line\u2028\u2029", `line\u2028\u2029`},
		{"no-break\u00a0", `no-break\u00a0`},
		{"tag\U000e0041", `tag\U000e0041`},
		{"filler\u3164", `filler\u3164`},
		{"private\ue000", `private\ue000`},
		{"lone surrogate \xed\xa0\x80", `lone surrogate \xed\xa0\x80`},
		// systemd's own escapes stay, what looks like one of ours is told apart.
		{`system-getty\x2dgenerator.slice`, `system-getty\x2dgenerator.slice`},
		{`back\slash`, `back\slash`},
		{`forged\x1b`, `forged\x5cx1b`},
		{`forged\x5cx1b`, `forged\x5cx5cx1b`},
		{`forged\u202e`, `forged\x5cu202e`},
		{`upper\x1B`, `upper\x1B`},
	} {
		if got := Name(c.in, MaxName); got != c.want {
			t.Errorf("Name(%q) is %q, want %q", c.in, got, c.want)
		}
	}
}

func TestLongNamesAreCutAndToldApart(t *testing.T) {
	one, two := Name(strings.Repeat("x", 300)+"1", 64), Name(strings.Repeat("x", 300)+"2", 64)
	if len(one) > 64 || !strings.HasPrefix(one, "xxxx") || !strings.Contains(one, ellipsis) {
		t.Errorf("cut to %q", one)
	}
	if one == two {
		t.Errorf("two names became one: %q", one)
	}
	if text := Text(strings.Repeat("é", 300), 64); len(text) > 64 || !strings.HasSuffix(text, "é"+ellipsis) {
		t.Errorf("text cut to %q", text)
	}
	if text := Text(`a reason: "\x1b"`+"\n", 64); text != `a reason: "\x1b"\x0a` {
		t.Errorf("a sentence became %q", text)
	}
}

var written = regexp.MustCompile(`\\x(?:[01][0-9a-f]|7f|5c|[89a-f][0-9a-f])|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}`)

// original undoes Name for what was not cut.
func original(t *testing.T, s string) string {
	return written.ReplaceAllStringFunc(s, func(e string) string {
		v, err := strconv.ParseUint(e[2:], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		if e[1] == 'x' {
			return string([]byte{byte(v)})
		}
		return string(rune(v))
	})
}

func FuzzName(f *testing.F) {
	for _, s := range []string{"a", "\x1b[31m", "\xff\xfe", `\x1b`, `\\x5c`, "\u202e", "日本",
		strings.Repeat("\xff", 100), "\U000e0041", "\x7f\\u007f"} {
		f.Add(s, 64)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		defer fuzztest.Bound(t, fuzztest.Small, len(s))()
		most = 32 + (most&0x7fffffff)%2000
		for _, got := range []string{Name(s, most), Text(s, most)} {
			if !utf8.ValidString(got) || len(got) > most {
				t.Fatalf("%q (at most %d) became %q: %d bytes, valid %v", s, most, got, len(got), utf8.ValidString(got))
			}
			for _, r := range got {
				if !visible(r) {
					t.Fatalf("%q became %q, which holds %U", s, got, r)
				}
			}
		}
		if got := Name(s, 10*len(s)+20); original(t, got) != s {
			t.Fatalf("%q became %q, which would be %q", s, got, original(t, got))
		}
	})
}
