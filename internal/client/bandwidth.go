package client

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"golang.org/x/time/rate"
)

// MinBandwidth is the lowest rate that a [Bandwidth] keeps, in bytes a second: the headers of one
// request take a good second of it.
const MinBandwidth = 1 << 10

// Bandwidth bounds how many bytes a second all connections of a process move together, sent and
// received counted alike: what goes over the wire, headers and TLS included. A nil Bandwidth
// bounds nothing. It is safe for concurrent use.
type Bandwidth struct {
	bucket *rate.Limiter
	piece  int             // most bytes that move at once
	ended  <-chan struct{} // from then on nothing waits
}

// NewBandwidth returns a bound of so many bytes a second, at least [MinBandwidth]. It holds until
// ctx ends: what is left to do then is little, and somebody waits for it.
func NewBandwidth(ctx context.Context, bytesPerSecond int64) *Bandwidth {
	bytesPerSecond = max(bytesPerSecond, MinBandwidth)
	// A bucket of 100 ms makes up for timers that fire late; pieces are no larger, so that a low rate
	// flows evenly over all connections.
	const most = 64 << 10
	burst := int(min(bytesPerSecond/10, 1<<30))
	return &Bandwidth{
		bucket: rate.NewLimiter(rate.Limit(bytesPerSecond), burst),
		piece:  min(burst, most),
		ended:  ctx.Done(),
	}
}

// Limit returns c with its connections, which are given up after the time stall, kept to the
// rate. The time that they wait for their share is not counted as stalling.
func (b *Bandwidth) Limit(c *awshttp.BuildableClient, stall time.Duration) *awshttp.BuildableClient {
	if b == nil {
		return c
	}
	return c.WithTransportOptions(func(t *http.Transport) {
		dial := t.DialContext
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &limitedConn{Conn: conn, bandwidth: b, stall: stall, closed: make(chan struct{})}, nil
		}
	})
}

// take debits n bytes, at most a piece, and returns when they are due. Those who come later queue
// behind.
func (b *Bandwidth) take(n int) time.Time {
	now := time.Now()
	return now.Add(b.bucket.ReserveN(now, n).DelayFrom(now))
}

// limitedConn moves bytes in pieces as they are due. It goes around the connection that watches for
// stalls, which sets its deadlines when a piece really moves. It hides ReadFrom on purpose: the
// kernel would move any number of bytes at once.
type limitedConn struct {
	net.Conn
	bandwidth *Bandwidth
	stall     time.Duration
	closed    chan struct{}
	closing   sync.Once
	due       time.Time // when what was read is paid for; of the one goroutine that reads
}

// Read reads at most a piece. How much comes is not known before, so it is paid for before the next
// one: meanwhile TCP has the sender wait.
func (c *limitedConn) Read(p []byte) (int, error) {
	if err := c.wait(c.due, func() error { return nil }); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p[:min(len(p), c.bandwidth.piece)])
	c.due = c.bandwidth.take(n)
	return n, err
}

func (c *limitedConn) Write(p []byte) (int, error) {
	// The answer can't come while the body waits for its turn, so the time of the read that waits
	// for it is renewed, as a write does.
	renew := func() error { return c.SetReadDeadline(time.Now().Add(c.stall + 4*slack(c.stall))) }
	var written int
	for {
		piece := p[written:min(written+c.bandwidth.piece, len(p))]
		if err := c.wait(c.bandwidth.take(len(piece)), renew); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(piece)
		written += n
		if err != nil || written == len(p) {
			return written, err
		}
	}
}

// wait returns when it is due, when the connection is closed, or when nothing waits any more. It
// calls renew now and then.
func (c *limitedConn) wait(due time.Time, renew func() error) error {
	for {
		left := time.Until(due)
		if left <= 0 {
			return nil
		}
		timer := time.NewTimer(min(left, max(c.stall/2, time.Millisecond)))
		select {
		case <-timer.C:
			if err := renew(); err != nil {
				return err
			}
		case <-c.closed:
			timer.Stop()
			return net.ErrClosed
		case <-c.bandwidth.ended:
			timer.Stop()
			return nil
		}
	}
}

// Close ends the connection and every wait for it.
func (c *limitedConn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
