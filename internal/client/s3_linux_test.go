package client_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
)

// What waits for a server on this machine is bounded, but for a connection that took long. The kernel tells twice what was asked for.
func TestSendBufferOfNearServer(t *testing.T) {
	const bound = 2 * 128 << 10
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	size := func(delay time.Duration) (size int) {
		var conn syscall.Conn
		hc := client.HTTPClient(time.Minute, func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				conn = c.(*net.TCPConn)
			}
			time.Sleep(delay)
			return c, err
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var sizeErr error
		if err := raw.Control(func(fd uintptr) {
			size, sizeErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		}); err != nil || sizeErr != nil {
			t.Fatal(err, sizeErr)
		}
		return size
	}
	if got := size(20 * time.Millisecond); got == bound {
		t.Error("bounded behind a long way")
	}
	for range 20 { // a busy machine may take long to connect
		if size(0) == bound {
			return
		}
	}
	t.Error("not bounded")
}
