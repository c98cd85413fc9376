package lack

import (
	"os"
	"strings"
	"testing"

	pb "github.com/p-scope/p-scope/pkg/api/pscope/v1"
)

// What the frontend and the units that are shipped say of privileges is what is said here.
func TestOneSetOfCapabilities(t *testing.T) {
	for _, f := range []struct{ file, want string }{
		{"../../src/labels.ts", SetCap(Pscope)},
		{"../../deploy/systemd/pscope-agent.service", "AmbientCapabilities=" + names(" ")},
	} {
		text, err := os.ReadFile(f.file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), f.want) {
			t.Errorf("%s does not have %q", f.file, f.want)
		}
	}
}

func names(separator string) string {
	var out []string
	for _, c := range Capabilities() {
		out = append(out, c.Name)
	}
	return strings.Join(out, separator)
}

func TestCapabilitiesThatContainOthers(t *testing.T) {
	if m := Held(1 << capSysAdmin).Missing(); strings.Join(m, " ") != "CAP_SYS_PTRACE CAP_DAC_READ_SEARCH" {
		t.Errorf("beside CAP_SYS_ADMIN %v is missing", m)
	}
	if m := Held(1<<capBPF | 1<<capPerfmon | 1<<capSysPtrace | 1<<capDACReadSearch).Missing(); m != nil {
		t.Errorf("of all four %v is missing", m)
	}
	if m := Held(0).Missing(); len(m) != 4 {
		t.Errorf("of none only %v is missing", m)
	}
}

func TestASentence(t *testing.T) {
	if s := ModeIsSnapshot().String(); s != "missing eBPF, because --mode is snapshot. Start the agent with "+
		"--mode auto" {
		t.Error(s)
	}
	if s := (Lack{What: "x", Why: "y"}).String(); s != "missing x, because y" {
		t.Error(s)
	}
}

func TestKinds(t *testing.T) {
	for _, c := range []struct {
		lack Lack
		want pb.LackKind
	}{
		{ModeIsSnapshot(), pb.LackKind_LACK_KIND_EBPF},
		{Lack{What: Frequencies, Why: "y"}, pb.LackKind_LACK_KIND_FREQUENCIES},
		{Unprotected(":9477"), pb.LackKind_LACK_KIND_PROTECTION},
		{HiddenFromAll("pid 7"), pb.LackKind_LACK_KIND_PROTECTED_PROCESSES},
		{Lack{What: "settings of the configuration file"}, pb.LackKind_LACK_KIND_UNSPECIFIED},
	} {
		if got := c.lack.Kind(); got != c.want {
			t.Errorf("%s is of kind %s, not %s", c.lack.What, got, c.want)
		}
	}
}

func TestKindsThatAgentsName(t *testing.T) {
	const wanted = pb.LackKind_LACK_KIND_FREQUENCIES
	for name, c := range map[string]struct {
		said *pb.Lack
		want bool
	}{
		"by its kind":                    {&pb.Lack{Kind: wanted, What: "other words"}, true},
		"an agent of the version before": {&pb.Lack{What: "CPU frequencies"}, true},
		"another kind": {&pb.Lack{Kind: pb.LackKind_LACK_KIND_STOPS, What: "CPU frequencies"},
			false},
		"other words of the version before": {&pb.Lack{What: "stops"}, false},
	} {
		if got := IsKind(c.said, wanted); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
