package api_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/designfultech/filestore/internal/api"
)

// network is a listener whose connections are pipes, so that time can be the test's.
type network struct {
	dialed chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (n *network) Accept() (net.Conn, error) {
	select {
	case conn := <-n.dialed:
		return conn, nil
	case <-n.closed:
		return nil, net.ErrClosed
	}
}

func (n *network) Close() error {
	n.once.Do(func() { close(n.closed) })
	return nil
}

func (n *network) Addr() net.Addr { return &net.TCPAddr{} }

// dial returns the client's end of a connection.
func (n *network) dial() net.Conn {
	here, there := net.Pipe()
	n.dialed <- there
	return here
}

// served is a server of an API in the time of the test, and when its connections ended.
func served(t *testing.T) (n *network, ended func() []time.Duration) {
	f := withoutStore(t, api.Options{})
	server := api.Server(f.handler, slog.New(slog.NewTextHandler(f.log, nil)))
	begin := time.Now()
	var mu sync.Mutex
	var times []time.Duration
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			mu.Lock()
			defer mu.Unlock()
			times = append(times, time.Since(begin))
		}
	}
	n = &network{dialed: make(chan net.Conn), closed: make(chan struct{})}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(n) })
	t.Cleanup(func() {
		_ = server.Close()
		running.Wait()
	})
	return n, func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return times
	}
}

// drip sends text, a byte a second, until nobody takes it.
func drip(conn net.Conn, text string) {
	for _, b := range []byte(text) {
		if _, err := conn.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// A client that sends a byte now and then has its connection for a while, and keeps nobody else from theirs.
func TestSlowClients(t *testing.T) {
	const healthz = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, test := range []struct {
		name   string
		client func(net.Conn)
		ends   time.Duration
		answer string
	}{
		{
			"the header drips", func(c net.Conn) { drip(c, "GET /healthz HTTP/1.1\r\nHost: a\r\nX-A: "+strings.Repeat("a", 1000)) },
			api.ReadHeaderTimeout, "HTTP/1.1 400 Bad Request",
		},
		{"nothing is sent", func(net.Conn) {}, api.ReadHeaderTimeout, ""},
		{
			"the body drips", func(c net.Conn) {
				fmt.Fprint(c, "PUT /files HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
				drip(c, strings.Repeat(" ", 1000))
			}, api.ReadTimeout, "HTTP/1.1 408 Request Timeout",
		},
		{
			"the body drips in chunks", func(c net.Conn) {
				fmt.Fprint(c, "PUT /files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
				drip(c, strings.Repeat("1\r\n \r\n", 1000))
			}, api.ReadTimeout, "HTTP/1.1 408 Request Timeout",
		},
		{"no other request", func(c net.Conn) { fmt.Fprint(c, healthz) }, api.IdleTimeout, "HTTP/1.1 200 OK"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, ended := served(t)
				slow := n.dial()
				answer := make(chan string, 1)
				go func() {
					text, _ := io.ReadAll(slow)
					line, _, _ := strings.Cut(string(text), "\r\n")
					answer <- line
				}()
				var sending sync.WaitGroup
				sending.Go(func() { test.client(slow) })

				time.Sleep(5 * time.Second)
				other, begin := n.dial(), time.Now()
				fmt.Fprint(other, strings.Replace(healthz, "\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1))
				resp, err := http.ReadResponse(bufio.NewReader(other), nil)
				if err != nil || resp.StatusCode != http.StatusOK || time.Since(begin) > time.Second {
					t.Fatalf("another client: %v after %v", err, time.Since(begin))
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = other.Close()

				if got := <-answer; got != test.answer {
					t.Errorf("the answer is %q, want %q", got, test.answer)
				}
				_ = slow.Close()
				sending.Wait()
				synctest.Wait() // the server notes the end after it has closed
				times := ended()
				if last := times[len(times)-1]; len(times) != 2 || last < test.ends || last > test.ends+2*time.Second {
					t.Errorf("ended after %v, want %v", times, test.ends)
				}
			})
		})
	}
}

// A client that does not read its answer is left.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, ended := served(t)
		conn := n.dial()
		defer conn.Close()
		fmt.Fprint(conn, "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n")
		time.Sleep(api.WriteTimeout + time.Second)
		synctest.Wait()
		if times := ended(); len(times) != 1 || times[0] != api.WriteTimeout {
			t.Errorf("ended after %v, want %v", times, api.WriteTimeout)
		}
	})
}

// What is no request gets a 4xx or nothing, and ends the connection.
func TestNotHTTP(t *testing.T) {
	for name, text := range map[string]string{
		"TLS":                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"no version":         "GET /files\r\n\r\n",
		"no host":            "GET /files HTTP/1.1\r\n\r\n",
		"two hosts":          "GET /files HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"a header too large": "GET /files HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + strings.Repeat("k", 40<<10) + "\r\n\r\n",
		"two lengths":        "PUT /files HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n[]",
		"a bad length":       "PUT /files HTTP/1.1\r\nHost: a\r\nContent-Length: -2\r\n\r\n[]",
		"an odd encoding":    "PUT /files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n[]",
		"a space in a name":  "PUT /files HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n[]",
		"bad chunks":         "PUT /files HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]",
		"half a body":        "PUT /files HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n[]",
		"an expectation":     "PUT /files HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: x\r\n\r\n[]",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, _ := served(t)
				conn := n.dial()
				go func() { _, _ = io.WriteString(conn, text) }()
				answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
				defer conn.Close()
				if err != nil {
					return // nothing
				}
				text, _ := io.ReadAll(answer.Body)
				if answer.StatusCode < 400 || answer.StatusCode >= 500 && answer.StatusCode != http.StatusNotImplemented || !answer.Close {
					t.Errorf("%d %s, closed %t", answer.StatusCode, text, answer.Close)
				}
			})
		})
	}
}

