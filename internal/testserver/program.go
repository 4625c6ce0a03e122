package testserver

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Program builds filestore and returns the path of the executable. The packages whose tests watch it as a
// process of its own are two folders below the module's.
func Program(t testing.TB) string {
	t.Helper()
	// A result of these tests that "go test" has cached is no good once the program has changed.
	// It does not know of the build, but of directories that are read.
	if _, err := os.ReadDir("../../cmd/filestore"); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "filestore")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/designfultech/filestore/cmd/filestore").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}
