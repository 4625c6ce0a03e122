//go:build unix

package killtest

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/state"
	"github.com/designfultech/filestore/internal/testserver"
)

// resumeScenarios are uploads of one file in three parts that "upload --resume" goes on with. The path is
// their last argument.
func resumeScenarios(s servers) []scenario {
	finished := wantUploaded
	return []scenario{
		{"begun with --resume", func(t *testing.T, _ *filestore) ([]string, []byte) {
			return []string{"upload", "--part-size", "5M", "--resume", sourceInParts(t, 1)}, nil
		}, finished},
		{"begun without", func(t *testing.T, _ *filestore) ([]string, []byte) {
			return []string{"upload", "--part-size", "5M", sourceInParts(t, 1)}, nil
		}, finished},
		{"gone on with", func(t *testing.T, f *filestore) ([]string, []byte) {
			path := sourceInParts(t, 1)
			s.killed(t, f, 4, path)
			return []string{"upload", "--resume", path}, nil
		}, finished},
		{"of a file that has changed", func(t *testing.T, f *filestore) ([]string, []byte) {
			path := sourceInParts(t, 1)
			s.killed(t, f, 4, path)
			fill(t, path, 2)
			return []string{"upload", "--part-size", "5M", "--resume", path}, nil
		}, finished},
		{"that was completed and not written down", func(t *testing.T, f *filestore) ([]string, []byte) {
			path := sourceInParts(t, 1)
			s.killed(t, f, 5, path)
			return []string{"upload", "--resume", path}, nil
		}, finished},
	}
}

// killed kills an upload with --resume after its request number n to S3: one begins it, three send the
// parts, one completes it.
func (s servers) killed(t *testing.T, f *filestore, n int, path string) {
	t.Helper()
	p := s.start(t, f, "s3", n, faultproxy.After, []string{"upload", "--part-size", "5M", "--resume", path}, nil)
	if !p.isHeld {
		t.Fatal("it has ended")
	}
	p.kill(t)
}

// sourceInParts makes a file for three parts.
func sourceInParts(t *testing.T, seed byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large.bin")
	fill(t, path, seed)
	return path
}

func fill(t *testing.T, path string, seed byte) {
	t.Helper()
	data := make([]byte, 11*mib)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// The clock of the file system may be coarse.
	at := time.Unix(1_700_000_000+int64(seed), 0)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// Killed at any request, an upload that is gone on with ends as one right file, with nothing left beside it
// and nothing remembered.
func TestKillResume(t *testing.T) {
	s := servers{program: testserver.Program(t), s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}
	for _, c := range resumeScenarios(s) {
		t.Run(c.name, func(t *testing.T) {
			s.atEachRequest(t, c, func(t *testing.T, f *filestore, p *process) {
				p.kill(t)
				f.wantAllowed(t)
				s.wantResumed(t, f, p.cmd.Args[len(p.cmd.Args)-1])
			})
		})
	}
}

// So does Ctrl-C, where --resume was said.
func TestInterruptResume(t *testing.T) {
	s := servers{program: testserver.Program(t), s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}
	s.atEachRequest(t, resumeScenarios(s)[0], func(t *testing.T, f *filestore, p *process) {
		if status := p.interrupt(t); status != 130 {
			t.Errorf("exit status %d: %s", status, p.stderr.String())
		}
		f.wantAllowed(t)
		s.wantResumed(t, f, p.cmd.Args[len(p.cmd.Args)-1])
	})
}

// wantResumed goes on with the upload of path to its end, and once more.
func (s servers) wantResumed(t *testing.T, f *filestore, path string) {
	t.Helper()
	p := s.start(t, f, "s3", 0, faultproxy.Before, []string{"upload", "--part-size", "5M", "-q", "--resume", path}, nil)
	if !p.cmd.ProcessState.Success() {
		t.Fatalf("%s: %s", p.cmd.ProcessState, p.stderr)
	}
	p.settle()
	all := f.records(t)
	if len(all) != 1 || all[0].State() != records.Temporary {
		t.Fatalf("records: %+v", all)
	}
	if id := strings.TrimSpace(p.stdout.String()); id != all[0].ID {
		t.Errorf("it printed %q, and the id is %q", id, all[0].ID)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if object, err := f.Download(t.Context(), all[0], &got, nil); err != nil || object.Verified == "" {
		t.Errorf("%+v, %v", object, err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d other bytes have come back", got.Len())
	}
	f.wantClean(t)
	home := map[string]string{"HOME": f.home}
	dir, err := state.Dir(func(name string) (string, bool) { value, ok := home[name]; return value, ok })
	if err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(dir, "uploads"))
	for _, file := range left {
		t.Errorf("%s is left", file.Name())
	}
	if err != nil {
		t.Error(err)
	}
}
