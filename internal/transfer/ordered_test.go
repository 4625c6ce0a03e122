package transfer_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// Whatever goes wrong while an object is read in order, what has been written is a beginning of
// it, and without an error it is all of it.
func testOrderedDownloadFaults(t *testing.T, s testserver.S3) {
	get := faultproxy.On(http.MethodGet)
	faults := []struct {
		name  string
		times faultproxy.Times
		fault faultproxy.Fault
		want  error // for errors.Is; nil: it succeeds
	}{
		{"nothing", faultproxy.First(1), faultproxy.Fault{}, nil},
		{"slow down", faultproxy.First(2), faultproxy.SlowDown(), nil},
		{"slow down always", faultproxy.Always(), faultproxy.SlowDown(), errAny},
		{"internal error in the middle", faultproxy.Nth(4), faultproxy.InternalError(), nil},
		{"reset in the middle", faultproxy.Nth(4), faultproxy.ResetDownload(300_000), nil},
		{"reset again and again", faultproxy.First(6), faultproxy.ResetDownload(2 * mib), nil},
		{"reset at once always", faultproxy.Always(), faultproxy.ResetDownload(0), errAny},
		{"cut short", faultproxy.First(3), faultproxy.CutDownload(300_000), nil},
		{"truncated silently", faultproxy.First(3), faultproxy.TruncateDownload(300_000), nil},
		{"byte flipped", faultproxy.Nth(3), faultproxy.FlipDownload(300_000), transfer.ErrChecksum},
	}
	data := randomBytes(30*mib + 7)
	if _, err := newClient(s, s.Endpoint).engine().UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil); err != nil {
		t.Fatal(err)
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			proxy := faultproxy.New(s.Endpoint)
			rule := proxy.Inject(get, f.times, f.fault)
			var got bytes.Buffer
			var moved atomic.Int64
			object, err := newClient(s, proxy.Start(t)).engine().Download(t.Context(), key, int64(len(data)), &got, func(n int64) { moved.Add(n) })
			if rule.Hits() == 0 && f.name != "nothing" {
				t.Error("the fault was never made")
			}
			if f.want == nil {
				if err != nil || object.Size != int64(len(data)) || object.Verified != "CRC64NVME" || moved.Load() != object.Size {
					t.Errorf("%+v, progress %d: %v", object, moved.Load(), err)
				}
				if !bytes.Equal(got.Bytes(), data) {
					t.Error("wrong bytes")
				}
				return
			}
			if err == nil || !errors.Is(f.want, errAny) && !errors.Is(err, f.want) {
				t.Errorf("error %v, want %v", err, f.want)
			}
			if !errors.Is(err, transfer.ErrChecksum) && !bytes.HasPrefix(data, got.Bytes()) {
				t.Error("what was written is no beginning of the object")
			}
		})
	}
}

// All ranges are of one version: an object that is replaced in the middle is no mixture of two.
func TestOrderedDownloadOfReplacedObject(t *testing.T) {
	s := (&fakeS3{knows: []string{"CRC64NVME"}}).start(t)
	direct := newClient(s, s.Endpoint).engine()
	data := randomBytes(72 * mib)
	if _, err := direct.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		// More than is read ahead is still to come.
		if got.Len() == 0 {
			if _, err := direct.UploadFile(t.Context(), key, "text/plain", tempFile(t, bytes.Repeat([]byte("x"), 72*mib)), nil); err != nil {
				t.Error(err)
			}
		}
		return got.Write(p)
	})
	_, err := direct.Download(t.Context(), key, 72*mib, w, nil)
	if !errors.Is(err, transfer.ErrChanged) {
		t.Errorf("error %v, want %v", err, transfer.ErrChanged)
	}
	if !bytes.HasPrefix(data, got.Bytes()) {
		t.Error("what was written is no beginning of the object")
	}
}

// zeros is an S3 server with one object, of zeros, under every key.
type zeros struct {
	size int64
	sum  string // its checksum, as the header has it
	url  string

	mu       sync.Mutex
	asked    int64 // bytes of the object that were asked for
	inFlight int
	most     int          // requests at the same time
	whole    atomic.Int64 // answers that were sent to their end
	onGet    func(asked int64)
}

func newZeros(t *testing.T, size int64) *zeros {
	t.Helper()
	sum, block := crc64nvme.New(), make([]byte, mib)
	for range size / mib {
		_, _ = sum.Write(block)
	}
	z := &zeros{size: size, sum: base64.StdEncoding.EncodeToString(sum.Sum(nil))}
	server := httptest.NewServer(z)
	t.Cleanup(server.Close)
	z.url = server.URL
	return z
}

