//go:build linux || darwin || freebsd

package local

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/designfultech/filestore/internal/atomicfile"
)

// The layout of the directory. The format file is written last when a store is made: a
// directory that has it is whole.
const (
	formatFile      = "filestore.json"
	lockFile        = "filestore.lock" // held while the store or its bucket is being made
	credentialsFile = "credentials.json"
	recordsFile     = "records.db"
	objectsDir      = "objects" // the root of versitygw's posix backend
	sidecarDir      = "sidecar" // object metadata, where the file system has no extended attributes
	serveLockFile   = "serve.lock"
	servedFile      = "serve.json" // locked by the process that serves
	apiKeyFile      = "api-key"    // a line of text, so that a shell can read it
)

// newestFormat is the version of the layout above.
const newestFormat = 1

// metadata says where the S3 server keeps what is not an object's content.
type metadata string

const (
	inXattrs  metadata = "xattr"
	inSidecar metadata = "sidecar"
)

// format is the content of the format file.
type format struct {
	Program  string   `json:"program"`
	Version  int      `json:"version"`
	Metadata metadata `json:"metadata"`
}

const programName = "filestore"

// Store is an open local store. Its methods may be called by several goroutines at once.
type Store struct {
	// Executable is the program that is started with [ServerCommand] as its only argument. Empty
	// means this program. It must not be changed once a method that starts a server was called.
	Executable string

	// Created is told by [Store.Serve] of the key of each object that its server has written, whoever
	// has sent it: of one at a time, maybe of the same one twice, and of all before Serve returns, unless the
	// server dies. It must return soon, since uploads wait for it. May be nil; it must not be changed
	// while Serve runs.
	Created func(key string)

	dir         string // absolute
	metadata    metadata
	credentials Credentials

	mu       sync.Mutex // guards what follows
	closed   bool
	endpoint Endpoint
	child    *child // nil while there is none, or another process serves
}

// Open opens the local store in dir, and makes it first when dir is missing or empty: a
// directory that only this user can enter. Several processes may do that at once. Errors are
// those of the file system, [*NotStoreError], [*UnsafeError], [*VersionError] and [ErrUnsupported].
//
// Open starts no server.
func Open(dir string) (*Store, error) { return open(dir, probeMetadata) }

func open(dir string, probe func(dir string) (metadata, error)) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open local store: %w", err)
	}
	s := &Store{dir: dir}
	err = s.load()
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.make(probe); err == nil {
			err = s.load()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open local store: %w", err)
	}
	return s, nil
}

// load reads a store that is there. It fails with fs.ErrNotExist when there is none.
func (s *Store) load() error {
	text, err := os.ReadFile(s.path(formatFile))
	if err != nil {
		return err
	}
	var f format
	if err := json.Unmarshal(text, &f); err != nil || f.Program != programName {
		return &NotStoreError{Dir: s.dir, Reason: fmt.Sprintf("its %s is of another kind", formatFile)}
	}
	if f.Version > newestFormat {
		return &VersionError{Dir: s.dir, Version: f.Version, Newest: newestFormat}
	}
	if f.Metadata != inXattrs && f.Metadata != inSidecar {
		return &NotStoreError{Dir: s.dir, Reason: fmt.Sprintf("its %s names the unknown metadata store %q", formatFile, f.Metadata)}
	}
	s.metadata = f.Metadata
	if err := s.checkPrivate(os.Geteuid()); err != nil {
		return err
	}

	text, err = os.ReadFile(s.path(credentialsFile))
	if errors.Is(err, fs.ErrNotExist) {
		// Not passed on as fs.ErrNotExist, which would have the store made anew.
		return &NotStoreError{Dir: s.dir, Reason: fmt.Sprintf("its %s is missing", credentialsFile)}
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &s.credentials); err != nil {
		return fmt.Errorf("read %q: %w", s.path(credentialsFile), err)
	}
	if s.credentials.AccessKeyID == "" || s.credentials.SecretAccessKey == "" {
		return fmt.Errorf("read %q: a key is missing", s.path(credentialsFile))
	}
	return nil
}

// checkPrivate fails with an *UnsafeError unless the store is its user's own: root may use those of others, as in a
// container that is given a directory of its host, and those of root are as good as one's own.
func (s *Store) checkPrivate(user int) error {
	for _, part := range []struct {
		path      string
		forbidden fs.FileMode
	}{
		{s.dir, 0o022}, // the files in it have modes of their own
		{s.path(credentialsFile), 0o077},
		{s.path(recordsFile), 0o077},
	} {
		path, forbidden := part.path, part.forbidden
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // load says so of the key; of the records, there are none yet
		}
		if err != nil {
			return err
		}
		owner := -1
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			owner = int(stat.Uid)
		}
		switch {
		case user != 0 && owner != user && owner > 0:
			return &UnsafeError{path, fmt.Sprintf("it belongs to the user %d", owner), ""}
		case info.Mode().Perm()&forbidden&0o022 != 0:
			return &UnsafeError{path, "others can write to it", "chmod go-w"}
		case info.Mode().Perm()&forbidden != 0:
			return &UnsafeError{path, "others can read it", "chmod go="}
		}
	}
	return nil
}

