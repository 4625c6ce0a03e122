package faultproxy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/faultproxy"
)

// backend is a server that keeps the bodies put to it by path, and notes how each request
// looked when it arrived.
type backend struct {
	*httptest.Server
	mu       sync.Mutex
	objects  map[string][]byte
	requests []*http.Request
}

func newBackend(t *testing.T) *backend {
	t.Helper()
	b := &backend{objects: map[string][]byte{}}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.requests = append(b.requests, r)
	b.mu.Unlock()
	switch r.Method {
	case http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the connection broke: nothing was put
		}
		b.mu.Lock()
		b.objects[r.URL.Path] = body
		b.mu.Unlock()
	case http.MethodGet:
		body, ok := b.object(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	}
}

func (b *backend) object(path string) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	body, ok := b.objects[path]
	return body, ok
}

func (b *backend) arrived() []*http.Request {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.requests)
}

// newClient returns a client that uses a connection for one request only, so that nothing is
// retried behind the test's back and no idle connection outlives the test.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: 10 * time.Second}}
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of the exchange, or of the reading of the body
}

func do(ctx context.Context, method, url string, body []byte) answer {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	return send(req)
}

func send(req *http.Request) answer {
	res, err := newClient().Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	return answer{status: res.StatusCode, header: res.Header, body: got, err: err}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}

func TestAnsweredWithoutTheServer(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  faultproxy.Fault
		target string // X-Amz-Target
		status int
		body   string // a part of it
	}{
		{"SlowDown, S3", faultproxy.SlowDown(), "", 503, "<Code>SlowDown</Code>"},
		{"SlowDown, DynamoDB", faultproxy.SlowDown(), "DynamoDB_20120810.PutItem", 400,
			`"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"`},
		{"InternalError, S3", faultproxy.InternalError(), "", 500, "<Code>InternalError</Code>"},
		{"InternalError, DynamoDB", faultproxy.InternalError(), "DynamoDB_20120810.PutItem", 500, "#InternalServerError"},
		{"ErrorIn200", faultproxy.ErrorIn200("InternalError"), "", 200, "<Code>InternalError</Code>"},
		{"Answer", faultproxy.Answer(200, "<Truncated>"), "", 200, "<Truncated>"},
		{"Swallow", faultproxy.Swallow(), "", 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend(t)
			p := faultproxy.New(b.URL)
			rule := p.Inject(faultproxy.Any, faultproxy.Always(), tt.fault)
			url := p.Start(t)

			// More than the server would read by itself before it closes the connection.
			body := random(4 << 20)
			for range 2 {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/bucket/key", bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Amz-Target", tt.target)
				got := send(req)
				if got.err != nil || got.status != tt.status || !strings.Contains(string(got.body), tt.body) {
					t.Errorf("got %d %s (%v), want %d with %s", got.status, got.body, got.err, tt.status, tt.body)
				}
			}
			if n := len(b.arrived()); n != 0 {
				t.Errorf("%d requests reached the server", n)
			}
			if rule.Hits() != 2 {
				t.Errorf("rule took place %d times, want 2", rule.Hits())
			}
		})
	}
}

func TestDownload(t *testing.T) {
	const size, at = 300_000, 100_000
	whole := random(size)
	flipped := slices.Clone(whole)
	flipped[at] ^= 0xff

	for _, tt := range []struct {
		name     string
		fault    faultproxy.Fault
		want     []byte // what the client gets, at most
		declared string // Content-Length
		broken   func(error) bool
	}{
		{"reset", faultproxy.ResetDownload(at), whole[:at], "300000", isReset},
		{"cut", faultproxy.CutDownload(at), whole[:at], "300000", func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
		{"truncate", faultproxy.TruncateDownload(at), whole[:at], "100000", nil},
		{"flip", faultproxy.FlipDownload(at), flipped, "300000", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend(t)
			p := faultproxy.New(b.URL)
			url := p.Start(t) + "/bucket/key"
			if got := do(t.Context(), "PUT", url, whole); got.err != nil {
				t.Fatal(got.err)
			}
			rule := p.Inject(faultproxy.On("GET"), faultproxy.First(1), tt.fault)

			got := do(t.Context(), "GET", url, nil)
			switch {
			case tt.broken == nil:
				if got.err != nil || !bytes.Equal(got.body, tt.want) {
					t.Errorf("got %d bytes (%v), want %d others", len(got.body), got.err, len(tt.want))
				}
			case !tt.broken(got.err):
				t.Errorf("got error %v", got.err)
			case !bytes.HasPrefix(tt.want, got.body):
				t.Errorf("got %d bytes that are no prefix of the first %d", len(got.body), len(tt.want))
			}
			// A reset may come before the client has read the headers.
			if length := got.header.Get("Content-Length"); length != tt.declared && got.header != nil {
				t.Errorf("Content-Length %s, want %s", length, tt.declared)
			}
			if rule.Hits() != 1 {
				t.Errorf("rule took place %d times, want 1", rule.Hits())
			}

			if again := do(t.Context(), "GET", url, nil); again.err != nil || !bytes.Equal(again.body, whole) {
				t.Errorf("the second request got %d bytes (%v), want the object", len(again.body), again.err)
			}
		})
	}
}