// The log tells who asked for what, and has nothing that lets anybody else do the same.
func TestLog(t *testing.T) {
	f := newFixture(t, openSQLite(t), emptyBucket())
	u := f.newFile()
	f.keyed("POST", "/files?deleted=yes&X-Amz-Signature=secret-of-query", array(u.ID))
	f.send("PUT", "/files?token=secret-of-query", "secret-of-body", "X-Api-Key: secret-guess", "X-Secret: secret-of-header")
	f.send("POST", "/files", array(u.ID), "X-Api-Key: "+otherKey)
	f.send("DELETE", "/file/"+u.ID, "", "Authorization: Bearer "+u.Token)
	f.send("GET", "/forged\nlevel=ERROR msg=\"all is lost\"", "")
	f.send("GET", "/"+strings.Repeat("long", 10_000), "")
	text := f.log.String()
	for _, secret := range []string{key, otherKey, u.Token, "secret-", "Signature", "AKIDEXAMPLE", "\nlevel=", strings.Repeat("long", 100)} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the log:\n%s", secret, text)
		}
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, want := range []string{
		"method=POST path=/file status=200", "method=POST path=/files status=200", "method=PUT path=/files status=403",
		"method=POST path=/files status=200", "method=DELETE path=/file/" + u.ID + " status=204", "status=404", "status=404",
	} {
		if i >= len(lines) || !strings.Contains(lines[i], want) {
			t.Errorf("line %d has no %q:\n%s", i, want, text)
		}
	}
	if !strings.Contains(lines[1], " key=1") || !strings.Contains(lines[3], " key=2") || !strings.Contains(lines[0], " key=0") || !strings.Contains(lines[0], "address=192.0.2.1:1234") {
		t.Errorf("whose requests these were:\n%s", text)
	}
}

// Without a log, and with nothing but a client, it serves.
func TestOptionsMayBeZero(t *testing.T) {
	f := newFixture(t, openSQLite(t), emptyBucket())
	f.handler = api.New(api.Options{Client: f.client})
	f.newFile()
	f.send("HEAD", "/healthz", "")
	a := f.send("GET", "/openapi.json", "")
	if !bytes.Contains([]byte(a.body), []byte(`"openapi": "3.0.3"`)) {
		t.Errorf("%.100s", a.body)
	}
	if s := api.Server(f.handler, nil); s.ReadHeaderTimeout == 0 || s.ReadTimeout == 0 || s.WriteTimeout == 0 || s.IdleTimeout == 0 || s.MaxHeaderBytes == 0 || s.ErrorLog == nil {
		t.Errorf("%+v", s)
	}
}
