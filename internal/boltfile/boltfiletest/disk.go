// Package boltfiletest shows what a file keeps when its disk does not.
//
// [Damage] changes the bytes of a file at rest. [PowerLoss] runs a workload on
// a recording file system and makes the images that a loss of power at any
// moment may leave. [OnDisk] runs a test on a file system that fails, stalls
// or forgets on command. All three ask a check that the caller gives; so the
// packages that keep their data in such files use them with their own records.
//
// The file system is a real one, by FUSE, and the code under test runs in a
// process of its own: the pages that it maps come from the kernel, and a page
// fault may not wait for the very process that it stops.
package boltfiletest

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// The names by which the process under test talks to the disk.
const (
	ackName     = ".ack"     // each line is a number that was acknowledged
	controlName = ".control" // each line is a command
)

// disk is a folder in memory that knows what a loss of power would leave.
type disk struct {
	mu     sync.Mutex
	log    []event
	faults []*fault
	root   *folder
}

type eventKind int

const (
	eventCreate eventKind = iota
	eventWrite
	eventTruncate
	eventSync
	eventRename
	eventUnlink
	eventSyncDir
	eventAck
)

// event is one change that reached the disk, in order.
type event struct {
	kind     eventKind
	file     *file
	name, to string
	offset   int64
	data     []byte
	number   int // of an acknowledgement
}

// fault makes some calls fail or wait.
type fault struct {
	call   string // "write", "sync", "truncate", "create", "rename"
	after  int    // how many such calls succeed before
	times  int    // how many fail; -1 is all
	errno  syscall.Errno
	resume chan struct{} // of a stall
}

// meet is called at the begin of each call.
func (d *disk) meet(call string) syscall.Errno {
	d.mu.Lock()
	for _, f := range d.faults {
		if f.call != call || f.times == 0 {
			continue
		}
		if f.after > 0 {
			f.after--
			continue
		}
		if f.times > 0 {
			f.times--
		}
		resume, errno := f.resume, f.errno
		d.mu.Unlock()
		if resume != nil {
			<-resume
		}
		return errno
	}
	d.mu.Unlock()
	return 0
}

// control obeys one command of the process under test.
func (d *disk) control(line string) syscall.Errno {
	words := strings.Fields(line)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case len(words) == 5 && words[0] == "fail":
		f := &fault{call: words[1]}
		f.after, _ = strconv.Atoi(words[2])
		f.times, _ = strconv.Atoi(words[3])
		errno, _ := strconv.Atoi(words[4])
		f.errno = syscall.Errno(errno)
		d.faults = append(d.faults, f)
	case len(words) == 3 && words[0] == "stall":
		f := &fault{call: words[1], times: -1, resume: make(chan struct{})}
		f.after, _ = strconv.Atoi(words[2])
		d.faults = append(d.faults, f)
	case len(words) == 1 && words[0] == "heal":
		d.heal()
	case len(words) == 1 && words[0] == "lose":
		for _, child := range d.root.Children() {
			if f, ok := child.Operations().(*file); ok {
				f.content = append([]byte(nil), f.durable...)
				f.pending = nil
			}
		}
	default:
		return syscall.EINVAL
	}
	return 0
}

func (d *disk) heal() {
	for _, f := range d.faults {
		if f.resume != nil {
			close(f.resume)
		}
	}
	d.faults = nil
}

// folder is the root and only folder.
type folder struct {
	fs.Inode
	disk *disk
}

var (
	_ fs.NodeCreater        = (*folder)(nil)
	_ fs.NodeUnlinker       = (*folder)(nil)
	_ fs.NodeRenamer        = (*folder)(nil)
	_ fs.NodeOpendirHandler = (*folder)(nil)
	_ fs.NodeMknoder        = (*folder)(nil)
	_ fs.NodeGetattrer      = (*folder)(nil)
	_ fs.NodeGetattrer      = (*socket)(nil)
	_ fs.NodeSetattrer      = (*socket)(nil)
	_ fs.NodeOpener         = (*file)(nil)
	_ fs.NodeReader         = (*file)(nil)
	_ fs.NodeWriter         = (*file)(nil)
	_ fs.NodeFsyncer        = (*file)(nil)
	_ fs.NodeFlusher        = (*file)(nil)
	_ fs.NodeGetattrer      = (*file)(nil)
	_ fs.NodeSetattrer      = (*file)(nil)
)

