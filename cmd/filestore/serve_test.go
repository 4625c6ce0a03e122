package main

import (
	"bufio"
	"context"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/testserver"
)

const keyOfServe = "a-key-of-these-tests"

// server is a "serve" that is running in this process.
type server struct {
	url    string // of the API
	stderr *said
	end    func() // and wait for it
}

// serve runs serve.
func (s *site) serve(t *testing.T, flags ...string) *server {
	t.Helper()
	env := maps.Clone(s.env)
	env["FILESTORE_API_KEYS"] = keyOfServe
	setAccountEnv(t, env)
	ctx, cancel := context.WithCancel(t.Context())
	reader, stdout := io.Pipe()
	stderr := &said{}
	ended := make(chan int, 1)
	go func() {
		ended <- newAccountApp(env, stdout, stderr).main(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, flags...))
		_ = stdout.Close() // documented never to fail
	}()
	end := sync.OnceFunc(func() {
		cancel()
		if status := <-ended; status != exitOK {
			t.Errorf("serve: exit status %d\n%s", status, stderr)
		}
	})
	t.Cleanup(end)
	url, err := bufio.NewReader(reader).ReadString('\n') // there is no other line
	if err != nil {
		t.Fatalf("serve prints no URL: %v\n%s", err, stderr)
	}
	return &server{url: strings.TrimSpace(url), stderr: stderr, end: end}
}

// ask is for useAPI.
func (s *server) ask(t *testing.T) func(method, path, body, token string) (status int, answer string) {
	return func(method, path, body, token string) (int, string) {
		if strings.Contains(path, "?") {
			path += "=yes"
		}
		r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Api-Key", keyOfServe)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, answer := testserver.Ask(t, r)
		return resp.StatusCode, answer
	}
}

// said is what a program says while it runs.
type said struct {
	mu      sync.Mutex
	text    strings.Builder
	changed chan struct{} // closed with the next change; nil: nobody waits
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changed != nil {
		close(s.changed)
		s.changed = nil
	}
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await returns once a text was said.
func (s *said) await(t *testing.T, text string) {
	t.Helper()
	tooLong := time.After(time.Minute)
	for {
		s.mu.Lock()
		if strings.Contains(s.text.String(), text) {
			s.mu.Unlock()
			return
		}
		if s.changed == nil {
			s.changed = make(chan struct{})
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-tooLong:
			t.Fatalf("nobody says %q:\n%s", text, s)
		}
	}
}

// serveOverHTTP serves what the clients of the API ask for, by the command serve.
func serveOverHTTP(t *testing.T, s *site) {
	server := s.serve(t, "--rate", "0", "--quota", "0")
	useAPI(t, s, server.ask(t))
	server.end()
}

// serveAndSweep is serveOverHTTP, with a sweep.
func serveAndSweep(t *testing.T, s *site) {
	s.temporary(t)
	s.begin(t, s.temporary(t))
	s.placeholder(t)
	s.begin(t, s.placeholder(t)) // which is left to it
	s.put(t, s.placeholder(t))
	server := s.serve(t, "--rate", "0", "--quota", "0", "--sweep-every", "24h")
	server.stderr.await(t, "note: sweep: 2 expired, 1 never uploaded, 1 found to be uploaded\n")
	useAPI(t, s, server.ask(t))
	server.end()
}

// A sweep that may not look at everything says so, as expire does.
func TestServeTellsWhatItMayNotSweep(t *testing.T) {
	s := newSite(t, testserver.Versitygw(t), testserver.Dynalite(t))
	s.s3.Inject(faultproxy.On(http.MethodGet, "uploads"), faultproxy.Always(), faultproxy.Refusal(http.StatusForbidden, "AccessDenied"))
	s.dynamoDB.Inject(faultproxy.Operation("Query"), faultproxy.Always(), faultproxy.Refusal(http.StatusBadRequest, "AccessDeniedException"))
	s.temporary(t)
	server := s.serve(t, "--sweep-every", "24h")
	server.stderr.await(t, "note: sweep: 1 expired")
	server.end()
	for _, want := range []string{
		"warning: multipart uploads were left alone, since they can't be listed: ",
		"note: all records were read, since the index of those that are pending can't be: ",
	} {
		if !strings.Contains(server.stderr.String(), want) {
			t.Errorf("serve does not say %q:\n%s", want, server.stderr)
		}
	}
}
