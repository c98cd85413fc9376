// Package codewalk learns from the machine code of the Go runtime what a program's file does not say.
//
// [Search] finds a layout that no table knows and no debugging information describes. It follows every path through
// some sixty functions of the scheduler (walk.go) and applies rules to what they load and store (rules.go). Each field
// needs two functions that agree on it; one that disagrees is enough to refuse. Package process then proves the layout
// in the memory of each process.
//
// [FindVariables] locates the runtime's variables in a stripped program, by the functions that refer to them. [FindG]
// finds where a thread keeps its current G.
package codewalk
