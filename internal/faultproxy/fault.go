package faultproxy

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// Match selects requests. It is called while the proxy is locked: it looks at the method, the
// URL and the headers only, and does not call the proxy.
type Match func(*http.Request) bool

// Any matches every request.
func Any(*http.Request) bool { return true }

// On matches S3 requests by method, and by the names of query parameters that must all be
// there: On("PUT", "partNumber") is UploadPart, On("POST", "uploadId") is
// CompleteMultipartUpload.
func On(method string, query ...string) Match {
	return func(r *http.Request) bool {
		return r.Method == method &&
			!slices.ContainsFunc(query, func(key string) bool { return !r.URL.Query().Has(key) })
	}
}

// Operation matches the requests of one DynamoDB operation, such as "UpdateItem".
func Operation(name string) Match {
	return func(r *http.Request) bool { return operation(r) == name }
}

// Times says for which of the matching requests a rule is due.
type Times struct{ first, last int }

func (t Times) due(n int) bool { return n >= t.first && (t.last == 0 || n <= t.last) }

// Always is due for every matching request.
func Always() Times { return Times{first: 1} }

// First is due for the first n matching requests.
func First(n int) Times { return Times{first: 1, last: n} }

// Nth is due for the nth matching request alone, counted from 1.
func Nth(n int) Times { return Times{first: n, last: n} }

// Rule is one fault to be made. See [Proxy.Inject].
type Rule struct {
	match   Match
	times   Times
	fault   Fault
	matched int // guarded by Proxy.mu
	hits    atomic.Int64
}

// Hits returns for how many requests the fault took place. A fault at an offset that lies
// beyond the end of the body does not: a test should look, so that it cannot pass without
// its fault.
func (r *Rule) Hits() int { return int(r.hits.Load()) }

// Inject adds a rule: of the requests that match, those that times names meet the fault. Every
// rule counts all the requests that it matches. Where several rules are due for one request,
// the one that was added first acts.
func (p *Proxy) Inject(match Match, times Times, fault Fault) *Rule {
	r := &Rule{match: match, times: times, fault: fault}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r
}

// Heal removes every rule. Requests that have arrived keep their fault.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
}

// Fault is what goes wrong with a request. The zero Fault is none.
//
// Offsets are in bytes of the body as it is on the wire: with S3's aws-chunked encoding the
// chunk headers count too.
type Fault struct {
	answer    func(*http.Request) *http.Response
	resets    bool
	resetWhen When
	hangs     bool
	hangWhen  When
	hangUntil <-chan struct{}
	upload    bodyFault
	download  bodyFault
}

// SlowDown has the request answered as by a server that throttles, without being forwarded:
// status 503 and the S3 error SlowDown; for DynamoDB status 400 and
// ProvisionedThroughputExceededException. (Amazon S3 API Reference, "Error responses"; Amazon
// DynamoDB Developer Guide, "Error handling with DynamoDB".)
func SlowDown() Fault {
	return Fault{answer: func(r *http.Request) *http.Response {
		if operation(r) != "" {
			return dynamoError(r, http.StatusBadRequest, "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
				"The level of configured provisioned throughput for the table was exceeded.")
		}
		return s3Error(r, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
	}}
}

// InternalError has the request answered with status 500, without being forwarded: the S3
// error InternalError; for DynamoDB InternalServerError.
func InternalError() Fault {
	return Fault{answer: func(r *http.Request) *http.Response {
		if operation(r) != "" {
			return dynamoError(r, http.StatusInternalServerError, "com.amazonaws.dynamodb.v20120810#InternalServerError",
				"The request processing has failed because of an unknown error.")
		}
		return s3Error(r, http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
	}}
}

// Refusal has the request answered with a status and an error code, without being forwarded.
func Refusal(status int, code string) Fault {
	const message = "The request is refused by a rule of the proxy."
	return Fault{answer: func(r *http.Request) *http.Response {
		if operation(r) != "" {
			return dynamoError(r, status, "com.amazonaws.dynamodb.v20120810#"+code, message)
		}
		return s3Error(r, status, code, message)
	}}
}

// ErrorIn200 has the request answered with status 200 and the S3 error code in the body,
// without being forwarded: CompleteMultipartUpload and the copy operations may fail so, after
// they have begun to answer. (Amazon S3 API Reference, "CompleteMultipartUpload".)
func ErrorIn200(code string) Fault {
	return Fault{answer: func(r *http.Request) *http.Response {
		return s3Error(r, http.StatusOK, code, "The request failed after its answer had begun.")
	}}
}

// Answer has the request answered with status and body, XML, without being forwarded.
func Answer(status int, body string) Fault {
	return Fault{answer: func(r *http.Request) *http.Response {
		return response(r, status, "application/xml", []byte(body))
	}}
}

// Swallow has PutObject or UploadPart answered as if it had been carried out, and nothing is
// forwarded: the server has never heard of it. The answer repeats the checksums of the request.
func Swallow() Fault {
	return Fault{answer: func(r *http.Request) *http.Response {
		res := response(r, http.StatusOK, "application/xml", nil)
		res.Header.Set("ETag", `"d41d8cd98f00b204e9800998ecf8427e"`)
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Checksum-") {
				res.Header[name] = values
			}
		}
		return res
	}}
}

