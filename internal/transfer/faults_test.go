package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// S3's operations, for faults.
var (
	putObject      = func(r *http.Request) bool { return r.Method == http.MethodPut && !r.URL.Query().Has("uploadId") }
	uploadPart     = faultproxy.On(http.MethodPut, "partNumber")
	createUpload   = faultproxy.On(http.MethodPost, "uploads")
	completeUpload = faultproxy.On(http.MethodPost, "uploadId")
)

// through returns an engine whose requests pass the proxy. One request is in flight at a time, so
// that it is known which comes when.
func through(t *testing.T, s testserver.S3, proxy *faultproxy.Proxy) *transfer.Engine {
	t.Helper()
	e := newClient(s, proxy.Start(t)).engine()
	e.Concurrency = 1
	return e
}

// A connection that is reset once, at any request and on either side of it, costs another try and
// nothing else.
func testResetAtEveryRequest(t *testing.T, s testserver.S3) {
	data := randomBytes(6 * mib)
	source := tempFile(t, data)
	direct := newClient(s, s.Endpoint)
	// everyRequest has do send its requests through a proxy that resets the first, then the second
	// and so on, until there are no more.
	everyRequest := func(t *testing.T, reset faultproxy.Fault, do func(t *testing.T, n int, e *transfer.Engine)) (hits int) {
		for n := 1; ; n++ {
			proxy := faultproxy.New(s.Endpoint)
			rule := proxy.Inject(faultproxy.Any, faultproxy.Nth(n), reset)
			do(t, n, through(t, s, proxy))
			hits += rule.Hits()
			if len(proxy.Log()) < n {
				return hits
			}
		}
	}
	upload := func(t *testing.T, n int, e *transfer.Engine) {
		if _, err := e.UploadFile(t.Context(), key, "text/plain", source, nil); err != nil {
			t.Errorf("request %d: %v", n, err)
		} else if !bytes.Equal(direct.content(t), data) {
			t.Errorf("request %d: the object is not what was uploaded", n)
		}
		direct.remove(t)
		direct.empty(t)
	}
	download := func(t *testing.T, n int, e *transfer.Engine) {
		file := newFile(t)
		if _, err := e.DownloadFile(t.Context(), key, int64(len(data)), file, nil); err != nil {
			t.Errorf("request %d: %v", n, err)
		} else if !bytes.Equal(contentOf(t, file), data) {
			t.Errorf("request %d: no error, and wrong bytes", n)
		}
	}
	for _, tt := range []struct {
		name  string
		reset faultproxy.Fault
		do    func(t *testing.T, n int, e *transfer.Engine)
		hits  int // at least: of create, two parts and complete; of HEAD and two ranges
	}{
		{"upload, before", faultproxy.Reset(faultproxy.Before), upload, 4},
		{"upload, in the body", faultproxy.ResetUpload(4096), upload, 2},
		{"upload, after", faultproxy.Reset(faultproxy.After), upload, 4},
		{"download, before", faultproxy.Reset(faultproxy.Before), download, 3},
		{"download, in the body", faultproxy.ResetDownload(4096), download, 2},
		{"download, after", faultproxy.Reset(faultproxy.After), download, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := direct.engine().UploadFile(t.Context(), key, "text/plain", source, nil); err != nil {
				t.Fatal(err)
			}
			defer direct.remove(t)
			if hits := everyRequest(t, tt.reset, tt.do); hits < tt.hits {
				t.Errorf("%d resets, want %d", hits, tt.hits)
			}
		})
	}
}

