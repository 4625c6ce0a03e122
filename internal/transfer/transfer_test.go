package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

const (
	mib    = 1 << 20
	bucket = "transfers"
	key    = "abcdefghij012345"
)

// TestTransfers runs against both S3 servers, each of which serves all tests in turn: they begin with an empty bucket.
func TestTransfers(t *testing.T) {
	start := map[string]func(testing.TB) testserver.S3{"versitygw": testserver.Versitygw}
	if !testserver.Race { // the same goroutines of ours talk to it
		start["minio"] = testserver.MinIO
	}
	for name, start := range start {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			direct := newClient(s, s.Endpoint)
			direct.create(t)
			for _, test := range []struct {
				name string
				run  func(*testing.T, testserver.S3)
			}{
				{"round trip", testRoundTrip},
				{"upload faults", testUploadFaults},
				{"upload interrupted", testUploadInterrupted},
				{"upload of a changing file", testUploadOfChangingFile},
				{"download faults", testDownloadFaults},
				{"download to a failing writer", testDownloadToFailingWriter},
				{"download of a replaced object", testDownloadOfReplacedObject},
				{"download to a file of a replaced object", testDownloadFileOfReplacedObject},
				{"download interrupted", testDownloadFileInterrupted},
				{"download of foreign objects", testDownloadOfForeignObjects},
				{"ordered download faults", testOrderedDownloadFaults},
				{"check", testCheck},
				{"upload of a content", testUploadContent},
				{"upload of a content with CRC-32", testUploadContentWithCRC32},
				{"upload of a content leaves others", testUploadContentLeavesOthers},
				{"head", testHead},
				{"resume", testResume},
				{"resume reads all pages", testResumeReadsAllPages},
				{"resume of other content", testResumeOfOtherContent},
				{"resume without listed checksums", testResumeWithoutListedChecksums},
				{"resume of what is gone", testResumeOfWhatIsGone},
				{"holds by composite checksum", testHoldsByCompositeChecksum},
				{"tracked upload ends with its journal", testTrackedUploadEndsWithItsJournal},
				{"parts of an upload", testPartsOf},
				{"rest of a download", testDownloadRest},
				{"rest of a download breaks off", testDownloadRestBreaksOff},
				{"rest of a download to a damaged file", testDownloadRestOfDamagedFile},
				{"rest of a download by a wrong journal", testDownloadRestOfWrongJournal},
				{"rest of a download of a replaced object", testDownloadRestOfReplacedObject},
				{"rest of a download verifies", testDownloadRestVerifies},
				{"version", testVersion},
				{"trailers", testTrailersOfRealServers},
				{"reset at every request", testResetAtEveryRequest},
				{"file that changes", testFileThatChanges},
				{"answers of multipart uploads", testAnswersOfMultipartUploads},
				{"answers of PutObject", testAnswersOfPutObject},
				{"multipart upload meddled with", testMultipartUploadMeddledWith},
				{"multipart upload aborted while a part is sent", testAbortedWhileSending},
				{"server restarted", testServerRestarted},
				{"server gone", testServerGone},
			} {
				switch test.name {
				case "round trip", "ordered download faults", "reset at every request", "server restarted":
					if testserver.Race { // one transfer after the other, of the kinds that others of these tests make
						continue
					}
				}
				t.Run(test.name, func(t *testing.T) {
					direct.remove(t)
					if err := direct.engine().AbortUploads(t.Context(), key); err != nil {
						t.Fatal(err)
					}
					direct.empty(t)
					test.run(t, s)
				})
			}
		})
	}
}

type api struct{ *s3.Client }

// newClient returns a client that waits for a server as long as a busy machine may need to answer.
func newClient(s testserver.S3, endpoint string) api {
	return newImpatientClient(s, endpoint, time.Minute, nil)
}

// newImpatientClient returns a client that gives a connection up after the time stall; dial opens it, where it is set.
func newImpatientClient(s testserver.S3, endpoint string, stall time.Duration, dial client.DialFunc) api {
	return api{client.NewS3(aws.Config{
		Region:      s.Region,
		HTTPClient:  client.HTTPClient(stall, dial, client.AlwaysByKernel()),
		Credentials: credentials.NewStaticCredentialsProvider(s.AccessKey, s.SecretKey, ""),
	}, func(o *s3.Options) {
		o.BaseEndpoint = &endpoint
		o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 3, time.Millisecond })
	})}
}

