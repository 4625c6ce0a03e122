package state

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// ErrLocked says that another process is uploading the file right now.
var ErrLocked = errors.New("another upload of this file is going on")

// Uploads is the directory in which uploads of files in parts are remembered, for another process to
// go on with them: one entry for each file of this disk and each filestore. Only its user can read it.
type Uploads struct{ dir string }

// OpenUploads makes the directory below the one that [Dir] returns, and sees that it can be written.
func OpenUploads(stateDir string) (*Uploads, error) {
	u := &Uploads{dir: filepath.Join(stateDir, "uploads")}
	if err := os.MkdirAll(u.dir, 0o700); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(u.dir, tempPattern)
	if err != nil {
		return nil, err
	}
	return u, errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// FindUploads is OpenUploads for those who only look: it makes nothing, and a directory that is not
// there holds nothing.
func FindUploads(stateDir string) *Uploads {
	return &Uploads{dir: filepath.Join(stateDir, "uploads")}
}

const (
	entrySuffix = ".upload"
	lockSuffix  = ".lock"
	tempPattern = ".*.tmp"
)

// UploadEntry is what is remembered of one upload.
type UploadEntry struct {
	Filestore string    `json:"filestore"` // which one it goes to, in the words of the caller
	Path      string    `json:"path"`      // of the file, absolute
	Size      int64     `json:"size"`      // of the file in bytes, and ModTime, when the upload began
	ModTime   time.Time `json:"mod_time"`
	ID        string    `json:"id"`
	Begun     time.Time `json:"begun"`
	Type      string    `json:"type"` // MIME type

	// What follows is set once the multipart upload is there.
	UploadID string `json:"upload_id,omitempty"`
	PartSize int64  `json:"part_size,omitempty"` // bytes
	Checksum string `json:"checksum,omitempty"`  // of the parts: "CRC64NVME" or "CRC32"

	Parts []UploadedPart `json:"-"` // lines of their own
}

// UploadedPart is a part that the server has confirmed.
type UploadedPart struct {
	Number   int32  `json:"number"`
	ETag     string `json:"etag"`
	Checksum string `json:"checksum"`
}

// All returns the entries of a filestore, the oldest first. What can't be read is left out.
func (u *Uploads) All(filestore string) ([]UploadEntry, error) {
	names, err := filepath.Glob(filepath.Join(u.dir, "*"+entrySuffix))
	if err != nil {
		return nil, err
	}
	var all []UploadEntry
	for _, name := range names {
		if e, ok := readEntry(name); ok && e.Filestore == filestore {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b UploadEntry) int { return a.Begun.Compare(b.Begun) })
	return all, nil
}

// Upload is the entry of one file in one filestore, locked. It is not safe for concurrent use.
type Upload struct {
	filestore, path string
	name            string // of its files, without their suffixes
	lock            *os.File
	parts           *os.File // open for appending; nil until an entry is saved
}

// Lock locks the entry of a file, which need not be there yet. It fails with [ErrLocked] when
// another process has it, or this one. The lock ends with the process, however that ends.
func (u *Uploads) Lock(filestore, path string) (*Upload, error) {
	id := sha256.Sum256([]byte(filestore + "\x00" + path))
	l := &Upload{filestore: filestore, path: path, name: filepath.Join(u.dir, hex.EncodeToString(id[:16]))}
	for {
		f, err := os.OpenFile(l.name+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		locked, err := TryLock(f)
		if err == nil && !locked {
			err = ErrLocked
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Who had the lock before may have removed the file in the meantime.
		held, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(l.name + lockSuffix); err == nil && os.SameFile(held, there) {
			l.lock = f
			return l, nil
		}
		_ = f.Close()
	}
}

// Has reports whether there is an entry of a file, without a lock: it may come and go.
func (u *Uploads) Has(filestore, path string) bool {
	id := sha256.Sum256([]byte(filestore + "\x00" + path))
	_, err := os.Stat(filepath.Join(u.dir, hex.EncodeToString(id[:16])) + entrySuffix)
	return err == nil
}

// Entry returns what is remembered; found is false where that is nothing, or can't be read.
func (l *Upload) Entry() (e UploadEntry, found bool) {
	e, found = readEntry(l.name + entrySuffix)
	return e, found && e.Filestore == l.filestore && e.Path == l.path
}

// Save replaces the entry, without parts. What was there before stays until the new one is
// whole.
func (l *Upload) Save(e UploadEntry) error {
	e.Filestore, e.Path = l.filestore, l.path
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(l.name), tempPattern) // which only its owner can read
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		l.closeParts()
		err = os.Rename(f.Name(), l.name+entrySuffix)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// AddPart remembers a part more.
func (l *Upload) AddPart(p UploadedPart) error {
	line, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if l.parts == nil {
		if err := l.openParts(); err != nil {
			return err
		}
	}
	_, err = l.parts.Write(append(line, '\n'))
	return err
}

// openParts opens the entry for more lines. Another process may have left half a line at its end.
func (l *Upload) openParts() error {
	f, err := os.OpenFile(l.name+entrySuffix, os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err == nil && last[0] != '\n' {
		_, err = f.Write([]byte{'\n'})
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	l.parts = f
	return nil
}

// Remove forgets the upload. It succeeds where nothing is remembered.
func (l *Upload) Remove() error {
	l.closeParts()
	if err := os.Remove(l.name + entrySuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Close gives up the lock. The entry stays.
func (l *Upload) Close() error {
	l.closeParts()
	if _, err := os.Stat(l.name + entrySuffix); errors.Is(err, fs.ErrNotExist) {
		return unlockRemoving(l.lock)
	}
	return l.lock.Close()
}

func (l *Upload) closeParts() {
	if l.parts != nil {
		_ = l.parts.Close() // what was not written is sent again
		l.parts = nil
	}
}

// readEntry reads an entry with its parts. Lines that broke off, with the process that wrote them,
// are passed over.
func readEntry(name string) (UploadEntry, bool) {
	data, err := os.ReadFile(name)
	if err != nil {
		return UploadEntry{}, false
	}
	var e UploadEntry
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &e) != nil {
		return UploadEntry{}, false
	}
	for lines.Scan() {
		var p UploadedPart
		if json.Unmarshal(lines.Bytes(), &p) == nil {
			e.Parts = append(e.Parts, p)
		}
	}
	return e, true
}
