package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/transfer"
)

// place returns the configuration of services that are reached by dial. Its retryer is without the
// rate that it keeps to once it is throttled: that waits for the real time to pass.
func place(dial client.DialFunc) aws.Config {
	return aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String("http://wire"), HTTPClient: client.HTTPClient(time.Minute, dial),
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""), Retryer: func() aws.Retryer { return struct{ aws.Retryer }{client.NewRetryer()} },
	}
}

func newS3(cfg aws.Config) *s3.Client {
	return client.NewS3(cfg, func(o *s3.Options) { o.Retryer = cfg.Retryer() })
}

// What can't succeed is asked once; what may pass is asked again, bodies five times in all and
// calls four times. The last column is what the user is told.
func TestRetriesOfAnswers(t *testing.T) {
	const (
		again     = transfer.DefaultAttempts
		callAgain = 4
		// A server may refuse a body because it does not know its checksum: then the other kind is
		// tried, once.
		otherChecksum = 2
	)
	// From 64 requests in flight down to 4, where it counts.
	const throttled = again + 4
	for _, test := range []struct {
		status int
		code   string
		bodies int // requests that carry a body
		calls  int // requests that carry none
		reason client.Reason
	}{
		{http.StatusForbidden, "AccessDenied", 1, 1, client.Permission},
		{http.StatusForbidden, "AllAccessDisabled", 1, 1, client.Permission},
		{http.StatusForbidden, "InvalidAccessKeyId", 1, 1, client.Permission},
		{http.StatusForbidden, "SignatureDoesNotMatch", 1, 1, client.Permission},
		{http.StatusBadRequest, "ExpiredToken", 1, 1, client.Permission},
		{http.StatusNotFound, "NoSuchBucket", 1, 1, client.Usage},
		{http.StatusNotFound, "NoSuchUpload", 1, 1, client.Conflict},
		{http.StatusMovedPermanently, "PermanentRedirect", 1, 1, client.Usage},
		{http.StatusBadRequest, "AuthorizationHeaderMalformed", otherChecksum, 1, client.Usage},
		{http.StatusBadRequest, "EntityTooLarge", 1, 1, client.Failed},
		{http.StatusBadRequest, "InvalidPart", otherChecksum, 1, client.Failed},
		{http.StatusBadRequest, "InvalidRequest", otherChecksum, 1, client.Failed},
		{http.StatusMethodNotAllowed, "MethodNotAllowed", 1, 1, client.Failed},
		{http.StatusPreconditionFailed, "PreconditionFailed", 1, 1, client.Conflict},
		{http.StatusNotImplemented, "NotImplemented", otherChecksum, 1, client.Failed},
		{http.StatusInsufficientStorage, "XMinioStorageFull", 1, 1, client.Failed},
		{http.StatusServiceUnavailable, "SlowDown", throttled, callAgain, client.Retry},
		{http.StatusServiceUnavailable, "ServiceUnavailable", throttled, callAgain, client.Retry},
		{http.StatusTooManyRequests, "TooManyRequests", throttled, callAgain, client.Retry},
		{http.StatusInternalServerError, "InternalError", again, callAgain, client.Retry},
		{http.StatusBadGateway, "BadGateway", again, callAgain, client.Retry},
		{http.StatusBadRequest, "RequestTimeout", again, callAgain, client.Retry},
		{http.StatusBadRequest, "BadDigest", again, callAgain, client.Retry},
	} {
		t.Run(test.code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				proxy := faultproxy.New("http://127.0.0.1:1")
				defer proxy.Close()
				proxy.Inject(faultproxy.Any, faultproxy.Always(), faultproxy.Refusal(test.status, test.code))
				w := newWire(t, proxy.ServeHTTP, func(time.Duration, int64) {})
				api := newS3(place(w.dial))
				engine := &transfer.Engine{S3: api, Bucket: "bucket"}

				stream, err := engine.OpenStream(bytes.NewReader(make([]byte, 100)))
				if err != nil {
					t.Fatal(err)
				}
				_, err = engine.UploadStream(t.Context(), "key", "text/plain", stream, nil)
				// After an answer that leaves it open, the object is asked for: that is no upload.
				puts := slices.DeleteFunc(proxy.Log(), func(r faultproxy.Request) bool { return r.Method != http.MethodPut })
				if got := len(puts); got != test.bodies || client.ReasonOf(err) != test.reason {
					t.Errorf("%d uploads, %q: %v; want %d, %q", got, client.ReasonOf(err), err, test.bodies, test.reason)
				}
				before := len(proxy.Log())
				_, err = api.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: aws.String("bucket")})
				if got := len(proxy.Log()) - before; got != test.calls || client.ReasonOf(err) != test.reason {
					t.Errorf("%d calls, %q: %v; want %d, %q", got, client.ReasonOf(err), err, test.calls, test.reason)
				}
			})
		})
	}
}