// A file that changes while it is uploaded is an error at once, however little shows of it, and
// leaves nothing.
func testFileThatChanges(t *testing.T, s testserver.S3) {
	// quietly changes the content and puts the modification time back.
	quietly := func(t *testing.T, path string, change func() error) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(change(), os.Chtimes(path, time.Time{}, info.ModTime())); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(t *testing.T, path string, size int)
	}{
		{"modification time", func(t *testing.T, path string, _ int) {
			if err := os.Chtimes(path, time.Time{}, time.Unix(1e9, 0)); err != nil {
				t.Fatal(err)
			}
		}},
		// The server says BadDigest, which is no damage on the way this time.
		{"content", func(t *testing.T, path string, size int) {
			quietly(t, path, func() error { return os.WriteFile(path, bytes.Repeat([]byte("x"), size), 0o600) })
		}},
		// A body that is too short is no body.
		{"size", func(t *testing.T, path string, _ int) {
			quietly(t, path, func() error { return os.Truncate(path, 4096) })
		}},
	} {
		for how, size := range map[string]int{"whole": mib, "parts": 5*mib + 4096} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				f := tempFile(t, randomBytes(size))
				proxy := faultproxy.New(s.Endpoint)
				// The first body meets a server that throttles, and before it is sent again, the
				// file changes.
				proxy.Inject(faultproxy.On(http.MethodPut), faultproxy.First(1), faultproxy.SlowDown())
				changed := false
				e := through(t, s, proxy)
				e.Backoff = func(int) time.Duration {
					if changed {
						t.Error("tried once more after the change")
					} else {
						tt.change(t, f.Name(), size)
					}
					changed = true
					return 0
				}
				_, err := e.UploadFile(t.Context(), key, "text/plain", f, nil)
				if !errors.Is(err, transfer.ErrChanged) {
					t.Errorf("error %v, want %v", err, transfer.ErrChanged)
				}
				failed, ok := errors.AsType[*transfer.UploadError](err)
				direct := newClient(s, s.Endpoint)
				if ok && failed.Outcome == transfer.Written { // its undoing is for the caller
					direct.remove(t)
				}
				direct.empty(t)
			})
		}
	}
}

// What the answer to a call that begins or completes a multipart upload says is not believed
// unless it is one.
func testAnswersOfMultipartUploads(t *testing.T, s testserver.S3) {
	const internalError = `<Error><Code>InternalError</Code></Error>`
	faults := []struct {
		name  string
		match faultproxy.Match
		times faultproxy.Times
		fault faultproxy.Fault
		fails bool
		want  string // code of the error that it fails with
	}{
		{name: "complete: an error in a 200, once", match: completeUpload, times: faultproxy.First(1), fault: faultproxy.ErrorIn200("InternalError")},
		{name: "complete: SlowDown in a 200, once", match: completeUpload, times: faultproxy.First(1), fault: faultproxy.ErrorIn200("SlowDown")},
		{name: "complete: an error in a 200", match: completeUpload, times: faultproxy.Always(), fault: faultproxy.ErrorIn200("InternalError"), fails: true, want: "InternalError"},
		{name: "complete: an error in a 200 after white space", match: completeUpload, times: faultproxy.Always(), fault: faultproxy.Answer(200, "\n \n"+internalError), fails: true, want: "InternalError"},
		{name: "complete: nothing in a 200", match: completeUpload, times: faultproxy.Always(), fault: faultproxy.Answer(200, ""), fails: true},
		{name: "complete: white space in a 200", match: completeUpload, times: faultproxy.Always(), fault: faultproxy.Answer(200, "\n \n"), fails: true},
		{name: "complete: half an answer", match: completeUpload, times: faultproxy.Always(), fault: faultproxy.Answer(200, "<CompleteMultipartUploadResult><ETag>"), fails: true},
		{name: "complete: another document", match: completeUpload, times: faultproxy.Always(), fault: faultproxy.Answer(200, "<html>Log in</html>"), fails: true},
		{name: "complete: carried out, no answer in a 200", match: completeUpload, times: faultproxy.First(1), fault: faultproxy.TruncateDownload(0)},
		{name: "complete: carried out, half an answer", match: completeUpload, times: faultproxy.First(1), fault: faultproxy.TruncateDownload(80)},
		{name: "create: nothing in a 200", match: createUpload, times: faultproxy.Always(), fault: faultproxy.Answer(200, ""), fails: true},
		{name: "create: another document", match: createUpload, times: faultproxy.Always(), fault: faultproxy.Answer(200, "<html>Log in</html>"), fails: true},
		{name: "create: carried out, no answer in a 200", match: createUpload, times: faultproxy.Always(), fault: faultproxy.TruncateDownload(0), fails: true},
		{name: "create: carried out, half an answer once", match: createUpload, times: faultproxy.First(1), fault: faultproxy.TruncateDownload(80), fails: true},
		{name: "part: nothing in a 200, once", match: uploadPart, times: faultproxy.Nth(2), fault: faultproxy.Answer(200, "")},
		{name: "part: nothing in a 200", match: uploadPart, times: faultproxy.Always(), fault: faultproxy.Answer(200, ""), fails: true},
		{name: "part: it gets lost", match: uploadPart, times: faultproxy.Nth(2), fault: faultproxy.Swallow(), fails: true, want: "InvalidPart"},
	}
	direct := newClient(s, s.Endpoint)
	data := randomBytes(5*mib + 4096)
	f := tempFile(t, data)
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			proxy := faultproxy.New(s.Endpoint)
			rule := proxy.Inject(tt.match, tt.times, tt.fault)
			_, err := through(t, s, proxy).UploadFile(t.Context(), key, "text/plain", f, nil)
			if rule.Hits() == 0 {
				t.Error("the fault was never made")
			}
			if (err != nil) != tt.fails {
				t.Errorf("error %v", err)
			}
			if api, ok := errors.AsType[smithy.APIError](err); tt.want != "" && (!ok || api.ErrorCode() != tt.want) {
				t.Errorf("error %v, want %s", err, tt.want)
			}
			if err == nil {
				if !bytes.Equal(direct.content(t), data) {
					t.Error("the object is not what was uploaded")
				}
				direct.remove(t)
			}
			direct.empty(t)
		})
	}
}

