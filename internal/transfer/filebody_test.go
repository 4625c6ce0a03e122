package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/transfer"
)

// What goes up is the file that was opened, wherever its path leads by then.
func TestUploadOfAFileThatMoves(t *testing.T) {
	for name, move := range map[string]func(path string) error{
		"removed": os.Remove,
		"replaced": func(path string) error {
			other := filepath.Join(filepath.Dir(path), "other")
			if err := os.WriteFile(other, make([]byte, 12*mib), 0o600); err != nil {
				return err
			}
			return os.Rename(other, path)
		},
		"renamed":     func(path string) error { return os.Rename(path, path+"2") },
		"still there": func(string) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeS3{knows: []string{"CRC64NVME"}}
			s := f.start(t)
			for _, size := range []int{2 * mib, 12 * mib} { // whole, and in parts
				data := randomBytes(size)
				file := tempFile(t, data)
				if err := move(file.Name()); err != nil {
					t.Fatal(err)
				}
				if _, err := newClient(s, s.Endpoint).engine().UploadFile(t.Context(), key, "text/plain", file, nil); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(f.object(key).data, data) {
					t.Errorf("%d bytes: the object is not what was opened", size)
				}
			}
		})
	}
}

// A connection that is slow, but never still, is not given up, however long a piece takes.
func TestSlowFileBody(t *testing.T) {
	f := &fakeS3{knows: []string{"CRC64NVME"}}
	server := httptest.NewUnstartedServer(f)
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	f.before = func(r *http.Request) { r.Body = &pacedBody{r.Body, 600 << 10, pace.C} }
	server.Start()
	defer server.Close()

	const stall = time.Second // in which 200 KiB move, less than a piece
	e := api{client.NewS3(aws.Config{
		Region: "us-east-1",
		HTTPClient: client.HTTPClient(stall, func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				err = conn.(*net.TCPConn).SetWriteBuffer(16 << 10)
			}
			return conn, err
		}, client.AlwaysByKernel()),
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}, func(o *s3.Options) { o.BaseEndpoint = &server.URL })}.engine()
	e.Attempts = 1
	data := randomBytes(mib)
	if _, err := e.UploadFile(t.Context(), key, "text/plain", tempFile(t, data), nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(f.object(key).data, data) {
		t.Error("the object is not what was uploaded")
	}
}

// pacedBody gives 2 KiB with every tick as long as it is slow.
type pacedBody struct {
	io.ReadCloser
	slow  int // bytes
	ticks <-chan time.Time
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.slow > 0 {
		<-b.ticks
		p = p[:min(len(p), 2<<10)]
	}
	n, err := b.ReadCloser.Read(p)
	b.slow -= n
	return n, err
}

// sender is a server and the connections to it in one: send gets every request with a body.
type sender struct {
	s3.HTTPClient
	send func(*http.Request) (*http.Response, error)
}

func (s sender) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		return answer(http.StatusNotFound), nil
	}
	return s.send(r)
}

func answer(status int) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Etag": {`"etag"`}}, Body: http.NoBody}
}

func (s sender) engine() *transfer.Engine {
	e := api{client.NewS3(aws.Config{
		Region: "us-east-1", HTTPClient: s, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}, func(o *s3.Options) { o.BaseEndpoint = aws.String("http://127.0.0.1") })}.engine()
	e.Attempts = 1
	return e
}

// A server that answers with an error may have taken the body all the same, also where its answer is here
// before the system call that has sent the last piece returns.
func TestAnswerOvertakesFileBody(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.Copy(io.Discard, conn)
		}
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	const size = 2 * mib
	answered, returned := make(chan struct{}), make(chan struct{})
	e := sender{send: func(r *http.Request) (*http.Response, error) {
		sent := make(chan struct{})
		go func() {
			defer close(returned)
			_, _ = r.Body.(*transfer.FileBody).Next(size, func(body io.Reader) (int64, error) {
				n, err := conn.(*net.TCPConn).ReadFrom(body)
				close(sent)
				<-answered
				return n, err
			})
		}()
		<-sent
		return answer(http.StatusInternalServerError), nil
	}}.engine()
	var moved atomic.Int64
	_, err = e.UploadFile(t.Context(), key, "text/plain", tempFile(t, randomBytes(size)), func(n int64) { moved.Add(n) })
	close(answered)
	<-returned
	if failed, ok := errors.AsType[*transfer.UploadError](err); !ok || failed.Outcome != transfer.Unknown {
		t.Errorf("%v: %+v", err, failed)
	}
	if moved.Load() != 0 {
		t.Errorf("%d bytes are said to have moved of a body that failed", moved.Load())
	}
}

// An interrupt that comes when a body was sent whole does not cut it off.
func TestInterruptAfterTheBody(t *testing.T) {
	for name, file := range map[string]transfer.File{
		"read": bytesFile(randomBytes(2 * mib)), "copied": tempFile(t, randomBytes(2*mib)),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			e := sender{send: func(r *http.Request) (*http.Response, error) {
				if _, err := io.CopyN(io.Discard, r.Body, r.ContentLength); err != nil {
					return nil, err
				}
				interrupt()
				if _, err := io.Copy(io.Discard, r.Body); err != nil { // as net/http looks for more
					return nil, err
				}
				return answer(http.StatusOK), nil
			}}.engine()
			_, err := e.UploadFile(ctx, key, "text/plain", file, nil)
			failed, ok := errors.AsType[*transfer.UploadError](err)
			if !ok || failed.Outcome != transfer.Written || !errors.Is(err, context.Canceled) {
				t.Errorf("%v: %+v", err, failed)
			}
		})
	}
}