func (d *folder) Create(ctx context.Context, name string, _, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := d.disk.meet("create"); errno != 0 {
		return nil, nil, 0, errno
	}
	f := &file{disk: d.disk, name: name, mode: mode & 0o777}
	child := d.NewPersistentInode(ctx, f, fs.StableAttr{Mode: syscall.S_IFREG})
	d.disk.mu.Lock()
	if !strings.HasPrefix(name, ".") {
		d.disk.log = append(d.disk.log, event{kind: eventCreate, file: f, name: name})
	}
	d.disk.mu.Unlock()
	d.AddChild(name, child, true)
	f.attr(&out.Attr)
	return child, nil, 0, 0
}

// Mknod makes sockets, which hold nothing that could be lost.
func (d *folder) Mknod(ctx context.Context, name string, mode, _ uint32, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	if mode&syscall.S_IFMT != syscall.S_IFSOCK {
		return nil, syscall.EPERM
	}
	s := &socket{}
	s.mode.Store(mode)
	out.Mode = mode
	return d.NewInode(ctx, s, fs.StableAttr{Mode: syscall.S_IFSOCK}), 0
}

// socket is the name of a Unix socket.
type socket struct {
	fs.Inode
	mode atomic.Uint32
}

// Getattr says that the folder is its owner's only.
func (d *folder) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Nlink = syscall.S_IFDIR|0o700, 2
	return 0
}

func (s *socket) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode, out.Nlink = s.mode.Load(), 1
	return 0
}

func (s *socket) Setattr(ctx context.Context, f fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if mode, ok := in.GetMode(); ok {
		s.mode.Store(syscall.S_IFSOCK | mode&0o777)
	}
	return s.Getattr(ctx, f, out)
}

func (d *folder) Unlink(_ context.Context, name string) syscall.Errno {
	d.disk.mu.Lock()
	defer d.disk.mu.Unlock()
	d.disk.log = append(d.disk.log, event{kind: eventUnlink, name: name})
	return 0
}

func (d *folder) Rename(_ context.Context, name string, _ fs.InodeEmbedder, to string, _ uint32) syscall.Errno {
	if errno := d.disk.meet("rename"); errno != 0 {
		return errno
	}
	d.disk.mu.Lock()
	defer d.disk.mu.Unlock()
	d.disk.log = append(d.disk.log, event{kind: eventRename, name: name, to: to})
	return 0
}