// Reset resets the connection to the client (TCP RST) instead of an answer: before anything of
// the request is forwarded, or after the server has carried it out.
func Reset(when When) Fault { return Fault{resets: true, resetWhen: when} }

func s3Error(r *http.Request, status int, code, message string) *http.Response {
	type document struct {
		XMLName   xml.Name `xml:"Error"`
		Code      string
		Message   string
		Resource  string
		RequestID string `xml:"RequestId"`
	}
	body, err := xml.Marshal(document{Code: code, Message: message, Resource: r.URL.Path, RequestID: "FAULTPROXY"})
	if err != nil {
		panic(err) // the document is of strings only
	}
	return response(r, status, "application/xml", append([]byte(xml.Header), body...))
}

func dynamoError(r *http.Request, status int, kind, message string) *http.Response {
	return response(r, status, "application/x-amz-json-1.0", fmt.Appendf(nil, `{"__type":%q,"message":%q}`, kind, message))
}

func response(r *http.Request, status int, contentType string, body []byte) *http.Response {
	if r.Method == http.MethodHead {
		body = nil
	}
	return &http.Response{
		StatusCode: status,
		Header: http.Header{
			"Content-Type":     {contentType},
			"Content-Length":   {fmt.Sprint(len(body))},
			"X-Amz-Request-Id": {"FAULTPROXY"},
		},
		ContentLength: int64(len(body)),
		Body:          io.NopCloser(bytes.NewReader(body)),
	}
}

// Hang has the request wait, before it is forwarded or after the server has answered it,
// until until is closed; it then goes on as if nothing had been. A nil until never comes.
// Where the client goes away first, or the proxy is closed, the request ends there.
func Hang(when When, until <-chan struct{}) Fault {
	return Fault{hangs: true, hangWhen: when, hangUntil: until}
}

// ResetUpload resets the connection to the client (TCP RST) when at bytes of the request's
// body were forwarded. The server sees its connection closed in the middle of the body.
func ResetUpload(at int64) Fault { return Fault{upload: bodyFault{kind: reset, at: at}} }

// FlipUpload inverts the byte at offset at of the request's body.
func FlipUpload(at int64) Fault { return Fault{upload: bodyFault{kind: flip, at: at}} }

// ResetDownload resets the connection to the client (TCP RST) when at bytes of the answer's
// body were sent. Of these the client may lose the last ones.
func ResetDownload(at int64) Fault { return Fault{download: bodyFault{kind: reset, at: at}} }

// CutDownload closes the connection to the client when at bytes of the answer's body were
// sent; the header still declares the whole length.
func CutDownload(at int64) Fault { return Fault{download: bodyFault{kind: cut, at: at}} }

// TruncateDownload ends the answer's body after at bytes, with a Content-Length that agrees:
// nothing in the HTTP exchange shows that something is missing.
func TruncateDownload(at int64) Fault { return Fault{download: bodyFault{kind: truncate, at: at}} }

// FlipDownload inverts the byte at offset at of the answer's body.
func FlipDownload(at int64) Fault { return Fault{download: bodyFault{kind: flip, at: at}} }

// action is the fault that one request meets; without a rule it is none.
type action struct {
	fault Fault
	rule  *Rule
	took  atomic.Bool
}

// hit notes that the fault took place.
func (a *action) hit() {
	if a.took.CompareAndSwap(false, true) {
		a.rule.hits.Add(1)
	}
}

// resets reports whether the connection is to be reset now, and notes it.
func (a *action) resets(when When) bool {
	if !a.fault.resets || a.fault.resetWhen != when {
		return false
	}
	a.hit()
	return true
}

// done reports whether the fault took place.
func (a *action) done() bool { return a.took.Load() }

// wrap returns body with fault f in it.
func (a *action) wrap(body io.Reader, f bodyFault) io.Reader {
	if f.kind == none {
		return body
	}
	return &faultyBody{body: body, kind: f.kind, left: f.at, hit: a.hit}
}

type faultKind int

const (
	none faultKind = iota
	reset
	cut
	truncate
	flip
)

type bodyFault struct {
	kind faultKind
	at   int64 // bytes before the fault
}

var errFault = errors.New("the body ends here by a rule of the proxy")

// faultyBody is a body with a fault at one offset.
type faultyBody struct {
	body io.Reader
	kind faultKind
	left int64 // bytes before the fault; negative once a flip is done
	hit  func()
}

func (b *faultyBody) Read(buf []byte) (int, error) {
	switch {
	case b.left > 0:
		// Stop at the offset, so that the fault begins with a Read of its own.
		n, err := b.body.Read(buf[:min(int64(len(buf)), b.left)])
		b.left -= int64(n)
		return n, err
	case b.left < 0 || len(buf) == 0:
		return b.body.Read(buf)
	}

	if b.kind == flip {
		n, err := b.body.Read(buf)
		if n > 0 {
			buf[0] ^= 0xff
			b.left = -1
			b.hit()
		}
		return n, err
	}
	if b.kind == truncate {
		// What was cut off tells whether anything was: the body may have ended here anyway.
		var next [1]byte
		n, err := io.ReadFull(b.body, next[:])
		if n == 0 {
			return 0, err
		}
		b.hit()
		return 0, io.EOF
	}
	b.hit()
	return 0, errFault
}