func TestDownloadEndsBeforeTheFault(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	url := p.Start(t) + "/bucket/key"
	if got := do(t.Context(), "PUT", url, []byte("0123456789")); got.err != nil {
		t.Fatal(got.err)
	}
	for _, fault := range []faultproxy.Fault{
		faultproxy.ResetDownload(11), faultproxy.CutDownload(11),
		faultproxy.TruncateDownload(10), faultproxy.FlipDownload(10),
	} {
		rule := p.Inject(faultproxy.On("GET"), faultproxy.Always(), fault)
		if got := do(t.Context(), "GET", url, nil); got.err != nil || string(got.body) != "0123456789" {
			t.Errorf("got %q (%v), want the object", got.body, got.err)
		}
		if rule.Hits() != 0 {
			t.Errorf("rule counts %d hits, but nothing went wrong", rule.Hits())
		}
		p.Heal()
	}
}

func TestUploadReset(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	rule := p.Inject(faultproxy.On("PUT"), faultproxy.Nth(1), faultproxy.ResetUpload(1<<20))
	url := p.Start(t)

	// Which error of the system the client reports depends on what it was doing.
	if got := do(t.Context(), "PUT", url+"/bucket/key", random(32<<20)); got.err == nil || got.status != 0 {
		t.Errorf("got status %d, want a broken connection", got.status)
	}
	if rule.Hits() != 1 {
		t.Errorf("rule took place %d times, want 1", rule.Hits())
	}
	if _, ok := b.object("/bucket/key"); ok {
		t.Error("the server took the object")
	}
}

func TestReset(t *testing.T) {
	for _, tt := range []struct {
		name    string
		when    faultproxy.When
		carried bool // out by the server
	}{
		{"before", faultproxy.Before, false},
		{"after", faultproxy.After, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend(t)
			p := faultproxy.New(b.URL)
			rule := p.Inject(faultproxy.Any, faultproxy.Nth(1), faultproxy.Reset(tt.when))
			url := p.Start(t) + "/bucket/key"

			if got := do(t.Context(), "PUT", url, []byte("body")); !isReset(got.err) || rule.Hits() != 1 {
				t.Errorf("got status %d, error %v, want a reset; %d hits", got.status, got.err, rule.Hits())
			}
			if _, carried := b.object("/bucket/key"); carried != tt.carried {
				t.Errorf("the server took the object: %t", carried)
			}
			if got := do(t.Context(), "PUT", url, []byte("body")); got.err != nil {
				t.Errorf("the second request: %v", got.err)
			}
		})
	}
}

func TestSwallow(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	p.Inject(faultproxy.On("PUT"), faultproxy.Always(), faultproxy.Swallow())
	body := &countingReader{Reader: bytes.NewReader(random(4 << 20))}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, p.Start(t)+"/bucket/key", body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 4 << 20
	req.Header.Set("Expect", "100-continue")
	req.Header.Set("X-Amz-Checksum-Crc32", "1rGI0A==")
	got := send(req)
	if body.n.Load() != 4<<20 {
		t.Errorf("the client sent %d bytes", body.n.Load())
	}
	if got.header.Get("ETag") == "" || got.header.Get("X-Amz-Checksum-Crc32") != "1rGI0A==" {
		t.Errorf("got %v (%v), want an ETag and the checksum", got.header, got.err)
	}
	if _, ok := b.object("/bucket/key"); ok {
		t.Error("the server took the object")
	}
}

