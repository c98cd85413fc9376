// Package memory reads the memory of other processes on Linux.
//
// [Read] is process_vm_readv(2) with a time limit. Such a read may wait in the kernel for as long as somebody else
// likes: a page may lie in a file whose file system does not answer, and a thread of the process may wait for such a
// file while it holds the lock of the address space (fs/fuse/file.c, fuse_vma_close, writes back under it). No signal
// ends that. So each read is done by a goroutine that is left behind when it takes too long, and a process that did not
// answer is not read for a while.
//
// A [Batch] reads many pieces with few system calls.
package memory
