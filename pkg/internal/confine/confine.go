// Package confine gives up what a part of the agent no longer needs once it has started: capabilities, the right to
// gain new ones, system calls and, for the process that keeps the history, files outside its directory and the network.
//
// Everything holds for all threads of the process, and for the processes it starts. Nothing of it can be taken back.
// What can't be given up is reported with the reason and is no error: the process then runs as it would without this
// package.
package confine

// Measure is one thing that was given up, or that could not be.
type Measure struct {
	// Part is the process: "agent" or "history".
	Part string `json:"part"`
	// Name is "capabilities", "no new privileges", "system calls" or "files and network".
	Name string `json:"name"`
	// Holds says whether it took effect.
	Holds bool `json:"holds"`
	// Detail says what is left, or why it could not be given up.
	Detail string `json:"detail"`
}
