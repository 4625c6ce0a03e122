package state

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A download is remembered line by line; another process finds what the one before had written.
func TestDownload(t *testing.T) {
	dir := t.TempDir()
	open := func(filestore, id, target string) *Download {
		t.Helper()
		d, err := OpenDownload(dir, filestore, id, target)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	d := open("a bucket", "id1", "/target")
	if _, found, err := d.Entry(); found || err != nil {
		t.Errorf("before it began: %t, %v", found, err)
	}
	first, second, third := DownloadedRange{0, 5, "AAAA"}, DownloadedRange{10, 15, "BBBB"}, DownloadedRange{5, 10, "CCCC"}
	begun := DownloadEntry{File: ".part", FileID: 1 << 63, Mode: 0o644, ETag: `"etag"`, Size: 20, Checksum: "CRC32"}
	check(t, d.Begin(begun), d.Add(first), d.Add(second), d.Close())

	// What broke off in the middle of a line is passed over, and what comes after it is not.
	f, err := os.OpenFile(d.name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"from":15,"to":2`)
	check(t, err, f.Close())
	d = open("a bucket", "id1", "/target")
	check(t, d.Add(third), d.Close())

	e, found, err := d.Entry()
	if !found || err != nil || !slices.Equal(e.Ranges, []DownloadedRange{first, second, third}) {
		t.Errorf("%+v, %t, %v", e, found, err)
	}
	e.Ranges = nil
	begun.Filestore, begun.ID, begun.Dir = "a bucket", "id1", "/target"
	if got, want := e, begun; got.File != want.File || got.FileID != want.FileID || got.Mode != want.Mode || got.ETag != want.ETag ||
		got.Size != want.Size || got.Checksum != want.Checksum || got.Filestore != want.Filestore || got.ID != want.ID || got.Dir != want.Dir {
		t.Errorf("%+v, want %+v", got, want)
	}

	// Others are others.
	for _, other := range []*Download{open("b bucket", "id1", "/target"), open("a bucket", "id2", "/target"), open("a bucket", "id1", "/elsewhere")} {
		if _, found, err := other.Entry(); found || err != nil {
			t.Errorf("%+v: %t, %v", other, found, err)
		}
		check(t, other.Remove())
	}

	// Begun anew, nothing is left of it; removed, nothing at all.
	check(t, d.Begin(begun), d.Close())
	if e, found, err := d.Entry(); !found || err != nil || len(e.Ranges) != 0 {
		t.Errorf("%+v, %t, %v", e, found, err)
	}
	check(t, d.Remove(), d.Remove())
	if names, err := filepath.Glob(filepath.Join(dir, "downloads", "*")); err != nil || len(names) != 0 {
		t.Errorf("%q is left, %v", names, err)
	}
}

// A journal whose first line broke off, or that is of something else, is none.
func TestDownloadEntryUnreadable(t *testing.T) {
	d, err := OpenDownload(t.TempDir(), "a bucket", "id1", "/target")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		"", "\n", `{"filestore":"a bucket","id":"id1","di`, "no JSON\n", "null\n",
		`{"filestore":"a bucket","id":"id2","dir":"/target"}` + "\n",
	} {
		check(t, os.WriteFile(d.name, []byte(text), 0o600))
		if _, found, err := d.Entry(); found || err != nil {
			t.Errorf("%q: %t, %v", text, found, err)
		}
	}
}

// A lock excludes everybody else, and ends with its file.
func TestTryLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	open := func() *os.File {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	a, b := open(), open()
	defer b.Close()
	if locked, err := TryLock(a); !locked || err != nil {
		t.Fatal(locked, err)
	}
	if locked, err := TryLock(b); locked || err != nil {
		t.Error(locked, err)
	}
	check(t, a.Close())
	if locked, err := TryLock(b); !locked || err != nil {
		t.Error(locked, err)
	}
}

// Two files are told from each other, and one under two names is the same.
func TestFileID(t *testing.T) {
	dir := t.TempDir()
	id := func(name string) uint64 {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		id, err := FileID(f)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	one, other := id("one"), id("other")
	check(t, os.Rename(filepath.Join(dir, "one"), filepath.Join(dir, "renamed")))
	if one == other || id("renamed") != one {
		t.Errorf("%d, %d, renamed %d", one, other, id("renamed"))
	}
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}
