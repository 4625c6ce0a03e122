package transfer

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// preallocate gives f its size, and the room for it where the file system can.
func preallocate(f Sink, size int64) error {
	if file, ok := f.(*os.File); ok {
		var err error = unix.EINTR
		for errors.Is(err, unix.EINTR) { // as package os does it: signals interrupt slow file systems
			err = unix.Fallocate(int(file.Fd()), 0, 0, size)
		}
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG) {
			return &os.PathError{Op: "fallocate", Path: file.Name(), Err: err}
		}
	}
	return f.Truncate(size) // of a longer file too, which fallocate leaves as it is
}