func TestUploadResetOnTheWire(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	p.Inject(faultproxy.On("PUT"), faultproxy.Always(), faultproxy.ResetUpload(1000))
	conn, err := net.Dial("tcp", strings.TrimPrefix(p.Start(t), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// No byte more than the proxy reads: closing with unread bytes resets by itself.
	_, err = fmt.Fprintf(conn, "PUT /bucket/key HTTP/1.1\r\nHost: example.com\r\nContent-Length: 2000\r\n\r\n%s", random(1000))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); len(got) > 0 || !isReset(err) {
		t.Errorf("got %q, error %v, want a reset", got, err)
	}
}

func TestUploadFlip(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	rule := p.Inject(faultproxy.On("PUT"), faultproxy.Nth(1), faultproxy.FlipUpload(3))
	url := p.Start(t)

	if got := do(t.Context(), "PUT", url+"/bucket/key", []byte("aaaaaa")); got.status != http.StatusOK {
		t.Errorf("got status %d (%v)", got.status, got.err)
	}
	if got, _ := b.object("/bucket/key"); string(got) != "aaa\x9eaa" {
		t.Errorf("the server got %q", got)
	}
	if rule.Hits() != 1 {
		t.Errorf("rule took place %d times, want 1", rule.Hits())
	}
}

func TestHang(t *testing.T) {
	for _, tt := range []struct {
		name      string
		when      faultproxy.When
		forwarded int // requests at the server while it hangs
	}{
		{"before", faultproxy.Before, 0},
		{"after", faultproxy.After, 1},
	} {
		t.Run(tt.name+", released", func(t *testing.T) {
			b := newBackend(t)
			p := faultproxy.New(b.URL)
			until := make(chan struct{})
			p.Inject(faultproxy.Any, faultproxy.Always(), faultproxy.Hang(tt.when, until))
			reached, release := p.HoldAt(1, tt.when) // to see it before the hang
			url := p.Start(t)

			done := make(chan answer, 1)
			go func() { done <- do(t.Context(), "PUT", url+"/bucket/key", []byte("body")) }()
			<-reached
			if n := len(b.arrived()); n != tt.forwarded {
				t.Errorf("%d requests at the server, want %d", n, tt.forwarded)
			}
			release()
			release() // more than once does no harm
			close(until)
			if got := <-done; got.err != nil || got.status != http.StatusOK {
				t.Errorf("got status %d (%v)", got.status, got.err)
			}
			if got, _ := b.object("/bucket/key"); string(got) != "body" {
				t.Errorf("the server has %q", got)
			}
		})
		t.Run(tt.name+", the client gives up", func(t *testing.T) {
			b := newBackend(t)
			p := faultproxy.New(b.URL)
			rule := p.Inject(faultproxy.Any, faultproxy.Always(), faultproxy.Hang(tt.when, nil))
			url := p.Start(t)

			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if got := do(ctx, "PUT", url+"/bucket/key", []byte("body")); !errors.Is(got.err, context.DeadlineExceeded) {
				t.Errorf("got status %d, error %v, want the deadline", got.status, got.err)
			}
			if n := len(b.arrived()); n != tt.forwarded || rule.Hits() != 1 {
				t.Errorf("%d requests at the server, want %d; %d hits, want 1", n, tt.forwarded, rule.Hits())
			}
		})
	}
}

func TestHoldAtIsDroppedByClose(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	reached, _ := p.HoldAt(2, faultproxy.Before)
	url := p.Start(t)

	if got := do(t.Context(), "PUT", url+"/bucket/first", []byte("body")); got.status != http.StatusOK {
		t.Fatalf("got status %d (%v)", got.status, got.err)
	}
	done := make(chan answer, 1)
	go func() { done <- do(t.Context(), "PUT", url+"/bucket/second", []byte("body")) }()
	<-reached
	p.Close()
	if got := <-done; got.err == nil || got.status != 0 {
		t.Errorf("got status %d, want a broken connection", got.status)
	}
	if _, ok := b.object("/bucket/second"); ok {
		t.Error("the held request was forwarded")
	}
}

func TestLogAndHook(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	var hooked []string
	p.OnRequest(func(r faultproxy.Request) { hooked = append(hooked, r.String()) })
	url := p.Start(t)

	do(t.Context(), "PUT", url+"/bucket/a%2Fb%20c?uploadId=7&partNumber=1&X-Amz-Signature=secret", []byte("x"))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Amz-Target", "DynamoDB_20120810.UpdateItem")
	send(req)

	want := []faultproxy.Request{
		{N: 1, Method: "PUT", Path: "/bucket/a%2Fb%20c", Query: []string{"partNumber", "uploadId"}},
		{N: 2, Method: "POST", Path: "/", Operation: "UpdateItem"},
	}
	if diff := cmp.Diff(want, p.Log()); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	if want := []string{"PUT /bucket/a%2Fb%20c?partNumber&uploadId", "UpdateItem"}; !slices.Equal(hooked, want) {
		t.Errorf("hook got %q, want %q", hooked, want)
	}
}

func TestRules(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	parts := faultproxy.On("PUT", "partNumber", "uploadId")
	first := p.Inject(parts, faultproxy.First(2), faultproxy.SlowDown())
	third := p.Inject(parts, faultproxy.Nth(3), faultproxy.InternalError())
	p.Inject(faultproxy.Operation("PutItem"), faultproxy.Always(), faultproxy.SlowDown())
	url := p.Start(t)

	var got []int
	for _, query := range []string{"", "?partNumber=1", "?partNumber=1&uploadId=a", "?uploadId=a&partNumber=2", "?partNumber=3&uploadId=a", "?partNumber=4&uploadId=a"} {
		got = append(got, do(t.Context(), "PUT", url+"/bucket/key"+query, []byte("x")).status)
	}
	if want := []int{200, 200, 503, 503, 500, 200}; !slices.Equal(got, want) {
		t.Errorf("got %d, want %d", got, want)
	}
	if first.Hits() != 2 || third.Hits() != 1 {
		t.Errorf("hits %d and %d, want 2 and 1", first.Hits(), third.Hits())
	}
}

func TestRequestGoesOnAsItWasSent(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	url := p.Start(t)

	const target = "/bucket/a%2Fb%20c+d%7E~!'()*/日本?list-type=2&prefix=a%2f;b&empty&x=%20+"
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "bucket.example.com"
	req.Header["User-Agent"] = nil
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=…")
	if got := send(req); got.err != nil {
		t.Fatal(got.err)
	}

	direct, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.URL+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	direct.Host = req.Host
	direct.Header = maps.Clone(req.Header)
	if got := send(direct); got.err != nil {
		t.Fatal(got.err)
	}

	type form struct {
		URI, Host string
		Header    http.Header
	}
	var forms []form
	for _, r := range b.arrived() {
		r.Header.Del("Connection") // between two neighbours only
		forms = append(forms, form{r.RequestURI, r.Host, r.Header})
	}
	if diff := cmp.Diff(forms[1], forms[0]); diff != "" {
		t.Errorf("through the proxy (+) differs from without (-):\n%s", diff)
	}
}

func TestExpectContinue(t *testing.T) {
	for _, tt := range []struct {
		name   string
		size   int64
		status int  // that the server answers
		read   bool // whether it asks for the body
	}{
		{"the server wants the body", 1 << 20, http.StatusOK, true},
		{"the server refuses a large one", 1 << 20, http.StatusForbidden, false},
		{"the server refuses a short one", 100, http.StatusForbidden, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Expect") != "100-continue" {
					t.Errorf("Expect: %q", r.Header.Get("Expect"))
				}
				if tt.read {
					io.Copy(io.Discard, r.Body) //nolint:errcheck // the client would see it
				}
				w.WriteHeader(tt.status)
			}))
			t.Cleanup(b.Close)
			url := faultproxy.New(b.URL).Start(t)

			body := &countingReader{Reader: bytes.NewReader(random(int(tt.size)))}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/bucket/key", body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = tt.size
			req.Header.Set("Expect", "100-continue")
			if got := send(req); got.err != nil || got.status != tt.status {
				t.Errorf("got %d (%v), want %d", got.status, got.err, tt.status)
			}
			if sent := body.n.Load() == tt.size; sent != tt.read {
				t.Errorf("the client sent %d bytes", body.n.Load())
			}
		})
	}
}

