package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// S3's operations, for faults.
var (
	putObject      = func(r *http.Request) bool { return r.Method == http.MethodPut && r.URL.Query().Get("uploadId") == "" }
	createUpload   = faultproxy.On(http.MethodPost, "uploads")
	uploadPart     = faultproxy.On(http.MethodPut, "partNumber")
	completeUpload = faultproxy.On(http.MethodPost, "uploadId")
	abortUpload    = faultproxy.On(http.MethodDelete, "uploadId")
	deleteObjects  = faultproxy.On(http.MethodPost, "delete")
	deleteObject   = func(r *http.Request) bool { return r.Method == http.MethodDelete && !r.URL.Query().Has("uploadId") }
	headObject     = faultproxy.On(http.MethodHead)
	listUploads    = faultproxy.On(http.MethodGet, "uploads")
	listParts      = faultproxy.On(http.MethodGet, "uploadId")
)

func testUpload(t *testing.T, on servers) {
	small, large := []byte(content), randomBytes(11*mib)
	for _, test := range []struct {
		name        string
		req         client.UploadRequest
		data        []byte
		storeOnLoad bool
		wantType    string
		wantMeta    string
		wantState   records.State
	}{
		{
			name: "a file", data: small,
			req:      client.UploadRequest{Type: "text/plain", File: tempFile(t, small)},
			wantType: "text/plain", wantState: records.Temporary,
		}, {
			name: "a large file, in parts", data: large,
			req:      client.UploadRequest{Type: "video/mp4", File: tempFile(t, large)},
			wantType: "video/mp4", wantState: records.Temporary,
		}, {
			name: "a stream", data: small,
			req:      client.UploadRequest{Type: "text/plain", Stream: bytes.NewReader(small)},
			wantType: "text/plain", wantState: records.Temporary,
		}, {
			name: "a large stream, in parts", data: large,
			req:      client.UploadRequest{Type: "video/mp4", Stream: bytes.NewReader(large)},
			wantType: "video/mp4", wantState: records.Temporary,
		}, {
			name: "an empty file", data: nil,
			req:      client.UploadRequest{Type: "text/plain", File: tempFile(t, nil)},
			wantType: "text/plain", wantState: records.Temporary,
		}, {
			name: "stored at once", data: small,
			req:      client.UploadRequest{Type: "text/plain", File: tempFile(t, small), Store: true},
			wantType: "text/plain", wantState: records.Stored,
		}, {
			name: "stored on load", data: small, storeOnLoad: true,
			req:      client.UploadRequest{Type: "text/plain", File: tempFile(t, small)},
			wantType: "text/plain", wantState: records.Stored,
		}, {
			name: "with metadata", data: small,
			req:      client.UploadRequest{Type: "text/plain", File: tempFile(t, small), Meta: map[string]string{"path": "a/ü", "commit": "4f2a91c"}},
			wantType: "text/plain", wantMeta: `{"commit":"4f2a91c","path":"a/ü"}`, wantState: records.Temporary,
		}, {
			name: "the type without its parameters", data: small,
			req:      client.UploadRequest{Type: "text/html; charset=utf-8", File: tempFile(t, small)},
			wantType: "text/html", wantState: records.Temporary,
		}, {
			name: "no type", data: small,
			req:      client.UploadRequest{File: tempFile(t, small)},
			wantType: "application/octet-stream", wantState: records.Temporary,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := on.open(t)
			f.Settings.StoreOnLoad = test.storeOnLoad
			var moved progress
			test.req.Name, test.req.Progress = "ä file", moved.add
			got, err := f.Upload(t.Context(), test.req)
			if err != nil {
				t.Fatal(err)
			}
			want := records.Record{
				ID: got.ID, Name: "ä file", Type: test.wantType, Size: int64(len(test.data)), Meta: test.wantMeta,
				CreatedAt: f.stamp(0), UploadedAt: f.stamp(0),
			}
			if test.wantState == records.Stored {
				want.StoredAt = f.stamp(0)
			}
			if !client.ValidID(got.ID) {
				t.Errorf("id %q", got.ID)
			}
			sameRecord(t, got, want)
			sameRecord(t, f.record(t, got.ID), want)
			text, mime, found := f.object(t, got.ID)
			if !found || text != string(test.data) || mime != test.wantType {
				t.Errorf("object of %d bytes, type %q, found %t", len(text), mime, found)
			}
			if moved.bytes() != int64(len(test.data)) {
				t.Errorf("progress says %d bytes, want %d", moved.bytes(), len(test.data))
			}
			f.wantConsistent(t)
		})
	}

	t.Run("a taken id", func(t *testing.T) {
		f := on.open(t)
		taken := f.stored(t, "first.txt")
		ids := []string{taken, taken, "abcdefghijklmno1"}
		f.NewID = func() string { id := ids[0]; ids = ids[1:]; return id }
		if r := f.upload(t); r.ID != "abcdefghijklmno1" {
			t.Errorf("the id is %q", r.ID)
		}
		if r := f.record(t, taken); r.Name != "first.txt" {
			t.Errorf("the file that had the id is now %q", r.Name)
		}
	})
}

