package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// hanging is a server of which requests for one operation get no answer.
type hanging struct {
	fakeS3
	operation  string
	carriedOut bool         // all the same; else nothing is read of them
	left       atomic.Int64 // so many still hang
	hits       atomic.Int64
	over       chan struct{} // closed in the end
}

func (h *hanging) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if operationOf(r) != h.operation || h.left.Add(-1) < 0 {
		h.fakeS3.ServeHTTP(w, r)
		return
	}
	h.hits.Add(1)
	if h.carriedOut {
		h.fakeS3.ServeHTTP(httptest.NewRecorder(), r)
	}
	<-h.over
}

// pipes is a listener whose connections are in memory, so that time can be that of synctest.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.accept:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error   { close(p.closed); return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.accept <- far:
		return near, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// hang calls f in a bubble of synctest, with an engine for h, which gives a connection up after a minute.
func hang(t *testing.T, h *hanging, requests int64, f func(t *testing.T, e *transfer.Engine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h.over = make(chan struct{})
		listener := pipes{make(chan net.Conn), make(chan struct{})}
		server := &http.Server{Handler: h}
		served := make(chan error)
		go func() { served <- server.Serve(listener) }()
		t.Cleanup(func() {
			close(h.over)
			_ = server.Close()
			time.Sleep(time.Second) // a connection with an unread body lingers for a moment
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		})
		h.left.Store(requests)
		begin := time.Now()
		s := testserver.S3{AccessKey: "key", SecretKey: "secret", Region: "us-east-1"}
		f(t, newImpatientClient(s, "http://s3.invalid", time.Minute, listener.dial).engine())
		if took := time.Since(begin); h.hits.Load() == 0 || took < time.Minute || took > 5*time.Minute {
			t.Errorf("%d requests got no answer, and it took %s", h.hits.Load(), took)
		}
	})
}

// An upload whose requests get no answer gives them up and makes them again; it ends with the very object, or with an
// error and nothing left.
func TestHangingUpload(t *testing.T) {
	for _, test := range []struct {
		operation  string
		carriedOut bool
		requests   int64
		fails      bool
	}{
		{"PutObject", false, 1, false},
		{"PutObject", true, 1, false},
		{"PutObject", true, 100, false}, // it is found by its checksum
		{"UploadPart", false, 1, false},
		{"UploadPart", true, 1, false},
		{"UploadPart", true, 100, true}, // a part that no answer confirms can't be completed
		{"CreateMultipartUpload", true, 100, true},
		{"CompleteMultipartUpload", true, 1, false},
	} {
		t.Run(fmt.Sprintf("%s/carried out %t/%d", test.operation, test.carriedOut, test.requests), func(t *testing.T) {
			data := randomBytes(11 * mib)
			if test.operation == "PutObject" {
				data = randomBytes(4096)
			}
			h := &hanging{fakeS3: fakeS3{knows: []string{"CRC64NVME"}}, operation: test.operation, carriedOut: test.carriedOut}
			hang(t, h, test.requests, func(t *testing.T, e *transfer.Engine) {
				_, err := e.UploadFile(t.Context(), key, "text/plain", bytesFile(data), nil)
				if (err != nil) != test.fails {
					t.Errorf("error %v", err)
				}
			})
			switch o := h.object(key); {
			case test.fails && o != nil:
				t.Errorf("an object of %d bytes is left", len(o.data))
			case !test.fails && (o == nil || !bytes.Equal(o.data, data)):
				t.Error("the object is not what was uploaded")
			}
			if n := h.begun(); n > 0 {
				t.Errorf("%d multipart uploads are left", n)
			}
		})
	}
}

// A download of which requests get no answer makes them again.
func TestHangingDownload(t *testing.T) {
	for _, size := range []int{2 * mib, 30*mib + 7} { // the second one in ranges
		for _, carriedOut := range []bool{false, true} {
			for _, inOrder := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d bytes/carried out %t/in order %t", size, carriedOut, inOrder), func(t *testing.T) {
					data := randomBytes(size)
					h := &hanging{fakeS3: fakeS3{knows: []string{"CRC64NVME"}}, operation: "GetObject", carriedOut: carriedOut}
					hang(t, h, 2, func(t *testing.T, e *transfer.Engine) {
						if _, err := e.UploadFile(t.Context(), key, "text/plain", bytesFile(data), nil); err != nil {
							t.Fatal(err)
						}
						file := newFile(t)
						var err error
						if inOrder {
							_, err = e.Download(t.Context(), key, int64(size), file, nil)
						} else {
							_, err = e.DownloadFile(t.Context(), key, int64(size), file, nil)
						}
						if got := contentOf(t, file); err != nil || !bytes.Equal(got, data) {
							t.Errorf("%d bytes of %d: %v", len(got), size, err)
						}
					})
				})
			}
		}
	}
}
