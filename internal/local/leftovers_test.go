//go:build linux || darwin || freebsd

package local

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRemoveLeftovers(t *testing.T) {
	t.Chdir(t.TempDir())
	old, now := time.Now().Add(-8*24*time.Hour), time.Now()
	make := func(age time.Time, elements ...string) string {
		path := filepath.Join(append([]string{Bucket}, elements...)...)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("part"), 0o600); err != nil {
			t.Fatal(err)
		}
		for ; path != Bucket; path = filepath.Dir(path) {
			if err := os.Chtimes(path, age, age); err != nil {
				t.Fatal(err)
			}
		}
		return filepath.Join(append([]string{Bucket}, elements...)...)
	}
	kept := []string{
		make(now, ".sgwtmp", "multipart", "k1", "u.etag.inprogress", "1"),
		make(now, ".sgwtmp", "sum.123"),
		make(now, "..sgwtmp.1"),
		make(old, ".sgwtmp", "multipart", "k2", "an-upload-that-may-go-on", "1"),
		make(old, "abcdefghij012345"),
	}
	gone := []string{
		make(old, ".sgwtmp", "multipart", "k3", "u.etag.inprogress", "1"),
		make(old, ".sgwtmp", "old.123"),
		make(old, ".abcdefghij012345.sgwtmp.7"),
	}
	removeLeftovers(now)
	for _, path := range kept {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("was removed: %v", err)
		}
	}
	for _, path := range gone {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("%q is still there", path)
		}
	}
}
