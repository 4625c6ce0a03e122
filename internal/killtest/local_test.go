//go:build linux || darwin || freebsd

package killtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// TestKillLocal kills uploads to one local store after ever longer times, the first of them while
// the store is being made. Whatever the program has printed as done is there afterwards, and so is
// every file of which the records say so; the database is sound.
func TestKillLocal(t *testing.T) {
	const rounds = 30
	program, dir := testserver.Program(t), filepath.Join(t.TempDir(), "store")
	files := sourceFiles(t)
	var paths []string
	for name := range files.contents {
		paths = append(paths, filepath.Join(files.dir, name))
	}
	// How long it takes, to spread the kills over that time.
	begin := time.Now()
	if _, killed := runAndKill(t, t.TempDir(), patience, program, append([]string{"--local=" + filepath.Join(t.TempDir(), "store"), "upload"}, paths...)...); killed {
		t.Fatal("it does not end")
	}
	whole := time.Since(begin)

	printed := make(map[string]bool) // ids
	killed := 0
	for round := range rounds + 1 {
		args := append([]string{"--local=" + dir, "--quiet", "upload"}, paths...)
		if round%2 == 0 {
			args = append(args, "--store")
		}
		after := whole * time.Duration(round) / rounds
		if round == rounds {
			after = patience // it may end by itself: the store is no worse for it
		}
		out, wasKilled := runAndKill(t, t.TempDir(), after, program, args...)
		if wasKilled {
			killed++
		}
		if round == rounds && (wasKilled || strings.Count(out, "\n") != len(paths)) {
			t.Errorf("after the kills an upload printed %q", out)
		}
		// The last line may have broken off.
		for line := range strings.Lines(out) {
			if id, whole := strings.CutSuffix(line, "\n"); whole {
				printed[id] = true
			}
		}
	}
	t.Logf("%d of %d runs were killed, %d files were uploaded", killed, rounds, len(printed))
	if killed < rounds/3 {
		t.Error("that is no test")
	}

	store, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	store.Executable = program
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	wantSound(t, store.Records())
	c, setClock := openLocal(t, store)
	wantAllowed(t, c)
	for _, r := range allRecords(t, c.Records) {
		if printed[r.ID] && r.State() == records.Placeholder {
			t.Errorf("%q was printed as uploaded, and is a placeholder", r.ID)
		}
		if r.State() == records.Placeholder {
			continue
		}
		delete(printed, r.ID)
		var got bytes.Buffer
		if object, err := c.Download(t.Context(), r, &got, nil); err != nil || object.Verified == "" {
			t.Errorf("download %+v: %+v, %v", r, object, err)
		} else if !bytes.Equal(got.Bytes(), files.contents[r.Name]) {
			t.Errorf("%+v has come back as %d other bytes", r, got.Len())
		}
	}
	for id := range printed {
		t.Errorf("%q was printed as uploaded, and has no record", id)
	}

	setClock(time.Now().Add(3 * time.Hour))
	if summary, err := c.Expire(t.Context(), client.ExpireOptions{}); err != nil || summary.Failed > 0 || summary.Unlisted != nil {
		t.Errorf("%+v, %v", summary, err)
	}
	wantClean(t, c)
}

