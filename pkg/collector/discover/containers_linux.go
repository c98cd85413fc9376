package discover

import (
	"regexp"
	"slices"
	"strings"

	"github.com/p-scope/p-scope/pkg/cgroup"
	"github.com/p-scope/p-scope/pkg/internal/cleantext"
)

// Container runtimes give the cgroup of a container a name with the container's id or name in it. Containers are nested
// (kind, Docker in Docker, LXC with Docker inside), and systemd may run in one, so that the innermost part of a path
// that names a container is the one that counts.

// containerNames are how runtimes name the cgroup of a container; each matches one part of a path, and its group is the
// id or name.
//
//	<id>                            Docker, containerd (CRI) with the driver cgroupfs: 64 hexadecimal digits
//	RUNTIME-<id>.scope              the driver systemd: docker-, cri-containerd-, crio-, libpod- (podman), nerdctl-
//	crio-<id>, libpod-<id>          CRI-O and podman with the driver cgroupfs
//	SLICE:cri-containerd:<id>       containerd with the driver cgroupfs below a kubelet with the driver systemd
//	<task>-<number>                 Amazon ECS on Fargate
//	lxc.payload.<name>              LXC from 4.0 on, LXD, Incus
//	machine-<name>.scope            systemd-nspawn on its own, libvirt's LXC; the name is escaped as systemd.unit(5) has it
//	systemd-nspawn@<name>.service   systemd-nspawn as a service
var containerNames = []*regexp.Regexp{
	regexp.MustCompile(`^(?:[a-z][a-z0-9-]*-|.*:[a-z-]+:)?([0-9a-f]{64})(?:\.scope)?$`),
	regexp.MustCompile(`^([0-9a-f]{32}-[0-9]{8,12})$`),
	regexp.MustCompile(`^lxc\.payload\.(.+)$`),
	regexp.MustCompile(`^machine-(.+)\.scope$`),
	regexp.MustCompile(`^systemd-nspawn@(.+)\.service$`),
}

// podPart is the cgroup of a pod, whatever its class: pod<uid> by the driver cgroupfs,
// …kubepods-burstable-pod<uid>.slice by the driver systemd, which writes underscores for dashes. The uid of a static
// pod is a hash without dashes.
var podPart = regexp.MustCompile(
	`^(?:pod|(?:[a-z0-9_-]+-)?kubepods-(?:besteffort-|burstable-)?pod)([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?::.*)?$`,
)

const (
	shownOfID   = 12  // digits of a container's id, as tools show it
	maxPathPart = 256 // parts of a path that are looked at, from the innermost on
)

// controllers are those of cgroup v1 by which a process is placed, first those whose limits matter most here.
var controllers = []string{"cpu", "cpuacct", "memory", "pids", "blkio", "cpuset", "freezer", "devices", "name=systemd"}

// parseCgroup takes a process's cgroup, container and pod from /proc/<pid>/cgroup (cgroups(7)). Where hierarchies of
// version 1 have the controllers, the path is that of the CPU controller, as far as it is in a group of its own: the
// line of version 2 then is only systemd's. The container is its id, cut to the twelve digits that tools show, or its
// name.
func parseCgroup(file string) (path, container, pod string) {
	paths := cgroupPaths(file)
	for _, p := range paths {
		if container, pod = containerIn(p); container != "" || pod != "" {
			break
		}
	}
	if len(paths) > 0 {
		path = paths[0]
	}
	return cleantext.Name(path, cleantext.MaxPath), cleantext.Name(container, cleantext.MaxName), pod
}

// cgroupPaths lists the paths of a process that are more than the root, the one that matters most first.
func cgroupPaths(file string) []string {
	in := cgroup.ParseMembership(file)
	var paths []string
	add := func(path string) {
		if p := seenFromOutside(path); p != "" && !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	for _, name := range controllers {
		add(in.V1[name])
	}
	add(in.V2)
	return paths
}

// seenFromOutside is a path without what it has because of the agent's own cgroup namespace, in which groups beside and
// above its own are "/../…" (cgroup_namespaces(7)). What is left is the end of the path that the host sees. It is empty
// for the root.
func seenFromOutside(path string) string {
	for path == "/.." || strings.HasPrefix(path, "/../") {
		path = path[len("/.."):]
	}
	// The kernel says so of a group that has been removed while the process was in it.
	path = strings.TrimSuffix(path, cgroup.Deleted)
	if path == "/" {
		return ""
	}
	return path
}

// containerIn finds the innermost container and the innermost pod in a path.
func containerIn(path string) (container, pod string) {
	parts := strings.Split(path, "/")
	parts = parts[max(0, len(parts)-maxPathPart):]
	for i := len(parts) - 1; i >= 0 && (container == "" || pod == ""); i-- {
		if container == "" {
			container = containerPart(parts, i)
		}
		if m := podPart.FindStringSubmatch(parts[i]); m != nil && pod == "" {
			pod = strings.ReplaceAll(m[1], "_", "-")
		}
	}
	return container, pod
}

// containerPart is the container that one part of a path names; empty if it names none.
func containerPart(parts []string, i int) string {
	part := parts[i]
	switch {
	case strings.Contains(part, "conmon-"), strings.HasPrefix(part, "lxc.monitor."):
		return "" // what watches a container from outside
	case i > 0 && (parts[i-1] == "lxc" || parts[i-1] == "lxc.payload") && part != "":
		return part // LXC before 4.0
	case i+1 < len(parts) && parts[i+1] == "supervisor":
		return "" // systemd-nspawn itself, beside what it runs
	case strings.HasPrefix(part, "machine-qemu"):
		return "" // a virtual machine of libvirt's
	}
	for _, name := range containerNames {
		m := name.FindStringSubmatch(part)
		if m == nil {
			continue
		}
		if len(m[1]) == 64 && strings.Trim(m[1], "0123456789abcdef") == "" {
			return m[1][:shownOfID]
		}
		return unescapeUnit(m[1])
	}
	return ""
}

// unescapeUnit undoes the escaping of names of units (systemd-escape(1)): \x2d is a dash.
func unescapeUnit(s string) string {
	if !strings.Contains(s, `\x`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if i+4 <= len(s) && s[i] == '\\' && s[i+1] == 'x' {
			hi, lo := strings.IndexByte(hexDigits, s[i+2]), strings.IndexByte(hexDigits, s[i+3])
			if hi >= 0 && lo >= 0 {
				b.WriteByte(byte(hi<<4 | lo))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

const hexDigits = "0123456789abcdef"
