package state

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the exclusive lock on f, or fails with ErrLocked.
func lockFile(f *os.File) error {
	err := windows.LockFileEx(windows.Handle(f.Fd()),
		windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, new(windows.Overlapped))
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return ErrLocked
	}
	return err
}

// unlockRemoving gives up the lock and removes its file. An open file can't be removed here, neither
// ours nor that of whoever has come meanwhile: then it stays.
func unlockRemoving(f *os.File) error {
	err := f.Close()
	_ = os.Remove(f.Name())
	return err
}
