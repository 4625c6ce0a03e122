//go:build unix

package state

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// TryLock locks a file for this process and reports false where another one has the lock. The lock
// ends when f is closed, at the latest with the process, however that ends.
func TryLock(f *os.File) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EINTR): // the runtime's own signals
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		default:
			return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}

// FileID tells a file from every other of its file system. (The number of the file system itself
// may be another one after the next start of the machine.)
func FileID(f *os.File) (uint64, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return stat.Ino, nil
}

// unlockRemoving gives up the lock and removes its file, in the order in which nobody else's is removed.
func unlockRemoving(f *os.File) error {
	return errors.Join(os.Remove(f.Name()), f.Close())
}
