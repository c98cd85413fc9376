package procfs

import (
	"slices"
	"strings"
	"testing"

	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

func TestListsOfCPUs(t *testing.T) {
	for list, want := range map[string][]int{
		"0\n": {0}, "0-1\n": {0, 1}, "0-2,5,7-8\n": {0, 1, 2, 5, 7, 8}, "3": {3}, "\n": nil, "": nil, "8191": {8191},
	} {
		if got, err := ParseCPUs(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %v, %v; want %v", list, got, err, want)
		}
	}
	for _, list := range []string{
		"a", "-1", "1-", "2-1", "0,0", "3,1", "0-8192", "0-99999999999999999999", "0,,1", "0 1",
	} {
		if got, err := ParseCPUs(list); err == nil {
			t.Errorf("%q is taken for %v", list, got)
		}
	}
}

func FuzzListsOfCPUs(f *testing.F) {
	f.Add("0-3,5\n")
	f.Fuzz(func(t *testing.T, list string) {
		defer fuzztest.Bound(t, fuzztest.Small, len(list))()
		cpus, err := ParseCPUs(list)
		if err != nil {
			return
		}
		if !slices.IsSorted(cpus) || len(cpus) > MaxCPUs || len(cpus) > 0 && cpus[len(cpus)-1] >= MaxCPUs {
			t.Errorf("%q is taken for %v", list, cpus)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(NameCPUs(cpus), "CPUs "), "CPU ")
		if again, err := ParseCPUs(strings.ReplaceAll(name, " ", "")); err != nil || !slices.Equal(again, cpus) {
			t.Errorf("%q, which is %v, is named %q", list, cpus, NameCPUs(cpus))
		}
	})
}