func (a api) create(t *testing.T) {
	t.Helper()
	if _, err := a.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
}

func (a api) engine() *transfer.Engine {
	return &transfer.Engine{
		S3: a.Client, Bucket: bucket, PartSize: 5 * mib, Concurrency: 3, Attempts: 3,
		Backoff: func(int) time.Duration { return time.Millisecond },
	}
}

// content returns the object, nil when there is none.
func (a api) content(t *testing.T) []byte {
	t.Helper()
	out, err := a.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
	if _, missing := errors.AsType[*types.NoSuchKey](err); missing {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (a api) remove(t *testing.T) {
	t.Helper()
	if _, err := a.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)}); err != nil {
		t.Fatal(err)
	}
}

// empty fails the test where anything is left in the bucket.
func (a api) empty(t *testing.T) {
	t.Helper()
	if data := a.content(t); data != nil {
		t.Errorf("an object of %d bytes is left", len(data))
	}
	// MinIO lists uploads only by their exact key.
	out, err := a.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket), Prefix: aws.String(key)})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Uploads) != 0 {
		t.Errorf("%d multipart uploads are left", len(out.Uploads))
	}
}

func randomBytes(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	return data
}

func tempFile(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func newFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "target"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func contentOf(t *testing.T, f *os.File) []byte {
	t.Helper()
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// sizes are around every edge: nothing, one part, one byte more, several parts.
var sizes = []int{0, 1, 4096, 5 * mib, 5*mib + 1, 16*mib + 7}

func testRoundTrip(t *testing.T, s testserver.S3) {
	a := newClient(s, s.Endpoint)
	e := a.engine()
	for _, n := range sizes {
		data := randomBytes(n)
		var moved atomic.Int64
		for how, upload := range map[string]func() (transfer.Object, error){
			"file": func() (transfer.Object, error) {
				return e.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil)
			},
			"stream": func() (transfer.Object, error) {
				stream, err := e.OpenStream(bytes.NewReader(data))
				if err != nil {
					return transfer.Object{}, err
				}
				return e.UploadStream(t.Context(), key, "text/plain", stream, nil)
			},
		} {
			object, err := upload()
			if err != nil {
				t.Fatalf("%s of %d bytes: %v", how, n, err)
			}
			if object.Size != int64(n) || object.Verified != "CRC64NVME" {
				t.Errorf("%s of %d bytes: %+v", how, n, object)
			}
			var got bytes.Buffer
			moved.Store(0)
			object, err = e.Download(t.Context(), key, int64(n), &got, func(n int64) { moved.Add(n) })
			if err != nil {
				t.Fatalf("download of %d bytes: %v", n, err)
			}
			if !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%d bytes came back as %d other ones", n, got.Len())
			}
			if object.Verified != "CRC64NVME" || moved.Load() != int64(n) {
				t.Errorf("download of %d bytes: %+v, progress %d", n, object, moved.Load())
			}
			var total atomic.Int64
			file := newFile(t)
			object, err = e.DownloadFile(t.Context(), key, int64(n), file, func(n int64) { total.Add(n) })
			if err != nil {
				t.Fatalf("download of %d bytes to a file: %v", n, err)
			}
			if !bytes.Equal(contentOf(t, file), data) || object.Size != int64(n) || object.Verified != "CRC64NVME" || total.Load() != int64(n) {
				t.Errorf("download of %d bytes to a file: %+v, progress %d", n, object, total.Load())
			}
		}
		out, err := a.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
		if err != nil || aws.ToString(out.ContentType) != "text/plain" {
			t.Errorf("type %q, %v", aws.ToString(out.ContentType), err)
		}
	}
}

