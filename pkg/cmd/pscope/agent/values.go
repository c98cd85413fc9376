//go:build linux

package agent

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// size is a flag in bytes with an optional unit.
type size int64

var units = []struct {
	name   string
	factor int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"KB", 1e3}, {"MB", 1e6}, {"GB",
	1e9}, {"TB", 1e12}, {"B", 1}}

func (s *size) Set(v string) error {
	factor := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(v, u.name); ok {
			v, factor = rest, u.factor
			break
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
	if err != nil || !(n >= 0) || n*float64(factor) > 1<<60 { // NaN is no size, either
		return remedy("write it like 512MiB, 2GB or 0 for no limit")
	}
	*s = size(n * float64(factor))
	return nil
}

func (s *size) String() string {
	for _, u := range slices.Backward(units[:4]) {
		if *s != 0 && int64(*s)%u.factor == 0 {
			return fmt.Sprintf("%d%s", int64(*s)/u.factor, u.name)
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

// span is a flag like 500ms, 36h or 7d.
type span time.Duration

func (d *span) Set(v string) error {
	p, err := model.ParseDuration(v)
	if err != nil {
		return remedy("write it like 500ms, 36h or 7d")
	}
	*d = span(p)
	return nil
}

func (d *span) String() string { return model.Duration(*d).String() }

// pattern is a flag holding a regular expression; empty is none.
type pattern struct{ to **regexp.Regexp }

func (p pattern) Set(v string) (err error) {
	if v == "" {
		*p.to = nil
		return nil
	}
	*p.to, err = regexp.Compile(v)
	return err
}

func (p pattern) String() string {
	if p.to == nil || *p.to == nil {
		return ""
	}
	return (*p.to).String()
}
