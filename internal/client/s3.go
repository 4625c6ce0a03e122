package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/transfer"
)

// attempts is how often a call of the SDK is tried before it fails.
const attempts = 4

// The longest pauses between two tries of a call: after an answer, and where there was no connection.
const (
	maxBackoff            = 5 * time.Second
	maxUnconnectedBackoff = 500 * time.Millisecond
)

// DefaultStallTimeout is how long a connection may move no byte before it is given up.
const DefaultStallTimeout = 60 * time.Second

// HTTPOption changes what [HTTPClient] does.
type HTTPOption func(*httpOptions)

type httpOptions struct{ alwaysKernel bool }

// AlwaysByKernel has the kernel copy the bodies of uploads also to servers on this machine, where that
// is slower; for tests.
func AlwaysByKernel() HTTPOption { return func(o *httpOptions) { o.alwaysKernel = true } }

// DialFunc opens a connection, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// HTTPClient returns the HTTP client for both services, made once a process. It is the SDK's
// own kind, which alone honours AWS_CA_BUNDLE. Connections are opened by dial (nil: as usual)
// and given up once nothing has moved on them for the time stall.
//
// HTTP/2 would put all transfers on one connection and was measured at a fraction of the speed
// (docs/performance.md); bodies are not compressed, so that their length is known.
func HTTPClient(stall time.Duration, dial DialFunc, options ...HTTPOption) *awshttp.BuildableClient {
	var o httpOptions
	for _, option := range options {
		option(&o)
	}
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	buffers := new(bodyBuffers)
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			watched := &watchedConn{Conn: conn, stall: stall, buffers: buffers}
			// What was copied through memory, and is in the processor's cache, is cheaper for a server on this machine to
			// receive than the kernel's copying was for us, as long as it does not wait long.
			if tcp, ok := conn.(*net.TCPConn); ok {
				if o.alwaysKernel || !transfer.IsLoopback(tcp) {
					watched.kernel = tcp
				} else {
					boundSendBuffer(tcp)
				}
			}
			return watched, nil
		}
		t.MaxIdleConns = 1024
		t.MaxIdleConnsPerHost = 256
		t.ForceAttemptHTTP2 = false
		t.Protocols = new(http.Protocols)
		t.Protocols.SetHTTP1(true)
		t.DisableCompression = true
		// The SDK's transport offers HTTP/2 in the TLS handshake all the same: a server that takes it up
		// would then speak what this one does not understand.
		t.TLSNextProto = make(map[string]func(string, *tls.Conn) http.RoundTripper)
		if t.TLSClientConfig == nil {
			t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		t.TLSClientConfig.NextProtos = []string{"http/1.1"}
		// Bodies are what is sent most: small records first would only be more of them.
		t.TLSClientConfig.DynamicRecordSizingDisabled = true
		// The many connections of an upload resume the session of the one that has begun it.
		t.TLSClientConfig.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		// Each of some hundred connections has two of them.
		t.WriteBufferSize = 32 << 10
		t.ReadBufferSize = 32 << 10
	})
}

// watchedConn is a connection that fails, with a timeout, when for the time stall not one byte
// could be read or written. While a request body is being written nothing is read, so each
// write also renews the time of the read that waits for the answer.
type watchedConn struct {
	net.Conn
	stall   time.Duration
	buffers *bodyBuffers
	kernel  *net.TCPConn          // the same connection, where the kernel copies bodies from their files; else nil
	renewed time.Time             // when the deadlines were set last, by the one goroutine that writes
	stalled atomic.Pointer[error] // the timeout, once there was one
}

func (c *watchedConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.stall + 4*slack(c.stall))); err != nil {
		return 0, c.why(err)
	}
	n, err := c.Conn.Read(p)
	return n, c.why(err)
}

// slack is how old the deadlines may be when something is written: to set them for every record
// of TLS takes longer than the rest of a small write.
func slack(stall time.Duration) time.Duration { return stall / 32 }

// renew puts off both deadlines before something is written. That of the write comes first: how much
// of it went until then only the write can tell.
func (c *watchedConn) renew() error {
	now := time.Now()
	if now.Sub(c.renewed) < slack(c.stall) {
		return nil
	}
	c.renewed = now
	if err := c.SetReadDeadline(now.Add(c.stall + 4*slack(c.stall))); err != nil {
		return err
	}
	return c.SetWriteDeadline(now.Add(c.stall + slack(c.stall)))
}

// isSlow reports whether a write of which n bytes went was ended by its deadline although it made
// progress: where the connection is slow a piece takes longer than the time stall.
func isSlow(n int64, err error) bool { return n > 0 && errors.Is(err, os.ErrDeadlineExceeded) }

