// Package discover finds the Go processes of a host, and the Go runtimes in them.
//
// A Finder looks at the processes in /proc now and then, and at once at those that the kernel side reports. It reads
// each program and library once, has each runtime that it finds observed, and keeps the reasons of those that are not.
// Files and memory that a process chose may not answer: workers read them, a few at once, and are given up after a
// while.
package discover
