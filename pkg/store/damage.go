package store

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"golang.org/x/sys/unix"

	"github.com/p-scope/p-scope/pkg/loss"
)

// What a disk has changed since it was written. TSDB makes more of it than need be: a byte in the log costs everything
// that was logged after it (tsdb/wlog, Repair), one in the index of a block or in a checkpoint keeps the database from
// being opened, and one among the samples of a block fails every query that comes past it. Here the log loses the page
// with the byte, and a block that can't be read is put aside.

// damaged is the directory below Dir for blocks and pieces of the log that can't be read, as they were.
const damaged = "damaged"

// Damaged is What of the condition that names them.
const Damaged = "history without damage"

// logPage is the unit in which the log is written (tsdb/wlog, pageSize): no record's header and no checksum spans two.
const logPage = 32 << 10

// repairLog rewrites the segments of a log, or of a checkpoint, from which something can't be read although something
// follows. What is torn at the end of the last one is the database's business: that is what a kill leaves.
func (s *Store) repairLog(name, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "[0-9]*"))
	if err != nil {
		return err
	}
	for i, file := range files { // sorted: numbers have leading zeros
		if whole, err := wholeLog(file); whole || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		records, lost, torn := readLog(text)
		if lost == 0 && (!torn || i == len(files)-1) {
			continue
		}
		if err := s.rewriteSegment(name, file, records); err != nil {
			return err
		}
		s.found(loss.HistoryDamagedPages, uint64(max(1, lost)),
			fmt.Sprintf("%d KiB of the log %s could not be read, what "+
				"follows was kept", max(1, lost)*logPage>>10, file))
	}
	return nil
}

// wholeLog says whether a segment can be read to its end.
func wholeLog(file string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	r := wlog.NewReader(bufio.NewReaderSize(f, 4*logPage))
	for r.Next() {
	}
	return r.Err() == nil, nil
}

// readLog gives the records of a segment. lost is the number of pages that had to be left out although records follow;
// torn says that the end could not be read.
func readLog(text []byte) (records [][]byte, lost int, torn bool) {
	skipped := 0
	for at := 0; at < len(text); {
		var drop bool
		at, drop = resume(text, at)
		r := wlog.NewReader(bytes.NewReader(text[min(at, len(text)):]))
		n := len(records)
		for r.Next() {
			if !drop {
				records = append(records, bytes.Clone(r.Record()))
			}
			drop = false
		}
		if len(records) > n {
			lost, skipped = lost+skipped, 0
		}
		if r.Err() == nil {
			break
		}
		at += (max(int(r.Offset())-1, 0)/logPage + 1) * logPage
		skipped++
	}
	return records, lost, skipped > 0
}

// The kinds of pieces of records (tsdb/wlog, recType), and how long a piece's header is: kind, length and checksum.
const (
	wholePiece, middlePiece, lastPiece = 1, 3, 4
	pieceKind                          = 7 // the bits of the first byte that say it
	pieceHeader                        = 7
)

