package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// burst is how much of a body goes through TLS at once, in bytes: eight records.
const burst = 128 << 10

// inBursts returns c with TLS connections that send the records of a piece of a body with one system
// call. Package crypto/tls makes one for each record, 16 KiB, which costs a tenth of the processor's
// time of an upload (docs/performance.md). A connection through a proxy is as before.
func inBursts(c *awshttp.BuildableClient) *awshttp.BuildableClient {
	transport := c.GetTransport() // with the dialer and the certificates as they were configured
	buffers := new(bodyBuffers)
	return c.WithTransportOptions(func(t *http.Transport) {
		t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := transport.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			config := transport.TLSClientConfig.Clone()
			if config.ServerName == "" {
				if config.ServerName, _, err = net.SplitHostPort(addr); err != nil {
					_ = conn.Close()
					return nil, err
				}
			}
			handshakeCtx := ctx
			if limit := transport.TLSHandshakeTimeout; limit > 0 {
				var cancel context.CancelFunc
				handshakeCtx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			records := &recordGatherer{Conn: conn}
			secure := tls.Client(records, config)
			if err := secure.HandshakeContext(handshakeCtx); err != nil {
				_ = conn.Close()
				if handshakeCtx.Err() != nil && ctx.Err() == nil {
					err = fmt.Errorf("TLS handshake: %w", err) // the time of the caller is not over
				}
				return nil, err
			}
			return &burstConn{Conn: secure, records: records, buffers: buffers}, nil
		}
	})
}

// bodyBuffers are buffers through which bodies are copied.
type bodyBuffers struct{ pool sync.Pool } // of *[]byte, one burst each

// copy copies all of r, a burst at a time. Package net/http by itself takes 32 KiB.
func (b *bodyBuffers) copy(w io.Writer, r io.Reader) (int64, error) {
	buf, ok := b.pool.Get().(*[]byte)
	if !ok {
		buf = new(make([]byte, burst))
	}
	defer b.pool.Put(buf)
	// Neither by the writer's ReadFrom, which is what calls this, nor by the reader's WriteTo.
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *buf)
}

// burstConn is a TLS connection whose records go in bursts. Only one goroutine may write.
type burstConn struct {
	*tls.Conn
	records *recordGatherer
	buffers *bodyBuffers
	writing atomic.Bool // package crypto/tls knows of it only while it encrypts
}

// Write returns when all of p was sent.
func (c *burstConn) Write(p []byte) (int, error) {
	c.writing.Store(true)
	defer c.writing.Store(false)
	c.records.gather()
	n, err := c.Conn.Write(p)
	if sendErr := c.records.send(); err == nil && sendErr != nil {
		return 0, sendErr // how much of it went is of no use to anybody: the connection is broken
	}
	return n, err
}

// Close ends a write that is under way, as that of [tls.Conn] does, which otherwise takes leave of the server:
// behind the records that are being sent, that would wait for them.
func (c *burstConn) Close() error {
	if c.writing.Load() {
		return c.records.Close()
	}
	return c.Conn.Close()
}

// ReadFrom implements [io.ReaderFrom].
func (c *burstConn) ReadFrom(r io.Reader) (int64, error) { return c.buffers.copy(c, r) }

// recordGatherer keeps what is written to it between gather and send, and sends it together. What TLS
// writes by itself at other times goes at once.
type recordGatherer struct {
	net.Conn

	mu     sync.Mutex
	hold   bool
	held   []byte
	broken error
}

func (g *recordGatherer) gather() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = true
}

func (g *recordGatherer) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.broken != nil {
		return 0, g.broken
	}
	if !g.hold {
		return g.Conn.Write(p)
	}
	g.held = append(g.held, p...)
	return len(p), nil
}

func (g *recordGatherer) send() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hold = false
	if len(g.held) == 0 || g.broken != nil {
		return g.broken
	}
	_, g.broken = g.Conn.Write(g.held)
	g.held = g.held[:0]
	return g.broken
}