// The same of a PutObject.
func testAnswersOfPutObject(t *testing.T, s testserver.S3) {
	direct := newClient(s, s.Endpoint)
	for name, body := range map[string]string{"nothing": "", "another document": "<html>Log in</html>"} {
		proxy := faultproxy.New(s.Endpoint)
		proxy.Inject(putObject, faultproxy.Always(), faultproxy.Answer(200, body))
		object, err := through(t, s, proxy).UploadFile(t.Context(), key, "text/plain", tempFile(t, []byte("hello\n")), nil)
		if err == nil {
			t.Errorf("%s in a 200: no error, but %+v", name, object)
		}
		direct.empty(t)
	}
}

// Somebody else meddles with the multipart upload before it is completed.
func testMultipartUploadMeddledWith(t *testing.T, s testserver.S3) {
	direct := newClient(s, s.Endpoint)
	for name, meddle := range map[string]func(ctx context.Context, id *string) error{
		"NoSuchUpload": func(ctx context.Context, id *string) error {
			_, err := direct.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
				Bucket: aws.String(bucket), Key: aws.String(key), UploadId: id,
			})
			return err
		},
		"InvalidPart": func(ctx context.Context, id *string) error {
			_, err := direct.UploadPart(ctx, &s3.UploadPartInput{
				Bucket: aws.String(bucket), Key: aws.String(key), UploadId: id, PartNumber: aws.Int32(1), Body: bytes.NewReader(randomBytes(5*mib + 1)),
				ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
			})
			return err
		},
	} {
		proxy := faultproxy.New(s.Endpoint)
		var once sync.Once
		proxy.OnRequest(func(r faultproxy.Request) {
			if r.Method != http.MethodPost || strings.Join(r.Query, "") != "uploadId" {
				return
			}
			once.Do(func() {
				out, err := direct.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket), Prefix: aws.String(key)})
				if err != nil || len(out.Uploads) != 1 {
					t.Errorf("%d uploads: %v", len(out.Uploads), err)
					return
				}
				if err := meddle(t.Context(), out.Uploads[0].UploadId); err != nil {
					t.Error(err)
				}
			})
		})
		_, err := through(t, s, proxy).UploadFile(t.Context(), key, "text/plain", tempFile(t, randomBytes(6*mib)), nil)
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != name {
			t.Errorf("error %v, want %s", err, name)
		}
		direct.empty(t)
	}
}

