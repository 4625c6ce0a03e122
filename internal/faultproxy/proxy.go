// Package faultproxy stands between a client and a real S3 or DynamoDB server in tests, and
// makes go wrong what goes wrong in the field: throttling, server errors, connections that
// are reset, bodies that are cut short or changed, answers that never come.
//
// Where no rule says otherwise it is transparent. The Host header, the path and the query go
// on as the client sent them, so that a SigV4 signature stays valid; bodies are streamed. Two
// things do not pass: informational (1xx) answers other than 100 Continue, and trailers of
// answers; S3 and DynamoDB use neither.
package faultproxy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy forwards requests to one server. It is an [http.Handler] for HTTP/1.1, safe for
// concurrent use; rules, holds and hooks may be added while requests run.
type Proxy struct {
	target    *url.URL
	transport *http.Transport
	closed    chan struct{} // ends every hang and hold
	closeOnce sync.Once

	mu        sync.Mutex
	rules     []*Rule
	holds     []*hold
	onRequest []func(Request)
	log       []Request
}

// New returns a proxy in front of target, the base URL of a server without a path, such as
// "http://127.0.0.1:9000". It panics when target is not such a URL: that is a mistake in the
// test. The caller ends it with [Proxy.Close], or serves it with [Proxy.Start], which does.
func New(target string) *Proxy {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		panic(fmt.Sprintf("faultproxy: %q is not of the form http://HOST:PORT", target))
	}
	return &Proxy{
		target: u,
		transport: &http.Transport{
			DisableCompression:    true, // an Accept-Encoding of our own would break the signature
			ExpectContinueTimeout: time.Second,
			MaxIdleConnsPerHost:   64,
		},
		closed: make(chan struct{}),
	}
}

// Start serves the proxy on a free port of the loopback interface until the test ends, and
// returns its URL, without a slash at the end.
func (p *Proxy) Start(t testing.TB) string {
	t.Helper()
	srv := httptest.NewServer(p)
	t.Cleanup(func() {
		p.Close()
		srv.CloseClientConnections() // a client may still hang in the middle of a body
		srv.Close()
	})
	return srv.URL
}

// Close ends all hangs and holds: requests held before they were forwarded are dropped, not
// forwarded. It may be called more than once.
func (p *Proxy) Close() {
	p.closeOnce.Do(func() { close(p.closed) })
	p.transport.CloseIdleConnections()
}

// Request is what the log keeps of one request. It holds no credentials and no signature.
type Request struct {
	// N numbers the requests in the order in which their headers arrived, from 1.
	N      int
	Method string
	// Path is the path as sent, percent-encoding included.
	Path string
	// Query holds the names of the query's parameters, sorted, without those of a presigned URL
	// (X-Amz-…).
	Query []string
	// Operation is the DynamoDB operation, such as "UpdateItem"; empty for S3.
	Operation string
}

// String returns the request in one line, for messages: "PUT /bucket/key?partNumber&uploadId".
func (r Request) String() string {
	if r.Operation != "" {
		return r.Operation
	}
	s := r.Method + " " + r.Path
	if len(r.Query) > 0 {
		s += "?" + strings.Join(r.Query, "&")
	}
	return s
}

// Log returns the requests seen so far, in the order of their numbers.
func (p *Proxy) Log() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.log)
}

// OnRequest has f called with every request that arrives from now on, before anything else
// is done with it. f runs on the request's goroutine: while it blocks, the request waits.
func (p *Proxy) OnRequest(f func(Request)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onRequest = append(p.onRequest, f)
}

// When is a point in the life of a request.
type When int

const (
	// Before is when the headers of a request have arrived and nothing was forwarded.
	Before When = iota
	// After is when the headers of the server's answer have arrived and the client has got
	// nothing of it.
	After
)

type hold struct {
	n        int
	when     When
	reached  chan struct{}
	released chan struct{}
}

// HoldAt stops request number n (see [Request]), which must not have arrived yet. reached is
// closed when the request is there; it stays held until release is called, the client goes
// away or the proxy is closed. Only release lets it go on; release may be called more than
// once, and before the request arrives.
//
// It is made for killing a client at each of its steps: wait for reached, kill, and the
// request was never sent (Before), or was carried out and nobody heard of it (After). After
// the kill, release is not called: that the client is gone shows only once the request's body
// has been read, so a release might still forward a short one.
func (p *Proxy) HoldAt(n int, when When) (reached <-chan struct{}, release func()) {
	h := &hold{n: n, when: when, reached: make(chan struct{}), released: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.holds = append(p.holds, h)
	return h.reached, sync.OnceFunc(func() { close(h.released) })
}

// ServeHTTP forwards r, with the fault of the first rule that is due.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen, act := p.arrive(r)
	if !p.pass(r.Context(), seen.N, Before, act) {
		drop(w, false)
		return
	}
	if act.resets(Before) {
		drop(w, true)
		return
	}
	res, err := p.answer(r, act)
	if err != nil {
		// The server is gone, or the fault of the rule was in the request: no answer.
		drop(w, act.fault.upload.kind == reset && act.done())
		return
	}
	defer res.Body.Close()
	if !p.pass(r.Context(), seen.N, After, act) {
		drop(w, false)
		return
	}
	if act.resets(After) {
		drop(w, true)
		return
	}
	deliver(w, res, act)
}