// Whatever goes wrong on the way up, the upload ends with the very object, or with an error and
// nothing left.
func testUploadFaults(t *testing.T, s testserver.S3) {
	put := faultproxy.On(http.MethodPut)
	complete := faultproxy.On(http.MethodPost, "uploadId")
	create := faultproxy.On(http.MethodPost, "uploads")
	faults := []struct {
		name  string
		match faultproxy.Match
		times faultproxy.Times
		fault faultproxy.Fault
		fails bool // for certain; else it must succeed
	}{
		{name: "slow down twice", match: put, times: faultproxy.First(2), fault: faultproxy.SlowDown()},
		{name: "slow down always", match: put, times: faultproxy.Always(), fault: faultproxy.SlowDown(), fails: true},
		{name: "internal error twice", match: put, times: faultproxy.First(2), fault: faultproxy.InternalError()},
		{name: "internal error always", match: put, times: faultproxy.Always(), fault: faultproxy.InternalError(), fails: true},
		{name: "reset in the body", match: put, times: faultproxy.First(1), fault: faultproxy.ResetUpload(1000)},
		{name: "reset always", match: put, times: faultproxy.Always(), fault: faultproxy.ResetUpload(1000), fails: true},
		{name: "byte flipped", match: put, times: faultproxy.First(1), fault: faultproxy.FlipUpload(1000)},
		{name: "byte flipped always", match: put, times: faultproxy.Always(), fault: faultproxy.FlipUpload(1000), fails: true},
		{name: "create: slow down", match: create, times: faultproxy.First(2), fault: faultproxy.SlowDown()},
		{name: "complete: error in a 200", match: complete, times: faultproxy.Always(), fault: faultproxy.ErrorIn200("InternalError"), fails: true},
		{name: "complete: internal error always", match: complete, times: faultproxy.Always(), fault: faultproxy.InternalError(), fails: true},
	}
	direct := newClient(s, s.Endpoint)
	for _, f := range faults {
		for _, n := range []int{4096, 11 * mib} {
			if n == 4096 && f.match(httptestRequest(http.MethodPost, "?uploadId&uploads")) {
				continue // a small file has no multipart upload
			}
			t.Run(f.name+"/"+map[bool]string{true: "whole", false: "parts"}[n == 4096], func(t *testing.T) {
				proxy := faultproxy.New(s.Endpoint)
				rule := proxy.Inject(f.match, f.times, f.fault)
				e := newClient(s, proxy.Start(t)).engine()
				data := randomBytes(n)
				_, err := e.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil)
				if rule.Hits() == 0 {
					t.Error("the fault was never made")
				}
				if (err != nil) != f.fails {
					t.Errorf("error %v", err)
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
}

func httptestRequest(method, query string) *http.Request {
	r, err := http.NewRequest(method, "http://localhost/"+bucket+"/"+key+query, nil)
	if err != nil {
		panic(err)
	}
	return r
}

// Interrupted at any request, an upload leaves nothing.
func testUploadInterrupted(t *testing.T, s testserver.S3) {
	direct := newClient(s, s.Endpoint)
	interrupted := 0
	for at := 1; ; at++ {
		proxy := faultproxy.New(s.Endpoint)
		e := newClient(s, proxy.Start(t)).engine()
		// Never released: the request that was interrupted is not carried out after all.
		reached, _ := proxy.HoldAt(at, faultproxy.Before)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := e.UploadFile(ctx, key, "text/plain", tempFile(t, randomBytes(11*mib)), nil)
			done <- err
		}()
		var err error
		select {
		case <-reached:
			cancel()
			err = <-done
		case err = <-done:
		}
		cancel()
		if err == nil {
			break // every request has had its turn
		}
		interrupted++
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted at request %d: %v", at, err)
		}
		if upload, ok := errors.AsType[*transfer.UploadError](err); !ok || upload.Outcome != transfer.Unknown {
			direct.empty(t)
		}
	}
	if interrupted < 5 { // create, three parts, complete
		t.Errorf("interrupted %d times", interrupted)
	}
}

// Whatever goes wrong on the way down, the bytes are right or there is an error.
func testDownloadFaults(t *testing.T, s testserver.S3) {
	get := faultproxy.On(http.MethodGet)
	faults := []struct {
		name  string
		times faultproxy.Times
		fault faultproxy.Fault
		want  error // for errors.Is; nil: it succeeds; errAny
	}{
		{"slow down", faultproxy.First(2), faultproxy.SlowDown(), nil},
		{"slow down always", faultproxy.Always(), faultproxy.SlowDown(), errAny},
		{"internal error", faultproxy.First(2), faultproxy.InternalError(), nil},
		{"reset in the body", faultproxy.First(3), faultproxy.ResetDownload(300_000), nil},
		{"reset at once always", faultproxy.Always(), faultproxy.ResetDownload(0), errAny},
		{"cut short", faultproxy.First(3), faultproxy.CutDownload(300_000), nil},
		{"truncated silently", faultproxy.Always(), faultproxy.TruncateDownload(300_000), transfer.ErrSize},
		{"byte flipped", faultproxy.Always(), faultproxy.FlipDownload(300_000), transfer.ErrChecksum},
	}
	for how, size := range map[string]int{"whole": 2 * mib, "ranges": 16*mib + 7} {
		data := randomBytes(size)
		if _, err := newClient(s, s.Endpoint).engine().UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil); err != nil {
			t.Fatal(err)
		}
		for _, f := range faults {
			t.Run(f.name+"/"+how, func(t *testing.T) {
				proxy := faultproxy.New(s.Endpoint)
				rule := proxy.Inject(get, f.times, f.fault)
				file := newFile(t)
				_, err := newClient(s, proxy.Start(t)).engine().DownloadFile(t.Context(), key, int64(len(data)), file, nil)
				want := f.want
				if how == "ranges" && errors.Is(want, transfer.ErrSize) {
					want = nil // what is missing of a range is asked for again
				}
				switch {
				case rule.Hits() == 0:
					t.Error("the fault was never made")
				case want == nil && err != nil:
					t.Error(err)
				case want == nil && !bytes.Equal(contentOf(t, file), data):
					t.Error("no error, and wrong bytes")
				case want != nil && err == nil, want != nil && !errors.Is(want, errAny) && !errors.Is(err, want):
					t.Errorf("error %v, want %v", err, want)
				}
			})
		}
	}
}

var errAny = errors.New("any error")

// A writer that fails is not written to again: what it took is in it already.
func testDownloadToFailingWriter(t *testing.T, s testserver.S3) {
	e := newClient(s, s.Endpoint).engine()
	if _, err := e.UploadFile(t.Context(), key, "text/plain", tempFile(t, []byte("hello\n")), nil); err != nil {
		t.Fatal(err)
	}
	for name, failure := range map[string]error{"temporary": syscall.EMFILE, "short": nil} {
		writes := 0
		_, err := e.Download(t.Context(), key, 6, writerFunc(func([]byte) (int, error) {
			writes++
			return 3, failure
		}), nil)
		if err == nil || writes != 1 {
			t.Errorf("%s: error %v after %d writes", name, err, writes)
		}
	}
}

// An object that is replaced while it is downloaded does not end as a mixture of both.
func testDownloadOfReplacedObject(t *testing.T, s testserver.S3) {
	direct := newClient(s, s.Endpoint)
	upload := func(data []byte) {
		if _, err := direct.engine().UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil); err != nil {
			t.Fatal(err)
		}
	}
	data := randomBytes(2 * mib)
	upload(data)
	proxy := faultproxy.New(s.Endpoint)
	proxy.Inject(faultproxy.On(http.MethodGet), faultproxy.First(1), faultproxy.CutDownload(mib))
	replace := true
	w := writerFunc(func(p []byte) (int, error) {
		if replace {
			replace = false
			upload(bytes.Repeat([]byte("x"), 2*mib))
		}
		return len(p), nil
	})
	_, err := newClient(s, proxy.Start(t)).engine().Download(t.Context(), key, 2*mib, w, nil)
	if !errors.Is(err, transfer.ErrChanged) {
		t.Errorf("error %v, want %v", err, transfer.ErrChanged)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// The same of ranges: all must be of one object.
func testDownloadFileOfReplacedObject(t *testing.T, s testserver.S3) {
	direct := newClient(s, s.Endpoint).engine()
	upload := func(data []byte) {
		if _, err := direct.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil); err != nil {
			t.Error(err)
		}
	}
	upload(randomBytes(16 * mib))
	proxy := faultproxy.New(s.Endpoint)
	var gets atomic.Int64 // requests come at the same time
	proxy.OnRequest(func(r faultproxy.Request) {
		if r.Method == http.MethodGet && gets.Add(1) == 3 {
			upload(bytes.Repeat([]byte("x"), 16*mib))
		}
	})
	_, err := newClient(s, proxy.Start(t)).engine().DownloadFile(t.Context(), key, 16*mib, newFile(t), nil)
	if !errors.Is(err, transfer.ErrChanged) {
		t.Errorf("error %v, want %v", err, transfer.ErrChanged)
	}
}

// An interrupt ends a download at once.
func testDownloadFileInterrupted(t *testing.T, s testserver.S3) {
	e := newClient(s, s.Endpoint).engine()
	if _, err := e.UploadFile(t.Context(), key, "text/plain", tempFile(t, randomBytes(16*mib)), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := e.DownloadFile(ctx, key, 16*mib, newFile(t), func(int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// A file that changes under the upload is an error, and leaves nothing.
func testUploadOfChangingFile(t *testing.T, s testserver.S3) {
	for _, n := range []int{mib, 11 * mib} {
		data := randomBytes(n)
		f := tempFile(t, data)
		proxy := faultproxy.New(s.Endpoint)
		proxy.OnRequest(func(r faultproxy.Request) {
			if r.Method != http.MethodPut {
				return
			}
			if err := os.WriteFile(f.Name(), append(data[:n:n], "more"...), 0o600); err != nil {
				t.Error(err)
			}
		})
		e := newClient(s, proxy.Start(t)).engine()
		_, err := e.UploadFile(t.Context(), key, "text/plain", f, nil)
		if !errors.Is(err, transfer.ErrChanged) {
			t.Errorf("%d bytes: error %v, want %v", n, err, transfer.ErrChanged)
		}
		direct := newClient(s, s.Endpoint)
		if upload, ok := errors.AsType[*transfer.UploadError](err); ok && upload.Outcome == transfer.NotWritten {
			direct.empty(t)
		} else {
			direct.remove(t)
		}
	}
}

// What other clients uploaded is verified by what the server holds of it.
func testDownloadOfForeignObjects(t *testing.T, s testserver.S3) {
	a := newClient(s, s.Endpoint)
	data := randomBytes(6 * mib)
	for name, c := range map[string]struct {
		put  func() error
		want string
	}{
		"no checksum": {func() error {
			_, err := a.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(data)})
			return err
		}, ""},
		"sha256": {func() error {
			_, err := a.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(data), ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
			})
			return err
		}, "SHA256"},
		"composite crc32c": {func() error { return putComposite(t, a, data) }, "CRC32C"},
	} {
		if err := c.put(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got bytes.Buffer
		object, err := a.engine().Download(t.Context(), key, int64(len(data)), &got, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(got.Bytes(), data) || c.want != "" && object.Verified != c.want || object.Verified == "" {
			t.Errorf("%s: verified by %q, %d bytes", name, object.Verified, got.Len())
		}
		proxy := faultproxy.New(s.Endpoint)
		whole := proxy.Inject(faultproxy.On(http.MethodGet), faultproxy.First(1), faultproxy.FlipDownload(5*mib+100))
		// Or where it is asked for in ranges, of 4 MiB.
		ranges := proxy.Inject(faultproxy.On(http.MethodGet), faultproxy.Nth(2), faultproxy.FlipDownload(mib+100))
		if _, err := newClient(s, proxy.Start(t)).engine().Download(t.Context(), key, -1, io.Discard, nil); !errors.Is(err, transfer.ErrChecksum) {
			t.Errorf("%s: a flipped byte gave %v", name, err)
		}
		if whole.Hits()+ranges.Hits() != 1 {
			t.Errorf("%s: the fault was never made", name)
		}

		// Into a file it comes in ranges, whatever the server holds, and is verified all the same.
		counter := faultproxy.New(s.Endpoint)
		var gets atomic.Int32
		counter.OnRequest(func(r faultproxy.Request) {
			if r.Method == http.MethodGet && !slices.Contains(r.Query, "attributes") {
				gets.Add(1)
			}
		})
		e := newClient(s, counter.Start(t)).engine()
		f := emptyFile(t)
		object, err = e.DownloadFile(t.Context(), key, int64(len(data)), f, nil)
		if err != nil || c.want != "" && object.Verified != c.want || object.Verified == "" {
			t.Errorf("%s: into a file: verified by %q, error %v", name, object.Verified, err)
		}
		if onDisk, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(onDisk, data) {
			t.Errorf("%s: the file is another: %d bytes, %v", name, len(onDisk), err)
		}
		if n := gets.Load(); n != 2 {
			t.Errorf("%s: %d requests for a file of two ranges", name, n)
		}
		flip := counter.Inject(faultproxy.On(http.MethodGet, "x-id"), faultproxy.First(1), faultproxy.FlipDownload(100))
		if _, err := e.DownloadFile(t.Context(), key, int64(len(data)), emptyFile(t), nil); !errors.Is(err, transfer.ErrChecksum) {
			t.Errorf("%s: a flipped byte on its way into a file gave %v", name, err)
		}
		if flip.Hits() != 1 {
			t.Errorf("%s: no byte was flipped on its way into a file", name)
		}
	}
}

func putComposite(t *testing.T, a api, data []byte) error {
	created, err := a.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String(key),
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c, ChecksumType: types.ChecksumTypeComposite,
	})
	if err != nil {
		return err
	}
	var parts []types.CompletedPart
	for i, chunk := range [][]byte{data[:5*mib], data[5*mib:]} {
		out, err := a.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String(bucket), Key: aws.String(key), UploadId: created.UploadId, PartNumber: aws.Int32(int32(i + 1)),
			Body: bytes.NewReader(chunk), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32c,
		})
		if err != nil {
			return err
		}
		parts = append(parts, types.CompletedPart{ETag: out.ETag, PartNumber: aws.Int32(int32(i + 1)), ChecksumCRC32C: out.ChecksumCRC32C})
	}
	_, err = a.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String(key), UploadId: created.UploadId,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	return err
}