func (z *zeros) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("ETag", `"zeros"`)
	if r.Method == http.MethodHead {
		h.Set("X-Amz-Checksum-Crc64nvme", z.sum)
		h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		h.Set("Content-Length", fmt.Sprint(z.size))
		return
	}
	var from, to int64
	if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); n != 2 || err != nil {
		http.Error(w, "no range", http.StatusBadRequest)
		return
	}
	z.mu.Lock()
	z.asked += to + 1 - from
	z.inFlight++
	z.most = max(z.most, z.inFlight)
	asked := z.asked
	z.mu.Unlock()
	if z.onGet != nil {
		z.onGet(asked)
	}
	defer func() {
		z.mu.Lock()
		defer z.mu.Unlock()
		z.inFlight--
	}()
	h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, z.size))
	h.Set("Content-Length", fmt.Sprint(to+1-from))
	w.WriteHeader(http.StatusPartialContent)
	block := make([]byte, 64<<10)
	for at := from; at <= to; at += int64(len(block)) {
		if _, err := w.Write(block[:min(int64(len(block)), to+1-at)]); err != nil {
			return
		}
	}
	z.whole.Add(1)
}

func (z *zeros) engine(concurrency int) *transfer.Engine {
	s := testserver.S3{AccessKey: "a", SecretKey: "b", Region: "us-east-1"}
	e := newClient(s, z.url).engine()
	e.Concurrency = concurrency
	return e
}

// A reader that takes nothing for a while finds everything that was read ahead come in, and keeps
// neither a request nor more than 64 MiB waiting.
func TestOrderedDownloadToSlowReader(t *testing.T) {
	const size, ahead, pieces = 256 * mib, 64 * mib, 16
	z := newZeros(t, size)
	var written atomic.Int64
	z.onGet = func(asked int64) {
		if waiting := asked - written.Load(); waiting > ahead+mib { // a write counts when it has ended
			t.Errorf("%d bytes were asked for and not written", waiting)
		}
	}
	waited, nothing := false, make([]byte, mib)
	w := writerFunc(func(p []byte) (int, error) {
		if !waited {
			waited = true
			until(t, func() bool { return z.whole.Load() == pieces })
		}
		if !bytes.Equal(p, nothing[:len(p)]) {
			return 0, errors.New("that is no zero")
		}
		written.Add(int64(len(p)))
		return len(p), nil
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	object, err := z.engine(8).Download(t.Context(), key, size, w, nil)
	runtime.ReadMemStats(&after)
	if err != nil || written.Load() != size || object.Verified != "CRC64NVME" {
		t.Errorf("%+v of %d bytes: %v", object, written.Load(), err)
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.most > 8 {
		t.Errorf("%d requests at the same time, with a concurrency of 8", z.most)
	}
	// The server in this process takes some of it too.
	if allocated := int64(after.TotalAlloc - before.TotalAlloc); allocated > ahead+48*mib {
		t.Errorf("%d MiB were allocated: buffers are not used again", allocated/mib)
	}
}

// A writer that fails ends everything, and its error is returned as it is.
func TestOrderedDownloadToFailingWriter(t *testing.T) {
	z := newZeros(t, 256*mib)
	writes := 0
	_, err := z.engine(8).Download(t.Context(), key, 256*mib, writerFunc(func(p []byte) (int, error) {
		if writes++; writes == 3 {
			return 0, syscall.EPIPE
		}
		return len(p), nil
	}), nil)
	if !errors.Is(err, syscall.EPIPE) || err.Error() != syscall.EPIPE.Error() {
		t.Errorf("error %v", err)
	}
	if writes != 3 {
		t.Errorf("%d writes", writes)
	}
	nobodyLeft(t)
	z.mu.Lock() // the server may only now get to a request whose sender has given up
	defer z.mu.Unlock()
	if z.asked > 70*mib {
		t.Errorf("%d MiB were asked for", z.asked/mib)
	}
}

// An interrupt ends everything as well, also while the writer waits.
func TestOrderedDownloadInterrupted(t *testing.T) {
	z := newZeros(t, 256*mib)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := z.engine(8).Download(ctx, key, 256*mib, writerFunc(func([]byte) (int, error) {
		cancel()
		<-ctx.Done()
		return 0, ctx.Err()
	}), nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	nobodyLeft(t)
}

// A short write is an error.
func TestOrderedDownloadShortWrite(t *testing.T) {
	z := newZeros(t, 32*mib)
	_, err := z.engine(8).Download(t.Context(), key, 32*mib, writerFunc(func(p []byte) (int, error) { return len(p) - 1, nil }), nil)
	if !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error %v", err)
	}
}

// nobodyLeft fails the test where a goroutine of a transfer goes on.
func nobodyLeft(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 4*mib)
	var left string
	until(t, func() bool {
		left = ""
		for stack := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
			if strings.Contains(stack, "transfer.(*") {
				left = stack
			}
		}
		return left == ""
	})
	if left != "" {
		t.Error(left)
	}
}

// until waits until something is so, and fails the test when that takes too long.
func until(t *testing.T, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !so() {
		if time.Now().After(deadline) {
			t.Error("that takes too long")
			return
		}
		time.Sleep(time.Millisecond)
	}
}
