package procfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// SysCPUs is where the kernel says which CPUs there are.
const SysCPUs = "/sys/devices/system/cpu"

// MaxCPUs bounds what is believed of a CPU's number: NR_CPUS is 8192 at most (arch/x86/Kconfig).
const MaxCPUs = 8192

// ParseCPUs reads a list as the kernel writes it ("0-3,8,10-11\n", Documentation/admin-guide/cputopology.rst), in
// ascending order. An empty list is none.
func ParseCPUs(list string) ([]int, error) {
	var cpus []int
	list = strings.TrimSpace(list)
	if list == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(part, "-")
		first, err := strconv.ParseUint(from, 10, 16)
		last := first
		if err == nil && isRange {
			last, err = strconv.ParseUint(to, 10, 16)
		}
		switch {
		case err != nil, first > last, last >= MaxCPUs:
			return nil, fmt.Errorf("%q is no list of CPUs", list)
		case len(cpus) > 0 && int(first) <= cpus[len(cpus)-1]:
			return nil, fmt.Errorf("%q is no list of CPUs: it is not in order", list)
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, int(cpu))
		}
	}
	return cpus, nil
}

// PossibleCPUs is one more than the highest number that a CPU of this machine can ever have: how long a table by CPU
// must be. Numbers may have gaps.
func PossibleCPUs() (int, error) {
	list, err := os.ReadFile(filepath.Join(SysCPUs, "possible"))
	if err != nil {
		return 0, fmt.Errorf("which CPUs there can be is not known: %w; mount sysfs", err)
	}
	cpus, err := ParseCPUs(string(list))
	if err == nil && len(cpus) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return 0, fmt.Errorf("which CPUs there can be is not known: %s/possible: %w", SysCPUs, err)
	}
	return slices.Max(cpus) + 1, nil
}

// OnlineCPUs follows which CPUs are in use. CPUs that a process may not run on (its affinity, its cpuset) are among
// them.
type OnlineCPUs struct {
	file *os.File
	list string // as read last
	CPUs []int  // by the last Read
}

// OpenOnlineCPUs begins to follow them. dir is SysCPUs, except in tests.
func OpenOnlineCPUs(dir string) (*OnlineCPUs, error) {
	f, err := os.Open(filepath.Join(dir, "online"))
	if err != nil {
		return nil, fmt.Errorf("which CPUs are in use is not known: %w; mount sysfs", err)
	}
	o := &OnlineCPUs{file: f}
	if _, err := o.Read(); err != nil {
		f.Close()
		return nil, err
	}
	return o, nil
}

// Read brings the list up to date and says whether it has changed: one system call where it has not.
func (o *OnlineCPUs) Read() (changed bool, err error) {
	var buf [4096]byte // sysfs gives a page at most
	n, err := o.file.ReadAt(buf[:], 0)
	if n == 0 {
		return false, fmt.Errorf("which CPUs are in use is not known: read %s: %w", o.file.Name(), err)
	}
	if string(buf[:n]) == o.list {
		return false, nil
	}
	cpus, err := ParseCPUs(string(buf[:n]))
	if err != nil {
		return false, fmt.Errorf("which CPUs are in use is not known: %s: %w", o.file.Name(), err)
	}
	o.list, o.CPUs = string(buf[:n]), cpus
	return true, nil
}

// Close ends that.
func (o *OnlineCPUs) Close() { _ = o.file.Close() }

// NameCPUs names CPUs for people: "CPU 3", "CPUs 1-3, 8".
func NameCPUs(cpus []int) string {
	var parts []string
	for i := 0; i < len(cpus); {
		j := i
		for j+1 < len(cpus) && cpus[j+1] == cpus[j]+1 {
			j++
		}
		if i == j {
			parts = append(parts, strconv.Itoa(cpus[i]))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", cpus[i], cpus[j]))
		}
		i = j + 1
	}
	if len(cpus) == 1 {
		return "CPU " + parts[0]
	}
	return "CPUs " + strings.Join(parts, ", ")
}
