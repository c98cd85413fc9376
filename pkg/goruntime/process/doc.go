// Package process reads the Go runtime of a live process on Linux.
//
// [Open] binds a [goruntime.Binary] to a process that runs it; [OpenLibrary] does so for a shared library that the
// process has loaded. [Process.Validate] checks the two against each other, and proves a layout that was found by
// search field by field. [Process.Snapshot] then reads every P with a handful of process_vm_readv calls. The process is
// not stopped.
//
// [MappedFiles] lists the programs and libraries that a process has mapped. [OpenRegular] opens files that others may
// exchange at any moment.
//
// Nothing that is read is trusted: pointers, counts and lists have bounds. Every error is a [refusal.Error]. Other
// operating systems have the types, but their [Open] always fails.
package process
