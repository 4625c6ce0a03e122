// Package local is the store behind the option --local: a directory on this disk that holds
// objects, credentials and the path of a record database, and an S3 server for the objects.
//
// The server is versitygw with its posix backend. It changes the working directory of its
// process and can run only once in it, so it runs in a child process: the same program,
// started again with the hidden command [ServerCommand], whose body is [RunServer]. The child
// listens on the loopback interface, gets its credentials through a pipe, and ends when that
// pipe closes, which the kernel does even when the parent is killed.
//
// Any number of processes may use one directory at once, each with its own child:
// versitygw keeps no state outside the directory, and conditional writes are serialized by file
// locks in it. While [Store.Serve] runs on a directory, other processes use its server.
package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

const (
	// Bucket is the one bucket of a local store. The server makes it when it is missing.
	Bucket = "filestore"

	// Region is the region that requests to a local store are signed for.
	Region = "us-east-1"

	// DefaultListen is the address on which [Store.Serve] listens unless it is told another.
	DefaultListen = "127.0.0.1:9480"

	// ServerCommand is the hidden command of the program that runs [RunServer].
	ServerCommand = "__s3"
)

// Credentials are the key pair of a local store, made at random when the store is made.
type Credentials struct {
	AccessKeyID     string `json:"access_key_id"`
	SecretAccessKey string `json:"secret_access_key"`
}

// Endpoint is a running S3 server of a local store.
type Endpoint struct {
	// URL is the endpoint for path-style requests, such as "http://127.0.0.1:9480".
	URL string

	// Served tells that the server belongs to a [Store.Serve] elsewhere, so that presigned URLs
	// made now stay good when this process ends. Otherwise they die with it.
	Served bool
}

// ErrUnsupported is returned by [Open] and [RunServer] on a platform that the local store
// does not support.
var ErrUnsupported = errors.New("the local store is not supported on " + runtime.GOOS)

// NotStoreError is returned by [Open] for a directory that holds something else.
type NotStoreError struct {
	Dir    string
	Reason string // such as "it is not empty"
}

func (e *NotStoreError) Error() string {
	return fmt.Sprintf("directory %q is not a local store: %s", e.Dir, e.Reason)
}

// UnsafeError is returned by [Open] for a store that somebody else can change, or whose key others can read. Who
// can change it has its user's next command write wherever they like, and read what they like.
type UnsafeError struct {
	Path   string // the directory or the file
	Reason string // such as "others can write to it"
	Mend   string // a command that makes it safe
}

func (e *UnsafeError) Error() string {
	return fmt.Sprintf("the local store is not safe to use: %q: %s", e.Path, e.Reason)
}

// VersionError is returned by [Open] for a store that a newer version of the program made.
type VersionError struct {
	Dir     string
	Version int // the format that was found
	Newest  int // the newest format that this program knows
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("local store %q has format %d, and this program knows formats up to %d", e.Dir, e.Version, e.Newest)
}

// ServedError is returned by [Store.Serve] when another process already serves the directory.
type ServedError struct {
	Dir string
	URL string // its endpoint; empty while it is still starting
}

func (e *ServedError) Error() string {
	if e.URL == "" {
		return fmt.Sprintf("local store %q is already being served", e.Dir)
	}
	return fmt.Sprintf("local store %q is already being served at %s", e.Dir, e.URL)
}

// ListenError is returned by [Store.Serve] for an address that it can't listen on.
type ListenError struct {
	Addr   string
	InUse  bool   // another program listens there
	Reason string // in the words of the system
}

func (e *ListenError) Error() string {
	if e.InUse {
		return fmt.Sprintf("address %q is in use by another program", e.Addr)
	}
	return fmt.Sprintf("cannot listen on %q: %s", e.Addr, e.Reason)
}

// DefaultDir returns the directory of the local store of this user:
// $XDG_DATA_HOME/filestore, by default ~/.local/share/filestore (XDG Base Directory
// Specification), and ~/Library/Application Support/filestore on macOS. It fails when the
// user has no home directory. The directory need not exist.
func DefaultDir() (string, error) {
	const name = "filestore"
	// The specification has relative paths ignored.
	if data := os.Getenv("XDG_DATA_HOME"); runtime.GOOS != "darwin" && filepath.IsAbs(data) {
		return filepath.Join(data, name), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the directory of the local store: %w", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", name), nil
	}
	return filepath.Join(home, ".local", "share", name), nil
}
