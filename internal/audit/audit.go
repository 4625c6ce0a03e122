// Package audit keeps a file with a line for each object that is deleted: who, when, why. The line
// is on the disk before the object goes.
package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"sync"
	"time"

	"github.com/designfultech/filestore/internal/state"
)

// The outcomes.
const (
	Begun  = "begun"  // written before the object is deleted
	Failed = "failed" // the object could not be deleted, as far as is known
)

// Entry is one line of the file (docs/output.md, "A line of the audit"). Fields are only ever added.
type Entry struct {
	Time    string `json:"time"` // RFC 3339, UTC, with milliseconds; set by Append
	ID      string `json:"id"`
	Name    string `json:"name"`
	Size    *int64 `json:"size,omitempty"` // bytes
	Type    string `json:"type,omitempty"` // MIME type
	Action  string `json:"action"`
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"` // why it failed
	Origin
}

// Origin is what all lines of one process have in common.
type Origin struct {
	Bucket  string `json:"bucket,omitempty"`
	Table   string `json:"table,omitempty"`
	Local   string `json:"local,omitempty"` // the directory of a local store, which has neither
	Command string `json:"command"`
	User    string `json:"user"` // of the operating system
	Host    string `json:"host"`
	PID     int    `json:"pid"`
}

// Log appends to an audit file. Several processes may append to the same one. It is safe for
// concurrent use.
type Log struct {
	path   string
	origin Origin
	encode func(any) (string, error) // one line of JSON, without its end
	now    func() time.Time

	mu    sync.Mutex
	known map[string]bool // by id; nil: not read yet
}

// lockPoll is how often a file is looked at that another process writes to.
const lockPoll = 5 * time.Millisecond

// Open makes the file, where it isn't there, and sees that it can be written: who can't, should know
// before something is deleted. Only its owner can read what is made.
func Open(path string, origin Origin, encode func(any) (string, error), now func() time.Time) (*Log, error) {
	l := &Log{path: path, origin: origin, encode: encode, now: now}
	_, err := os.Lstat(path)
	isNew := errors.Is(err, fs.ErrNotExist)
	f, err := l.open()
	if err != nil {
		return nil, err
	}
	err = f.Close()
	if isNew && runtime.GOOS != "windows" { // which has no way to sync a directory, and no need
		err = errors.Join(err, syncDir(filepath.Dir(path)))
	}
	return l, err
}

// open opens the file for one write. One that is rotated away meanwhile is begun anew by the next.
func (l *Log) open() (*os.File, error) {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		// A pipe can't be synced: nobody could tell that a line was kept.
		err = &fs.PathError{Op: "append to", Path: l.path, Err: errors.New("not a regular file")}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Append writes a line for each entry, and returns when they are on the disk. It completes the
// entries with their time and origin. Where it fails, some lines may be there; the last may be
// half a line, which the next call ends.
func (l *Log) Append(ctx context.Context, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := l.append(ctx, entries); err != nil {
		return fmt.Errorf("write the audit file: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known != nil {
		for _, e := range entries {
			l.known[e.ID] = true
		}
	}
	return nil
}

func (l *Log) append(ctx context.Context, entries []Entry) (err error) {
	f, err := l.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }() // and the lock ends
	if err := lock(ctx, f); err != nil {
		return err
	}
	var lines bytes.Buffer
	if cut, err := endsInTheMiddle(f); err != nil {
		return err
	} else if cut {
		lines.WriteByte('\n')
	}
	now := l.now().UTC().Format("2006-01-02T15:04:05.000Z07:00")
	for _, e := range entries {
		e.Time, e.Origin = now, l.origin
		line, err := l.encode(e)
		if err != nil {
			return err
		}
		lines.WriteString(line)
		lines.WriteByte('\n')
	}
	if _, err := f.Write(lines.Bytes()); err != nil {
		return err
	}
	return f.Sync()
}

// lock waits until no other process writes to f.
func lock(ctx context.Context, f *os.File) error {
	for {
		if locked, err := state.TryLock(f); err != nil || locked {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

// endsInTheMiddle reports whether the last line broke off: a disk was full, or the power failed.
func endsInTheMiddle(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return false, err
	}
	return last[0] != '\n', nil
}

// Has reports whether the file has a line for id since a time, which must be the same in each call.
// It reads the file once, from about there on, and remembers the ids.
func (l *Log) Has(id string, since time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.known == nil {
		known, err := l.idsSince(since)
		if err != nil {
			return false, fmt.Errorf("read the audit file: %w", err)
		}
		l.known = known
	}
	return l.known[id], nil
}

// searchBlock is how exactly the place in the file is searched from which on lines are read, in
// bytes.
const searchBlock = 64 << 10

func (l *Log) idsSince(since time.Time) (_ map[string]bool, err error) {
	f, err := os.Open(l.path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	// The lines are in the order of their time, but for clocks that were set meanwhile.
	blocks := int(info.Size()/searchBlock) + 1
	first := sort.Search(blocks, func(i int) bool {
		later := true // at the end of the file
		for e := range entriesFrom(f, int64(i)*searchBlock) {
			later = !e.before(since)
			break
		}
		return later
	})
	known := make(map[string]bool)
	for e := range entriesFrom(f, int64(max(first-1, 0))*searchBlock) {
		if !e.before(since) {
			known[e.ID] = true
		}
	}
	return known, nil
}

// lineKey is what is read of a line.
type lineKey struct {
	Time time.Time `json:"time"`
	ID   string    `json:"id"`
}

func (k lineKey) before(t time.Time) bool { return k.Time.Before(t) }

// entriesFrom yields the lines that begin after offset, or at 0. What is no line of ours, or only
// half of one, is passed over.
func entriesFrom(f *os.File, offset int64) iter.Seq[lineKey] {
	return func(yield func(lineKey) bool) {
		r := bufio.NewReader(io.NewSectionReader(f, offset, 1<<62))
		if offset > 0 {
			if _, err := r.ReadSlice('\n'); err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
		}
		for {
			line, err := r.ReadBytes('\n')
			var key lineKey
			if json.Unmarshal(line, &key) == nil && key.ID != "" && !yield(key) {
				return
			}
			if err != nil {
				return
			}
		}
	}
}
