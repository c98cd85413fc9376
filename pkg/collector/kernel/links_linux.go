package kernel

import (
	"maps"
	"slices"
	"strconv"

	"github.com/cilium/ebpf/link"

	"github.com/p-scope/p-scope/pkg/collector/kern"
)

// LinkKind says how a probe is attached, by what the kernel says of its link.
func LinkKind(l any) string {
	withInfo, ok := l.(interface{ Info() (*link.Info, error) })
	if !ok {
		return "shared multi-uprobe link"
	}
	info, err := withInfo.Info()
	switch {
	case err != nil:
		return "perf event" // one that is no link: a kernel before 5.15
	case info.Type == link.UprobeMultiType:
		return "multi-uprobe link"
	case info.Type == link.PerfEventType:
		return "perf event"
	}
	return "link of type " + strconv.Itoa(int(info.Type))
}

// Programs names the BPF programs that an agent loads.
func Programs() ([]string, error) {
	spec, err := kern.LoadScope()
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(spec.Programs)), nil
}
