// Package plan is what the two sides of a guest say to each other: the host, which writes a plan into the guest's first
// file system, and the guest's first process, which carries it out and answers on the console.
package plan

import (
	"fmt"
	"strconv"
	"strings"
)

// File is where the plan lies in the guest.
const File = "/plan.json"

// Plan is what a guest does before it ends.
type Plan struct {
	Jobs []Job `json:"jobs"` // one after the other, whatever becomes of them
	// Log says that the kernel's log is printed at the end.
	Log bool `json:"log,omitempty"`
}

// Job is one program that the guest runs.
type Job struct {
	Name    string   `json:"name"`
	Args    []string `json:"args"`          // the program's path in the guest and its arguments
	Env     []string `json:"env,omitempty"` // NAME=VALUE, beside PATH, HOME and TMPDIR
	User    string   `json:"user"`          // see ParseUser
	Seconds float64  `json:"seconds"`       // killed after so long; 0: never
}

// Mark begins each line of the guest's first process, so that it can be told from what the programs print.
const Mark = "@guest "

// Started, Ended and Failed are those lines, without Mark. Each names a job; Failed is for what kept the guest from
// trying.
func Started(job string) string { return "started " + job }

// Ended says with which code a job ended; 128 + n after signal n.
func Ended(job string, code int) string { return fmt.Sprintf("ended %s %d", job, code) }

// Failed says why a job could not be run.
func Failed(job string, err error) string {
	return fmt.Sprintf("failed %s %s", job, strings.ReplaceAll(err.Error(), "\n", " "))
}

// ParseEnded reads a line that Ended made.
func ParseEnded(line string) (job string, code int, ok bool) {
	f := strings.Fields(line)
	if len(f) != 3 || f[0] != "ended" {
		return "", 0, false
	}
	code, err := strconv.Atoi(f[2])
	return f[1], code, err == nil
}

// ParseFailed reads a line that Failed made.
func ParseFailed(line string) (job, why string, ok bool) {
	rest, ok := strings.CutPrefix(line, "failed ")
	if !ok {
		return "", "", false
	}
	job, why, ok = strings.Cut(rest, " ")
	return job, why, ok
}