// A multipart upload that is aborted while a part is on its way is told of as gone, also where the server breaks the connection
// before its answer has been read.
func testAbortedWhileSending(t *testing.T, s testserver.S3) {
	direct := newClient(s, s.Endpoint)
	for name, size := range map[string]int{"a part": 11 * mib, "the last part": 6 * mib} {
		proxy := faultproxy.New(s.Endpoint)
		abort := sync.OnceFunc(func() {
			if err := direct.engine().AbortUploads(t.Context(), key); err != nil {
				t.Error(err)
			}
		})
		proxy.OnRequest(func(r faultproxy.Request) {
			if slices.Contains(r.Query, "partNumber") {
				abort()
			}
		})
		proxy.Inject(faultproxy.On(http.MethodPut, "partNumber"), faultproxy.Always(), faultproxy.ResetUpload(1000))
		_, err := through(t, s, proxy).UploadFile(t.Context(), key, "text/plain", tempFile(t, randomBytes(size)), nil)
		if !transfer.IsNoSuchUpload(err) {
			t.Errorf("%s: error %v, want NoSuchUpload", name, err)
		}
		direct.empty(t)
	}
}

// A server that is restarted in the middle delays a transfer. The kill breaks off what is on its
// way; what comes while the server is away waits.
func testServerRestarted(t *testing.T, s testserver.S3) {
	direct := newClient(s, s.Endpoint)
	data := randomBytes(21 * mib)
	// restarting returns an engine at whose nth request the server goes away.
	restarting := func(nth int) (*transfer.Engine, *atomic.Bool) {
		var done atomic.Bool
		restart := sync.OnceFunc(func() {
			if err := s.Restart(t.Context()); err != nil {
				t.Error(err)
			}
			done.Store(true)
		})
		proxy := faultproxy.New(s.Endpoint)
		proxy.OnRequest(func(r faultproxy.Request) {
			if r.N >= nth {
				restart()
			}
		})
		e := newClient(s, proxy.Start(t)).engine()
		e.Attempts = 10
		return e, &done
	}
	e, restarted := restarting(4)
	if _, err := e.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil); err != nil {
		t.Error(err)
	} else if !restarted.Load() || !bytes.Equal(direct.content(t), data) {
		t.Error("the object is not what was uploaded")
	}

	e, restarted = restarting(4)
	file := newFile(t)
	if _, err := e.DownloadFile(t.Context(), key, int64(len(data)), file, nil); err != nil {
		t.Error(err)
	} else if !restarted.Load() || !bytes.Equal(contentOf(t, file), data) {
		t.Error("no error, and wrong bytes")
	}
	direct.remove(t)
	direct.empty(t)
}

// A server that goes away for good is an error, which says that something may be left; when the
// server is there again, it can be removed.
func testServerGone(t *testing.T, s testserver.S3) {
	data := randomBytes(11 * mib)
	direct := newClient(s, s.Endpoint)
	gone := func() *transfer.Engine {
		proxy := faultproxy.New(s.Endpoint)
		proxy.OnRequest(func(r faultproxy.Request) {
			if r.N == 3 {
				s.Kill()
			}
		})
		return through(t, s, proxy)
	}
	_, err := gone().UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil)
	failed, ok := errors.AsType[*transfer.UploadError](err)
	if !ok || failed.Outcome != transfer.NotWritten || failed.Leftover == nil {
		t.Errorf("error %v", err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := direct.engine().AbortUploads(t.Context(), key); err != nil {
		t.Error(err)
	}
	direct.empty(t)

	if _, err := direct.engine().UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := gone().DownloadFile(t.Context(), key, int64(len(data)), newFile(t), nil); err == nil {
		t.Error("no error")
	}
}
