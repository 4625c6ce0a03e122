package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/transfer"
)

// Where a server knows no CRC-64/NVME, a CRC-32 takes its place; where it knows nothing, the object
// is right all the same, and nobody claims that it was verified. Only the first file of a process
// pays for finding it out.
func TestServersThatKnowFewChecksums(t *testing.T) {
	for _, tt := range []struct {
		name   string
		knows  []string
		status int // with which other kinds are refused; 0: they are ignored
		code   string
		want   string // Verified
		first  int    // requests that the first file begins with; later ones take one
	}{
		{name: "both", knows: []string{"CRC64NVME", "CRC32"}, want: "CRC64NVME", first: 1},
		{name: "CRC-32, others are invalid", knows: []string{"CRC32"}, status: 400, code: "InvalidRequest", want: "CRC32", first: 2},
		{name: "CRC-32, others are not implemented", knows: []string{"CRC32"}, status: 501, code: "NotImplemented", want: "CRC32", first: 2},
		{name: "CRC-32, others are ignored", knows: []string{"CRC32"}, want: "CRC32", first: 2},
		{name: "none", want: "", first: 2},
	} {
		for how, size := range map[string]int{"PutObject": 100 << 10, "CreateMultipartUpload": 11 * mib} {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				t.Parallel()
				data := randomBytes(size)
				f := &fakeS3{knows: tt.knows, status: tt.status, code: tt.code}
				s := f.start(t)
				e := newClient(s, s.Endpoint).engine()
				var total int64
				progress := func(n int64) { total += n }
				e.Concurrency = 1

				requests := 0
				upload := func(key string, want int, upload func(key string) (transfer.Object, error)) {
					t.Helper()
					total = 0
					object, err := upload(key)
					if err != nil {
						t.Fatal(err)
					}
					if o := f.object(key); o == nil || !bytes.Equal(o.data, data) {
						t.Errorf("%s: the object is not what was uploaded", key)
					}
					if object.Size != int64(size) || object.Verified != tt.want || total != int64(size) {
						t.Errorf("%s: %+v, progress %d; want it verified by %q", key, object, total, tt.want)
					}
					if now := len(f.seen(how)); now-requests != want {
						t.Errorf("%s took %d requests, want %d", key, now-requests, want)
					}
					requests = len(f.seen(how))
				}
				upload("first", tt.first, func(key string) (transfer.Object, error) {
					return e.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), progress)
				})
				upload("second", 1, func(key string) (transfer.Object, error) {
					stream, err := e.OpenStream(bytes.NewReader(data))
					if err != nil {
						return transfer.Object{}, err
					}
					return e.UploadStream(t.Context(), key, "text/plain", stream, progress)
				})
				if f.begun() != 0 {
					t.Errorf("%d multipart uploads are left", f.begun())
				}

				want := tt.want
				if want == "" && how == "PutObject" {
					want = "MD5" // its ETag
				}
				file := newFile(t)
				object, err := e.DownloadFile(t.Context(), "second", int64(size), file, nil)
				if err != nil || object.Verified != want || !bytes.Equal(contentOf(t, file), data) {
					t.Errorf("download: %+v, %v; want it verified by %q", object, err, want)
				}
			})
		}
	}
}

// A refusal that has nothing to do with the checksum stays what it is, and is not taken for one that
// has.
func TestRefusalForAnotherReason(t *testing.T) {
	f := &fakeS3{knows: []string{"CRC64NVME", "CRC32"}}
	s := f.start(t)
	proxy := faultproxy.New(s.Endpoint)
	e := newClient(s, proxy.Start(t)).engine()
	for how, size := range map[string]int{"PutObject": 100 << 10, "CreateMultipartUpload": 11 * mib} {
		refused := proxy.Inject(faultproxy.Any, faultproxy.Always(), faultproxy.Answer(400, "<Error><Code>InvalidStorageClass</Code></Error>"))
		_, err := e.UploadFile(t.Context(), key, "text/plain", bytesFile(randomBytes(size)), nil)
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "InvalidStorageClass" {
			t.Errorf("%s: %v", how, err)
		}
		if refused.Hits() != 2 {
			t.Errorf("%s was tried %d times, want once with each checksum", how, refused.Hits())
		}
		proxy.Heal()
		object, err := e.UploadFile(t.Context(), key, "text/plain", bytesFile(randomBytes(size)), nil)
		if err != nil || object.Verified != "CRC64NVME" {
			t.Errorf("%s afterwards: %+v, %v", how, object, err)
		}
	}
}

