package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

func TestContentString(t *testing.T) {
	e := &transfer.Engine{}
	for _, test := range []struct {
		data []byte
		want string
	}{
		{nil, "crc64nvme:AAAAAAAAAAA=:0"},
		// The check value of the CRC: that of the digits from 1 to 9.
		{[]byte("123456789"), "crc64nvme:rosUhgp5mIg=:9"},
		{make([]byte, 3*mib), "crc64nvme:S2YISH502do=:3145728"},
	} {
		content, err := e.ContentOf(t.Context(), tempFile(t, test.data))
		if err != nil || content.String() != test.want {
			t.Errorf("%d bytes: %q, %v; want %q", len(test.data), content, err, test.want)
		}
	}

	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := e.ContentOf(ctx, tempFile(t, []byte("a"))); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// onRead is a file of which somebody else does something at every read.
type onRead struct {
	transfer.File
	do func()
}

func (f onRead) ReadAt(p []byte, off int64) (int, error) {
	f.do()
	return f.File.ReadAt(p, off)
}

// A file that changes while it is being read has no content.
func TestContentOfChangingFile(t *testing.T) {
	for name, change := range map[string]func(f *os.File) error{
		"another byte": func(f *os.File) error { _, err := f.WriteAt([]byte("x"), 0); return err },
		"longer":       func(f *os.File) error { _, err := f.WriteAt([]byte("x"), 3*mib); return err },
		"shorter":      func(f *os.File) error { return f.Truncate(mib) },
	} {
		t.Run(name, func(t *testing.T) {
			source := tempFile(t, randomBytes(3*mib))
			// What is written within one tick of the clock may have one time.
			if err := os.Chtimes(source.Name(), time.Time{}, time.Now().Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			somebody, err := os.OpenFile(source.Name(), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer somebody.Close()
			_, err = (&transfer.Engine{}).ContentOf(t.Context(), onRead{source, func() {
				if err := change(somebody); err != nil {
					t.Error(err)
				}
			}})
			if !errors.Is(err, transfer.ErrChanged) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// contents returns n bytes, what the engine says of them, and as many other bytes.
func contents(t *testing.T, e *transfer.Engine, n int) (data []byte, content transfer.Content, other []byte) {
	t.Helper()
	data = randomBytes(n)
	content, err := e.ContentOf(t.Context(), tempFile(t, data))
	if err != nil {
		t.Fatal(err)
	}
	other = slices.Clone(data)
	other[n/2] ^= 1
	return data, content, other
}

// Only the content that is wanted gets into the bucket, also where neither the size nor the time of
// the file tells that it holds another.
func testUploadContent(t *testing.T, s testserver.S3) {
	for _, n := range []int{100, mib, 11 * mib} {
		a := newClient(s, s.Endpoint)
		e := a.engine()
		data, content, other := contents(t, e, n)
		for _, wrong := range [][]byte{other, data[:n-1], append(slices.Clone(data), 0)} {
			_, err := e.UploadContent(t.Context(), key, "text/plain", tempFile(t, wrong), content, nil)
			upload, ok := errors.AsType[*transfer.UploadError](err)
			if !errors.Is(err, transfer.ErrChanged) || !ok || upload.Outcome != transfer.NotWritten {
				t.Errorf("%d bytes for %s: %v", len(wrong), content, err)
			}
			a.empty(t)
		}
		object, err := e.UploadContent(t.Context(), key, "text/plain", tempFile(t, data), content, nil)
		if err != nil || object.Size != int64(n) || object.Verified != "CRC64NVME" || !bytes.Equal(a.content(t), data) {
			t.Errorf("%d bytes: %+v, %v", n, object, err)
		}
		a.remove(t)
	}
}

// The same for a server that knows no CRC-64/NVME.
func testUploadContentWithCRC32(t *testing.T, s testserver.S3) {
	for _, n := range []int{100, 11 * mib} {
		a := newClient(s, s.Endpoint)
		e := api{s3.New(a.Options(), func(o *s3.Options) {
			through := o.HTTPClient
			o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
				if r.Header.Get("X-Amz-Checksum-Crc64nvme") != "" || r.Header.Get("X-Amz-Checksum-Algorithm") == "CRC64NVME" {
					return refusal(r), nil
				}
				return through.Do(r)
			})
		})}.engine()
		data, content, other := contents(t, e, n)
		if _, err := e.UploadContent(t.Context(), key, "text/plain", tempFile(t, other), content, nil); !errors.Is(err, transfer.ErrChanged) {
			t.Errorf("%d other bytes: %v", n, err)
		}
		a.empty(t)
		object, err := e.UploadContent(t.Context(), key, "text/plain", tempFile(t, data), content, nil)
		if err != nil || object.Verified != "CRC32" || !bytes.Equal(a.content(t), data) {
			t.Errorf("%d bytes: %+v, %v", n, object, err)
		}
		a.remove(t)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// refusal is how a server answers that does not know a header.
func refusal(r *http.Request) *http.Response {
	return &http.Response{
		Status: "501 Not Implemented", StatusCode: http.StatusNotImplemented, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader([]byte("<Error><Code>NotImplemented</Code></Error>"))),
	}
}

// Others may be uploading to the same key: what they have begun is not aborted, whatever fails.
func testUploadContentLeavesOthers(t *testing.T, s testserver.S3) {
	complete := faultproxy.On(http.MethodPost, "uploadId")
	create := faultproxy.On(http.MethodPost, "uploads")
	part := faultproxy.On(http.MethodPut, "partNumber")
	for _, test := range []struct {
		name  string
		match faultproxy.Match
		fault faultproxy.Fault
		left  int // what it may leave of its own
	}{
		{"a part is refused", part, faultproxy.SlowDown(), 0},
		{"completing fails", complete, faultproxy.ErrorIn200("InternalError"), 0},
		{"it is begun, and the answers are lost", create, faultproxy.CutDownload(0), 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newClient(s, s.Endpoint)
			theirs, err := a.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(key)})
			if err != nil {
				t.Fatal(err)
			}
			proxy := faultproxy.New(s.Endpoint)
			proxy.Inject(test.match, faultproxy.Always(), test.fault)
			e := newClient(s, proxy.Start(t)).engine()
			source := tempFile(t, randomBytes(11*mib))
			content, err := e.ContentOf(t.Context(), source)
			if err != nil {
				t.Fatal(err)
			}
			_, err = e.UploadContent(t.Context(), key, "text/plain", source, content, nil)
			upload, ok := errors.AsType[*transfer.UploadError](err)
			if !ok || (upload.Leftover != nil) != (test.left > 0) {
				t.Errorf("error %v", err)
			}
			out, err := a.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: aws.String(bucket), Prefix: aws.String(key)})
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, u := range out.Uploads {
				found = found || aws.ToString(u.UploadId) == aws.ToString(theirs.UploadId)
				_, err := a.AbortMultipartUpload(t.Context(), &s3.AbortMultipartUploadInput{Bucket: aws.String(bucket), Key: aws.String(key), UploadId: u.UploadId})
				if err != nil {
					t.Error(err)
				}
			}
			if !found || len(out.Uploads) > 1+test.left {
				t.Errorf("%d multipart uploads are left, that of somebody else among them: %t", len(out.Uploads), found)
			}
			if test.left == 0 {
				a.empty(t)
			}
		})
	}
}

// What S3 holds, by whoever uploaded it.
func testHead(t *testing.T, s testserver.S3) {
	a := newClient(s, s.Endpoint)
	e := a.engine()
	data := randomBytes(11 * mib)
	content, err := e.ContentOf(t.Context(), tempFile(t, data))
	if err != nil {
		t.Fatal(err)
	}
	put := func(in s3.PutObjectInput) error {
		in.Bucket, in.Key, in.Body = aws.String(bucket), aws.String(key), bytes.NewReader(data)
		_, err := a.PutObject(t.Context(), &in)
		return err
	}
	for _, test := range []struct {
		name            string
		upload          func() error
		algorithm, kind string
		verified        bool // with one of the content's checksums
	}{
		{"ours, in parts", func() error {
			_, err := e.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil)
			return err
		}, "CRC64NVME", "FULL_OBJECT", true},
		{"with a SHA-256", func() error {
			return put(s3.PutObjectInput{ChecksumAlgorithm: "SHA256"})
		}, "SHA256", "FULL_OBJECT", false},
		{"with a CRC-32", func() error {
			return put(s3.PutObjectInput{ChecksumAlgorithm: "CRC32"})
		}, "CRC32", "FULL_OBJECT", true},
		{"composite", func() error { return putComposite(t, a, data) }, "CRC32C", "COMPOSITE", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := test.upload(); err != nil {
				t.Fatal(err)
			}
			held, err := e.Head(t.Context(), key)
			if err != nil || held.Size != int64(len(data)) || held.ETag == "" {
				t.Fatalf("%+v, %v", held, err)
			}
			if len(held.Checksums) != 1 || held.Checksums[0].Algorithm != test.algorithm || held.Checksums[0].Type != test.kind {
				t.Errorf("%+v", held)
			}
			if verified, err := content.Compare(held); err != nil || verified != test.verified {
				t.Errorf("compared: %t, %v", verified, err)
			}
			a.remove(t)
		})
	}
	if _, err := e.Head(t.Context(), key); transfer.StatusOf(err) != http.StatusNotFound {
		t.Errorf("no object: %v", err)
	}
}

