package report

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"
	"golang.org/x/sys/unix"
)

// virtualization is the hypervisor this machine runs under, by the processor's own word or, where that has none, by the
// firmware's; empty if neither names one.
func virtualization() string {
	if id := strings.Trim(cpuid.CPU.HypervisorVendorString, "\x00 "); id != "" {
		// What these hypervisors answer to CPUID leaf 0x40000000.
		switch id {
		case "KVMKVMKVM":
			return "KVM"
		case "TCGTCGTCGTCG":
			return "QEMU without KVM, emulated"
		case "Microsoft Hv":
			return "Hyper-V"
		case "VMwareVMware":
			return "VMware"
		case "XenVMMXenVMM":
			return "Xen"
		}
		return id
	}
	vendor, _ := os.ReadFile("/sys/class/dmi/id/sys_vendor") // containers and some boards have none
	if v := strings.TrimSpace(string(vendor)); strings.Contains(v, "QEMU") || strings.Contains(v, "Amazon EC2") ||
		strings.Contains(v, "Google") {
		return v
	}
	return ""
}

// Besides measures how much of the CPUs other processes take while a benchmark runs.
type Besides struct {
	busy, own time.Duration
	at        time.Time
}

// NewBesides begins to measure.
func NewBesides() (b Besides, err error) {
	b.at = time.Now()
	b.own = ownCPU()
	b.busy, err = busyCPU()
	return b, err
}

// Share is the share of all CPUs' time since then that neither this process nor those of its children that have ended
// took, 0 to 1; interrupts and what a hypervisor took count as others.
func (b Besides) Share() (float64, error) {
	busy, err := busyCPU()
	if err != nil {
		return 0, err
	}
	all := time.Since(b.at) * time.Duration(runtime.NumCPU())
	return min(max(float64(busy-b.busy-(ownCPU()-b.own))/float64(all), 0), 1), nil
}

func ownCPU() (sum time.Duration) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// busyCPU sums what /proc/stat says of all CPUs, without idle time and waiting for disks, in steps of 10 ms.
func busyCPU() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks int64
	for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal
		if i == 3 || i == 4 {
			continue
		}
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat begins with %q", line)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