type countingReader struct {
	io.Reader
	n atomic.Int64 // the transport looks for more than was declared, after it has the answer
}

func (c *countingReader) Read(buf []byte) (int, error) {
	n, err := c.Reader.Read(buf)
	c.n.Add(int64(n))
	return n, err
}

func TestChunkedBody(t *testing.T) {
	b := newBackend(t)
	url := faultproxy.New(b.URL).Start(t)
	body := random(1 << 20)
	// No length is known of a reader of this kind.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/bucket/key", io.MultiReader(bytes.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	if got := send(req); got.err != nil || got.status != http.StatusOK {
		t.Fatalf("got %d (%v)", got.status, got.err)
	}
	if got, _ := b.object("/bucket/key"); !bytes.Equal(got, body) {
		t.Errorf("the server got %d bytes, want the %d sent", len(got), len(body))
	}
}

func TestServerGone(t *testing.T) {
	b := newBackend(t)
	p := faultproxy.New(b.URL)
	url := p.Start(t)
	b.Close()
	if got := do(t.Context(), "GET", url+"/bucket/key", nil); got.err == nil || got.status != 0 {
		t.Errorf("got status %d, want a broken connection", got.status)
	}
}

func TestLargeObjectWithTheSDK(t *testing.T) {
	const size = 64 << 20
	b := newBackend(t)
	url := faultproxy.New(b.URL).Start(t)
	client := s3.New(s3.Options{
		BaseEndpoint: aws.String(url), Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		HTTPClient:  newClient(),
		// The plain bytes, not aws-chunked: the backend takes what is on the wire.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
	})
	body := random(size)

	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: aws.String("bucket"), Key: aws.String("a b/ü"), Body: bytes.NewReader(body),
	}); err != nil {
		t.Fatal(err)
	}
	got, _ := b.object("/bucket/a b/ü")
	if !bytes.Equal(got, body) {
		t.Errorf("the server got %d bytes that are not those sent", len(got))
	}
	r := b.arrived()[0]
	sum := sha256.Sum256(got)
	if signed := r.Header.Get("X-Amz-Content-Sha256"); signed != hex.EncodeToString(sum[:]) {
		t.Errorf("signed SHA-256 %s does not fit the body", signed)
	}
	if host := strings.TrimPrefix(url, "http://"); r.Host != host {
		t.Errorf("Host %q, want the signed %q", r.Host, host)
	}

	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("bucket"), Key: aws.String("a b/ü")})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	got, err = io.ReadAll(out.Body)
	if err != nil || !bytes.Equal(got, body) {
		t.Errorf("got %d bytes back (%v) that are not those sent", len(got), err)
	}
}

// TestNoGoroutineStays runs last, with nothing else beside it, and counts.
func TestNoGoroutineStays(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("faults", func(t *testing.T) {
		b := newBackend(t)
		p := faultproxy.New(b.URL)
		p.Inject(faultproxy.On("PUT"), faultproxy.Nth(1), faultproxy.ResetUpload(1<<20))
		p.Inject(faultproxy.On("PUT"), faultproxy.Nth(2), faultproxy.Hang(faultproxy.Before, nil))
		p.Inject(faultproxy.On("GET"), faultproxy.Nth(1), faultproxy.CutDownload(1))
		p.Inject(faultproxy.On("GET"), faultproxy.Nth(2), faultproxy.Hang(faultproxy.After, nil))
		url := p.Start(t) + "/bucket/key"

		body := random(8 << 20)
		do(t.Context(), "PUT", url, body)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		do(ctx, "PUT", url, body)
		do(t.Context(), "PUT", url, body)
		do(t.Context(), "GET", url, nil)
		ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		do(ctx, "GET", url, nil)
		do(t.Context(), "GET", url, nil)
	})

	// What was told to end needs a moment to do so.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for runtime.NumGoroutine() > before {
		select {
		case <-tick.C:
		case <-deadline:
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
		}
	}
}