func TestCompare(t *testing.T) {
	content, err := (&transfer.Engine{}).ContentOf(t.Context(), tempFile(t, []byte("123456789")))
	if err != nil {
		t.Fatal(err)
	}
	full := func(algorithm, value string) []transfer.Checksum {
		return []transfer.Checksum{{Algorithm: algorithm, Value: value, Type: "FULL_OBJECT"}}
	}
	for _, test := range []struct {
		name     string
		held     transfer.Held
		verified bool
		want     error
	}{
		{"nothing but the size", transfer.Held{Size: 9}, false, nil},
		{"another size", transfer.Held{Size: 8}, false, transfer.ErrSize},
		{"its CRC-64/NVME", transfer.Held{Size: 9, Checksums: full("CRC64NVME", "rosUhgp5mIg=")}, true, nil},
		{"another CRC-64/NVME", transfer.Held{Size: 9, Checksums: full("CRC64NVME", "rosUhgp5mIk=")}, false, transfer.ErrChecksum},
		{"its CRC-32", transfer.Held{Size: 9, Checksums: full("CRC32", "y/Q5Jg==")}, true, nil},
		{"another CRC-32", transfer.Held{Size: 9, Checksums: full("CRC32", "y/Q5Jw==")}, false, transfer.ErrChecksum},
		{"one of another kind", transfer.Held{Size: 9, Checksums: full("SHA1", "98O8HYCOBHMqBJ2w+FdBLw==")}, false, nil},
		{"one of the parts", transfer.Held{Size: 9, Checksums: []transfer.Checksum{{Algorithm: "CRC32", Value: "AAAAAA==-2", Type: "COMPOSITE"}}}, false, nil},
		{
			"one of two is another",
			transfer.Held{Size: 9, Checksums: slices.Concat(full("CRC64NVME", "rosUhgp5mIg="), full("CRC32", "y/Q5Jw=="))},
			false, transfer.ErrChecksum,
		},
	} {
		verified, err := content.Compare(test.held)
		if verified != test.verified || !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: %t, %v", test.name, verified, err)
		}
	}
}
