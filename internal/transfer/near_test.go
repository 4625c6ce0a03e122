package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// distantServer is a server at an address that answers after some time, with one object.
type distantServer struct {
	net.Conn // nil: the connection of which only the address is asked for
	address  net.Addr
	away     time.Duration
	slow     *atomic.Int32 // requests for which it takes longer than nearTime; nil: none
	err      error         // instead of an answer
}

func (d distantServer) RemoteAddr() net.Addr { return d.address }

func (d distantServer) Do(r *http.Request) (*http.Response, error) {
	if d.err != nil {
		return nil, d.err
	}
	trace := httptrace.ContextClientTrace(r.Context())
	if trace == nil {
		trace = &httptrace.ClientTrace{
			GotConn: func(httptrace.GotConnInfo) {}, WroteRequest: func(httptrace.WroteRequestInfo) {}, GotFirstResponseByte: func() {},
		}
	}
	trace.GotConn(httptrace.GotConnInfo{Conn: d})
	trace.WroteRequest(httptrace.WroteRequestInfo{})
	time.Sleep(d.away)
	if d.slow != nil && d.slow.Add(-1) >= 0 {
		time.Sleep(nearTime)
	}
	trace.GotFirstResponseByte()
	header := http.Header{
		"Etag": {`"1"`}, "X-Amz-Checksum-Crc64nvme": {"AAAAAAAAAAA="}, "X-Amz-Checksum-Type": {"FULL_OBJECT"},
		"Content-Length": {"1073741824"},
	}
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: http.NoBody, Request: r}, nil
}

// From a server on this machine large objects come in few and large ranges, from any other in many.
func TestNear(t *testing.T) {
	here, there := &net.TCPAddr{IP: net.IPv6loopback}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	for _, test := range []struct {
		address   net.Addr
		away      time.Duration
		inFlight  int
		rangeSize int64
	}{
		{here, nearTime - 1, nearParts, 64 << 20},
		{here, nearTime, firstParts, 16 << 20}, // a tunnel
		{there, nearTime - 1, firstParts, 16 << 20},
		{there, time.Second, firstParts, 16 << 20},
		{&net.UnixAddr{Name: "@s3"}, nearTime - 1, firstParts, 16 << 20},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &Engine{Bucket: "b", S3: s3.New(s3.Options{
				Region: "us-east-1", HTTPClient: distantServer{address: test.address, away: test.away}, RetryMaxAttempts: 1,
				Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""), BaseEndpoint: aws.String("http://s3.test"),
			})}
			v, err := e.Version(t.Context(), "key", 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.limiter(v.Size).Limit(); got != test.inFlight {
				t.Errorf("%v, %v away: %d in flight, want %d", test.address, test.away, got, test.inFlight)
			}
			if got := e.rangeSize(v.Size, e.limiter(v.Size).Limit()); got != test.rangeSize {
				t.Errorf("%v, %v away: ranges of %d bytes, want %d", test.address, test.away, got, test.rangeSize)
			}
		})
	}
}