// TestKillResumeLocal kills uploads to a local store after ever longer times, with --resume and
// without, and goes on with each. It ends as one right file, with nothing left beside it.
func TestKillResumeLocal(t *testing.T) {
	const rounds = 12
	program := testserver.Program(t)
	path := filepath.Join(t.TempDir(), "large.bin")
	fill(t, path, 1)
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if _, killed := runAndKill(t, t.TempDir(), patience, program, "--local="+filepath.Join(t.TempDir(), "store"), "upload", "--part-size", "5M", path); killed {
		t.Fatal("it does not end")
	}
	whole, killed := time.Since(begin), 0
	for round := range rounds {
		home, dir := t.TempDir(), filepath.Join(t.TempDir(), "store")
		args := []string{"--local=" + dir, "--quiet", "upload", "--part-size", "5M", path}
		first := args
		if round%2 == 0 {
			first = append(slices.Clone(args), "--resume")
		}
		before, wasKilled := runAndKill(t, home, whole*time.Duration(round)/rounds, program, first...)
		if wasKilled {
			killed++
		}
		printed, resumedKilled := runAndKill(t, home, patience, program, append(args, "--resume")...)
		if resumedKilled {
			t.Fatal("it does not end")
		}
		store, err := local.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		store.Executable = program
		t.Cleanup(func() {
			if err := store.Close(); err != nil {
				t.Error(err)
			}
		})
		c, _ := openLocal(t, store)
		wantClean(t, c)
		all := allRecords(t, c.Records)
		// Killed before it has printed the id, it is gone on with, or found to be there. Only an upload of which
		// the id was printed is over, and the next one another.
		files := []string{strings.TrimSpace(printed)}
		if before = strings.TrimSpace(before); before != "" && before != files[0] {
			files = append(files, before)
		} else if !wasKilled {
			t.Errorf("round %d: one that ended by itself printed %q, and the next one %q", round, before, files[0])
		}
		ids := make([]string, len(all))
		for i, r := range all {
			ids[i] = r.ID
		}
		slices.Sort(files)
		slices.Sort(ids)
		if !slices.Equal(ids, files) {
			t.Errorf("round %d: %q were printed, and the records are %+v", round, files, all)
		}
		for _, r := range all {
			var got bytes.Buffer
			if object, err := c.Download(t.Context(), r, &got, nil); err != nil || object.Verified == "" || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("round %d: %+v is %d bytes, %+v, %v", round, r, got.Len(), object, err)
			}
		}
	}
	t.Logf("%d of %d runs were killed", killed, rounds)
	if killed < rounds/3 {
		t.Error("that is no test")
	}
}

type sources struct {
	dir      string
	contents map[string][]byte // by name
}

// sourceFiles makes small files, and one that goes up in parts.
func sourceFiles(t *testing.T) sources {
	t.Helper()
	s := sources{dir: t.TempDir(), contents: make(map[string][]byte)}
	for i := range 10 {
		size := 1000 * i
		if i == 9 {
			size = transfer.DefaultPartSize + mib
		}
		data := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		name := fmt.Sprintf("file%d.bin", i)
		s.contents[name] = data
		if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// runAndKill runs the program, kills it after a time, and waits until it and its S3 server are
// gone. It returns what it printed.
func runAndKill(t *testing.T, home string, after time.Duration, program string, args ...string) (stdout string, killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	// Both processes hold the other end of this pipe: it ends with the last of them.
	alive, held, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	var out, messages strings.Builder
	cmd := exec.CommandContext(ctx, program, args...) // killed when ctx ends
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}
	cmd.Stdout, cmd.Stderr = &out, &messages
	cmd.ExtraFiles = []*os.File{held}
	err = cmd.Run()
	_ = held.Close() // ours
	if _, err := io.Copy(io.Discard, alive); err != nil {
		t.Fatal(err)
	}
	switch state := cmd.ProcessState; {
	case state == nil: // killed before it began
		return "", true
	case state.Success(): // perhaps at the moment in which it would have been killed
		return out.String(), false
	case state.Exited():
		t.Fatalf("%v: %s", err, messages.String())
	}
	return out.String(), true
}

// wantSound has SQLite check the database.
func wantSound(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var result string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		t.Errorf("the database is %q, %v", result, err)
	}
}

// openLocal returns a client of the store, and how to set its clock.
func openLocal(t *testing.T, store *local.Store) (c *client.Client, setClock func(time.Time)) {
	t.Helper()
	table, err := sqlite.Open(t.Context(), store.Records())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	key := store.Credentials()
	api := client.NewS3(aws.Config{
		Region: local.Region, HTTPClient: client.HTTPClient(patience, store.Dial),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, ""),
	}, func(o *s3.Options) { o.BaseEndpoint = aws.String(store.PublicURL()) })
	now := time.Now()
	return &client.Client{
		S3: api, Bucket: local.Bucket, Records: table, Transfer: &transfer.Engine{S3: api, Bucket: local.Bucket},
		Signer:   func(context.Context) (presign.Signer, error) { return presign.Signer{}, errors.New("not needed") },
		Settings: client.Settings{URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime},
		Now:      func() time.Time { return now },
		NewID:    client.NewID,
	}, func(t time.Time) { now = t }
}