// However many files are on their way when it turns out that a server knows no checksum, one of
// them alone is sent again.
func TestManyFilesWhereNoChecksumIsKnown(t *testing.T) {
	const files = 20
	for how, size := range map[string]int{"PutObject": 4096, "CreateMultipartUpload": 5*mib + 1} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			data := randomBytes(size)
			var all sync.WaitGroup // the first requests, which are answered when all are there
			all.Add(files)
			var n atomic.Int64
			f := &fakeS3{before: func(r *http.Request) {
				if operationOf(r) == how && n.Add(1) <= files {
					all.Done()
					all.Wait()
				}
			}}
			s := f.start(t)
			e := newClient(s, s.Endpoint).engine()
			e.Concurrency = files
			var wg sync.WaitGroup
			for i := range files {
				wg.Go(func() {
					key := fmt.Sprint("file", i)
					object, err := e.UploadFile(t.Context(), key, "text/plain", bytesFile(data), nil)
					if err != nil || object.Verified != "" {
						t.Errorf("%+v, %v", object, err)
					}
					if o := f.object(key); o == nil || !bytes.Equal(o.data, data) {
						t.Error("the object is not what was uploaded")
					}
				})
			}
			wg.Wait()
			if n := len(f.seen(how)); n != files+1 {
				t.Errorf("%d requests for %d files, want one more", n, files)
			}
			if f.begun() != 0 {
				t.Errorf("%d multipart uploads are left", f.begun())
			}
		})
	}
}

// An upload whose answer was lost is found by its checksum, of whichever kind.
func TestLostAnswersByChecksum(t *testing.T) {
	for _, kind := range []string{"CRC64NVME", "CRC32"} {
		for how, size := range map[string]int{"PutObject": 100 << 10, "CompleteMultipartUpload": 11 * mib} {
			t.Run(kind+"/"+how, func(t *testing.T) {
				t.Parallel()
				data := randomBytes(size)
				f := &fakeS3{knows: []string{kind}}
				s := f.start(t)
				proxy := faultproxy.New(s.Endpoint)
				e := newClient(s, proxy.Start(t)).engine()
				if _, err := e.UploadFile(t.Context(), "before", "text/plain", bytesFile(data), nil); err != nil {
					t.Fatal(err)
				}
				lost := proxy.Inject(func(r *http.Request) bool { return operationOf(r) == how }, faultproxy.Always(), faultproxy.Reset(faultproxy.After))
				object, err := e.UploadFile(t.Context(), key, "text/plain", bytesFile(data), nil)
				if err != nil || object.Verified != kind || lost.Hits() == 0 {
					t.Errorf("%+v, %v after %d lost answers", object, err, lost.Hits())
				}
			})
		}
	}
}

// No body is hashed for its signature: its checksum is in the header, or behind a part that goes
// through TLS.
func TestUnsignedPayload(t *testing.T) {
	for scheme, overTLS := range map[string]bool{"http": false, "https": true} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			f := &fakeS3{knows: []string{"CRC64NVME"}}
			s := f.start(t)
			e := newClient(s, s.Endpoint).engine()
			if overTLS {
				e = f.startTLS(t)
			}
			for operation, size := range map[string]int{"PutObject": 100 << 10, "UploadPart": 5*mib + 1} {
				data := randomBytes(size)
				if _, err := e.UploadFile(t.Context(), operation, "text/plain", bytesFile(data), nil); err != nil {
					t.Fatal(err)
				}
				sent := f.seen(operation)
				if len(sent) == 0 {
					t.Errorf("no %s", operation)
				}
				for _, r := range sent {
					// The fake has compared the checksum with the body.
					trailed := r.header.Get("X-Amz-Trailer") == "x-amz-checksum-crc64nvme" && r.header.Get("Content-Encoding") == "aws-chunked" &&
						r.header.Get("X-Amz-Content-Sha256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
					plain := r.header.Get("X-Amz-Checksum-Crc64nvme") != "" && r.header.Get("X-Amz-Trailer") == "" && r.header.Get("Content-Encoding") == "" &&
						r.header.Get("X-Amz-Content-Sha256") == "UNSIGNED-PAYLOAD"
					if want := overTLS && operation == "UploadPart"; trailed != want || plain == want {
						t.Errorf("%s: %v", operation, r.header)
					}
					if r.length <= 0 || r.length > int64(size)+100 {
						t.Errorf("%s: Content-Length %d", operation, r.length)
					}
				}
			}
		})
	}
}