// make lays out a new store. When several processes try it, one does it and the others wait;
// when that one is killed, the next finishes what it left.
func (s *Store) make(probe func(dir string) (metadata, error)) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if err := s.mayMake(); err != nil {
		return err
	}
	lock, err := lockWait(s.path(lockFile))
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(s.path(formatFile)); err == nil {
		return nil // another process was first
	}

	// The directory may have been there before, open to others.
	if err := os.Chmod(s.dir, 0o700); err != nil {
		return err
	}
	m, err := probe(s.dir)
	if err != nil {
		return err
	}
	dirs := []string{objectsDir}
	if m == inSidecar {
		dirs = append(dirs, sidecarDir)
	}
	for _, name := range dirs {
		if err := os.Mkdir(s.path(name), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := writeJSON(s.path(credentialsFile), Credentials{
		AccessKeyID:     "FS" + rand.Text()[:18], // 20 characters, as an AWS key has
		SecretAccessKey: rand.Text() + rand.Text(),
	}); err != nil {
		return err
	}
	// Empty, for this user only: SQLite would make it by the umask, and until that is mended another process, which
	// opens the store at the same time, would take it for unsafe. Nobody has it open yet.
	records, err := os.OpenFile(s.path(recordsFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := records.Close(); err != nil {
		return err
	}
	return writeJSON(s.path(formatFile), format{Program: programName, Version: newestFormat, Metadata: m})
}

// mayMake fails with a *NotStoreError when the directory holds something that no unfinished
// make has left there.
func (s *Store) mayMake() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil || len(entries) == 0 {
		return err
	}
	// The lock file is the first that make leaves.
	if _, err := os.Lstat(s.path(lockFile)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return &NotStoreError{Dir: s.dir, Reason: "it is not empty"}
}

// probeMetadata finds out whether the file system of dir keeps extended attributes of files.
func probeMetadata(dir string) (metadata, error) {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return "", err
	}
	defer func() {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}()
	if err := unix.Fsetxattr(int(f.Fd()), "user.filestore", []byte("probe"), 0); err != nil {
		return inSidecar, nil
	}
	return inXattrs, nil
}

// writeJSON puts v into the file name, whole or not at all, for this user only.
func writeJSON(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// A store whose credentials are lost in a power failure can't be opened any more.
	return atomicfile.Write(name, append(text, '\n'), 0o600)
}

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// Dir returns the absolute path of the store.
func (s *Store) Dir() string { return s.dir }

// Records returns the path of the record database. It is for package records/sqlite, which
// makes the file.
func (s *Store) Records() string { return s.path(recordsFile) }

// Credentials returns the key pair with which requests to an [Endpoint] of this store are
// signed.
func (s *Store) Credentials() Credentials { return s.credentials }

// APIKey returns the key that the HTTP API of the store asks for, and the file that it is in. The first call
// makes both; they live as long as the store.
func (s *Store) APIKey() (key, file string, err error) {
	file = s.path(apiKeyFile)
	lock, err := lockWait(s.path(lockFile))
	if err != nil {
		return "", "", fmt.Errorf("key of the API: %w", err)
	}
	defer lock.Close()
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(rand.Text() + "\n")
		err = atomicfile.Write(file, text, 0o600)
	}
	if err != nil {
		return "", "", fmt.Errorf("key of the API: %w", err)
	}
	if key = strings.TrimSpace(string(text)); key == "" {
		return "", "", fmt.Errorf("key of the API: %q is empty", file)
	}
	return key, file, nil
}

// TokenKey returns 32 bytes for the tokens of the HTTP API. They follow from the credentials of the store, and tell
// nothing of them.
func (s *Store) TokenKey() ([]byte, error) {
	return hkdf.Key(sha256.New, []byte(s.credentials.SecretAccessKey), nil, "filestore: tokens of the API", 32)
}

// Endpoint returns the S3 server of the store: the one of a [Store.Serve] in another process when
// there is one, else a child of this process, which the first call starts and which runs until
// [Store.Close]. The context limits the start only.
func (s *Store) Endpoint(ctx context.Context) (Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Endpoint{}, fmt.Errorf("local store %q: %w", s.dir, fs.ErrClosed)
	}
	if s.endpoint.URL != "" {
		return s.endpoint, nil
	}
	if url, ok := s.served(); ok {
		s.endpoint = Endpoint{URL: url, Served: true}
		return s.endpoint, nil
	}
	child, err := s.startChild(ctx, ephemeral, 0, nil)
	if err != nil {
		return Endpoint{}, err
	}
	s.child = child
	s.endpoint = Endpoint{URL: child.url}
	return s.endpoint, nil
}

// Close stops the child that [Store.Endpoint] started, and waits until it is gone. Requests that
// are still running are cut off. It may be called more than once.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.child == nil {
		return nil
	}
	err := s.child.stop()
	s.child = nil
	return err
}

// lockWait opens the file name, making it where needed, and waits for the exclusive lock on
// it, which ends with the file or the process.
func lockWait(name string) (*os.File, error) { return lock(name, unix.LOCK_EX) }

// lockNow does the same, but fails with unix.EWOULDBLOCK when another has the lock.
func lockNow(name string) (*os.File, error) { return lock(name, unix.LOCK_EX|unix.LOCK_NB) }

func lock(name string, how int) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		switch {
		case errors.Is(err, unix.EINTR): // the runtime's own signals
		case err != nil:
			return &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		default:
			return nil
		}
	}
}
