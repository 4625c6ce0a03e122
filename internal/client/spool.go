package client

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
)

const (
	// spoolRows is how many rows of a spool are in memory before they go to the disk: 16 MiB of them.
	spoolRows = 1 << 19
	// spoolBuffers is what all buffers for reading the rows back may take together, in bytes, and
	// largestBuffer one of them.
	spoolBuffers  = 16 << 20
	largestBuffer = 64 << 10
)

// shardBounds are where the shards of the ids begin and end: shard n has the keys after bound n-1, up to
// and with bound n. No id is a bound, so that shard 0 has none, and each other one those that begin with
// one character. The last shard has no end.
const shardBounds = "0123456789abcdefghijklmnopqrstuvwxyz"

const shards = len(shardBounds) + 1

// shardOf returns the shard of an id.
func shardOf(id [idLength]byte) int { return strings.IndexByte(shardBounds, id[0]) + 1 }

// row is what verify keeps of a record until its object is listed.
type row struct {
	id   [idLength]byte
	size int64  // bytes; -1 while not set
	kind uint32 // of its type, see kindOf
	bits uint8  // see the bits below
}

// The bits of a row.
const (
	rowUploaded  = 1 << iota // it says that it was uploaded
	rowStored                // and stored
	rowDeleted               // and deleted
	rowOld                   // it has been so for longer than the grace
	rowAgeless               // how long can't be told
	rowMalformed             // it breaks the contract somewhere
)

func (r row) is(bit uint8) bool { return r.bits&bit != 0 }

// rowBytes is how many bytes a row takes on disk.
const rowBytes = idLength + 8 + 4 + 1

func (r row) encode(b []byte) {
	copy(b, r.id[:])
	binary.BigEndian.PutUint64(b[idLength:], uint64(r.size))
	binary.BigEndian.PutUint32(b[idLength+8:], r.kind)
	b[idLength+12] = r.bits
}

func (r *row) decode(b []byte) {
	copy(r.id[:], b)
	r.size = int64(binary.BigEndian.Uint64(b[idLength:]))
	r.kind = binary.BigEndian.Uint32(b[idLength+8:])
	r.bits = b[idLength+12]
}

func compareRows(a, b row) int { return bytes.Compare(a.id[:], b.id[:]) }

// spool takes rows in any order and gives them back in the order of their ids, each shard by itself. What
// memory does not hold goes to a temporary file, sorted in runs that are merged when they are read. It has
// no name from the beginning, where the system allows that: nothing is left of it, however the process ends.
type spool struct {
	dir    string // of the temporary file; "": that of the system
	most   int    // rows in memory
	rows   []row
	runs   []spoolRun
	file   *os.File
	path   string // of the file, where it still has a name
	writer *bufio.Writer
	count  int64 // rows in the file
}

// spoolRun is a sorted run: where each shard of it begins, and where the last one ends, in rows of the file.
type spoolRun [shards + 1]int64

func newSpool(dir string, most int) *spool { return &spool{dir: dir, most: cmp.Or(most, spoolRows)} }

// add takes a row.
func (s *spool) add(r row) error {
	s.rows = append(s.rows, r)
	if len(s.rows) < s.most {
		return nil
	}
	return s.flush()
}

// seal ends the adding.
func (s *spool) seal() error {
	if len(s.runs) == 0 {
		slices.SortFunc(s.rows, compareRows)
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.rows = nil
	if err := s.writer.Flush(); err != nil {
		return spoolError(err)
	}
	s.writer = nil
	return nil
}

func spoolError(err error) error { return fmt.Errorf("keep the records on disk: %w", err) }

// flush writes the rows in memory as one run.
func (s *spool) flush() error {
	if s.file == nil {
		if err := s.create(); err != nil {
			return spoolError(err)
		}
	}
	slices.SortFunc(s.rows, compareRows)
	var run spoolRun
	shard := 0
	var b [rowBytes]byte
	for i, r := range s.rows {
		for ; shard <= shardOf(r.id); shard++ {
			run[shard] = s.count + int64(i)
		}
		r.encode(b[:])
		if _, err := s.writer.Write(b[:]); err != nil {
			return spoolError(err)
		}
	}
	s.count += int64(len(s.rows))
	for ; shard <= shards; shard++ {
		run[shard] = s.count
	}
	s.runs = append(s.runs, run)
	s.rows = s.rows[:0]
	return nil
}

func (s *spool) create() (err error) {
	if s.file, err = os.CreateTemp(s.dir, "filestore-verify-*"); err != nil {
		return err
	}
	if err := os.Remove(s.file.Name()); err != nil {
		s.path = s.file.Name() // Windows keeps the name of a file that is open
	}
	s.writer = bufio.NewWriterSize(s.file, 256<<10)
	return nil
}

// close frees what the spool has on disk.
func (s *spool) close() error {
	if s.file == nil {
		return nil
	}
	err := s.file.Close()
	if s.path != "" {
		err = errors.Join(err, os.Remove(s.path))
	}
	return err
}

// shard returns the rows of a shard in the order of their ids. Several may be read at once, as many as
// readers says, which bounds their buffers.
func (s *spool) shard(n, readers int) iter.Seq2[row, error] {
	return func(yield func(row, error) bool) {
		if len(s.runs) == 0 {
			from, _ := slices.BinarySearchFunc(s.rows, n, func(r row, n int) int { return cmp.Compare(shardOf(r.id), n) })
			for _, r := range s.rows[from:] {
				if shardOf(r.id) != n || !yield(r, nil) {
					return
				}
			}
			return
		}
		size := min(max(spoolBuffers/(len(s.runs)*readers), rowBytes), largestBuffer)
		var merge runHeap
		for _, run := range s.runs {
			from, to := run[n], run[n+1]
			if from == to {
				continue
			}
			section := io.NewSectionReader(s.file, from*rowBytes, (to-from)*rowBytes)
			r := &runReader{r: bufio.NewReaderSize(section, size), left: to - from}
			if err := r.next(); err != nil {
				yield(row{}, spoolError(err))
				return
			}
			merge = append(merge, r)
		}
		heap.Init(&merge)
		for len(merge) > 0 {
			first := merge[0]
			if !yield(first.row, nil) {
				return
			}
			if first.left == 0 {
				heap.Pop(&merge)
				continue
			}
			if err := first.next(); err != nil {
				yield(row{}, spoolError(err))
				return
			}
			heap.Fix(&merge, 0)
		}
	}
}

// runReader reads the rows of one run.
type runReader struct {
	row
	r    *bufio.Reader
	left int64 // rows that are still to come
}

func (r *runReader) next() error {
	var b [rowBytes]byte
	if _, err := io.ReadFull(r.r, b[:]); err != nil {
		return err
	}
	r.decode(b[:])
	r.left--
	return nil
}

// runHeap has the run with the lowest id on top.
type runHeap []*runReader

func (h runHeap) Len() int           { return len(h) }
func (h runHeap) Less(i, j int) bool { return compareRows(h[i].row, h[j].row) < 0 }
func (h runHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is never called.
func (h *runHeap) Push(any) {}

// Pop implements [heap.Interface].
func (h *runHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
