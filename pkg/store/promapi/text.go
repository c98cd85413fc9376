package promapi

import (
	"regexp/syntax"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/util/strutil"
)

// What a query's text may be. The parser takes time and memory out of proportion to a hostile one (150,000 brackets:
// half a minute), and can't be stopped, so the text is counted with the parser's own lexer first. Each bound is far
// above what a board or a person writes.
const (
	maxText   = 64 << 10 // bytes
	maxTokens = 4000
	maxDepth  = 100    // of brackets in each other
	maxRegex  = 20_000 // steps of a compiled regular expression
)

// checkText says whether a query's text may be parsed.
func checkText(query string) error {
	if len(query) > maxText {
		return badData("the query has %d bytes, %d are allowed: ask for less at once", len(query), maxText)
	}
	lexer := parser.Lex(query)
	depth := 0
	for tokens := 0; ; tokens++ {
		var it parser.Item
		lexer.NextItem(&it)
		switch it.Typ {
		case parser.EOF, parser.ERROR:
			return nil // the parser says what is wrong
		case parser.LEFT_PAREN, parser.LEFT_BRACE, parser.LEFT_BRACKET:
			depth++
		case parser.RIGHT_PAREN, parser.RIGHT_BRACE, parser.RIGHT_BRACKET:
			depth--
		case parser.STRING:
			text, err := strutil.Unquote(it.Val)
			if err != nil {
				return nil // the parser says what is wrong
			}
			if err := checkRegex(text); err != nil {
				return err
			}
		}
		if depth > maxDepth {
			return badData("the query has more than %d brackets in each other: write it flatter, or split it", maxDepth)
		}
		if tokens > maxTokens {
			return badData("the query has more than %d words and signs: ask for less at once, or use a regular "+
				"expression instead of a list", maxTokens)
		}
	}
}

// checkRegex bounds what a string would take if it is a regular expression: a repeated class of letters makes a program
// of tens of megabytes (regexp/syntax, maxSize and maxRunes, allow 128).
func checkRegex(text string) error {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil // no regular expression, or the parser says what is wrong
	}
	if n := stepsOf(re); n > maxRegex {
		return badData("the regular expression %.60s is %.0f steps long, %d are allowed: repeat less",
			text, n, maxRegex)
	}
	return nil
}

// stepsOf is about how many instructions a regular expression compiles to.
func stepsOf(re *syntax.Regexp) float64 {
	n := 1.0 + float64(len(re.Rune))
	for _, sub := range re.Sub {
		n += stepsOf(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= float64(max(re.Min, re.Max, 1))
	}
	return n
}
