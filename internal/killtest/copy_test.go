//go:build linux || darwin || freebsd

package killtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/testserver"
)

// TestKillCopy ends a copy at each of its steps, has a sweep go over the destination hours later,
// and says the copy again: the stores are equal then, and a third one does nothing.
func TestKillCopy(t *testing.T) {
	s := servers{program: testserver.Program(t), s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}
	for name, prepare := range map[string]func(t *testing.T, from, to *filestore){
		"small files":  func(t *testing.T, from, _ *filestore) { makeStored(t, from, 10, 20) },
		"a large file": func(t *testing.T, from, _ *filestore) { makeStored(t, from, 11*mib) },
		"deleted files": func(t *testing.T, from, _ *filestore) {
			from.make(t, records.Record{CreatedAt: from.stamp(100 * time.Hour), DeletedAt: from.stamp(50 * time.Hour), Size: -1}, false)
		},
		"brought forward": func(t *testing.T, from, to *filestore) {
			makeStored(t, from, 10, 20)
			temporary := from.make(t, records.Record{CreatedAt: from.stamp(0), UploadedAt: from.stamp(0), Size: 7}, true)
			copyAll(t, from, to)
			if _, err := from.Records.Store(t.Context(), temporary, from.stamp(0), nil); err != nil {
				t.Fatal(err)
			}
			id := from.records(t)[0].ID
			if id == temporary {
				id = from.records(t)[1].ID
			}
			// So long ago that no sweep cleans up after it.
			if _, err := from.Records.Delete(t.Context(), id, from.stamp(50*time.Hour)); err != nil {
				t.Fatal(err)
			}
			if _, err := from.api.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &from.Bucket, Key: &id}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			var from, to *filestore
			c := scenario{
				name: "copy",
				prepare: func(t *testing.T, f *filestore) ([]string, []byte) {
					from, to = f, s.open(t)
					prepare(t, from, to)
					return []string{"copy", "--to-bucket", to.Bucket, "--to-table", to.tableName, "--part-size", "5M"}, nil
				},
				finished: func(t *testing.T, _ *filestore) { wantEqual(t, from, to) },
			}
			s.atEachStep(t, c, func(t *testing.T, _ *filestore, p *process) {
				p.kill(t)
				wantLed(t, to)
				if name != "brought forward" { // whose temporary file is due by then
					to.offset = 5 * time.Hour
				}
				if summary, err := to.Expire(t.Context(), client.ExpireOptions{}); err != nil || summary.Failed > 0 || summary.Abandoned > 0 {
					t.Fatalf("%+v, %v", summary, err)
				}
				copyAll(t, from, to)
				wantEqual(t, from, to)
				for _, done := range copyAll(t, from, to) {
					if done.Action != client.CopySame {
						t.Errorf("the next copy does something: %+v", done)
					}
				}
			})
		})
	}
}

