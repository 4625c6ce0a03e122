package state

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzUploads: whatever has become of an entry, it is read as one of this file and this filestore or not at all, and
// can be replaced.
func FuzzUploads(f *testing.F) {
	const filestore, path = "store", "/srv/a.bin"
	for _, s := range []string{
		"", "\n", "null\n", "{}\n", `{"filestore":"store","path":"/srv/a.bin","size":5,"id":"3p1xk0s9d2mfa7qz"}` + "\n",
		`{"filestore":"store","path":"/srv/a.bin","part_size":-1}` + "\n" + `{"number":-1}` + "\n" + `{"number":1,"etag":`,
		`{"filestore":"store","path":"/srv/a.bin"}` + "\nnull\n[]\n", `{"filestore":"other","path":"/srv/a.bin"}`, "\xff\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		uploads, err := OpenUploads(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		u, err := uploads.Lock(filestore, path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(u.name+entrySuffix, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if e, found := u.Entry(); found && (e.Filestore != filestore || e.Path != path) {
			t.Errorf("%q was read as %+v", content, e)
		}
		if _, err := uploads.All(filestore); err != nil {
			t.Error(err)
		}
		if err := u.AddPart(UploadedPart{Number: 7}); err != nil && content != "" {
			t.Error(err)
		}
		if err := u.Save(UploadEntry{ID: "3p1xk0s9d2mfa7qz"}); err != nil {
			t.Error(err)
		}
		if err := u.AddPart(UploadedPart{Number: 1}); err != nil {
			t.Error(err)
		}
		if e, found := u.Entry(); !found || e.ID != "3p1xk0s9d2mfa7qz" || len(e.Parts) != 1 {
			t.Errorf("after it was replaced: %+v, %t", e, found)
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
}

// FuzzDownload: the same of the journal of a download.
func FuzzDownload(f *testing.F) {
	const filestore, id, dir = "store", "3p1xk0s9d2mfa7qz", "/srv"
	for _, s := range []string{
		"", "\n", "null\n", `{"filestore":"store","id":"3p1xk0s9d2mfa7qz","dir":"/srv"}` + "\n" + `{"from":-5,"to":99999999999999999999}` + "\n",
		`{"filestore":"store","id":"3p1xk0s9d2mfa7qz","dir":"/srv","mode":4294967295,"size":-1}` + "\n" + `{"from":9,"to":1}`, "\xff\x00\n\n\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		d, err := OpenDownload(t.TempDir(), filestore, id, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(d.name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(d.name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		before, found, err := d.Entry()
		if err != nil || found && (before.Filestore != filestore || before.ID != id || before.Dir != dir) {
			t.Errorf("%q was read as %+v, %v", content, before, err)
		}
		// A range more is read behind all that were there, also after a line that broke off.
		if err := d.Add(DownloadedRange{From: 1, To: 2}); err != nil {
			t.Error(err)
		}
		after, still, err := d.Entry()
		if err != nil || still != found || found && len(after.Ranges) != len(before.Ranges)+1 {
			t.Errorf("%q with a range more was read as %+v, %t, %v", content, after, still, err)
		}
		if err := d.Remove(); err != nil {
			t.Error(err)
		}
	})
}
