//go:build !linux

package main

import "os/exec"

// dieWithParent needs Linux; elsewhere a killed preview leaves the plugin to notice by itself.
func dieWithParent(*exec.Cmd) {}