// The same for records.
func TestRetriesOfRecords(t *testing.T) {
	for _, test := range []struct {
		status int
		code   string
		calls  int
		reason client.Reason
	}{
		{http.StatusBadRequest, "AccessDeniedException", 1, client.Permission},
		{http.StatusBadRequest, "UnrecognizedClientException", 1, client.Permission},
		{http.StatusBadRequest, "ResourceNotFoundException", 1, client.Usage},
		{http.StatusBadRequest, "ValidationException", 1, client.Usage},
		{http.StatusBadRequest, "ProvisionedThroughputExceededException", 4, client.Retry},
		{http.StatusBadRequest, "ThrottlingException", 4, client.Retry},
		{http.StatusInternalServerError, "InternalServerError", 4, client.Retry},
	} {
		t.Run(test.code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				proxy := faultproxy.New("http://127.0.0.1:1")
				defer proxy.Close()
				proxy.Inject(faultproxy.Any, faultproxy.Always(), faultproxy.Refusal(test.status, test.code))
				w := newWire(t, proxy.ServeHTTP, func(time.Duration, int64) {})
				table := dynamo.New(dynamodb.NewFromConfig(place(w.dial)), "files")
				_, err := table.Store(t.Context(), "0000000000000000", records.At(time.Now()), nil)
				if got := len(proxy.Log()); got != test.calls || client.ReasonOf(err) != test.reason {
					t.Errorf("%d calls, %q: %v; want %d, %q", got, client.ReasonOf(err), err, test.calls, test.reason)
				}
			})
		})
	}
}

// An answer that breaks off is asked for again: it is no malformed one.
func TestRetriesOfRecordsThatBreakOff(t *testing.T) {
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body := `{"Responses":{"files":[{"id":{"S":"a"},"name":{"S":"a.txt"}}]}}`
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if calls.Add(1) == 1 {
			body = body[:40]
		}
		_, _ = io.WriteString(w, body) // a failure shows in the answer
	}))
	defer server.Close()
	cfg := place(nil)
	cfg.BaseEndpoint = &server.URL
	table := dynamo.New(dynamodb.NewFromConfig(cfg), "files")
	got, err := table.Get(t.Context(), []string{"a"})
	if n := calls.Load(); err != nil || got["a"].Name != "a.txt" || n != 2 {
		t.Errorf("%d calls: %+v, %v", n, got, err)
	}
}

// Where there is no connection: a name that does not exist is asked for once, a server that does
// not take connections a few times in little time.
func TestRetriesOfConnections(t *testing.T) {
	for name, test := range map[string]struct {
		failure error
		dials   int
		within  time.Duration
	}{
		"refused":        {os.NewSyscallError("connect", syscall.ECONNREFUSED), 4, 2 * time.Second},
		"no route":       {os.NewSyscallError("connect", syscall.EHOSTUNREACH), 4, 2 * time.Second},
		"unknown host":   {&net.DNSError{Err: "no such host", Name: "wire", IsNotFound: true}, 1, 0},
		"no name server": {&net.DNSError{Err: "server misbehaving", Name: "wire", IsTemporary: true}, 4, 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, dials := time.Now(), 0
				api := newS3(place(func(context.Context, string, string) (net.Conn, error) {
					dials++
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: test.failure}
				}))
				_, err := api.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: aws.String("bucket")})
				if client.ReasonOf(err) != client.Retry || dials != test.dials {
					t.Errorf("%d tries, %q: %v", dials, client.ReasonOf(err), err)
				}
				if took := time.Since(begin); took > test.within {
					t.Errorf("given up only after %s", took)
				}
			})
		})
	}
}

// A server that can't be trusted, or that speaks no TLS, is a matter of configuration.
func TestRetriesOfTLS(t *testing.T) {
	var requests atomic.Int64
	handler := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	untrusted := httptest.NewUnstartedServer(handler)
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := httptest.NewServer(handler)
	defer plain.Close()
	for name, server := range map[string]*httptest.Server{"untrusted": untrusted, "no TLS": plain} {
		t.Run(name, func(t *testing.T) {
			dials := 0
			cfg := place(func(ctx context.Context, network, _ string) (net.Conn, error) {
				dials++
				return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
			})
			cfg.BaseEndpoint = aws.String("https://wire")
			api := newS3(cfg)
			_, err := api.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: aws.String("bucket")})
			if client.ReasonOf(err) != client.Usage || dials != 1 {
				t.Errorf("%d tries, %q: %v", dials, client.ReasonOf(err), err)
			}
			engine := &transfer.Engine{S3: api, Bucket: "bucket"}
			stream, err := engine.OpenStream(bytes.NewReader(make([]byte, 100)))
			if err != nil {
				t.Fatal(err)
			}
			_, err = engine.UploadStream(t.Context(), "key", "text/plain", stream, nil)
			if upload, ok := errors.AsType[*transfer.UploadError](err); !ok || upload.Outcome != transfer.NotWritten || dials != 2 {
				t.Errorf("%d tries: %v", dials, err)
			}
		})
	}
	if requests.Load() != 0 {
		t.Errorf("%d requests went out", requests.Load())
	}
}

// A disk that is full stays so.
func TestRetriesOfFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int64
		w := newWire(t, func(rw http.ResponseWriter, _ *http.Request) {
			requests.Add(1)
			_, _ = rw.Write(make([]byte, 1000))
		}, func(time.Duration, int64) {})
		engine := &transfer.Engine{S3: newS3(place(w.dial)), Bucket: "bucket"}
		_, err := engine.Download(t.Context(), "key", 1000, fullDisk{}, nil)
		if !errors.Is(err, syscall.ENOSPC) || client.ReasonOf(err) != client.Failed || requests.Load() != 1 {
			t.Errorf("%d requests, %q: %v", requests.Load(), client.ReasonOf(err), err)
		}
	})
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
