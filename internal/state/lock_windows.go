package state

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// TryLock locks a file for this process and reports false where another one has the lock. The lock
// ends when f is closed, at the latest with the process, however that ends.
func TryLock(f *os.File) (bool, error) {
	// Locked bytes can't be read by others, so this is one that no file has.
	behind := windows.Overlapped{Offset: 0xfffffffe, OffsetHigh: 0x7fffffff}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &behind)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return false, nil
	}
	return false, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
}

// FileID tells a file from every other of its file system.
func FileID(f *os.File) (uint64, error) {
	var info windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow), nil
}

// unlockRemoving gives up the lock and removes its file. An open file can't be removed here, neither
// ours nor that of whoever has come meanwhile: then it stays.
func unlockRemoving(f *os.File) error {
	err := f.Close()
	_ = os.Remove(f.Name())
	return err
}
