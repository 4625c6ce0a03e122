package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// brokenOff uploads data in three parts of which the last is refused, and returns what another process
// needs to go on.
func brokenOff(t *testing.T, s testserver.S3, f *os.File) transfer.Checkpoint {
	t.Helper()
	proxy := faultproxy.New(s.Endpoint)
	e := newClient(s, proxy.Start(t)).engine()
	e.Concurrency = 1 // the parts go in their order
	proxy.Inject(func(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "3" }, faultproxy.Always(), faultproxy.SlowDown())
	var from transfer.Checkpoint
	_, err := e.UploadTracked(t.Context(), key, "text/plain", f, transfer.Tracking{
		Begun: func(begun transfer.Checkpoint) error { from = begun; return nil },
		Sent:  func(p transfer.SentPart) { from.Sent = append(from.Sent, p) },
		Keep:  true,
	}, nil)
	if err == nil || from.UploadID == "" || from.PartSize != 5*mib || from.Checksum != "CRC64NVME" || len(from.Sent) != 2 {
		t.Fatalf("%v, %+v", err, from)
	}
	return from
}

// resumed is what an upload that was gone on with has done.
type resumed struct {
	err    error
	parts  []string // the numbers of those that were sent
	there  int64    // bytes that were found
	moved  int64
	object transfer.Object
}

// resume goes on with an upload, by way of a client of the caller's making.
func resume(t *testing.T, s testserver.S3, f *os.File, from transfer.Checkpoint, options ...func(*s3.Options)) resumed {
	t.Helper()
	proxy := faultproxy.New(s.Endpoint)
	var r resumed
	proxy.Inject(func(req *http.Request) bool {
		if n := req.URL.Query().Get("partNumber"); n != "" && req.Method == http.MethodPut {
			r.parts = append(r.parts, n) // requests are matched one at a time
		}
		return false
	}, faultproxy.Always(), faultproxy.Fault{})
	e := newClient(s, proxy.Start(t)).engine()
	e.S3 = s3.New(e.S3.Options(), options...)
	var moved atomic.Int64
	r.object, r.err = e.UploadTracked(t.Context(), key, "text/plain", f, transfer.Tracking{
		From: from, Keep: true,
		Begun:   func(transfer.Checkpoint) error { return errors.New("another one was begun") },
		Resumed: func(there int64) { r.there = there },
	}, func(n int64) { moved.Add(n) })
	r.moved = moved.Load()
	slices.Sort(r.parts)
	return r
}

// want fails the test unless the upload ended as data, and sent these parts.
func (r resumed) want(t *testing.T, a api, data []byte, parts ...string) {
	t.Helper()
	if r.err != nil {
		t.Fatal(r.err)
	}
	if !slices.Equal(r.parts, parts) {
		t.Errorf("the parts %v were sent, not %v", r.parts, parts)
	}
	if r.object.Size != int64(len(data)) || r.object.Verified != "CRC64NVME" || r.moved != int64(len(data)) {
		t.Errorf("%+v, progress %d", r.object, r.moved)
	}
	if !bytes.Equal(a.content(t), data) {
		t.Error("the object is not the file")
	}
	a.remove(t)
	a.empty(t)
}

// Parts that are there are not sent again.
func testResume(t *testing.T, s testserver.S3) {
	a, data := newClient(s, s.Endpoint), randomBytes(11*mib)
	f := tempFile(t, data)
	from := brokenOff(t, s, f)
	from.Sent = nil // the server lists the checksums
	r := resume(t, s, f, from)
	if r.there != 10*mib {
		t.Errorf("%d bytes were there", r.there)
	}
	r.want(t, a, data, "3")
}

// All pages of the list of parts are read.
func testResumeReadsAllPages(t *testing.T, s testserver.S3) {
	a, data := newClient(s, s.Endpoint), randomBytes(11*mib)
	f := tempFile(t, data)
	resume(t, s, f, brokenOff(t, s, f), func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("OnePartAPage", func(
				ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
			) (middleware.InitializeOutput, middleware.Metadata, error) {
				if list, ok := in.Parameters.(*s3.ListPartsInput); ok {
					list.MaxParts = aws.Int32(1)
				}
				return next.HandleInitialize(ctx, in)
			}), middleware.Before)
		})
	}).want(t, a, data, "3")
}

// A part that the server has in another form than the file is sent again: by another content, or because
// the file has another one now and its time says nothing of it.
func testResumeOfOtherContent(t *testing.T, s testserver.S3) {
	a, data := newClient(s, s.Endpoint), randomBytes(11*mib)
	for name, other := range map[string][]byte{"same size": bytes.Repeat([]byte("x"), 5*mib), "other size": bytes.Repeat([]byte("x"), 6*mib)} {
		f := tempFile(t, data)
		from := brokenOff(t, s, f)
		if _, err := a.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: aws.String(bucket), Key: aws.String(key), UploadId: &from.UploadID, PartNumber: aws.Int32(2),
			Body: bytes.NewReader(other), ChecksumAlgorithm: "CRC64NVME",
		}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		resume(t, s, f, from).want(t, a, data, "2", "3")
	}

	f := tempFile(t, data)
	from := brokenOff(t, s, f)
	changed := slices.Clone(data)
	changed[7]++
	if err := os.WriteFile(f.Name(), changed, 0o600); err != nil {
		t.Fatal(err)
	}
	resume(t, s, f, from).want(t, a, changed, "1", "3")
}