// piece is how much is written at once, in bytes: a large write makes progress without returning.
const piece = 256 << 10

// ReadFrom has the kernel copy what is the body of an upload (see [transfer.FileBody]).
func (c *watchedConn) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader) // as net/http bounds a body
	if !ok || c.kernel == nil {
		return c.buffers.copy(c, r)
	}
	body, ok := limited.R.(*transfer.FileBody)
	if !ok {
		return c.buffers.copy(c, r)
	}
	var written int64
	for limited.N > 0 {
		if err := c.renew(); err != nil {
			return written, c.why(err)
		}
		n, err := body.Next(min(piece, limited.N), c.kernel.ReadFrom)
		written += n
		limited.N -= n
		if isSlow(n, err) {
			continue
		}
		if err != nil || n == 0 { // the file has become shorter
			return written, c.why(err)
		}
	}
	return written, nil
}

func (c *watchedConn) Write(p []byte) (int, error) {
	var written int
	for {
		if err := c.renew(); err != nil {
			return written, c.why(err)
		}
		n, err := c.Conn.Write(p[written:min(written+piece, len(p))])
		written += n
		if isSlow(int64(n), err) {
			continue
		}
		if err != nil || written == len(p) {
			return written, c.why(err)
		}
	}
}

// why returns the timeout that ended the connection in place of what came of it: the reader that
// meets it has the transport close the connection under the writer, or the other way round.
func (c *watchedConn) why(err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.stalled.CompareAndSwap(nil, &err)
	}
	if first := c.stalled.Load(); first != nil {
		return *first
	}
	return err
}

// NewS3 returns the S3 client that this package and package transfer need: path style, as every
// URL of the contract; checksums only where we ask for them, since we send our own.
func NewS3(cfg aws.Config, options ...func(*s3.Options)) *s3.Client {
	return s3.NewFromConfig(cfg, append([]func(*s3.Options){func(o *s3.Options) {
		o.UsePathStyle = true
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		o.DisableLogOutputChecksumValidationSkipped = true
		o.Retryer = NewRetryer()
	}}, append(options, func(o *s3.Options) {
		if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok {
			o.HTTPClient = inBursts(c)
		}
		if o.HTTPClient != nil {
			o.HTTPClient = transfer.HTTPClient(o.HTTPClient)
		}
	})...)...)
}

// NewRetryer returns how calls of the SDK are retried: four tries with exponential backoff and
// jitter, and, once a service has throttled one, no more calls a second than it takes (AWS SDKs
// and Tools Reference Guide, "Retry behavior": adaptive mode). It is made once a client.
//
// What can't succeed is not tried again. Where nobody takes the connection, the pauses are short: a
// server that is started anew is back soon, and one that does not run is not waited for.
func NewRetryer() aws.Retryer {
	backoff := retry.NewExponentialJitterBackoff(maxBackoff)
	return retry.NewAdaptiveMode(func(o *retry.AdaptiveModeOptions) {
		o.StandardOptions = append(o.StandardOptions, func(o *retry.StandardOptions) {
			o.MaxAttempts = attempts
			o.Backoff = retry.BackoffDelayerFunc(func(attempt int, err error) (time.Duration, error) {
				delay, backoffErr := backoff.BackoffDelay(attempt, err)
				if transfer.IsUnconnected(err) {
					delay = min(delay, maxUnconnectedBackoff)
				}
				return delay, backoffErr
			})
			o.Retryables = []retry.IsErrorRetryable{retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				// An answer that breaks off: the SDK takes it for a malformed one.
				return aws.BoolTernary(transfer.WorthRetrying(err) || errors.Is(err, io.ErrUnexpectedEOF))
			})}
		})
	})
}

// isThrottled reports whether a service says that it is asked too much.
func isThrottled(err error) bool {
	return retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err).Bool()
}

// TellThrottled returns r, which calls told before it tries again what a service has throttled.
func TellThrottled(r aws.Retryer, told func()) aws.Retryer { return &throttleTeller{r, told} }

type throttleTeller struct {
	aws.Retryer
	told func()
}

// RetryDelay implements [aws.Retryer].
func (t *throttleTeller) RetryDelay(attempt int, err error) (time.Duration, error) {
	if isThrottled(err) {
		t.told()
	}
	return t.Retryer.RetryDelay(attempt, err)
}

// GetAttemptToken implements [aws.RetryerV2], which the adaptive mode needs.
func (t *throttleTeller) GetAttemptToken(ctx context.Context) (func(error) error, error) {
	if v2, ok := t.Retryer.(aws.RetryerV2); ok {
		return v2.GetAttemptToken(ctx)
	}
	return t.GetInitialToken(), nil
}
