package transfer_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// sourcesOf are servers that hold different checksums of objects, and the size of the parts in
// which these were uploaded.
var sourcesOf = map[string]struct {
	knows    []string
	partSize int64
	verified bool
}{
	"full object":       {knows: []string{"CRC64NVME"}, partSize: 5 * mib, verified: true},
	"checksum of parts": {knows: []string{"CRC32"}, partSize: 5 * mib, verified: true},
	"MD5":               {partSize: 64 * mib, verified: true},
	"nothing":           {partSize: 5 * mib},
}

// TestCopier copies objects of every size from servers that hold every kind of checksum.
func TestCopier(t *testing.T) {
	for name, source := range sourcesOf {
		if testserver.Race && name != "full object" && name != "MD5" { // one of each way to send parts
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := &fakeS3{knows: source.knows}, &fakeS3{knows: []string{"CRC64NVME"}}
			a := from.start(t)
			up := newClient(a, a.Endpoint).engine()
			up.PartSize = source.partSize
			destination := to.startTLS(t)
			if name == "MD5" { // without TLS parts are sent another way
				b := to.start(t)
				destination = newClient(b, b.Endpoint).engine()
			}
			c := transfer.NewCopier(newClient(a, a.Endpoint).engine(), destination)
			for _, size := range []int{0, 1, 100 << 10, 5 * mib, 5*mib + 1, 17 * mib} {
				data := randomBytes(size)
				object := fmt.Sprint(size)
				if _, err := up.UploadFile(t.Context(), object, "text/plain", bytesFile(data), nil); err != nil {
					t.Fatal(err)
				}
				for _, said := range []int64{int64(size), -1} {
					var moved atomic.Int64
					got, err := c.Copy(t.Context(), object, said, func(n int64) { moved.Add(n) })
					if err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(to.object(object).data, data) {
						t.Errorf("%d bytes: %d others have come", size, len(to.object(object).data))
					}
					isVerified := source.verified || size <= 5*mib // that of one PutObject is its MD5
					if got.Size != int64(size) || got.Verified != map[bool]string{true: "CRC64NVME"}[isVerified] || moved.Load() != int64(size) {
						t.Errorf("%d bytes: %+v, progress says %d", size, got, moved.Load())
					}
				}
				if _, err := c.Copy(t.Context(), object, int64(size)+1, nil); !errors.Is(err, transfer.ErrSize) {
					t.Errorf("%d bytes, and one more is expected: %v", size, err)
				}

				if size == 0 || !source.verified {
					continue
				}
				// A bit is wrong on the disk of the source, at the very end.
				damaged := bytes.Clone(data)
				damaged[size-1] ^= 1
				from.mu.Lock()
				from.objects["/"+bucket+"/"+object].data = damaged
				from.mu.Unlock()
				to.remove(object)
				if _, err := c.Copy(t.Context(), object, int64(size), nil); !errors.Is(err, transfer.ErrChecksum) {
					t.Errorf("%d bytes, of which one is damaged: %v", size, err)
				}
				if to.object(object) != nil || to.begun() > 0 {
					t.Errorf("%d bytes: a damaged object leaves something", size)
				}
			}
			_, err := c.Copy(t.Context(), "missing", 10, nil)
			if _, ok := errors.AsType[*types.NoSuchKey](err); !ok {
				t.Errorf("of what is not there: %v", err)
			}
		})
	}
}

// remove deletes an object.
func (f *fakeS3) remove(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, "/"+bucket+"/"+key)
}

// TestCopierTakesTurns copies many objects of every kind at once, with one request in flight: none
// waits for another one that waits for it.
func TestCopierTakesTurns(t *testing.T) {
	to := &fakeS3{knows: []string{"CRC64NVME"}}
	b := to.start(t)
	var running sync.WaitGroup
	engine := newClient(b, b.Endpoint).engine()
	engine.Concurrency = 1
	for name, source := range sourcesOf {
		from := &fakeS3{knows: source.knows}
		a := from.start(t)
		up := newClient(a, a.Endpoint).engine()
		up.PartSize = source.partSize
		down := newClient(a, a.Endpoint).engine()
		down.Concurrency = 1
		c := transfer.NewCopier(down, engine)
		for i, size := range []int{10, 3 * mib, 12 * mib, 12 * mib, 12 * mib} {
			object, data := fmt.Sprintf("%x-%d", name, i), randomBytes(size+i)
			if _, err := up.UploadFile(t.Context(), object, "text/plain", bytesFile(data), nil); err != nil {
				t.Fatal(err)
			}
			running.Go(func() {
				if _, err := c.Copy(t.Context(), object, int64(len(data)), nil); err != nil || !bytes.Equal(to.object(object).data, data) {
					t.Errorf("%s of %d bytes: %v", name, size, err)
				}
			})
		}
	}
	running.Wait()
}

// TestCopyKeepsType copies between two real servers, with what the content type says beside the
// type.
func TestCopyKeepsType(t *testing.T) {
	a, b := testserver.Versitygw(t), testserver.MinIO(t)
	from, to := newClient(a, a.Endpoint), newClient(b, b.Endpoint)
	from.create(t)
	to.create(t)
	c := transfer.NewCopier(from.engine(), to.engine())
	for _, size := range []int{10, 6 * mib} {
		const mime = "text/plain; charset=utf-8"
		data := randomBytes(size)
		if _, err := from.engine().UploadFile(t.Context(), key, mime, bytesFile(data), nil); err != nil {
			t.Fatal(err)
		}
		got, err := c.Copy(t.Context(), key, int64(size), nil)
		if err != nil || got.Verified != "CRC64NVME" || !bytes.Equal(to.content(t), data) {
			t.Errorf("%d bytes: %+v, %v", size, got, err)
		}
		head, err := to.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
		if err != nil || aws.ToString(head.ContentType) != mime {
			t.Errorf("%d bytes: the type is %q, %v", size, aws.ToString(head.ContentType), err)
		}
	}
}
