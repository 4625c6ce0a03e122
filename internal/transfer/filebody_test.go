package transfer_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What goes up is the file that was opened, wherever its path leads by then.
func TestUploadOfAFileThatMoves(t *testing.T) {
	for name, move := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced": func(path string) error {
			other := filepath.Join(filepath.Dir(path), "other")
			if err := os.WriteFile(other, make([]byte, 12*mib), 0o600); err != nil {
				return err
			}
			return os.Rename(other, path)
		},
		"renamed":     func(path string) error { return os.Rename(path, path+"2") },
		"still there": func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeS3{knows: []string{"CRC64NVME"}}
			s := f.start(t)
			for _, size := range []int{2 * mib, 12 * mib} { // whole, and in parts
				data := randomBytes(size)
				file := tempFile(t, data)
				if err := move(file.Name()); err != nil {
					t.Fatal(err)
				}
				if _, err := newClient(s, s.Endpoint).engine().UploadFile(t.Context(), key, "text/plain", file, nil); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(f.object(key).data, data) {
					t.Errorf("%d bytes: the object is not what was opened", size)
				}
			}
		})
	}
}
