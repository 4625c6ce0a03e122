package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/state"
	"github.com/designfultech/filestore/internal/transfer"
)

// resumption is what download --resume needs to know to go on with what another process began.
type resumption struct {
	stateDir string
	identity string // of the filestore
	dir      string // of the files: absolute, without links
}

func newResumption(a *app, identity, dir string) (*resumption, error) {
	stateDir, err := state.Dir(a.lookupEnv)
	if err != nil {
		return nil, &usageError{err: err, hint: "set HOME, or XDG_STATE_HOME"}
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	return &resumption{stateDir: stateDir, identity: identity, dir: dir}, nil
}

func errStreamResumed() error {
	return usagef("write it to a file, and that where it shall go", "--resume can't go on with what was written to a stream")
}

// keptError is a failed download that can be gone on with.
type keptError struct{ err error }

func (e *keptError) Error() string { return e.err.Error() + "; what has arrived is kept" }
func (e *keptError) Unwrap() error { return e.err }

func (e *keptError) hint() string {
	return `"filestore download --resume ID", into the same directory, goes on where it stopped`
}

// resumeFile is toFile for a download that another process may have begun, and another one may go
// on with. Only a file that is downloaded in ranges is worth it.
func (d *downloads) resumeFile(ctx context.Context, t target) (_ transfer.Object, err error) {
	if err := errors.Join(d.forgetFinished(t), d.mayWrite(t.name)); err != nil {
		return transfer.Object{}, err
	}
	v, err := d.client.Version(ctx, t.record)
	if err != nil {
		return transfer.Object{}, err
	}
	if !v.InRanges() {
		if v.ETag != "" && t.record.Size >= 0 { // it is large, so the server was asked
			d.app.remark(subject{id: t.record.ID}, "the server holds no checksum of the whole object, so it can't be gone on with")
		}
		return d.toFile(ctx, t)
	}
	p, err := d.openPartial(t, v)
	if err != nil {
		return transfer.Object{}, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	object, err := d.client.DownloadRest(ctx, t.record, v, p.file, p.resumption(), d.bar.add)
	if err == nil {
		err = p.finish(t.name)
	}
	if err != nil {
		return transfer.Object{}, p.failed(err)
	}
	return object, nil
}

// partial is a file that is being downloaded and can be gone on with, and its journal. Whoever has
// one has the lock of the file.
type partial struct {
	downloads *downloads
	id        string
	name      string // in the directory
	file      *os.File
	journal   *state.Download
	entry     state.DownloadEntry
	worth     bool // there is something to go on with
}

func partialName(id string) string { return ".filestore-" + id + ".part" }

func (d *downloads) newPartial(t target) (*partial, error) {
	id := t.record.ID
	journal, err := state.OpenDownload(d.resume.stateDir, d.resume.identity, id, d.resume.dir)
	if err != nil {
		return nil, err
	}
	return &partial{downloads: d, id: id, name: partialName(id), journal: journal}, nil
}

// openPartial opens what there is of a download, or begins it.
func (d *downloads) openPartial(t target, v transfer.Version) (*partial, error) {
	p, err := d.newPartial(t)
	if err != nil {
		return nil, err
	}
	for {
		isNew, err := p.lock()
		if err != nil {
			return nil, err
		}
		if isNew {
			if err := p.begin(v); err != nil {
				return nil, errors.Join(err, p.discard(), p.close())
			}
			return p, nil
		}
		why, err := p.adopt(v)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		if why == "" {
			return p, nil
		}
		// Another file, not this one made empty: it may have got a second name meanwhile.
		d.app.remark(subject{id: p.id}, "%s; starting anew", why)
		if err := errors.Join(p.discard(), p.close()); err != nil {
			return nil, err
		}
	}
}

// lock opens and locks the partial file, which it makes where there is none. No link is followed.
func (p *partial) lock() (isNew bool, err error) {
	root := p.downloads.root
	for {
		f, err := root.OpenFile(p.name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		isNew := err == nil
		if errors.Is(err, fs.ErrExist) {
			info, statErr := root.Lstat(p.name)
			if statErr == nil && !info.Mode().IsRegular() {
				return false, fmt.Errorf("%q is no regular file", filepath.Join(p.downloads.dir, p.name))
			}
			f, err = root.OpenFile(p.name, os.O_RDWR, 0)
			if errors.Is(err, fs.ErrNotExist) {
				continue // whoever had it has just finished
			}
		}
		if err != nil {
			return false, err
		}
		locked, err := state.TryLock(f)
		if err == nil && !locked {
			err = &client.FileError{ID: p.id, Reason: client.Conflict, Err: errors.New("another process is downloading it into the same directory")}
		}
		if err != nil {
			return false, errors.Join(err, f.Close())
		}
		p.file = f
		// Whoever had the lock may have finished it, or somebody put a link in its place.
		if p.inPlace() {
			return isNew, nil
		}
		if err := p.close(); err != nil {
			return false, err
		}
	}
}

// inPlace reports whether the file still has its name.
func (p *partial) inPlace() bool {
	named, err := p.downloads.root.Lstat(p.name)
	if err != nil {
		return false
	}
	info, err := p.file.Stat()
	return err == nil && os.SameFile(named, info)
}

// begin makes the journal of a new file.
func (p *partial) begin(v transfer.Version) error {
	info, err := p.file.Stat()
	if err != nil {
		return err
	}
	fileID, err := state.FileID(p.file)
	if err != nil {
		return err
	}
	p.entry = state.DownloadEntry{
		File: p.name, FileID: fileID, Mode: info.Mode().Perm(), // that which the umask leaves
		ETag: v.ETag, Size: v.Size, Checksum: v.Checksum,
	}
	return errors.Join(p.file.Chmod(0o600), p.journal.Begin(p.entry))
}

// adopt goes on with a file that is there, or says why that can't be.
func (p *partial) adopt(v transfer.Version) (whyNot string, err error) {
	entry, found, err := p.journal.Entry()
	if err != nil {
		return "", err
	}
	fileID, err := state.FileID(p.file)
	if err != nil {
		return "", err
	}
	switch {
	case !found:
		return fmt.Sprintf("nothing is known of what is in %q", p.name), nil
	case entry.File != p.name || entry.FileID != fileID:
		return fmt.Sprintf("%q is not the file that was begun", p.name), nil
	case entry.ETag != v.ETag || entry.Size != v.Size || entry.Checksum != v.Checksum:
		return "the object is not the one that was begun", nil
	}
	p.entry, p.worth = entry, len(entry.Ranges) > 0
	return "", p.file.Chmod(0o600)
}

func (p *partial) resumption() transfer.Resumption {
	there := make([]transfer.Extent, len(p.entry.Ranges))
	for i, r := range p.entry.Ranges {
		there[i] = transfer.Extent(r)
	}
	return transfer.Resumption{
		There: there,
		Kept: func(size int64) {
			if len(there) > 0 {
				p.downloads.app.remark(subject{id: p.id}, "%s of %s are there", iecSize(size), iecSize(p.entry.Size))
			}
		},
		Record: func(x transfer.Extent) error {
			p.worth = true
			return p.journal.Add(state.DownloadedRange(x))
		},
	}
}

// finish gives the verified file its name, and forgets how it came about.
func (p *partial) finish(name string) error {
	if !p.inPlace() {
		return fmt.Errorf("%q: somebody has put another file in its place", filepath.Join(p.downloads.dir, p.name))
	}
	err := p.file.Chmod(p.entry.Mode)
	if err == nil {
		err = p.downloads.rename(p.name, name)
	}
	if err != nil {
		return errors.Join(err, p.file.Chmod(0o600))
	}
	return p.journal.Remove()
}

// failed keeps what there is for another process to go on with, unless that is no use.
func (p *partial) failed(err error) error {
	for _, final := range []error{transfer.ErrChanged, transfer.ErrChecksum, transfer.ErrSize, client.ErrObjectMissing} {
		if errors.Is(err, final) {
			return errors.Join(err, p.discard())
		}
	}
	if !p.worth {
		return errors.Join(err, p.discard())
	}
	return &keptError{err}
}

// discard removes the file and its journal.
func (p *partial) discard() error {
	var err error
	if p.inPlace() {
		err = p.downloads.root.Remove(p.name)
	}
	return errors.Join(err, p.journal.Remove())
}

// close gives up the lock.
func (p *partial) close() error {
	return errors.Join(p.file.Close(), p.journal.Close())
}

// forgetFinished removes what a process left that was killed after it had given the finished file
// its name, and before it had taken away the other one.
func (d *downloads) forgetFinished(t target) error {
	left, err := d.root.Lstat(partialName(t.record.ID))
	if err != nil {
		return nil //nolint:nilerr // nothing is left
	}
	finished, err := d.root.Lstat(t.name)
	if err != nil || !finished.Mode().IsRegular() || !os.SameFile(left, finished) {
		return nil //nolint:nilerr // it is another file
	}
	p, err := d.newPartial(t)
	if err != nil {
		return err
	}
	if _, err := p.lock(); err != nil {
		return err
	}
	return errors.Join(p.discard(), p.close())
}
