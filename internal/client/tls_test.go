package client_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
)

// certified returns the configurations of a TLS server at example.com, and of a client that trusts it.
func certified() (server *tls.Config, roots *x509.CertPool) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}, s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
}

// put puts an object of so many bytes into a server with TLS, to which dial connects. It gives up a handshake before a connection.
func put(ctx context.Context, roots *x509.CertPool, stall time.Duration, dial client.DialFunc, size int) error {
	api := client.NewS3(aws.Config{
		Region: "us-east-1",
		HTTPClient: client.HTTPClient(stall, dial).WithTransportOptions(func(t *http.Transport) {
			t.TLSClientConfig.RootCAs = roots
			t.TLSHandshakeTimeout = stall / 2
		}),
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}, func(o *s3.Options) {
		o.BaseEndpoint, o.Retryer = aws.String("https://example.com"), aws.NopRetryer{}
	})
	_, err := api.PutObject(ctx, &s3.PutObjectInput{
		Bucket: aws.String("bucket"), Key: aws.String("key"), Body: bytes.NewReader(make([]byte, size)),
	})
	return err
}

// stuckConn takes nothing any more once a burst comes, until it is closed.
type stuckConn struct {
	net.Conn
	stuck, closed func()
	until         <-chan struct{} // closed
}

func (c *stuckConn) Write(p []byte) (int, error) {
	if len(p) < 64<<10 {
		return c.Conn.Write(p)
	}
	c.stuck()
	<-c.until
	return 0, net.ErrClosed
}

func (c *stuckConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// A request that is given up while its body goes nowhere ends at once: the connection takes no leave
// of the server behind what is stuck.
func TestGivingUpAStuckBody(t *testing.T) {
	server, roots := certified()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	s := httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		<-over
	})}}
	s.Start()
	defer s.Close()
	defer close(over)

	stuck, closed := make(chan struct{}), make(chan struct{})
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, listener.Addr().String())
		return &stuckConn{
			Conn: conn, stuck: sync.OnceFunc(func() { close(stuck) }), closed: sync.OnceFunc(func() { close(closed) }), until: closed,
		}, err
	}
	ctx, giveUp := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- put(ctx, roots, time.Minute, dial, 1<<20) }()
	select {
	case <-stuck:
	case err := <-ended:
		t.Fatalf("before it was stuck: %v", err)
	}
	giveUp()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(4 * time.Second):
		t.Error("it goes on")
	}
}

// A connection that is slow, but never still, is not given up, however long a burst takes.
func TestSlowTLS(t *testing.T) {
	config, roots := certified()
	synctest.Test(t, func(t *testing.T) {
		const size = 300 << 10
		w := newWire(t, func(_ http.ResponseWriter, r *http.Request) {
			for {
				time.Sleep(500 * time.Millisecond)
				if _, err := r.Body.Read(make([]byte, 1536)); err != nil {
					return
				}
			}
		}, func(time.Duration, int64) {})
		dial := func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			w.accept <- tls.Server(far, config)
			return near, nil
		}
		const stall = 30 * time.Second // in which 90 KiB move, less than a burst
		if err := put(t.Context(), roots, stall, dial, size); err != nil {
			t.Errorf("after %s: %v", time.Since(w.begin), err)
		}
	})
}

// Who does not go on with the TLS handshake is named as what it is.
func TestHandshakeTimeout(t *testing.T) {
	_, roots := certified()
	synctest.Test(t, func(t *testing.T) {
		err := put(t.Context(), roots, time.Minute, func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() { _, _ = io.Copy(io.Discard, far) }()
			return near, nil
		}, 1)
		if err == nil || !bytes.Contains([]byte(err.Error()), []byte("TLS handshake")) {
			t.Error(err)
		}
	})
}
