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

// What a name in an expression may refer to, by its first word: everything else is a variable of its block (for_each, dynamic, for).
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

// The attributes of the resources are those that the provider documents (registry.terraform.io/providers/grafana/grafana).
func TestResourcesHaveTheAttributesOfTheProvider(t *testing.T) {
	documented := map[string][]string{
		"grafana_data_source":         {"type", "name", "uid", "url", "is_default", "json_data_encoded", "secure_json_data_encoded", "org_id"},
		"grafana_folder":              {"title", "uid", "parent_folder_uid", "org_id"},
		"grafana_dashboard":           {"config_json", "folder", "overwrite", "message", "org_id"},
		"grafana_rule_group":          {"name", "folder_uid", "interval_seconds", "disable_provenance", "org_id", "rule"},
		"grafana_contact_point":       {"name", "webhook", "email", "disable_provenance", "org_id"},
		"grafana_notification_policy": {"contact_point", "group_by", "group_wait", "group_interval", "repeat_interval", "policy", "org_id"},
	}
	meta := []string{"for_each", "count", "depends_on", "lifecycle", "provider"}
	for file, body := range module(t) {
		for _, b := range body.Blocks {
			if b.Type != "resource" {
				continue
			}
			allowed, ok := documented[b.Labels[0]]
			if !ok {
				t.Errorf("%s: %s is not known to this test", file, b.Labels[0])
			}
			names := []string{}
			for name := range b.Body.Attributes {
				names = append(names, name)
			}
			for _, inner := range b.Body.Blocks {
				if inner.Type == "dynamic" {
					names = append(names, inner.Labels[0])
				} else {
					names = append(names, inner.Type)
				}
			}
			for _, name := range names {
				if !slices.Contains(allowed, name) && !slices.Contains(meta, name) {
					t.Errorf("%s: %s has no attribute %s", file, b.Labels[0], name)
				}
			}
		}
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
