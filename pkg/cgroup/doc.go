// Package cgroup reads what the control groups of a process say (cgroups(7); Documentation/admin-guide/cgroup-v2.rst
// and cgroup-v1 of Linux): who limits its CPU time and how often that throttles, the pressure on CPU, memory and disks,
// and whether the freezer holds it. It knows version 1, version 2 and both at once.
//
// Everything read here may be hostile: any user can make control groups with any name, and the files of a process may
// be gone at any moment. Each file is read up to a bound, and at most once in a while, however many processes of a
// group ask.
package cgroup