// sameRecord compares what a record says.
func sameRecord(t testing.TB, got, want records.Record) {
	t.Helper()
	if got.ID != want.ID || got.Name != want.Name || got.Type != want.Type || got.Size != want.Size || got.Meta != want.Meta ||
		got.CreatedAt != want.CreatedAt || got.UploadedAt != want.UploadedAt || got.StoredAt != want.StoredAt || got.DeletedAt != want.DeletedAt {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// After a failed upload nothing is left. Only where nobody can know whether S3 still writes the
// object a record stays, as deleted, for the sweeps to clean up after.
func testUploadFails(t *testing.T, on servers) {
	small, large := []byte(content), randomBytes(11*mib)
	for _, test := range []struct {
		name    string
		data    []byte
		prepare func(f *filestore)
		// unknown is whether there may be an object later: the record stays, as deleted. perhaps is
		// where that depends on how much the kernel took of the body before the fault.
		unknown, perhaps bool
	}{
		{
			name: "create is not written", data: small,
			prepare: func(f *filestore) { f.failRecords(faultproxy.Before, onCreate) },
		}, {
			name: "create is written and the answer lost", data: small,
			prepare: func(f *filestore) { f.failRecords(faultproxy.After, onCreate) },
		}, {
			name: "the object is refused", data: small,
			prepare: func(f *filestore) { f.s3Faults.Inject(putObject, faultproxy.Always(), faultproxy.SlowDown()) },
		}, {
			name: "the object meets errors after it was sent", data: small, unknown: true,
			prepare: func(f *filestore) { f.s3Faults.Inject(putObject, faultproxy.Always(), faultproxy.InternalError()) },
		}, {
			name: "the connection breaks in the object", data: large[:4*mib], perhaps: true,
			prepare: func(f *filestore) {
				f.s3Faults.Inject(putObject, faultproxy.Always(), faultproxy.ResetUpload(1000))
			},
		}, {
			name: "the object arrives damaged", data: small,
			prepare: func(f *filestore) { f.s3Faults.Inject(putObject, faultproxy.Always(), faultproxy.FlipUpload(3)) },
		}, {
			name: "the object is written, all answers are lost, and so is the look for it", data: small, unknown: true,
			prepare: func(f *filestore) {
				f.useS3(f.losingAnswers(putObject))
				f.s3Faults.Inject(headObject, faultproxy.Always(), faultproxy.InternalError())
			},
		}, {
			name: "the multipart upload is not begun", data: large,
			prepare: func(f *filestore) { f.s3Faults.Inject(createUpload, faultproxy.Always(), faultproxy.SlowDown()) },
		}, {
			name: "the multipart upload is begun and the answers lost", data: large,
			prepare: func(f *filestore) { f.s3Faults.Inject(createUpload, faultproxy.Always(), faultproxy.CutDownload(0)) },
		}, {
			name: "a part fails", data: large,
			prepare: func(f *filestore) { f.s3Faults.Inject(uploadPart, faultproxy.Always(), faultproxy.SlowDown()) },
		}, {
			name: "completing fails", data: large, unknown: true,
			prepare: func(f *filestore) {
				f.s3Faults.Inject(completeUpload, faultproxy.Always(), faultproxy.ErrorIn200("InternalError"))
			},
		}, {
			name: "completing is answered, and by no S3", data: large, unknown: true,
			prepare: func(f *filestore) { f.s3Faults.Inject(completeUpload, faultproxy.Always(), faultproxy.Answer(200, "")) },
		}, {
			name: "the object is answered, and by no S3", data: small, unknown: true,
			prepare: func(f *filestore) {
				f.s3Faults.Inject(putObject, faultproxy.Always(), faultproxy.Answer(200, "<html>Log in</html>"))
			},
		}, {
			name: "a part gets lost on the server", data: large, unknown: true,
			prepare: func(f *filestore) { f.s3Faults.Inject(uploadPart, faultproxy.Nth(2), faultproxy.Swallow()) },
		}, {
			name: "completing takes place, and nobody hears of it", data: large, unknown: true,
			prepare: func(f *filestore) {
				f.s3Faults.Inject(completeUpload, faultproxy.Always(), faultproxy.CutDownload(0))
				f.s3Faults.Inject(headObject, faultproxy.Always(), faultproxy.InternalError())
			},
		}, {
			name: "uploaded is not written", data: small, unknown: true,
			prepare: func(f *filestore) { f.failRecords(faultproxy.Before, onUploaded) },
		}, {
			name: "uploaded is written and the answer lost", data: large, unknown: true,
			prepare: func(f *filestore) { f.failRecords(faultproxy.After, onUploaded) },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := on.open(t)
			test.prepare(f)
			r, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.bin", File: tempFile(t, test.data)})
			if err == nil {
				t.Fatalf("no error, but %+v", r)
			}
			if undo, ok := errors.AsType[*client.UndoError](err); ok {
				t.Errorf("something is left: %v", undo)
			}
			if test.unknown && len(f.records(t)) != 1 {
				t.Errorf("%d records, want the one that is deleted", len(f.records(t)))
			}
			f.wantNothing(t, test.unknown || test.perhaps)
		})
	}

	t.Run("the content changes, and the time of the file does not", func(t *testing.T) {
		for _, data := range [][]byte{large[:mib], large} {
			f, file := on.open(t), tempFile(t, data)
			// One body is refused, and before it is sent again the file changes.
			f.s3Faults.Inject(faultproxy.On(http.MethodPut), faultproxy.First(1), faultproxy.SlowDown())
			f.Transfer.Backoff = func(int) time.Duration {
				info, err := file.Stat()
				if err == nil {
					err = errors.Join(os.WriteFile(file.Name(), make([]byte, len(data)), 0o600), os.Chtimes(file.Name(), time.Time{}, info.ModTime()))
				}
				if err != nil {
					t.Error(err)
				}
				return 0
			}
			_, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.bin", File: file})
			if !errors.Is(err, transfer.ErrChanged) {
				t.Errorf("%d bytes: %v", len(data), err)
			}
			wantReason(t, err, client.Conflict)
			f.wantNothing(t, false)
		}
	})

	t.Run("the file changes, and a notification of its object comes first", func(t *testing.T) {
		f := on.open(t)
		source := changedBetween{File: tempFile(t, small), at: new(atomic.Bool)}
		f.s3Faults.OnRequest(func(r faultproxy.Request) {
			if r.Method != http.MethodPut {
				return
			}
			source.at.Store(true)
			upload := records.Upload{At: f.stamp(0), Type: "text/plain", Size: int64(len(small))}
			if _, err := f.table.Uploaded(context.WithoutCancel(t.Context()), f.ids[0], upload); err != nil {
				t.Error(err)
			}
		})
		_, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.txt", File: source})
		if !errors.Is(err, transfer.ErrChanged) {
			t.Errorf("error %v", err)
		}
		if undo, ok := errors.AsType[*client.UndoError](err); ok {
			t.Errorf("something is left: %v", undo)
		}
		f.wantState(t, f.ids[0], records.Deleted)
		f.wantNothing(t, true)
	})

	t.Run("the source breaks off", func(t *testing.T) {
		f := on.open(t)
		broken := errors.New("the producer died")
		for _, before := range []int{0, 100, 9 * mib} {
			_, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.bin", Stream: brokenReader(randomBytes(before), broken)})
			if !errors.Is(err, broken) {
				t.Errorf("after %d bytes: %v", before, err)
			}
		}
		f.wantNothing(t, false)
	})
}

// Where the removal fails too, the error says so, and sweeps leave nothing.
func testUploadLeaves(t *testing.T, on servers) {
	large := randomBytes(6 * mib)
	for _, test := range []struct {
		name    string
		data    []byte
		prepare func(f *filestore)
		left    records.State
		undo    bool // the error is an UndoError; else it tells of a multipart upload
	}{
		{
			name: "a placeholder", data: []byte(content), undo: true, left: records.Placeholder,
			prepare: func(f *filestore) {
				f.s3Faults.Inject(putObject, faultproxy.Always(), faultproxy.SlowDown())
				f.failRecords(faultproxy.Before, onDiscard)
			},
		}, {
			name: "a placeholder and its object", data: []byte(content), undo: true, left: records.Placeholder,
			prepare: func(f *filestore) { f.failRecords(faultproxy.Before, onUploaded, onDelete) },
		}, {
			name: "a deleted file's object", data: []byte(content), undo: true, left: records.Deleted,
			prepare: func(f *filestore) {
				f.failRecords(faultproxy.Before, onUploaded)
				f.s3Faults.Inject(deleteObject, faultproxy.Always(), faultproxy.SlowDown())
			},
		}, {
			name: "a file that was deleted, and the answer lost", data: []byte(content), undo: true, left: records.Deleted,
			prepare: func(f *filestore) { f.failRecords(faultproxy.After, onUploaded, onDelete) },
		}, {
			name: "a multipart upload", data: large,
			prepare: func(f *filestore) {
				f.s3Faults.Inject(uploadPart, faultproxy.Always(), faultproxy.SlowDown())
				f.s3Faults.Inject(abortUpload, faultproxy.Always(), faultproxy.SlowDown())
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := on.open(t)
			test.prepare(f)
			_, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.bin", File: tempFile(t, test.data)})
			f.heal()
			if undo, ok := errors.AsType[*client.UndoError](err); ok != test.undo || ok && undo.ID != f.ids[0] {
				t.Errorf("error %v", err)
			}
			if failure, ok := errors.AsType[*transfer.UploadError](err); !test.undo && (!ok || failure.Leftover == nil) {
				t.Errorf("error %v", err)
			}
			if test.undo {
				if state := f.record(t, f.ids[0]).State(); state != test.left {
					t.Errorf("a %s file is left, want %s", state, test.left)
				}
			}
			// The first sweep cleans what is deleted, the second one settles a placeholder that has
			// an object, and the third one lets that expire.
			for _, later := range []time.Duration{time.Minute, 25 * time.Hour, 25 * time.Hour} {
				f.clock.advance(later)
				if s, err := f.Expire(t.Context(), client.ExpireOptions{}); err != nil || s.Failed > 0 {
					t.Fatalf("%+v, %v", s, err)
				}
			}
			f.wantNothing(t, true)
		})
	}
}

// A record whose last write was to store it may be stored, which no sweep takes back. The error says so.
func testUploadLeavesStored(t *testing.T, on servers) {
	for _, data := range [][]byte{[]byte(content), randomBytes(17 * mib)} {
		for _, store := range []bool{true, false} {
			f := on.open(t)
			if f.dynamoFaults == nil {
				f.Records = &failingTable{
					Table: &failingTable{Table: f.table, when: faultproxy.Before, failing: []transition{onDelete}},
					when:  faultproxy.After, failing: []transition{onUploaded},
				}
			} else { // both are one operation
				f.dynamoFaults.Inject(faultproxy.Operation(onUploaded.operation), faultproxy.First(1), faultproxy.CutDownload(0))
				f.dynamoFaults.Inject(faultproxy.Operation(onDelete.operation), faultproxy.Always(), faultproxy.InternalError())
			}
			_, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.bin", File: tempFile(t, data), Store: store})
			f.heal()
			undo, ok := errors.AsType[*client.UndoError](err)
			if !ok || undo.PerhapsStored != store || strings.Contains(undo.Error(), "no sweep removes") != store {
				t.Errorf("stored: %t: error %v", store, err)
			}
			f.wantState(t, f.ids[0], map[bool]records.State{true: records.Stored, false: records.Temporary}[store])
		}
	}
}

// The server is killed in the middle, and is there again with its data.
func testServerRestarted(t *testing.T, on servers) {
	f := on.open(t)
	f.Transfer.Attempts = 10
	restartAt := func(nth int) {
		restart := sync.OnceFunc(func() {
			if err := on.s3.Restart(t.Context()); err != nil {
				t.Error(err)
			}
		})
		begun := len(f.s3Faults.Log())
		f.s3Faults.OnRequest(func(r faultproxy.Request) {
			if r.N >= begun+nth {
				restart() // the others wait
			}
		})
	}
	data := randomBytes(21 * mib)
	restartAt(4)
	r, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.bin", File: tempFile(t, data), Store: true})
	if err != nil {
		t.Fatal(err)
	}
	f.wantState(t, r.ID, records.Stored)
	f.wantConsistent(t)

	restartAt(3)
	file, err := os.Create(filepath.Join(t.TempDir(), "got"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := f.DownloadFile(t.Context(), r, file, nil); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file.Name()); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes of %d: %v", len(got), len(data), err)
	}
}

// Somebody deletes the file while its bytes are on their way.
func testUploadDeleted(t *testing.T, on servers) {
	f := on.open(t)
	f.s3Faults.OnRequest(func(r faultproxy.Request) {
		if r.Method == http.MethodPut {
			if _, err := f.table.Delete(context.WithoutCancel(t.Context()), f.ids[0], f.stamp(0)); err != nil {
				t.Error(err)
			}
		}
	})
	_, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.txt", File: tempFile(t, []byte(content))})
	wantReason(t, err, client.Deleted)
	f.wantState(t, f.ids[0], records.Deleted)
	f.wantNothing(t, true)
}

// carryingOut serves a proxy such that a request that has arrived whole is carried out although
// its client goes away, and one that has not does not begin. When the server is closed, all has
// settled. (A connection that breaks in the middle of a request ends dynalite.)
func carryingOut(proxy *faultproxy.Proxy) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r = r.WithContext(context.WithoutCancel(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(w, r)
	}))
}

