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
)

// DownloadEntry is what is remembered of one download, so that another process can go on with it.
type DownloadEntry struct {
	Filestore string `json:"filestore"` // where it comes from, in the words of the caller
	ID        string `json:"id"`
	Dir       string `json:"dir"` // of the partial file, absolute

	File     string      `json:"file"`     // the partial file's name
	FileID   uint64      `json:"file_id"`  // see FileID
	Mode     fs.FileMode `json:"mode"`     // permissions of the finished file
	ETag     string      `json:"etag"`     // of the object, and so are
	Size     int64       `json:"size"`     // bytes
	Checksum string      `json:"checksum"` // the kind that the ranges have

	Ranges []DownloadedRange `json:"-"` // lines of their own
}

// DownloadedRange is bytes that the partial file has, with their checksum.
type DownloadedRange struct {
	From     int64  `json:"from"`
	To       int64  `json:"to"`
	Checksum string `json:"checksum"`
}

// Download is the journal of one download: a line that says what is downloaded, and one for each
// range that is there. It is only ever appended to, so that a process can be killed at any time.
// Whoever uses it holds the lock of the partial file. It is not safe for concurrent use.
type Download struct {
	filestore, id, dir string
	name               string
	lines              *os.File // nil until it is written to
}

// OpenDownload returns the journal, below the directory that [Dir] returns, of the download of one
// file of a filestore into dir, which is absolute. Nothing need be there yet.
func OpenDownload(stateDir, filestore, id, dir string) (*Download, error) {
	key := sha256.Sum256([]byte(filestore + "\x00" + id + "\x00" + dir))
	d := &Download{
		filestore: filestore, id: id, dir: dir,
		name: filepath.Join(stateDir, "downloads", hex.EncodeToString(key[:16])+".download"),
	}
	return d, os.MkdirAll(filepath.Dir(d.name), 0o700)
}

// Entry returns what is remembered; found is false where that is nothing, or can't be read. Lines
// that broke off are passed over.
func (d *Download) Entry() (e DownloadEntry, found bool, err error) {
	data, err := os.ReadFile(d.name)
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, len(data)+1)
	begun := lines.Scan() && json.Unmarshal(lines.Bytes(), &e) == nil
	if !begun || e.Filestore != d.filestore || e.ID != d.id || e.Dir != d.dir {
		return DownloadEntry{}, false, nil
	}
	for lines.Scan() {
		var r DownloadedRange
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			e.Ranges = append(e.Ranges, r)
		}
	}
	return e, true, nil
}

// Begin forgets what is remembered and begins anew.
func (d *Download) Begin(e DownloadEntry) error {
	if err := d.open(os.O_CREATE | os.O_TRUNC); err != nil {
		return err
	}
	e.Filestore, e.ID, e.Dir = d.filestore, d.id, d.dir
	return d.add(e)
}

// Add remembers a range more.
func (d *Download) Add(r DownloadedRange) error {
	if d.lines == nil {
		if err := d.open(0); err != nil {
			return err
		}
		// The process before may have left half a line at the end.
		if _, err := d.lines.Write([]byte{'\n'}); err != nil {
			return err
		}
	}
	return d.add(r)
}

func (d *Download) open(flags int) error {
	if err := d.Close(); err != nil {
		return err
	}
	f, err := os.OpenFile(d.name, os.O_WRONLY|os.O_APPEND|flags, 0o600)
	if err != nil {
		return err
	}
	d.lines = f
	return nil
}

func (d *Download) add(line any) error {
	text, err := json.Marshal(line)
	if err != nil {
		return err
	}
	_, err = d.lines.Write(append(text, '\n'))
	return err
}

// Remove forgets the download. It succeeds where nothing is remembered.
func (d *Download) Remove() error {
	err := d.Close()
	if removed := os.Remove(d.name); !errors.Is(removed, fs.ErrNotExist) {
		err = errors.Join(err, removed)
	}
	return err
}

// Close leaves the journal for another process.
func (d *Download) Close() error {
	if d.lines == nil {
		return nil
	}
	err := d.lines.Close()
	d.lines = nil
	return err
}
