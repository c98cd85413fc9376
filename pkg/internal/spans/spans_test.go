package spans

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what comes out into the cases")

// mergeCase is one of tools/contract/cases/merge.json.
type mergeCase struct {
	About string `json:"about"`
	Limit int    `json:"limit"`
	Rare  []int  `json:"rare,omitempty"`
	// Spans as start, end and code; or Count of them by three cycles, of which Except changes some: number, length,
	// code.
	Spans   [][3]int64 `json:"spans,omitempty"`
	Count   int        `json:"count,omitempty"`
	Gaps    []int64    `json:"gaps,omitempty"`
	Lengths []int64    `json:"lengths,omitempty"`
	Codes   []int      `json:"codes,omitempty"`
	Except  [][3]int64 `json:"except,omitempty"`
	Merged  [][3]int64 `json:"merged"`
}

func (c *mergeCase) in() (out []Span) {
	for _, s := range c.Spans {
		out = append(out, Span{Start: s[0], End: s[1], Code: uint8(s[2])})
	}
	at := int64(0)
	for i := range c.Count {
		length, code := c.Lengths[i%len(c.Lengths)], c.Codes[i%len(c.Codes)]
		for _, e := range c.Except {
			if e[0] == int64(i) {
				length, code = e[1], int(e[2])
			}
		}
		at += c.Gaps[i%len(c.Gaps)]
		out = append(out, Span{Start: at, End: at + length, Code: uint8(code)})
		at += length
	}
	return out
}

func TestMergeAsTheBrowserDoes(t *testing.T) {
	file := filepath.Join("..", "..", "..", "tools", "contract", "cases", "merge.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []mergeCase
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for i := range cases {
		c := &cases[i]
		var got [][3]int64
		for _, s := range Merge(c.in(), c.Limit, func(code uint8) bool { return slices.Contains(c.Rare, int(code)) }) {
			got = append(got, [3]int64{s.Start, s.End, int64(s.Code)})
		}
		if !*update && !slices.Equal(got, c.Merged) {
			t.Errorf("%s: %v, want %v", c.About, got, c.Merged)
		}
		c.Merged = got
	}
	if *update {
		text, err := write(cases)
		if err == nil {
			err = os.WriteFile(file, text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// numbers is a list of numbers as json.MarshalIndent writes it, one a line.
var numbers = regexp.MustCompile(`\[\s+(?:-?\d+,\s+)*-?\d+\s+\]`)

// write gives the cases as they are read best: lists of numbers in a line.
func write(cases []mergeCase) ([]byte, error) {
	text, err := json.MarshalIndent(cases, "", "  ")
	if err != nil {
		return nil, err
	}
	text = numbers.ReplaceAllFunc(text, func(list []byte) []byte {
		line := strings.Join(strings.Fields(string(list)), " ")
		return []byte(strings.NewReplacer("[ ", "[", " ]", "]").Replace(line))
	})
	return append(text, '\n'), nil
}
