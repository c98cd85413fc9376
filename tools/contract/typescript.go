package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// printer writes TypeScript.
type printer struct{ bytes.Buffer }

// doc writes a comment before a declaration.
func (p *printer) doc(text string) {
	line := "/** " + text + " */"
	if len(line) <= 120 {
		p.WriteString("\n" + line + "\n")
		return
	}
	p.WriteString("\n/**\n")
	for _, l := range wrap(text, 116) {
		p.WriteString(" * " + l + "\n")
	}
	p.WriteString(" */\n")
}

// words declares a list of words and the type of one of them.
func (p *printer) words(doc, name, typ string, words []string) {
	p.doc(doc)
	fmt.Fprintf(p, "export const %s = %s as const;\n", name, list(words))
	if typ != "" {
		fmt.Fprintf(p, "export type %s = (typeof %s)[number];\n", typ, name)
	}
}

// some declares a list of words of a type.
func (p *printer) some(doc, name, typ string, words []string) {
	p.doc(doc)
	fmt.Fprintf(p, "export const %s: readonly %s[] = %s;\n", name, typ, list(words))
}

// value declares a constant of a type.
func (p *printer) value(doc, name, typ, value string) {
	p.doc(doc)
	if typ != "" {
		typ = ": " + typ
	}
	fmt.Fprintf(p, "export const %s%s = %s;\n", name, typ, value)
}

// record declares a value for each of some words.
func (p *printer) record(doc, name, typ string, keys []string, value func(key string) string) {
	p.doc(doc)
	fmt.Fprintf(p, "export const %s: %s = {\n", name, typ)
	for _, k := range keys {
		fmt.Fprintf(p, "  %s: %s,\n", k, value(k))
	}
	p.WriteString("};\n")
}

// quoted is a string in TypeScript.
func quoted(s string) string {
	if !strings.ContainsAny(s, "'\\\n") {
		return "'" + s + "'"
	}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string is always JSON
	}
	return string(b)
}

// list is a list of strings in TypeScript, one a line where there are too many for one.
func list(words []string) string {
	each := make([]string, len(words))
	for i, w := range words {
		each[i] = quoted(w)
	}
	if line := "[" + strings.Join(each, ", ") + "]"; len(line) <= 90 {
		return line
	}
	return "[\n  " + strings.Join(each, ",\n  ") + ",\n]"
}

// texts are the words of things that have some.
func texts[T fmt.Stringer](things []T) []string {
	out := make([]string, len(things))
	for i, t := range things {
		out[i] = t.String()
	}
	return out
}

// plain are strings of a type of their own.
func plain[T ~string](things []T) []string {
	out := make([]string, len(things))
	for i, t := range things {
		out[i] = string(t)
	}
	return out
}

// only are the things for which a condition holds.
func only[T any](things []T, holds func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(things), func(t T) bool { return !holds(t) })
}

// wrap breaks a text into lines of at most width characters.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}
