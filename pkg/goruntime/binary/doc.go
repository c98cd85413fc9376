// Package binary reads the ELF file of a Go program or Go shared library.
//
// [Open] parses the headers. The [File] then reads by link-time address, finds symbols by name ([File.Symbols]), the
// linker's table of functions ([OpenFuncTable]), which a stripped program still has, and struct types of package
// runtime in the DWARF debugging information ([File.RuntimeStructs]). [File.BuildInfo] says which Go built the program,
// and [ParseVersion] takes that version apart. [File.TLS] gives the program's thread-local storage.
//
// The bytes of the file are not trusted. Every size, count and offset has a bound, and malformed input is an error.
package binary
