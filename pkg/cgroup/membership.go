package cgroup

import (
	"errors"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Membership is where a process is: the content of /proc/<pid>/cgroup.
type Membership struct {
	V2 string            // path in version 2; empty if the process has none
	V1 map[string]string // path by controller of version 1
}

// Deleted stands behind the path of a group of version 2 that has been removed (cgroups(7)).
const Deleted = " (deleted)"

// ParseMembership reads lines "id:controllers:path". A path may hold any character but a line break, which the kernel
// refuses in names.
func ParseMembership(file string) Membership {
	m := Membership{V1: make(map[string]string)}
	for line := range strings.Lines(file) {
		id, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, at, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 || !strings.HasPrefix(at, "/") {
			continue
		}
		if id == "0" && controllers == "" {
			m.V2 = at
			continue
		}
		for c := range strings.SplitSeq(controllers, ",") {
			m.V1[c] = at
		}
	}
	return m
}

// mount is a mounted hierarchy of control groups.
type mount struct {
	v2          bool
	controllers []string // of version 1, among the options of the file system
	root        string   // the group that is mounted at point
	point       string
}

// parseMounts reads the lines of a mountinfo file (proc_pid_mountinfo(5)) that mount control groups.
func parseMounts(file string) (out []mount) {
	for line := range strings.Lines(file) {
		before, after, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		fs, at := strings.Fields(after), strings.Fields(before)
		if !ok || len(fs) < 3 || len(at) < 5 {
			continue
		}
		m := mount{v2: fs[0] == "cgroup2", root: unescape(at[3]), point: unescape(at[4])}
		if fs[0] == "cgroup" {
			m.controllers = strings.Split(fs[2], ",")
		} else if !m.v2 {
			continue
		}
		out = append(out, m)
	}
	return out
}

// unescape undoes what mountinfo does to blanks, tabs, line breaks and backslashes: three octal digits behind a
// backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// The reasons for which a group can't be found.
var (
	errNotMounted = errors.New(
		"no hierarchy of control groups that shows it is mounted where the agent runs: mount /sys/fs/cgroup of the " +
			"host " +
			"there",
	)
	errRemoved = errors.New("the control group has been removed, though the process lives")
	errTooDeep = errors.New("the control group lies too deep")
)

// mostDeep bounds the ancestors that are looked at. systemd and Kubernetes nest some ten.
const mostDeep = 32

// place is a group in a mounted hierarchy.
type place struct {
	dir   string   // where its files are
	point string   // where the hierarchy is mounted: dir or above it
	path  string   // of the group, as the process has it
	up    []string // the paths of the group and its ancestors, up to the one that is mounted
}

// locate finds the directory of a group among the mounts that fit. The path and a mount's root are both as seen from
// the agent's own namespace of control groups: what is outside of it begins with "..", and is visible only if the mount
// shows it.
func locate(mounts []mount, fits func(*mount) bool, at string) (place, error) {
	if strings.HasSuffix(at, Deleted) {
		return place{}, errRemoved
	}
	parts := split(at)
	if len(parts) > mostDeep {
		return place{}, errTooDeep
	}
	for i := range mounts {
		m := &mounts[i]
		root := split(m.root)
		if !fits(m) || len(parts) < len(root) || !slices.Equal(parts[:len(root)], root) {
			continue
		}
		below := parts[len(root):]
		if slices.Contains(below, "..") {
			continue
		}
		p := place{dir: path.Join(append([]string{m.point}, below...)...), point: m.point, path: at}
		for n := len(parts); n >= len(root); n-- {
			p.up = append(p.up, "/"+strings.Join(parts[:n], "/"))
		}
		return p, nil
	}
	return place{}, errNotMounted
}

// split gives the names in a path. No group is called "." or nothing.
func split(at string) []string {
	return slices.DeleteFunc(strings.Split(at, "/"), func(s string) bool { return s == "" || s == "." })
}

// dirOf is the directory of the group that is so many steps up.
func (p *place) dirOf(steps int) string {
	dir := p.dir
	for range steps {
		dir = path.Dir(dir)
	}
	return dir
}
