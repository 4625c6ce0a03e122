package client_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
)

// What waits for a server on this machine is bounded. The kernel tells twice what was asked for.
func TestSendBufferOfNearServer(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	var conn syscall.Conn
	hc := client.HTTPClient(time.Minute, func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			conn = c.(*net.TCPConn)
		}
		return c, err
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // each has a connection of its own
	for range 20 {   // the kernel of a busy machine may take long to connect
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var size int
		var sizeErr error
		err = raw.Control(func(fd uintptr) {
			size, sizeErr = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
		})
		if err := errors.Join(err, sizeErr); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close() // until then the connection is open
		if size == 2*128<<10 {
			return
		}
	}
	t.Error("not bounded")
}
