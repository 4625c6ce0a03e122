package transfer_test

import (
	"bytes"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// What is read to be checked is verified as a download is, whatever S3 holds of it: a byte that is
// another, and a size that is another, are told.
func testCheck(t *testing.T, s testserver.S3) {
	a := newClient(s, s.Endpoint)
	upload := func(data []byte) error {
		_, err := a.engine().UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil)
		return err
	}
	for name, c := range map[string]struct {
		size int
		put  func(data []byte) error
		want string // any checksum, where it is empty
	}{
		"small":             {2 * mib, upload, "CRC64NVME"},
		"empty":             {0, upload, "CRC64NVME"},
		"ranges":            {11 * mib, upload, "CRC64NVME"},
		"checksum of parts": {6 * mib, func(data []byte) error { return putComposite(t, a, data) }, "CRC32C"},
		"no checksum": {6 * mib, func(data []byte) error {
			_, err := a.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(data)})
			return err
		}, ""},
	} {
		if err := c.put(randomBytes(c.size)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var moved atomic.Int64
		object, err := a.engine().Check(t.Context(), key, int64(c.size), func(n int64) { moved.Add(n) })
		if err != nil || object.Size != int64(c.size) || moved.Load() != object.Size {
			t.Errorf("%s: %+v, %d bytes read: %v", name, object, moved.Load(), err)
		}
		if object.Verified == "" || c.want != "" && object.Verified != c.want {
			t.Errorf("%s: verified by %q", name, object.Verified)
		}
		if _, err := a.engine().Check(t.Context(), key, int64(c.size)+1, nil); !errors.Is(err, transfer.ErrSize) {
			t.Errorf("%s: of another size: %v", name, err)
		}
		if c.size == 0 {
			continue
		}
		proxy := faultproxy.New(s.Endpoint)
		flip := proxy.Inject(faultproxy.On(http.MethodGet, "x-id"), faultproxy.First(1), faultproxy.FlipDownload(100))
		if _, err := newClient(s, proxy.Start(t)).engine().Check(t.Context(), key, int64(c.size), nil); !errors.Is(err, transfer.ErrChecksum) {
			t.Errorf("%s: a flipped byte gave %v", name, err)
		}
		if flip.Hits() != 1 {
			t.Errorf("%s: no byte was flipped", name)
		}
	}
	if _, err := a.engine().Check(t.Context(), "nothing", 1, nil); transfer.StatusOf(err) != http.StatusNotFound {
		t.Errorf("without an object: %v", err)
	}
}
