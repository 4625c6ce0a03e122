//go:build linux || darwin || freebsd

package local

import (
	"errors"
	"io/fs"
	"os"
	"testing"
)

// FuzzOpen: whatever the files of a store hold, it is opened with a key, or refused, and nothing of it is changed.
func FuzzOpen(f *testing.F) {
	const sound, key = `{"program":"filestore","version":1,"metadata":"xattr"}`, `{"access_key_id":"FS1","secret_access_key":"s"}`
	f.Add(sound, key, `{"url":"http://127.0.0.1:1"}`)
	for _, s := range []string{"", "null", "{}", "[]", `{"program":"filestore","version":-1}`, `{"program":"filestore","version":1e400}`, "\x00\xff", `{"url":5}`} {
		f.Add(s, key, s)
		f.Add(sound, s, s)
	}
	f.Fuzz(func(t *testing.T, format, credentials, served string) {
		dir := t.TempDir()
		files := map[string]string{formatFile: format, credentialsFile: credentials, servedFile: served}
		for name, text := range files {
			if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Open(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			t.Errorf("taken for none: %v", err)
		case err == nil && (s.Credentials().AccessKeyID == "" || s.Credentials().SecretAccessKey == ""):
			t.Error("opened without a key")
		case err == nil:
			if url, ok := s.served(); ok {
				t.Errorf("served at %q, by nobody", url)
			}
		}
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != len(files) {
			t.Errorf("there is %v (%v)", entries, err)
		}
		for name, text := range files {
			if now, err := os.ReadFile(dir + "/" + name); err != nil || string(now) != text {
				t.Errorf("%s holds %q now (%v)", name, now, err)
			}
		}
	})
}
