//go:build linux

package agent

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Problem is one thing that is wrong with the settings.
type Problem struct {
	File    string // where it stands; empty: on the command line, or nowhere in particular
	Line    int    // 0: the file as a whole
	Setting string // empty: none in particular
	Text    string
	Bare    string // the same without values of settings, which may be secrets
	Warning bool   // an agent starts nevertheless
}

func (p Problem) String() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Line == 0:
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Problems is an error that names each of them in a line of its own.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

// withoutValues are the same without values of settings, for logs and for whoever asks the agent.
func (p Problems) withoutValues() Problems {
	out := slices.Clone(p)
	for i := range out {
		out[i].Text = out[i].Bare
	}
	return out
}

// fatal are those with which no agent starts.
func (p Problems) fatal() (out Problems) {
	for _, one := range p {
		if !one.Warning {
			out = append(out, one)
		}
	}
	return out
}

// problems are found while settings are read.
type problems struct {
	file  string
	lines map[string]int // where the file sets what; not where a flag wins
	all   Problems
}

// add notes a problem with a setting, the first of each: what a value that can't be read leads to is no news. Arguments
// are taken for values of settings unless they are known.
func (p *problems) add(setting, format string, args ...any) {
	for _, had := range p.all {
		if setting != "" && had.Setting == setting {
			return
		}
	}
	one := Problem{Setting: setting, Text: fmt.Sprintf(format, args...), Bare: withoutArguments(format, args)}
	if line, ok := p.lines[setting]; ok {
		one.File, one.Line = p.file, line
	}
	p.all = append(p.all, one)
}

// atLine notes a problem of the file.
func (p *problems) atLine(line int, setting, format string, args ...any) {
	p.all = append(p.all, Problem{File: p.file, Line: line, Setting: setting, Text: fmt.Sprintf(format, args...),
		Bare: withoutArguments(format, args)})
}

// sort puts those of the command line first, then those of the file from its top.
func (p Problems) sort() {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line))
	})
}

// parseFlags goes on after a flag that is wrong, to find all that are. Its error is flag.ErrHelp, after help has been
// given.
func (p *problems) parseFlags(fs *flag.FlagSet, args []string, w io.Writer) error {
	fs.SetOutput(io.Discard)
	for rest := args; ; {
		err := fs.Parse(rest)
		if errors.Is(err, flag.ErrHelp) {
			fs.SetOutput(w)
			fmt.Fprintln(w, help)
			fs.PrintDefaults()
			return err
		}
		if err == nil {
			break
		}
		p.add("", "%v; 'pscope agent --help' lists all flags", err)
		before := len(rest)
		if rest = fs.Args(); len(rest) == before || len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
			rest = rest[1:] // what is no flag at all, such as ---x, or the value of the flag that is wrong
		}
		if len(rest) == 0 {
			return nil
		}
	}
	if fs.NArg() > 0 {
		p.add("", "unexpected argument %q; all settings are flags, see 'pscope agent --help'", fs.Arg(0))
	}
	return nil
}

// mostOfConfig bounds a configuration file.
const mostOfConfig = 1 << 20

// lineOf finds the line in an error of the YAML library.
var lineOf = regexp.MustCompile(`line (\d+): `)

// readFile sets every flag that the YAML file names and the command line does not.
func (p *problems) readFile(fs *flag.FlagSet) {
	text, err := readBounded(p.file, mostOfConfig)
	if err != nil {
		p.add("", "can't read the configuration: %v", known(err.Error()))
		return
	}
	documents := yaml.NewDecoder(bytes.NewReader(text))
	var doc yaml.Node
	if err := documents.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return // it is empty: every setting has its default
		}
		line := 0
		why := strings.TrimPrefix(err.Error(), "yaml: ")
		if m := lineOf.FindStringSubmatch(why); m != nil {
			line, _ = strconv.Atoi(m[1])
			why = strings.TrimPrefix(why, m[0])
		}
		var what any = why
		if !strings.ContainsAny(why, "'`\"") {
			what = known(why) // words of the library; it quotes those of the file
		}
		p.atLine(line, "", "no YAML: %s", what)
		return
	}
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	root := doc.Content[0]
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
	case root.Kind != yaml.MappingNode:
		p.atLine(root.Line, "", "no YAML map of settings; write lines like \"listen: 127.0.0.1:9477\"")
	default:
		first := map[string]int{}
		for i := 0; i+1 < len(root.Content); i += 2 {
			name, value := root.Content[i], root.Content[i+1]
			if line, twice := first[name.Value]; twice {
				p.atLine(name.Line, "", "%s stands in line %v already; write it once", p.named(fs, name),
					known(strconv.Itoa(line)))
				continue
			}
			first[name.Value] = name.Line
			p.set(fs, name, value, given[name.Value])
		}
	}
	if documents.Decode(&doc) == nil {
		p.atLine(doc.Line, "", "a second document: nothing of it counts; put all settings before the line \"---\"")
	}
}

// noSettings are flags that make no sense in a file.
var noSettings = []string{"config", "check"}

// set takes one setting of the file. given: the command line has it, and wins.
func (p *problems) set(fs *flag.FlagSet, name, value *yaml.Node, given bool) {
	if fs.Lookup(name.Value) == nil || slices.Contains(noSettings, name.Value) {
		var names []string
		fs.VisitAll(func(f *flag.Flag) {
			if !slices.Contains(noSettings, f.Name) {
				names = append(names, f.Name)
			}
		})
		p.atLine(name.Line, name.Value, "there is no setting %q; the settings are %s", name.Value,
			known(strings.Join(names, ", ")))
		return
	}
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if value.Kind != yaml.ScalarNode {
		p.atLine(name.Line, name.Value, "%s must be a single value, not a list or a map", known(name.Value))
		return
	}
	if given {
		return
	}
	text := value.Value
	if value.Tag == "!!null" {
		text = ""
	}
	p.lines[name.Value] = name.Line
	if err := fs.Set(name.Value, text); err != nil {
		p.atLine(name.Line, name.Value, "%s is %s: %v", known(name.Value), text, err)
	}
}

// named is a name in the file: known where it is that of a setting.
func (*problems) named(fs *flag.FlagSet, name *yaml.Node) any {
	if fs.Lookup(name.Value) != nil {
		return known(name.Value)
	}
	return name.Value
}

// readBounded reads a file that is not larger than a bound.
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return text, err
}
