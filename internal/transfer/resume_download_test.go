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
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/minio/crc64nvme"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// asked notes the ranges that a client asks a server for.
type asked struct {
	mu     sync.Mutex
	ranges []transfer.Extent
}

// before returns the URL of a proxy's front that notes ranges.
func (a *asked) before(t *testing.T, proxy *faultproxy.Proxy) string {
	t.Helper()
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			var x transfer.Extent
			if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &x.From, &x.To); n != 2 || err != nil {
				t.Errorf("a request without a range: %v", r)
			}
			x.To++
			a.mu.Lock()
			a.ranges = append(a.ranges, x)
			a.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { proxy.Close(); front.Close() })
	return front.URL
}

func (a *asked) bytes() (n int64) {
	for _, x := range a.ranges {
		n += x.To - x.From
	}
	return n
}

// overlaps reports whether anything of x was asked for.
func (a *asked) overlaps(x transfer.Extent) bool {
	return slices.ContainsFunc(a.ranges, func(r transfer.Extent) bool { return r.From < x.To && x.From < r.To })
}

// begun is a download that ended in the middle.
type begun struct {
	data    []byte
	version transfer.Version
	file    *os.File
	there   []transfer.Extent
}

// begin uploads an object of 30 MiB and ends a download of it in the middle.
func begin(t *testing.T, s testserver.S3) *begun {
	t.Helper()
	e := newClient(s, s.Endpoint).engine()
	b := &begun{data: randomBytes(30*mib + 7), file: newFile(t)}
	if _, err := e.UploadFile(t.Context(), key, "text/plain", tempFile(t, b.data), nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.version, err = e.Version(t.Context(), key, int64(len(b.data))); err != nil || !b.version.InRanges() {
		t.Fatal(b.version, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var moved atomic.Int64
	_, err = e.DownloadRest(ctx, key, b.version, b.file, transfer.Resumption{Record: b.record}, func(n int64) {
		if moved.Add(n) > 12*mib {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if n := b.size(); n < 4*mib || n >= int64(len(b.data)) {
		t.Fatalf("%d bytes are recorded", n)
	}
	return b
}

func (b *begun) record(x transfer.Extent) error {
	b.there = append(b.there, x)
	return nil
}

func (b *begun) size() (n int64) {
	for _, x := range b.there {
		n += x.To - x.From
	}
	return n
}

// goOn ends the download and looks at the file.
func (b *begun) goOn(t *testing.T, s testserver.S3, proxy *faultproxy.Proxy) (a *asked, kept int64) {
	t.Helper()
	a = &asked{}
	var moved atomic.Int64
	object, err := newClient(s, a.before(t, proxy)).engine().DownloadRest(t.Context(), key, b.version, b.file,
		transfer.Resumption{There: slices.Clone(b.there), Kept: func(n int64) { kept = n }, Record: b.record}, func(n int64) { moved.Add(n) })
	if err != nil || object.Verified != b.version.Checksum || moved.Load() != int64(len(b.data)) {
		t.Errorf("%+v, progress %d: %v", object, moved.Load(), err)
	}
	if !bytes.Equal(contentOf(t, b.file), b.data) {
		t.Error("the file is not the object")
	}
	return a, kept
}

// What is there is not asked for again.
func testDownloadRest(t *testing.T, s testserver.S3) {
	b := begin(t, s)
	before := slices.Clone(b.there)
	a, kept := b.goOn(t, s, faultproxy.New(s.Endpoint))
	var size int64
	for _, x := range before {
		size += x.To - x.From
		if a.overlaps(x) {
			t.Errorf("%+v was there, and asked for again", x)
		}
	}
	if kept != size || a.bytes() != int64(len(b.data))-size {
		t.Errorf("%d of %d bytes were kept, and %d asked for", kept, size, a.bytes())
	}
	// Now everything is there.
	if a, kept := b.goOn(t, s, faultproxy.New(s.Endpoint)); kept != int64(len(b.data)) || len(a.ranges) != 0 {
		t.Errorf("%d bytes were kept, and %+v asked for", kept, a.ranges)
	}
}

// A body that breaks off in the second try is continued like any other.
func testDownloadRestBreaksOff(t *testing.T, s testserver.S3) {
	b := begin(t, s)
	proxy := faultproxy.New(s.Endpoint)
	rule := proxy.Inject(faultproxy.On(http.MethodGet), faultproxy.First(3), faultproxy.ResetDownload(mib))
	b.goOn(t, s, proxy)
	if rule.Hits() == 0 {
		t.Error("the fault was never made")
	}
}

// What the disk has changed meanwhile is found and fetched again, and nothing else is.
func testDownloadRestOfDamagedFile(t *testing.T, s testserver.S3) {
	b := begin(t, s)
	before := slices.Clone(b.there)
	damaged := before[0]
	at := (damaged.From + damaged.To) / 2
	if _, err := b.file.WriteAt([]byte{b.data[at] ^ 0x10}, at); err != nil {
		t.Fatal(err)
	}
	a, _ := b.goOn(t, s, faultproxy.New(s.Endpoint))
	for _, x := range before {
		if a.overlaps(x) != (x == damaged) {
			t.Errorf("%+v: asked for %t, damaged %t", x, a.overlaps(x), x == damaged)
		}
	}
	// The damaged piece is recorded twice now, in pieces that may be others. Both fit.
	if a, _ := b.goOn(t, s, faultproxy.New(s.Endpoint)); len(a.ranges) != 0 {
		t.Errorf("%+v was asked for again", a.ranges)
	}
	// Of a file that became shorter the end is fetched.
	if err := b.file.Truncate(20 * mib); err != nil {
		t.Fatal(err)
	}
	if a, _ := b.goOn(t, s, faultproxy.New(s.Endpoint)); a.bytes() < 10*mib+7 || a.bytes() > 14*mib+7 {
		t.Errorf("%d bytes were asked for", a.bytes())
	}
	// Of a file that became longer the end is cut off.
	if err := b.file.Truncate(int64(len(b.data)) + 5); err != nil {
		t.Fatal(err)
	}
	b.goOn(t, s, faultproxy.New(s.Endpoint))
}

// A journal that says what can't be is not believed.
func testDownloadRestOfWrongJournal(t *testing.T, s testserver.S3) {
	b := begin(t, s)
	sum := crc64nvme.New()
	_, _ = sum.Write(b.data[5:mib])
	b.there = append([]transfer.Extent{
		{From: -mib, To: mib, Checksum: "AAAAAAAAAAA="},
		{From: 0, To: 1 << 62, Checksum: "AAAAAAAAAAA="},
		{From: mib, To: mib, Checksum: "AAAAAAAAAAA="},
		{From: 2 * mib, To: mib, Checksum: "AAAAAAAAAAA="},
		{From: 0, To: int64(len(b.data)), Checksum: "AAAAAAAAAAA="},
		{From: 20 * mib, To: 21 * mib},
		{From: 5, To: mib, Checksum: base64.StdEncoding.EncodeToString(sum.Sum(nil))}, // true, and overlaps
	}, b.there...)
	b.goOn(t, s, faultproxy.New(s.Endpoint))
}

// An object that was replaced is not mixed with what was there of the other one.
func testDownloadRestOfReplacedObject(t *testing.T, s testserver.S3) {
	b := begin(t, s)
	e := newClient(s, s.Endpoint).engine()
	other := bytes.Repeat([]byte("x"), len(b.data))
	if _, err := e.UploadFile(t.Context(), key, "text/plain", tempFile(t, other), nil); err != nil {
		t.Fatal(err)
	}
	_, err := e.DownloadRest(t.Context(), key, b.version, b.file, transfer.Resumption{There: b.there, Record: b.record}, nil)
	if !errors.Is(err, transfer.ErrChanged) {
		t.Errorf("error %v, want %v", err, transfer.ErrChanged)
	}
	if v, err := e.Version(t.Context(), key, int64(len(other))); err != nil || v.ETag == b.version.ETag {
		t.Errorf("%+v, %v", v, err)
	}
}

// What was damaged on its way before it was recorded shows at the end.
func testDownloadRestVerifies(t *testing.T, s testserver.S3) {
	b := begin(t, s)
	proxy := faultproxy.New(s.Endpoint)
	rule := proxy.Inject(faultproxy.On(http.MethodGet), faultproxy.First(1), faultproxy.FlipDownload(1000))
	_, err := newClient(s, proxy.Start(t)).engine().DownloadRest(t.Context(), key, b.version, b.file,
		transfer.Resumption{There: b.there, Record: b.record}, nil)
	if !errors.Is(err, transfer.ErrChecksum) || rule.Hits() != 1 {
		t.Errorf("error %v, want %v", err, transfer.ErrChecksum)
	}
}

// fullDisk takes nothing from an offset on.
type fullDisk struct {
	*os.File
	from int64
}

func (d fullDisk) WriteAt(p []byte, at int64) (int, error) {
	if at >= d.from {
		return 0, syscall.ENOSPC
	}
	return d.File.WriteAt(p, at)
}

// Of a piece that could not be written nothing is recorded, and what was written before it is there.
func TestDownloadRestOnFullDisk(t *testing.T) {
	const size = 64 * mib
	z := newZeros(t, size)
	e := z.engine(1)
	v, err := e.Version(t.Context(), key, size)
	if err != nil {
		t.Fatal(err)
	}
	disk := fullDisk{newFile(t), 21*mib + 5}
	var there []transfer.Extent
	record := func(x transfer.Extent) error {
		there = append(there, x)
		return nil
	}
	if _, err = e.DownloadRest(t.Context(), key, v, disk, transfer.Resumption{Record: record}, nil); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error %v", err)
	}
	for _, x := range there {
		if x.To > disk.from {
			t.Errorf("%+v is recorded", x)
		}
	}
	if len(there) == 0 {
		t.Error("nothing is recorded")
	}
	var kept, said int64
	for _, x := range there {
		said += x.To - x.From
	}
	_, err = e.DownloadRest(t.Context(), key, v, disk.File, transfer.Resumption{
		There: slices.Clone(there), Kept: func(n int64) { kept = n }, Record: record,
	}, nil)
	if err != nil || kept != said {
		t.Errorf("%d of %d bytes were kept: %v", kept, said, err)
	}
}

// A journal that can't be written ends the download, with its own error.
func TestDownloadRestWithoutJournal(t *testing.T) {
	z := newZeros(t, 64*mib)
	v, err := z.engine(2).Version(t.Context(), key, 64*mib)
	if err != nil {
		t.Fatal(err)
	}
	_, err = z.engine(2).DownloadRest(t.Context(), key, v, newFile(t), transfer.Resumption{
		Record: func(transfer.Extent) error { return syscall.ENOSPC },
	}, nil)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
	nobodyLeft(t)
}

// Objects of one part, and those without a checksum to combine, are of no version in ranges.
func testVersion(t *testing.T, s testserver.S3) {
	a := newClient(s, s.Endpoint)
	e := a.engine()
	if v, err := e.Version(t.Context(), key, 5*mib); err != nil || v.InRanges() {
		t.Errorf("%+v, %v", v, err) // nobody was asked: it is not even there
	}
	data := randomBytes(6 * mib)
	if err := putComposite(t, a, data); err != nil {
		t.Fatal(err)
	}
	if v, err := e.Version(t.Context(), key, int64(len(data))); err != nil || v.InRanges() || v.ETag == "" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := e.Version(t.Context(), key, 7*mib); !errors.Is(err, transfer.ErrSize) {
		t.Errorf("error %v, want %v", err, transfer.ErrSize)
	}
	if _, err := e.DownloadFile(t.Context(), key, int64(len(data)), newFile(t), nil); err != nil {
		t.Error(err)
	}
	if _, err := e.Download(t.Context(), key, int64(len(data)), io.Discard, nil); err != nil {
		t.Error(err)
	}
}
