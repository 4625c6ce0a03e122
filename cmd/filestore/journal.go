package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/state"
	"github.com/designfultech/filestore/internal/transfer"
)

// journals remember uploads in parts, in the user's state directory.
type journals struct {
	open     func() (*state.Uploads, error) // once
	identity string                         // of the filestore
	resume   bool
}

// newJournals returns where a command remembers its uploads. A state directory that can't be written is an
// error with --resume, and otherwise means no more than that nobody can go on with what is killed.
func (a *app) newJournals(fs *filestore, resume bool) (*journals, error) {
	j := &journals{identity: fs.identity, resume: resume, open: sync.OnceValues(func() (*state.Uploads, error) {
		dir, err := a.stateDir()
		if err != nil {
			return nil, err
		}
		return state.OpenUploads(dir)
	})}
	if resume {
		if _, err := j.open(); err != nil {
			return nil, fmt.Errorf("open the directory in which uploads are remembered: %w", err)
		}
	}
	return j, nil
}

func (a *app) stateDir() (string, error) {
	dir, err := state.Dir(a.lookupEnv)
	if err != nil {
		return "", &usageError{err: err, hint: "set HOME, or XDG_STATE_HOME"}
	}
	return dir, nil
}

// of returns the journal of a file, nil where none is needed or none is to be had. The caller closes it.
func (j *journals) of(path string, f *os.File, e *transfer.Engine) (*state.Upload, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !j.resume && !e.InParts(info.Size()) {
		return nil, nil
	}
	journal, err := j.lock(path, e.InParts(info.Size()))
	if j.resume {
		return journal, err
	}
	if err != nil {
		return nil, nil //nolint:nilerr // see newJournals
	}
	// Who does not ask to go on with what is half done of this file may still do so later.
	if e, found := journal.Entry(); found && e.Size == info.Size() && e.ModTime.Equal(info.ModTime()) {
		return nil, journal.Close()
	}
	return journal, nil
}

// lock locks the journal of a file; it is nil where there is none yet and the file goes as a whole.
func (j *journals) lock(path string, inParts bool) (*state.Upload, error) {
	uploads, err := j.open()
	if err != nil {
		return nil, err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if !inParts && !uploads.Has(j.identity, path) {
		return nil, nil
	}
	return uploads.Lock(j.identity, path)
}

// forget ends what is remembered of an upload that is done: once its id has been printed, so that who is
// killed before that is told the id by the next --resume. What stays is found to be done with. The journal is
// not held until then: a table, or results that wait for those before them, may be of any number of files.
func (j *journals) forget(path, id string) {
	journal, err := j.lock(path, false)
	if err != nil || journal == nil {
		return
	}
	if e, found := journal.Entry(); found && e.ID == id {
		_ = journal.Remove()
	}
	_ = journal.Close()
}

// resumableError is the failure of an upload that can be gone on with.
type resumableError struct {
	*client.KeptError
	path string
}

func (e *resumableError) Unwrap() error { return e.KeptError }

func (e *resumableError) hint() string {
	return fmt.Sprintf(`"filestore upload --resume %s" goes on where it stopped`, shellWord(e.path))
}

// shellWord returns s as a shell takes it for one word.
func shellWord(s string) string {
	special := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/._-+,:@%=", r)
	}
	if s != "" && !strings.ContainsFunc(s, special) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// refuseTwice makes the second of two sources that are one file an error: both would go on with the same
// upload.
func refuseTwice(sources []source) {
	seen := make(map[string]bool)
	for i, s := range sources {
		path, err := filepath.Abs(s.path)
		if err == nil && s.err == nil && seen[path] {
			sources[i].err = usagef("", "is given twice")
		}
		seen[path] = true
	}
}
