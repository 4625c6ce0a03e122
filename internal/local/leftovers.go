//go:build linux || darwin || freebsd

package local

import (
	"os"
	"path/filepath"
	"time"
)

// leftoverAge is the age from which what a killed server left is nobody's. A request that is
// running keeps what it works on younger: the longest of them takes hours.
const leftoverAge = 7 * 24 * time.Hour

// removeLeftovers removes what servers that were killed have left in the bucket and what no
// call of S3 shows: multipart uploads that were being completed, and temporary files. The
// working directory is the root of the posix backend.
//
// Nothing here is an object, so that what can't be removed is left for the next server.
func removeLeftovers(now time.Time) {
	for _, pattern := range []string{
		filepath.Join(Bucket, ".sgwtmp", "multipart", "*", "*.inprogress"),
		filepath.Join(Bucket, ".sgwtmp", "*.*"),
		filepath.Join(Bucket, ".*.sgwtmp.*"),
	} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		for _, name := range names {
			if info, err := os.Lstat(name); err == nil && now.Sub(info.ModTime()) > leftoverAge {
				_ = os.RemoveAll(name)
			}
		}
	}
	// The folder of a key stays while it holds other uploads: Remove refuses it then.
	if keys, err := filepath.Glob(filepath.Join(Bucket, ".sgwtmp", "multipart", "*")); err == nil {
		for _, key := range keys {
			if info, err := os.Lstat(key); err == nil && now.Sub(info.ModTime()) > leftoverAge {
				_ = os.Remove(key)
			}
		}
	}
}
