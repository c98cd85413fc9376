//go:build !cgo

package main

func crossToC() {}
