package testserver

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"testing"
)

// Program builds filestore, stripped as releases are, and returns the path of the executable. The
// packages whose tests watch it as a process of its own are two folders below the module's.
func Program(t testing.TB) string {
	t.Helper()
	// A result of these tests that "go test" has cached is no good once the program has changed.
	// It does not know of the build, but of directories that are read, and of the files in them.
	for _, dir := range []string{"../../cmd/filestore", "../../internal"} {
		err := filepath.WalkDir(dir, func(_ string, _ fs.DirEntry, err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
	}
	program := filepath.Join(t.TempDir(), "filestore")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "github.com/designfultech/filestore/cmd/filestore").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}