func (d *folder) OpendirHandle(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	var entries []fuse.DirEntry
	for name, child := range d.Children() {
		entries = append(entries, fuse.DirEntry{Name: name, Mode: child.Mode(), Ino: child.StableAttr().Ino})
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return &listing{DirStream: fs.NewListDirStream(entries), disk: d.disk}, 0, 0
}

// listing is an open folder.
type listing struct {
	fs.DirStream
	disk *disk
}

var (
	_ fs.FileFsyncdirer   = (*listing)(nil)
	_ fs.FileReaddirenter = (*listing)(nil)
)

func (l *listing) Readdirent(context.Context) (*fuse.DirEntry, syscall.Errno) {
	if !l.HasNext() {
		return nil, 0
	}
	entry, errno := l.Next()
	return &entry, errno
}

func (l *listing) Fsyncdir(context.Context, uint32) syscall.Errno {
	if errno := l.disk.meet("syncdir"); errno != 0 {
		return errno
	}
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	l.disk.log = append(l.disk.log, event{kind: eventSyncDir})
	return 0
}

// file keeps what programs see, what is on the disk for sure, and what was
// changed since.
type file struct {
	fs.Inode
	disk    *disk
	name    string // at creation
	mode    uint32
	content []byte
	durable []byte
	pending []event
}

func (f *file) Open(context.Context, uint32) (fs.FileHandle, uint32, syscall.Errno) {
	return nil, 0, 0 // drops what the kernel has cached
}

func (f *file) Flush(context.Context, fs.FileHandle) syscall.Errno { return 0 }

func (f *file) Read(_ context.Context, _ fs.FileHandle, into []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	offset = min(offset, int64(len(f.content)))
	n := copy(into, f.content[offset:])
	return fuse.ReadResultData(into[:n]), 0
}

func (f *file) Write(_ context.Context, _ fs.FileHandle, data []byte, offset int64) (uint32, syscall.Errno) {
	switch f.name {
	case controlName:
		if errno := f.disk.control(string(data)); errno != 0 {
			return 0, errno
		}
		return uint32(len(data)), 0
	case ackName:
		number, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil {
			return 0, syscall.EINVAL
		}
		f.disk.mu.Lock()
		defer f.disk.mu.Unlock()
		f.disk.log = append(f.disk.log, event{kind: eventAck, number: number})
		return uint32(len(data)), 0
	}
	if errno := f.disk.meet("write"); errno != 0 {
		return 0, errno
	}
	f.change(event{kind: eventWrite, file: f, offset: offset, data: append([]byte(nil), data...)})
	return uint32(len(data)), 0
}

func (f *file) change(e event) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.disk.log = append(f.disk.log, e)
	f.pending = append(f.pending, e)
	f.content = e.apply(f.content)
}

func (f *file) Fsync(context.Context, fs.FileHandle, uint32) syscall.Errno {
	f.disk.mu.Lock()
	pending := f.pending
	f.disk.mu.Unlock()
	errno := f.disk.meet("sync")
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	// A sync that fails forgets what it should have written, as Linux does:
	// programs still see it, and the next sync succeeds without it.
	f.pending = f.pending[len(pending):]
	if errno != 0 {
		return errno
	}
	for _, e := range pending {
		f.durable = e.apply(f.durable)
	}
	f.disk.log = append(f.disk.log, event{kind: eventSync, file: f, number: len(f.pending)})
	return 0
}

func (f *file) attr(out *fuse.Attr) {
	out.Mode, out.Size, out.Nlink, out.Blksize = syscall.S_IFREG|f.mode, uint64(len(f.content)), 1, 4096
}

func (f *file) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.attr(&out.Attr)
	return 0
}

func (f *file) Setattr(_ context.Context, _ fs.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if mode, ok := in.GetMode(); ok {
		f.disk.mu.Lock()
		f.mode = mode & 0o777
		f.disk.mu.Unlock()
	}
	if size, ok := in.GetSize(); ok {
		if errno := f.disk.meet("truncate"); errno != 0 {
			return errno
		}
		f.change(event{kind: eventTruncate, file: f, offset: int64(size)})
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.attr(&out.Attr)
	return 0
}

// apply returns content as a write or a truncation leaves it.
func (e event) apply(content []byte) []byte {
	if e.kind == eventTruncate {
		if e.offset < int64(len(content)) {
			return content[:e.offset]
		}
		return append(content, make([]byte, e.offset-int64(len(content)))...)
	}
	if end := e.offset + int64(len(e.data)); end > int64(len(content)) {
		content = append(content, make([]byte, end-int64(len(content)))...)
	}
	copy(content[e.offset:], e.data)
	return content
}

// mount serves a new disk at dir.
func mount(dir string) (*disk, *fuse.Server, error) {
	d := &disk{}
	d.root = &folder{disk: d}
	server, err := fs.Mount(dir, d.root, &fs.Options{MountOptions: fuse.MountOptions{
		DirectMountStrict: true, MaxWrite: 1 << 20, DisableXAttrs: true, FsName: "boltfiletest", Name: "boltfiletest",
	}})
	if err != nil {
		return nil, nil, fmt.Errorf("mounting a FUSE file system: %w", err)
	}
	return d, server, nil
}
