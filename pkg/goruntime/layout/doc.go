// Package layout says where the fields of the Go runtime's types lie, and where its variables are.
//
// A [Layout] has an offset for each field that P-Scope reads of the types g, m, p and schedt. [FromDWARF] reads it from
// the debugging information of a program. [FromTable] takes it from the embedded table of Go releases, which
// tools/gen-layouts writes. Where both fail, package codewalk searches the program's code. [Vars] has the addresses of
// the runtime's variables.
package layout
