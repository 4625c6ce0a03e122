package state_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/state"
)

func open(t *testing.T) (*state.Uploads, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	u, err := state.OpenUploads(dir)
	if err != nil {
		t.Fatal(err)
	}
	return u, filepath.Join(dir, "uploads")
}

func lock(t *testing.T, u *state.Uploads, filestore, path string) *state.Upload {
	t.Helper()
	l, err := u.Lock(filestore, path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What one process remembers of an upload, the next one finds, until it is removed.
func TestUploadEntry(t *testing.T) {
	u, dir := open(t)
	l := lock(t, u, "bucket", "/a")
	if e, found := l.Entry(); found || u.Has("bucket", "/a") {
		t.Errorf("before there is any: %+v", e)
	}
	want := state.UploadEntry{
		Filestore: "bucket", Path: "/a", Size: 7, ModTime: time.Unix(1, 5).UTC(), ID: "id", Begun: time.Unix(9, 0).UTC(),
		Type: "text/plain", UploadID: "u1", PartSize: 5, Checksum: "CRC32",
	}
	check(t, l.Save(want))
	want.Parts = []state.UploadedPart{{Number: 2, ETag: `"x"`, Checksum: "s"}, {Number: 1, ETag: `"y"`, Checksum: "t"}}
	for _, p := range want.Parts {
		check(t, l.AddPart(p))
	}
	check(t, l.Close())

	l = lock(t, u, "bucket", "/a")
	if got, found := l.Entry(); !found || !reflect.DeepEqual(got, want) || !u.Has("bucket", "/a") {
		t.Errorf("%+v, %t", got, found)
	}
	if all, err := u.All("bucket"); err != nil || len(all) != 1 || all[0].ID != "id" {
		t.Errorf("%+v, %v", all, err)
	}
	if all, err := u.All("another"); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	// A new entry takes the place of the old one, with its parts.
	check(t, l.Save(state.UploadEntry{ID: "other"}))
	check(t, l.AddPart(state.UploadedPart{Number: 9}))
	if got, found := l.Entry(); !found || got.ID != "other" || len(got.Parts) != 1 || got.Parts[0].Number != 9 {
		t.Errorf("%+v, %t", got, found)
	}
	check(t, l.Remove())
	check(t, l.Remove())
	check(t, l.Close())
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// Nobody else can read it: paths and ids tell what somebody works on.
func TestUploadEntryIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no permission bits")
	}
	u, dir := open(t)
	l := lock(t, u, "bucket", "/a")
	check(t, l.Save(state.UploadEntry{ID: "id"}))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", e.Name(), info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A process that is killed in the middle of a line costs that line.
func TestUploadEntryBrokenOff(t *testing.T) {
	u, dir := open(t)
	l := lock(t, u, "bucket", "/a")
	check(t, l.Save(state.UploadEntry{ID: "id"}))
	check(t, l.AddPart(state.UploadedPart{Number: 1}))
	check(t, l.Close())
	names, err := filepath.Glob(filepath.Join(dir, "*.upload"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	whole, err := os.ReadFile(names[0])
	check(t, err)
	check(t, os.WriteFile(names[0], append(whole, `{"number":2,"et`...), 0o600))
	l = lock(t, u, "bucket", "/a")
	check(t, l.AddPart(state.UploadedPart{Number: 3}))
	if got, found := l.Entry(); !found || len(got.Parts) != 2 || got.Parts[1].Number != 3 {
		t.Errorf("%+v, %t", got, found)
	}
	// What is no entry at all is none.
	check(t, os.WriteFile(names[0], []byte("garbage"), 0o600))
	if got, found := l.Entry(); found {
		t.Errorf("%+v", got)
	}
	if all, err := u.All("bucket"); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// Of many at once, one at a time has the lock, although each removes its file when it ends.
func TestLock(t *testing.T) {
	u, _ := open(t)
	l := lock(t, u, "bucket", "/a")
	if _, err := u.Lock("bucket", "/a"); !errors.Is(err, state.ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	other := lock(t, u, "bucket", "/b")
	elsewhere := lock(t, u, "another", "/a")
	for _, l := range []*state.Upload{l, other, elsewhere} {
		check(t, l.Close())
	}
	var inside, taken atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				l, err := u.Lock("bucket", "/a")
				if errors.Is(err, state.ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := inside.Add(1); n != 1 {
					t.Errorf("%d have the lock", n)
				}
				taken.Add(1)
				inside.Add(-1)
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() == 0 {
		t.Error("nobody got the lock")
	}
}

// A directory that can't be made is an error at once; one that is not there holds nothing.
func TestOpenUploads(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(file, nil, 0o600))
	if u, err := state.OpenUploads(filepath.Join(file, "state")); err == nil {
		t.Errorf("no error, but %v", u)
	}
	if all, err := state.FindUploads(filepath.Join(t.TempDir(), "none")).All("bucket"); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}