// An interrupt at any request leaves nothing; only where the object was on its way the record
// stays, as deleted, and a sweep removes what has come of it.
func testUploadInterrupted(t *testing.T, on servers) {
	large := randomBytes(11 * mib)
	for _, data := range [][]byte{[]byte(content), large} {
		for n, reached := 1, true; reached; n++ {
			f := on.open(t)
			server := carryingOut(f.s3Faults)
			f.useS3(f.s3Client(server.URL))
			f.Transfer.Concurrency = 1 // no other part is on its way
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			var arrived atomic.Bool
			f.s3Faults.OnRequest(func(r faultproxy.Request) {
				if r.N != n {
					return
				}
				arrived.Store(true)
				if r.Method != http.MethodPost || !slices.Contains(r.Query, "uploads") { // see the test below
					cancel()
					<-ended // it is carried out at the worst moment: when the client has cleaned up
				}
			})
			_, err := f.Upload(ctx, client.UploadRequest{Name: "a.txt", File: tempFile(t, data)})
			close(ended)
			server.Close() // once all requests have ended
			reached = arrived.Load()
			if ctx.Err() == nil && err != nil {
				t.Errorf("without an interrupt: %v", err)
			}
			cancel()
			if err == nil { // there was none
				f.wantConsistent(t)
				continue
			}
			wantReason(t, err, client.Interrupted)
			if undo, ok := errors.AsType[*client.UndoError](err); ok {
				t.Errorf("request %d: %v", n, undo)
			}
			for _, r := range f.records(t) {
				if r.State() != records.Deleted {
					t.Errorf("request %d: %+v is left", n, r)
				}
			}
			f.useS3(f.api)
			f.sweep(t, client.ExpireOptions{})
			f.wantNothing(t, true)
		}
	}
	f := on.open(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Upload(ended, client.UploadRequest{Name: "a.txt", File: tempFile(t, large)})
	wantReason(t, err, client.Interrupted)
	f.wantNothing(t, false)
}

// The server is slow to carry out a request that makes something, and the interrupt comes
// meanwhile. Whatever the client does to leave nothing must not overtake the request.
func testUploadInterruptedSlowServer(t *testing.T, on servers) {
	const slow = 500 * time.Millisecond
	interrupt := func(t *testing.T, f *filestore, faults *faultproxy.Proxy, data []byte, at func(faultproxy.Request) bool) {
		t.Helper()
		s3Server := carryingOut(f.s3Faults)
		f.useS3(f.s3Client(s3Server.URL))
		tableServer := s3Server
		if f.dynamoFaults != nil {
			tableServer = carryingOut(f.dynamoFaults)
			f.Records = dynamo.New(testserver.DynamoDB(tableServer.URL), f.tableName)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		faults.OnRequest(func(r faultproxy.Request) {
			if at(r) {
				cancel()
				select {
				case <-ended:
				case <-time.After(slow):
				}
			}
		})
		_, err := f.Upload(ctx, client.UploadRequest{Name: "a.bin", File: tempFile(t, data)})
		close(ended)
		s3Server.Close() // once all requests have ended
		tableServer.Close()
		wantReason(t, err, client.Interrupted)
		f.wantNothing(t, false)
	}
	t.Run("while the multipart upload is begun", func(t *testing.T) {
		f := on.open(t)
		interrupt(t, f, f.s3Faults, randomBytes(6*mib), func(r faultproxy.Request) bool {
			return r.Method == http.MethodPost && slices.Contains(r.Query, "uploads")
		})
	})
	if on.dynamoDB != "" {
		t.Run("while the record is made", func(t *testing.T) {
			f := on.open(t)
			interrupt(t, f, f.dynamoFaults, []byte(content), func(r faultproxy.Request) bool { return r.Operation == "PutItem" })
		})
	}
}
