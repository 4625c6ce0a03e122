//go:build unix

package state

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the exclusive lock on f, or fails with ErrLocked.
func lockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case errors.Is(err, unix.EINTR): // the runtime's own signals
		case errors.Is(err, unix.EWOULDBLOCK):
			return ErrLocked
		default:
			return err
		}
	}
}

// unlockRemoving gives up the lock and removes its file, in the order in which nobody else's is removed.
func unlockRemoving(f *os.File) error {
	return errors.Join(os.Remove(f.Name()), f.Close())
}