// A server that falls silent while a body moves is given up; one that is slow is not.
func TestStall(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close() // says nothing, reads nothing
		}
	}()
	s := testserver.S3{AccessKey: "a", SecretKey: "b", Region: "us-east-1"}
	e := newImpatientClient(s, "http://"+listener.Addr().String(), time.Second, nil).engine()
	e.Attempts = 1
	_, err = e.UploadFile(t.Context(), key, "text/plain", tempFile(t, randomBytes(4*mib)), nil)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("error %v, want a timeout", err)
	}
}

func emptyFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "downloaded"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// Who cleans up has less time where somebody waits, or soon will.
func TestCleanup(t *testing.T) {
	for name, test := range map[string]struct {
		left time.Duration // of the caller's time; 0: it has no end
		over bool
		want time.Duration
	}{
		"after a failure":             {0, false, 15 * time.Second},
		"after Ctrl-C":                {0, true, 3 * time.Second},
		"a deadline is far":           {time.Hour, false, 15 * time.Second},
		"a deadline is near":          {2 * time.Second, false, 5 * time.Second},
		"a deadline is over":          {time.Nanosecond, false, 3 * time.Second},
		"Ctrl-C, and a far deadline":  {time.Hour, true, 3 * time.Second},
		"Ctrl-C, and a near deadline": {time.Second, true, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if test.left > 0 {
					ctx, cancel = context.WithTimeout(ctx, test.left)
					defer cancel()
				}
				if test.over {
					cancel()
				}
				if test.left == time.Nanosecond {
					<-ctx.Done()
				}
				begun := time.Now()
				cleanup, end := transfer.Cleanup(ctx)
				defer end()
				<-cleanup.Done()
				if got := time.Since(begun); got != test.want {
					t.Errorf("%s, want %s", got, test.want)
				}
			})
		})
	}
}