// The first answer to a small request that tells anything decides how many of them are in flight, and none after it.
func TestNearFiles(t *testing.T) {
	here, there := &net.TCPAddr{IP: net.IPv6loopback}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	upload := func(ctx context.Context, e *Engine) error {
		_, err := e.putWhole(ctx, "key", "text/plain", strings.NewReader("a"), 1, nil, func() error { return nil }, nil)
		return err
	}
	for name, test := range map[string]struct {
		server      distantServer
		work        func(context.Context, *Engine) error
		concurrency int
		want        int
		downloads   int // under way
		undecided   int // answers
	}{
		"near":            {distantServer{address: here, away: nearTime - 1}, upload, 0, nearFiles, 2 * nearFiles, 0},
		"a tunnel":        {distantServer{address: here, away: nearTime}, download1, 0, firstFiles, 2 * firstFiles, probeAnswers - 1},
		"slow at first":   {distantServer{address: here, away: time.Millisecond, slow: slowFirst(5)}, download1, 0, nearFiles, 2 * nearFiles, 5},
		"far":             {distantServer{address: there, away: nearTime - 1}, upload, 0, firstFiles, 2 * firstFiles, 0},
		"the user knows":  {distantServer{address: here, away: nearTime - 1}, upload, 9, 9, 9, 0},
		"download, near":  {distantServer{address: here, away: nearTime - 1}, download1, 0, nearFiles, 2 * nearFiles, 0},
		"of any size":     {distantServer{address: here, away: nearTime - 1}, downloadAny, 0, nearFiles, 2 * nearFiles, 0},
		"download, far":   {distantServer{address: there, away: time.Second}, download1, 0, firstFiles, 2 * firstFiles, 0},
		"no answer":       {distantServer{address: here, err: errors.New("gone")}, download1, 0, firstFiles, 2 * firstFiles, 0},
		"download, large": {distantServer{address: here, away: nearTime - 1}, downloadLarge, 0, probeFiles, 2 * firstParts, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &Engine{Bucket: "b", Attempts: 1, Concurrency: test.concurrency, S3: s3.New(s3.Options{
					Region: "us-east-1", HTTPClient: test.server, RetryMaxAttempts: 1,
					Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""), BaseEndpoint: aws.String("http://s3.test"),
				})}
				for n := range test.undecided + 2 {
					if got := e.limiter(1).Limit(); test.undecided > 0 && n <= test.undecided && got != probeFiles {
						t.Errorf("%d in flight after %d answers, want %d", got, n, probeFiles)
					}
					slot, err := e.limiter(1).Acquire(t.Context()) // a request before it has ended
					if err != nil {
						t.Fatal(err)
					}
					slot.Release(1)
					if err := test.work(t.Context(), e); (err == nil) != (test.server.err == nil) && !errors.Is(err, ErrSize) {
						t.Fatal(err)
					}
					if got := e.limiter(1).Limit(); n >= test.undecided && got != test.want {
						t.Errorf("%d in flight after %d answers, want %d", got, n+1, test.want)
					}
				}
				if got := e.DownloadsNow(); got != test.downloads {
					t.Errorf("%d downloads under way, want %d", got, test.downloads)
				}
				if got, want := e.UploadsNow(), min(2*test.downloads, e.FilesAtOnce()); got != want {
					t.Errorf("%d uploads under way, want %d", got, want)
				}
			})
		})
	}
}

func slowFirst(requests int32) *atomic.Int32 {
	n := new(atomic.Int32)
	n.Store(requests)
	return n
}

// download1 and downloadLarge ask for an object that turns out to be larger than it should be, downloadAny for one of which nobody knows, and
// gets less than was announced.
func download1(ctx context.Context, e *Engine) error {
	return (&download{engine: e, key: "key", want: 1}).run(ctx)
}

func downloadLarge(ctx context.Context, e *Engine) error {
	return (&download{engine: e, key: "key", want: 5 << 20}).run(ctx)
}

func downloadAny(ctx context.Context, e *Engine) error {
	if err := (&download{engine: e, key: "key", want: -1}).run(ctx); !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("want %w: %w", io.ErrUnexpectedEOF, err)
	}
	return nil
}

func TestRangeSize(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		partSize, size int64
		inFlight       int
		want           int64
	}{
		{0, 17 * mib, 4, 16 * mib},
		{0, 300 * mib, 4, 16 * mib},
		{0, 600 * mib, 4, 32 * mib},
		{0, 5 << 40, 4, 128 * mib}, // what breaks off is small beside the whole
		{0, 5 << 40, 64, 128 * mib},
		{8 * mib, 5 << 40, 4, 8 * mib}, // --part-size
	} {
		e := &Engine{PartSize: test.partSize}
		if got := e.rangeSize(test.size, test.inFlight); got != test.want {
			t.Errorf("%d bytes, %d in flight, parts of %d: %d, want %d", test.size, test.inFlight, test.partSize, got, test.want)
		}
	}
}