// makeStored makes stored files of these sizes.
func makeStored(t *testing.T, f *filestore, sizes ...int) {
	t.Helper()
	for i, size := range sizes {
		_, err := f.Upload(t.Context(), client.UploadRequest{
			Name: fmt.Sprintf("%d.bin", i), Store: true, Meta: map[string]string{"a": "b"}, Stream: bytes.NewReader(bytes.Repeat([]byte{byte(i)}, size)),
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// copyAll copies without the program, and fails the test where a file fails.
func copyAll(t *testing.T, from, to *filestore) (all []client.Copied) {
	t.Helper()
	for done, err := range from.CopyTo(t.Context(), to.Client, client.CopyOptions{}) {
		if err != nil || done.Err != nil {
			t.Fatalf("%q: %v, %v", done.ID, done.Err, err)
		}
		all = append(all, done)
	}
	return all
}

// wantEqual fails the test unless both have the same records and objects, and no multipart upload is
// left.
func wantEqual(t *testing.T, from, to *filestore) {
	t.Helper()
	byID := func(all []records.Record) map[string]records.Record {
		out := make(map[string]records.Record)
		for _, r := range all {
			out[r.ID] = r
		}
		return out
	}
	if diff := cmp.Diff(byID(from.records(t)), byID(to.records(t))); diff != "" {
		t.Errorf("records (-source +destination):\n%s", diff)
	}
	for _, r := range from.records(t) {
		if r.State() == records.Deleted {
			continue
		}
		var a, b bytes.Buffer
		_, errA := from.Download(t.Context(), r, &a, nil)
		_, errB := to.Download(t.Context(), r, &b, nil)
		if errA != nil || errB != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("file %q: %d bytes (%v), and %d at the destination (%v)", r.ID, a.Len(), errA, b.Len(), errB)
		}
	}
	if a, b := from.objects(t), to.objects(t); !cmp.Equal(a, b) {
		t.Errorf("objects %v, and %v at the destination", a, b)
	}
	if left := allUploads(t, to.Client); len(left) > 0 {
		t.Errorf("multipart uploads of %q are left", left)
	}
}

// wantLed fails the test unless there is a record for every object and every multipart upload, which leads
// the next copy to it, and no record promises an object that was never there. (One that is being
// deleted as at the source may be gone before its record says so.)
func wantLed(t *testing.T, f *filestore) {
	t.Helper()
	states := make(map[string]records.State)
	for _, r := range f.records(t) {
		states[r.ID] = r.State()
	}
	for id := range f.objects(t) {
		if states[id] == "" || states[id] == records.Deleted {
			t.Errorf("object %q: its record is %q", id, states[id])
		}
	}
	for _, id := range allUploads(t, f.Client) {
		if states[id] == "" {
			t.Errorf("a multipart upload of %q has no record", id)
		}
	}
}

// TestKillCopyLocal kills copies from one local store to another after ever longer times. The one that nobody
// kills ends it.
func TestKillCopyLocal(t *testing.T) {
	const rounds = 20
	program := testserver.Program(t)
	home, a, b := t.TempDir(), filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	files := sourceFiles(t)
	var paths []string
	for name := range files.contents {
		paths = append(paths, filepath.Join(files.dir, name))
	}
	if out, killed := runAndKill(t, home, patience, program, append([]string{"--local=" + a, "-q", "upload", "--store"}, paths...)...); killed || strings.Count(out, "\n") != len(paths) {
		t.Fatalf("uploaded: %q", out)
	}
	begin := time.Now()
	if _, killed := runAndKill(t, home, patience, program, "--local="+a, "copy", "--to-local="+filepath.Join(t.TempDir(), "measure")); killed {
		t.Fatal("it does not end")
	}
	whole, killed := time.Since(begin), 0
	for round := range rounds {
		if _, wasKilled := runAndKill(t, home, whole*time.Duration(round)/rounds, program, "--local="+a, "copy", "--to-local="+b); wasKilled {
			killed++
		}
		if round%5 == 4 { // as if for the first time
			if err := os.RemoveAll(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if killed < 3 {
		t.Errorf("only %d of %d copies were killed: that is no test", killed, rounds)
	}
	if _, wasKilled := runAndKill(t, home, patience, program, "--local="+a, "copy", "--to-local="+b); wasKilled {
		t.Fatal("it does not end")
	}
	if out, _ := runAndKill(t, home, patience, program, "--local="+a, "copy", "--to-local="+b); out != "" {
		t.Errorf("the next copy does something: %s", out)
	}
	var clients [2]*client.Client
	for i, dir := range []string{a, b} {
		store, err := local.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		store.Executable = program
		t.Cleanup(func() { _ = store.Close() })
		clients[i], _ = openLocal(t, store)
		wantSound(t, store.Records())
		wantClean(t, clients[i])
	}
	got := make(map[string]records.Record)
	for _, r := range allRecords(t, clients[1].Records) {
		got[r.ID] = r
	}
	for _, r := range allRecords(t, clients[0].Records) {
		if !records.Same(r, got[r.ID]) {
			t.Errorf("record %+v has become %+v", r, got[r.ID])
		}
		var content bytes.Buffer
		if _, err := clients[1].Download(t.Context(), r, &content, nil); err != nil || !bytes.Equal(content.Bytes(), files.contents[r.Name]) {
			t.Errorf("file %q: %d other bytes, %v", r.ID, content.Len(), err)
		}
	}
}
