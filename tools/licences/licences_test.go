package main

import (
	"strings"
	"testing"
)

func TestWhichPackageASourceIsOf(t *testing.T) {
	for source, want := range map[string]string{
		"webpack://pscope/./node_modules/grpc-web/index.js":                  "node_modules/grpc-web",
		"webpack://pscope/../main/node_modules/@lezer/lr/dist/index.js?1a2b": "node_modules/@lezer/lr",
		"webpack://pscope/./node_modules/a/node_modules/@b/c/x.js":           "node_modules/a/node_modules/@b/c",
		"webpack://pscope/./node_modules/grafana-public-path.js":             "",
		"webpack://pscope/./module.ts":                                       "",
		"webpack://pscope/webpack/runtime/define property getters":           "",
		"webpack://pscope/external amd \"@grafana/data\"":                    "",
	} {
		if got := packageOf(source); got != want {
			t.Errorf("%s is of %q, want %q", source, got, want)
		}
	}
}

const mit = `MIT License

Copyright (c) 2024 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without
limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the
Software, and to permit persons to whom the Software is furnished to do so, subject to the following
conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions
of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED
TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL
THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER
DEALINGS IN THE SOFTWARE.`

func TestWhatMayBeThere(t *testing.T) {
	good := &part{name: "a", version: "v1"}
	good.take(map[string]string{"LICENSE": mit, "NOTICE": "a notice"})
	if err := good.check(); err != nil || strings.Join(good.licences, " ") != "MIT" || len(good.texts) != 2 {
		t.Errorf("%+v: %v", good, err)
	}
	unknown := &part{name: "b", version: "v1"}
	unknown.take(map[string]string{"LICENSE": "Do as you like, but not on Sundays."})
	if err := unknown.check(); err == nil {
		t.Error("a licence that nobody knows is let in")
	}
	if err := (&part{name: "c", licences: []string{"GPL-3.0"}, texts: []string{"x"}}).check(); err == nil {
		t.Error("GPL-3.0 is let in")
	}
	if err := (&part{name: "d", licences: []string{"MIT"}}).check(); err == nil {
		t.Error("a licence without its text is let in")
	}
	dual := &part{name: "f", version: "v1"}
	dual.take(map[string]string{"License": "/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */\n\nOne " +
		"or the " +
		"other."})
	if err := dual.check(); err != nil || strings.Join(dual.licences, " ") != "BSD-3-Clause" {
		t.Errorf("%+v: %v", dual, err)
	}
	if got := strings.Join(choose("(MIT AND (BSD-3-Clause OR GPL-2.0))"), " "); got != "MIT BSD-3-Clause" {
		t.Errorf("%q is chosen", got)
	}
	all := notices([]*part{good, {name: "e", version: "v2", texts: []string{mit}}})
	if strings.Count(all, "MIT License") != 1 || !strings.Contains(all, "a v1\ne v2") {
		t.Errorf("each text stands once, below all that have it:\n%s", all)
	}
}
