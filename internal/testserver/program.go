package testserver

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/state"
)

// Program builds filestore, stripped as releases are, and returns the path of the executable, which is
// nobody's to change: all tests share it, since linking takes seconds. The packages whose tests watch it as a process of
// its own are two folders below the module's.
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
	dir, err := filepath.Abs("../../.tools/program")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "filestore")
	if runtime.GOOS == "windows" {
		program += ".exe"
	}
	defer lock(t, filepath.Join(dir, "lock"))()
	// What is there already is not linked again.
	out, err := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", program, "github.com/designfultech/filestore/cmd/filestore").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// lock waits for its turn among the tests of all packages, and returns what ends it.
func lock(t testing.TB, path string) (unlock func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for {
		locked, err := state.TryLock(f)
		if err != nil {
			t.Fatal(err)
		}
		if locked {
			return func() { _ = f.Close() }
		}
		time.Sleep(50 * time.Millisecond)
	}
}
