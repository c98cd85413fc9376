package deploytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

const terraform = "../terraform"

// module parses every file.
func module(t *testing.T) map[string]*hclsyntax.Body {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(terraform, "*.tf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	parser := hclparse.NewParser()
	bodies := map[string]*hclsyntax.Body{}
	for _, name := range files {
		f, problems := parser.ParseHCLFile(name)
		if problems.HasErrors() {
			t.Fatal(problems)
		}
		bodies[filepath.Base(name)] = f.Body.(*hclsyntax.Body)
	}
	return bodies
}

// What a name in an expression may refer to, by its first word: everything else is a variable of its block (for_each,
// dynamic, for).
func TestEveryReferenceLeadsSomewhere(t *testing.T) {
	bodies := module(t)
	known := map[string]bool{}
	for _, body := range bodies {
		for _, b := range body.Blocks {
			switch b.Type {
			case "variable":
				known["var."+b.Labels[0]] = true
			case "resource":
				known[b.Labels[0]+"."+b.Labels[1]] = true
			case "locals":
				for name := range b.Body.Attributes {
					known["local."+name] = true
				}
			}
		}
	}
	used := map[string]bool{}
	for file, body := range bodies {
		_ = hclsyntax.VisitAll(body, func(n hclsyntax.Node) hcl.Diagnostics {
			expr, ok := n.(*hclsyntax.ScopeTraversalExpr)
			if !ok || len(expr.Traversal) < 2 {
				return nil
			}
			root := expr.Traversal.RootName()
			next, ok := expr.Traversal[1].(hcl.TraverseAttr)
			if !ok || root != "var" && root != "local" && !strings.HasPrefix(root, "grafana_") {
				return nil
			}
			name := root + "." + next.Name
			used[name] = true
			if !known[name] {
				t.Errorf("%s: %s is not declared", file, name)
			}
			return nil
		})
	}
	for name := range known {
		if strings.HasPrefix(name, "var.") && !used[name] {
			t.Errorf("%s is never used", name)
		}
	}
}

// block is what the provider knows of a resource or of a block in it: the names this module may use, and those it can't
// do without.
type block struct {
	optional []string
	required []string
	blocks   map[string]block
}

// The resources as versions 3.0.0 and 4.45.1 of the provider have them, as far as this module needs them. With 4.45.1
// the module was applied to a Grafana 12.4.
var provider = map[string]block{
	"grafana_data_source": {
		required: []string{"type", "name"},
		optional: []string{"uid", "url", "is_default", "json_data_encoded", "secure_json_data_encoded", "org_id"},
	},
	"grafana_folder": {
		required: []string{"title"},
		optional: []string{"uid", "parent_folder_uid", "org_id"},
	},
	"grafana_dashboard": {
		required: []string{"config_json"},
		optional: []string{"folder", "overwrite", "message", "org_id"},
	},
	"grafana_rule_group": {
		required: []string{"name", "folder_uid", "interval_seconds", "rule"},
		optional: []string{"disable_provenance", "org_id"},
		blocks: map[string]block{"rule": {
			required: []string{"name", "condition", "data"},
			optional: []string{"for", "no_data_state", "exec_err_state", "annotations", "labels", "is_paused"},
			blocks: map[string]block{"data": {
				required: []string{"ref_id", "datasource_uid", "model", "relative_time_range"},
				optional: []string{"query_type"},
				blocks:   map[string]block{"relative_time_range": {required: []string{"from", "to"}}},
			}},
		}},
	},
	"grafana_contact_point": {
		required: []string{"name"},
		optional: []string{"disable_provenance", "org_id"},
		blocks: map[string]block{"webhook": {
			required: []string{"url"},
			optional: []string{"http_method", "title", "message", "max_alerts", "disable_resolve_message"},
		}},
	},
	"grafana_notification_policy": {
		required: []string{"contact_point", "group_by"},
		optional: []string{"group_wait", "group_interval", "repeat_interval", "org_id"},
		blocks: map[string]block{"policy": {
			optional: []string{"contact_point", "continue", "group_by", "group_wait", "group_interval",
				"repeat_interval", "mute_timings"},
			blocks: map[string]block{"matcher": {required: []string{"label", "match", "value"}}},
		}},
	},
}

// meta are the arguments of every resource, which the provider doesn't see.
var meta = []string{"for_each", "count", "depends_on", "lifecycle", "provider"}

// faults are the names in a body that the provider doesn't know, and those it asks for that are missing.
func (b block) faults(where string, body *hclsyntax.Body) (out []string) {
	var names []string
	for name := range body.Attributes {
		names = append(names, name)
	}
	for _, inner := range body.Blocks {
		name, content := inner.Type, inner.Body
		if name == "dynamic" {
			name = inner.Labels[0]
			content = contentOf(inner.Body)
		}
		names = append(names, name)
		if known, ok := b.blocks[name]; ok {
			out = append(out, known.faults(where+"."+name, content)...)
		}
	}
	for _, name := range names {
		if _, ok := b.blocks[name]; !ok && !slices.Contains(b.required, name) && !slices.Contains(b.optional, name) {
			out = append(out, where+" has no "+name)
		}
	}
	for _, name := range b.required {
		if !slices.Contains(names, name) {
			out = append(out, where+" lacks "+name)
		}
	}
	return out
}

// contentOf is the body of the block that a dynamic block repeats.
func contentOf(dynamic *hclsyntax.Body) *hclsyntax.Body {
	for _, b := range dynamic.Blocks {
		if b.Type == "content" {
			return b.Body
		}
	}
	return &hclsyntax.Body{}
}

func TestResourcesAreThoseOfTheProvider(t *testing.T) {
	for file, body := range module(t) {
		for _, b := range body.Blocks {
			if b.Type != "resource" {
				continue
			}
			known, ok := provider[b.Labels[0]]
			if !ok {
				t.Errorf("%s: %s is not known to this test", file, b.Labels[0])
			}
			known.optional = slices.Concat(known.optional, meta)
			for _, fault := range known.faults(b.Labels[0], b.Body) {
				t.Errorf("%s: %s", file, fault)
			}
		}
	}
}

func TestAWrongNameIsFound(t *testing.T) {
	f, problems := hclparse.NewParser().ParseHCL([]byte(`
		name = "a"
		folder_uid = "b"
		interval_seconds = 1
		dynamic "rule" {
			for_each = []
			content {
				name      = "a"
				condition = "C"
				data {
					ref_id = "A"
					model = ""
					datasource = "x"
					relative_time_range { from = 1 }
				}
			}
		}`), "wrong.tf")
	if problems.HasErrors() {
		t.Fatal(problems)
	}
	found := provider["grafana_rule_group"].faults("group", f.Body.(*hclsyntax.Body))
	slices.Sort(found)
	want := []string{"group.rule.data has no datasource", "group.rule.data lacks datasource_uid",
		"group.rule.data.relative_time_range lacks to"}
	if !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
}

func TestFormat(t *testing.T) {
	bin, err := exec.LookPath("terraform")
	if err != nil {
		if bin, err = exec.LookPath("tofu"); err != nil {
			t.Skip("neither terraform nor tofu is installed")
		}
	}
	cmd := exec.Command(bin, "fmt", "-check", "-diff", "-recursive", terraform)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "TF_") })
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