// resume gives the page, from one on, at which reading can begin: one that does not begin in the middle of a record.
// Where a record that began before ends in a page, its end is made into a record of its own, which the caller drops.
func resume(text []byte, at int) (page int, drop bool) {
	for ; at > 0 && at+pieceHeader <= len(text); at += logPage {
		length := int(binary.BigEndian.Uint16(text[at+1:]))
		switch kind := text[at] & pieceKind; {
		case kind == middlePiece:
			continue
		case kind != lastPiece || at+pieceHeader+length > len(text):
			return at, false
		default:
			text[at] = wholePiece
			body := text[at+pieceHeader : at+pieceHeader+length]
			binary.BigEndian.PutUint32(text[at+3:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
			return at, true
		}
	}
	return at, false
}

// rewriteSegment puts a segment with these records in the place of one, which is put aside.
func (s *Store) rewriteSegment(name, file string, records [][]byte) error {
	tmp, err := os.MkdirTemp(filepath.Dir(filepath.Dir(file)), "repair.tmp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	// Large enough for one file, whichever way the records fall into pages.
	size := (int(info.Size())/logPage + 2) * 2 * logPage
	w, err := wlog.NewSize(quiet(s.opts.Log), nil, tmp, size, compression.Snappy)
	if err != nil {
		return err
	}
	if err := errors.Join(w.Log(records...), w.Close()); err != nil {
		return err
	}
	// A link, so that there is a segment of this number at every moment: the database opens no log with a hole in it.
	aside, err := s.placeForDamaged(name, file)
	if err != nil {
		return err
	}
	if os.Link(file, aside) != nil {
		// A file system without links: then the place is empty for a moment.
		if err := os.Rename(file, aside); err != nil {
			return err
		}
	}
	if err := os.Rename(wlog.SegmentName(tmp, 0), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// putDamagedAside moves a block out of the way.
func (s *Store) putDamagedAside(name, path string) error {
	to, err := s.placeForDamaged(name, path)
	if err != nil {
		return err
	}
	return os.Rename(path, to)
}

// placeForDamaged is where something damaged goes. What has been there for longest is removed where all of it takes
// more than the reserve.
func (s *Store) placeForDamaged(name, path string) (string, error) {
	all := filepath.Join(s.opts.Dir, damaged)
	dir := filepath.Join(all, name)
	if err := os.MkdirAll(dir, DirMode); err != nil {
		return "", err
	}
	to := filepath.Join(dir, filepath.Base(path))
	if err := os.RemoveAll(to); err != nil { // of an earlier time
		return "", err
	}
	entries, err := filepath.Glob(filepath.Join(all, "*", "*"))
	if err != nil {
		return "", err
	}
	age := func(path string) int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(entries, func(a, b string) int { return cmp.Compare(age(a), age(b)) })
	for len(entries) > 0 && sizeOf(all)+sizeOf(path) > s.disk.reserve {
		if err := os.RemoveAll(entries[0]); err != nil {
			return "", err
		}
		entries = entries[1:]
	}
	return to, nil
}

// repairBlocks puts blocks aside that can't be opened, or, with all, of which a sample can't be read. It gives how
// many.
func (s *Store) repairBlocks(name string, all bool) (n int, err error) {
	dir := filepath.Join(s.opts.Dir, name)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		block := filepath.Join(dir, e.Name())
		why := s.readBlock(block, all)
		if why == nil {
			continue
		}
		if passing(why) {
			return n, fmt.Errorf("the block %s can't be read now: %w", e.Name(), why)
		}
		if err := s.putDamagedAside(name, block); err != nil {
			return n, err
		}
		n++
		s.found(loss.HistoryDamagedBlocks, 1, fmt.Sprintf("the block %s can't be read (%v) and was put aside into %s",
			e.Name(), why, filepath.Join(s.opts.Dir, damaged)))
	}
	return n, nil
}

// passing says whether an error is of the machine's state and says nothing about the block.
func passing(err error) bool {
	for _, e := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.EACCES, unix.EPERM, unix.EIO, unix.ENOSPC} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// readBlock says why a block can't be opened or, with all, read to its end: each chunk has a checksum.
func (s *Store) readBlock(dir string, all bool) (err error) {
	b, err := tsdb.OpenBlock(quiet(s.opts.Log), dir, nil, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if !all {
		return nil
	}
	ir, err := b.Index()
	if err != nil {
		return err
	}
	defer ir.Close()
	cr, err := b.Chunks()
	if err != nil {
		return err
	}
	defer cr.Close()
	key, value := index.AllPostingsKey()
	p, err := ir.Postings(context.Background(), key, value)
	if err != nil {
		return err
	}
	var ls labels.ScratchBuilder
	var metas []chunks.Meta
	for p.Next() {
		if err := ir.Series(p.At(), &ls, &metas); err != nil {
			return err
		}
		for _, m := range metas {
			if _, _, err := cr.ChunkOrIterable(m); err != nil {
				return err
			}
		}
	}
	return p.Err()
}

// found counts and names damage.
func (s *Store) found(reason string, n uint64, what string) {
	s.opts.Log.Error("something has changed what was written", "what", what)
	s.countLoss(reason, n)
	s.set(Condition{What: Damaged, Why: what, Fix: "see whether the disk is whole (dmesg, smartctl -H); the rest of " +
		"the history is kept and goes on"})
}

// readAllMark is a file that asks the next start to read all blocks to their end.
const readAllMark = "read-all"

// mismatch is what the database says of a chunk whose checksum is not that of its bytes (tsdb/chunks).
var mismatch = regexp.MustCompile(`checksum mismatch expected:[0-9a-f]+, actual:[0-9a-f]+`)

// NoteDamage takes an error of a query that Queryable gave. Where it comes from what a disk has changed, the next state
// asks for the databases to be opened anew, and NoteDamage gives true. The error must not quote the request, which may
// say anything.
func (s *Store) NoteDamage(err error) bool {
	if err == nil || !mismatch.MatchString(err.Error()) {
		return false
	}
	s.suspect.Store(true)
	return true
}

// askReadAll leaves the mark, once a query came past something damaged.
func (s *Store) askReadAll() error {
	return os.WriteFile(filepath.Join(s.opts.Dir, readAllMark), nil, 0o640)
}

// readAllAsked says whether the mark is there, and takes it away.
func (s *Store) readAllAsked() bool { return os.Remove(filepath.Join(s.opts.Dir, readAllMark)) == nil }