// arrive numbers and logs r, calls the hooks and finds the fault that r meets.
func (p *Proxy) arrive(r *http.Request) (Request, *action) {
	seen := describe(r)
	p.mu.Lock()
	seen.N = len(p.log) + 1
	p.log = append(p.log, seen)
	hooks := slices.Clone(p.onRequest)
	act := &action{}
	for _, rule := range p.rules {
		if !rule.match(r) {
			continue
		}
		rule.matched++
		if act.rule == nil && rule.times.due(rule.matched) {
			act = &action{fault: rule.fault, rule: rule}
		}
	}
	p.mu.Unlock()

	for _, f := range hooks {
		f(seen)
	}
	return seen, act
}

func describe(r *http.Request) Request {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(r.URL.Query())) {
		if !strings.HasPrefix(key, "X-Amz-") {
			keys = append(keys, key)
		}
	}
	return Request{Method: r.Method, Path: path, Query: keys, Operation: operation(r)}
}

// operation returns the DynamoDB operation that r asks for, "" where it asks for none.
func operation(r *http.Request) string {
	if service, op, ok := strings.Cut(r.Header.Get("X-Amz-Target"), "."); ok && strings.HasPrefix(service, "DynamoDB") {
		return op
	}
	return ""
}

// pass waits where a hold or a hang says so, and reports whether the request goes on.
func (p *Proxy) pass(ctx context.Context, n int, when When, act *action) bool {
	p.mu.Lock()
	holds := slices.DeleteFunc(slices.Clone(p.holds), func(h *hold) bool { return h.n != n || h.when != when })
	p.mu.Unlock()

	for _, h := range holds {
		close(h.reached)
		if !p.wait(ctx, h.released) {
			return false
		}
	}
	if act.fault.hangs && act.fault.hangWhen == when {
		act.hit()
		return p.wait(ctx, act.fault.hangUntil)
	}
	return true
}

// wait reports whether until was closed before the client went away and the proxy was closed.
func (p *Proxy) wait(ctx context.Context, until <-chan struct{}) bool {
	select {
	case <-until:
		return ctx.Err() == nil
	case <-ctx.Done():
	case <-p.closed:
	}
	return false
}

// answer returns the server's answer to r, or the one that the rule has instead.
func (p *Proxy) answer(r *http.Request, act *action) (*http.Response, error) {
	if act.fault.answer != nil {
		res := act.fault.answer(r)
		// Who waits to be told to go on may be refused at once, but no answer says that something was
		// taken before it was there.
		if !expectsContinue(r) || res.StatusCode < 300 {
			// A client that is stopped in the middle of its body may see a broken connection
			// instead of the answer.
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return nil, err
			}
		}
		act.hit()
		return res, nil
	}

	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme, out.URL.Host = p.target.Scheme, p.target.Host // out.Host stays: it is signed
	out.Close = false
	out.Trailer = r.Trailer // not the copy: it is filled in when the body ends
	removeHopByHop(out.Header)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = nil // or the transport adds its own
	}
	if r.ContentLength == 0 {
		out.Body = http.NoBody // or the transport sends it chunked
	} else {
		// The server closes the body, after it has sent the answer. The transport must not do it:
		// Close waits for the rest of a short body, which a client may keep back until it has
		// the answer.
		out.Body = io.NopCloser(act.wrap(r.Body, act.fault.upload))
	}
	res, err := p.transport.RoundTrip(out)
	if err == nil && act.fault.upload.kind == reset && act.done() {
		// The server answered before it had the whole body.
		res.Body.Close()
		return nil, errFault
	}
	return res, err
}

func expectsContinue(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Expect"), "100-continue")
}

// removeHopByHop removes the headers that are for one connection only (RFC 9110, section
// 7.6.1).
func removeHopByHop(h http.Header) {
	for _, line := range h.Values("Connection") {
		for name := range strings.SplitSeq(line, ",") {
			h.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"} {
		h.Del(name)
	}
}

// deliver sends res to the client, with what the rule does to its body.
func deliver(w http.ResponseWriter, res *http.Response, act *action) {
	removeHopByHop(res.Header)
	body := act.wrap(res.Body, act.fault.download)
	if f := act.fault.download; f.kind == truncate && res.ContentLength > f.at {
		res.Header.Set("Content-Length", fmt.Sprint(f.at))
		act.hit() // here, since the client may be content before the body below is at its end
	}
	maps.Copy(w.Header(), res.Header)
	w.WriteHeader(res.StatusCode)
	if _, err := io.Copy(w, body); err != nil {
		_ = http.NewResponseController(w).Flush() // fails when the client is gone, which is as good
		drop(w, act.fault.download.kind == reset && act.done())
	}
}

// drop closes the connection to the client in the middle of the exchange; with rst by a TCP
// reset.
func drop(w http.ResponseWriter, rst bool) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // not a plain HTTP/1.1 connection: the server closes it
	}
	if tcp, ok := conn.(*net.TCPConn); ok && rst {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
