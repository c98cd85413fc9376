//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// faultyDisk is a file system that passes everything on to a directory, and can be told to write late, or not at all.
type faultyDisk struct {
	delay   atomic.Int64 // nanoseconds that each change takes
	refusal atomic.Int32 // the errno of each change; 0: none
	healed  atomic.Pointer[chan struct{}]
	server  *fuse.Server
}

// mountFaulty mounts one at a directory; below is where the files lie. The bench serves it, so that the agent's system
// calls wait for the bench and not for a disk.
func mountFaulty(at, below string) (*faultyDisk, error) {
	if err := os.MkdirAll(below, 0o755); err != nil {
		return nil, err
	}
	d := &faultyDisk{}
	d.reset()
	root := &fs.LoopbackRoot{Path: below}
	node := &faultyNode{LoopbackNode: fs.LoopbackNode{RootData: root}, disk: d}
	root.RootNode = node
	second := time.Second
	server, err := fs.Mount(at, node, &fs.Options{AttrTimeout: &second, EntryTimeout: &second,
		MountOptions: fuse.MountOptions{FsName: "pscope-faults", DirectMount: true, AllowOther: true}})
	if err != nil {
		return nil, fmt.Errorf("mount a FUSE file system: %w", err)
	}
	d.server = server
	return d, nil
}

func (d *faultyDisk) reset() {
	c := make(chan struct{})
	d.healed.Store(&c)
}

// heal makes everything right again, for those who wait, too.
func (d *faultyDisk) heal() {
	d.delay.Store(0)
	d.refusal.Store(0)
	close(*d.healed.Load())
	d.reset()
}

// change is asked before anything is written.
func (d *faultyDisk) change() syscall.Errno {
	if wait := time.Duration(d.delay.Load()); wait > 0 {
		select {
		case <-time.After(wait):
		case <-*d.healed.Load():
		}
	}
	return syscall.Errno(d.refusal.Load())
}

// faultyNode is a file or directory of it.
type faultyNode struct {
	fs.LoopbackNode
	disk *faultyDisk
}

// WrapChild implements fs.NodeWrapChilder.
func (n *faultyNode) WrapChild(_ context.Context, child fs.InodeEmbedder) fs.InodeEmbedder {
	return &faultyNode{LoopbackNode: fs.LoopbackNode{RootData: child.(*fs.LoopbackNode).RootData}, disk: n.disk}
}

// Open implements fs.NodeOpener.
func (n *faultyNode) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&(syscall.O_WRONLY|syscall.O_RDWR) != 0 {
		if e := n.disk.change(); e != 0 {
			return nil, 0, e
		}
	}
	f, opened, e := n.LoopbackNode.Open(ctx, flags)
	return slowPath(f), opened, e
}

// slowPath keeps the kernel from writing past this process, as it does since Linux 6.9 where it is given the file
// below.
func slowPath(f fs.FileHandle) fs.FileHandle {
	if l, ok := f.(*fs.LoopbackFile); ok {
		return &servedFile{l}
	}
	return f
}

// servedFile is a file that this process reads and writes.
type servedFile struct{ *fs.LoopbackFile }

// PassthroughFd implements fs.FilePassthroughFder.
func (*servedFile) PassthroughFd() (int, bool) { return -1, false }

// Write implements fs.NodeWriter.
func (n *faultyNode) Write(ctx context.Context, f fs.FileHandle, data []byte, off int64) (uint32, syscall.Errno) {
	if e := n.disk.change(); e != 0 {
		return 0, e
	}
	return f.(fs.FileWriter).Write(ctx, data, off)
}

// Fsync implements fs.NodeFsyncer.
func (n *faultyNode) Fsync(ctx context.Context, f fs.FileHandle, flags uint32) syscall.Errno {
	if e := n.disk.change(); e != 0 {
		return e
	}
	if s, ok := f.(fs.FileFsyncer); ok {
		return s.Fsync(ctx, flags)
	}
	return 0 // a directory
}

// Create implements fs.NodeCreater.
func (n *faultyNode) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode,
	fs.FileHandle, uint32, syscall.Errno) {
	if e := n.disk.change(); e != 0 {
		return nil, nil, 0, e
	}
	inode, f, opened, e := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return inode, slowPath(f), opened, e
}

// Mkdir implements fs.NodeMkdirer.
func (n *faultyNode) Mkdir(ctx context.Context, name string, mode uint32, out *fuse.EntryOut) (*fs.Inode,
	syscall.Errno) {
	if e := n.disk.change(); e != 0 {
		return nil, e
	}
	return n.LoopbackNode.Mkdir(ctx, name, mode, out)
}

// Unlink implements fs.NodeUnlinker.
func (n *faultyNode) Unlink(ctx context.Context, name string) syscall.Errno {
	if e := n.disk.change(); e != 0 {
		return e
	}
	return n.LoopbackNode.Unlink(ctx, name)
}

// Rmdir implements fs.NodeRmdirer.
func (n *faultyNode) Rmdir(ctx context.Context, name string) syscall.Errno {
	if e := n.disk.change(); e != 0 {
		return e
	}
	return n.LoopbackNode.Rmdir(ctx, name)
}

// Rename implements fs.NodeRenamer.
func (n *faultyNode) Rename(ctx context.Context, name string, parent fs.InodeEmbedder, to string,
	flags uint32) syscall.Errno {
	if e := n.disk.change(); e != 0 {
		return e
	}
	return n.LoopbackNode.Rename(ctx, name, parent, to, flags)
}

// Setattr implements fs.NodeSetattrer.
func (n *faultyNode) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn,
	out *fuse.AttrOut) syscall.Errno {
	if e := n.disk.change(); e != 0 {
		return e
	}
	return n.LoopbackNode.Setattr(ctx, f, in, out)
}

// Allocate implements fs.NodeAllocater.
func (n *faultyNode) Allocate(ctx context.Context, f fs.FileHandle, off, size uint64, mode uint32) syscall.Errno {
	if e := n.disk.change(); e != 0 {
		return e
	}
	return f.(fs.FileAllocater).Allocate(ctx, off, size, mode)
}