// A server that lists parts without their checksums is believed by the ETags that were remembered.
func testResumeWithoutListedChecksums(t *testing.T, s testserver.S3) {
	sums := regexp.MustCompile(`<Checksum(CRC64NVME|CRC32)>[^<]*</Checksum(CRC64NVME|CRC32)>`)
	a, data := newClient(s, s.Endpoint), randomBytes(11*mib)
	// Of what the server lists, the checksums are taken out.
	silent := func(o *s3.Options) {
		through := o.HTTPClient
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			res, err := through.Do(r)
			if err != nil || r.Method != http.MethodGet || !r.URL.Query().Has("uploadId") {
				return res, err
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if !sums.Match(body) {
				t.Error("there are no checksums to take out")
			}
			body = sums.ReplaceAll(body, nil)
			res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			return res, err
		})
	}
	for _, test := range []struct {
		name   string
		forget func(from *transfer.Checkpoint)
		sent   []string
	}{
		{"all is remembered", func(*transfer.Checkpoint) {}, []string{"3"}},
		{"a part has another ETag", func(from *transfer.Checkpoint) { from.Sent[0].ETag = `"x"` }, []string{"1", "3"}},
		{"a part has another checksum", func(from *transfer.Checkpoint) { from.Sent[1].Checksum = from.Sent[0].Checksum }, []string{"2", "3"}},
		{"nothing is remembered", func(from *transfer.Checkpoint) { from.Sent = nil }, []string{"1", "2", "3"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := tempFile(t, data)
			from := brokenOff(t, s, f)
			test.forget(&from)
			resume(t, s, f, from, silent).want(t, a, data, test.sent...)
		})
	}
}

// An upload that is gone says so; whether it was completed, the object tells.
func testResumeOfWhatIsGone(t *testing.T, s testserver.S3) {
	a, data := newClient(s, s.Endpoint), randomBytes(11*mib)
	e, f := a.engine(), tempFile(t, data)
	from := brokenOff(t, s, f)
	if err := e.AbortUpload(t.Context(), key, from.UploadID); err != nil {
		t.Fatal(err)
	}
	if r := resume(t, s, f, from); !errors.Is(r.err, transfer.ErrUploadGone) || len(r.parts) > 0 {
		t.Errorf("%+v", r)
	}
	if object, same, err := e.Holds(t.Context(), key, f, from); err != nil || same {
		t.Errorf("%+v, %t, %v", object, same, err)
	}

	from = brokenOff(t, s, f)
	if r := resume(t, s, f, from); r.err != nil {
		t.Fatal(r.err)
	}
	if r := resume(t, s, f, from); !errors.Is(r.err, transfer.ErrUploadGone) {
		t.Errorf("%+v", r)
	}
	if object, same, err := e.Holds(t.Context(), key, f, from); err != nil || !same || object.Verified != "CRC64NVME" {
		t.Errorf("%+v, %t, %v", object, same, err)
	}
	data[7]++
	if _, same, err := e.Holds(t.Context(), key, tempFile(t, data), from); err != nil || same {
		t.Errorf("another content is the same: %t, %v", same, err)
	}
	if _, same, err := e.Holds(t.Context(), key, tempFile(t, data[1:]), from); err != nil || same {
		t.Errorf("another size is the same: %t, %v", same, err)
	}
	a.remove(t)
}

// A server that knows no CRC-64/NVME holds a checksum of the checksums of the parts.
func testHoldsByCompositeChecksum(t *testing.T, s testserver.S3) {
	a, data := newClient(s, s.Endpoint), randomBytes(11*mib)
	created, err := a.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: aws.String(bucket), Key: aws.String(key), ChecksumAlgorithm: "CRC32",
	})
	if err != nil {
		t.Fatal(err)
	}
	from := transfer.Checkpoint{UploadID: *created.UploadId, PartSize: 5 * mib, Checksum: "CRC32"}
	r := resume(t, s, tempFile(t, data), from)
	if r.err != nil || r.object.Verified != "CRC32" || len(r.parts) != 3 {
		t.Fatalf("%+v", r)
	}
	if object, same, err := a.engine().Holds(t.Context(), key, tempFile(t, data), from); err != nil || !same || object.Verified != "CRC32" {
		t.Errorf("%+v, %t, %v", object, same, err)
	}
	data[7]++
	if _, same, err := a.engine().Holds(t.Context(), key, tempFile(t, data), from); err != nil || same {
		t.Errorf("another content is the same: %t, %v", same, err)
	}
	a.remove(t)
}

// What can't be remembered is not begun, unless nobody minds.
func testTrackedUploadEndsWithItsJournal(t *testing.T, s testserver.S3) {
	a, full := newClient(s, s.Endpoint), errors.New("the disk is full")
	_, err := a.engine().UploadTracked(t.Context(), key, "text/plain", tempFile(t, randomBytes(11*mib)), transfer.Tracking{
		Begun: func(transfer.Checkpoint) error { return full },
	}, nil)
	if !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	a.empty(t)
}

// The parts that are there are counted, with the time of the last.
func testPartsOf(t *testing.T, s testserver.S3) {
	a := newClient(s, s.Endpoint)
	from := brokenOff(t, s, tempFile(t, randomBytes(11*mib)))
	size, latest, err := a.engine().PartsOf(t.Context(), key, from.UploadID)
	if err != nil || size != 10*mib || time.Since(latest).Abs() > time.Minute {
		t.Errorf("%d bytes, %s, %v", size, latest, err)
	}
	if err := a.engine().AbortUpload(t.Context(), key, from.UploadID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.engine().PartsOf(t.Context(), key, from.UploadID); !errors.Is(err, transfer.ErrUploadGone) || !strings.Contains(err.Error(), "gone") {
		t.Errorf("error %v", err)
	}
}
