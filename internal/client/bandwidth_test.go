package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/designfultech/filestore/internal/client"
)

// wire is a server without a network, for tests in which time is made up: it notes when which
// bytes moved.
type wire struct {
	http.Server
	accept chan net.Conn
	begin  time.Time

	mu     sync.Mutex
	moved  int64
	excess func(elapsed time.Duration, moved int64) // is told of every step
}

// newWire serves until the test ends.
func newWire(t *testing.T, handler http.HandlerFunc, excess func(time.Duration, int64)) *wire {
	t.Helper()
	w := &wire{Server: http.Server{Handler: handler}, accept: make(chan net.Conn), begin: time.Now(), excess: excess}
	served := make(chan error)
	go func() { served <- w.Serve(w) }()
	t.Cleanup(func() {
		_ = w.Server.Close()
		time.Sleep(time.Second) // a connection with an unread body lingers for a moment
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return w
}

// dial opens a connection to the server.
func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case w.accept <- far:
		return &notingConn{Conn: near, wire: w}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept, Close and Addr make it its own net.Listener.
func (w *wire) Accept() (net.Conn, error) {
	conn, ok := <-w.accept
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (w *wire) Close() error   { close(w.accept); return nil }
func (w *wire) Addr() net.Addr { return &net.UnixAddr{} }

// notingConn is the end of the client, which is as good: a pipe holds nothing.
type notingConn struct {
	net.Conn
	wire *wire
}

func (c *notingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.wire.note(n)
	return n, err
}

func (c *notingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.wire.note(n)
	return n, err
}

func (w *wire) note(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.moved += int64(n)
	w.excess(time.Since(w.begin), w.moved)
}

// However many connections there are and whichever way the bytes go, together they keep to the
// rate, and use it.
func TestBandwidth(t *testing.T) {
	const connections = 5
	for name, test := range map[string]struct {
		rate     int64
		up, down int // bytes of each connection
	}{
		"up":           {rate: 64 << 10, up: 300 << 10},
		"down":         {rate: 64 << 10, down: 300 << 10},
		"both":         {rate: 64 << 10, up: 200 << 10, down: 100 << 10},
		"fast":         {rate: 8 << 20, up: 1 << 20, down: 1 << 20},
		"lowest":       {rate: client.MinBandwidth, up: 3000},
		"below lowest": {rate: 1, up: 3000},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rate := max(test.rate, client.MinBandwidth)
				burst := rate / 10
				// What comes in is known only when it is here: one piece of each connection more.
				allowance := burst + connections*min(burst, 64<<10)
				if test.down == 0 {
					// Nor is that of an answer without a body.
					allowance = burst + connections*256
				}
				w := newWire(t, func(rw http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = rw.Write(make([]byte, test.down))
				}, func(elapsed time.Duration, moved int64) {
					if most := int64(elapsed.Seconds()*float64(rate)) + allowance + 1; moved > most {
						t.Errorf("after %s %d bytes moved, %d more than allowed", elapsed, moved, moved-most)
					}
				})
				const stall = 200 * time.Millisecond // far less than it takes, and less than a turn
				limit := client.NewBandwidth(t.Context(), test.rate)
				api := limit.Limit(client.HTTPClient(stall, w.dial), stall)
				var running sync.WaitGroup
				for range connections {
					running.Go(func() {
						got, err := post(t.Context(), api, test.up)
						if err != nil || got != test.down {
							t.Errorf("%d bytes of %d came back: %v", got, test.down, err)
						}
					})
				}
				running.Wait()
				took := time.Since(w.begin).Seconds()
				w.mu.Lock()
				defer w.mu.Unlock()
				seconds := float64(w.moved) / float64(rate)
				if took > seconds*1.01+0.01 {
					t.Errorf("%.2f s for what can be done in %.2f s", took, seconds)
				}
			})
		})
	}
}

// post sends so many bytes and returns how many came back.
func post(ctx context.Context, api interface {
	Do(*http.Request) (*http.Response, error)
}, size int) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://wire/", bytes.NewReader(make([]byte, size)))
	if err != nil {
		return 0, err
	}
	resp, err := api.Do(r)
	if err != nil {
		return 0, err
	}
	data, err := io.ReadAll(resp.Body)
	return len(data), errors.Join(err, resp.Body.Close())
}

// Waiting for a turn is no stall; a server that takes nothing more is one, at any rate.
func TestBandwidthStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stopped := make(chan struct{})
		defer close(stopped)
		w := newWire(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 100<<10))
			<-stopped
		}, func(time.Duration, int64) {})
		const stall = time.Minute
		limit := client.NewBandwidth(t.Context(), client.MinBandwidth)
		_, err := post(t.Context(), limit.Limit(client.HTTPClient(stall, w.dial), stall), 1<<20)
		if timeout, ok := errors.AsType[net.Error](err); !ok || !timeout.Timeout() {
			t.Errorf("%v, not a timeout", err)
		}
		// 100 KiB take 100 s; the server's own buffers take some more.
		if took := time.Since(w.begin); took < 100*time.Second+stall/2 || took > 120*time.Second+stall {
			t.Errorf("given up after %s", took)
		}
	})
}

// An interrupt waits for nobody's turn: the request of the caller ends, and what is left to do
// goes at once.
func TestBandwidthInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		}, func(time.Duration, int64) {})
		ctx, interrupt := context.WithCancel(t.Context())
		limit := client.NewBandwidth(ctx, client.MinBandwidth)
		api := limit.Limit(client.HTTPClient(time.Minute, w.dial), time.Minute)
		time.AfterFunc(10*time.Second, interrupt)
		if _, err := post(ctx, api, 1<<20); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, not the interrupt", err)
		}
		if _, err := post(t.Context(), api, 1<<20); err != nil {
			t.Error(err)
		}
		if took := time.Since(w.begin); took != 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// A request that is given up gives up its turn too.
func TestBandwidthClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		}, func(time.Duration, int64) {})
		limit := client.NewBandwidth(t.Context(), client.MinBandwidth)
		api := limit.Limit(client.HTTPClient(time.Minute, w.dial), time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := post(ctx, api, 1<<20); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, not the deadline", err)
		}
		if took := time.Since(w.begin); took != 10*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
