package transfer

import (
	"net/http"
	"net/http/httptrace"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// answersAfter is a server that is so far away, with one object.
type answersAfter time.Duration

func (d answersAfter) Do(r *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(r.Context())
	trace.WroteRequest(httptrace.WroteRequestInfo{})
	time.Sleep(time.Duration(d))
	trace.GotFirstResponseByte()
	header := http.Header{
		"Etag": {`"1"`}, "X-Amz-Checksum-Crc64nvme": {"AAAAAAAAAAA="}, "X-Amz-Checksum-Type": {"FULL_OBJECT"},
		"Content-Length": {"1073741824"},
	}
	return &http.Response{StatusCode: http.StatusOK, Header: header, Body: http.NoBody, Request: r}, nil
}

// From a server nearby large objects come in few and large ranges, from one far away in many.
func TestNear(t *testing.T) {
	for _, test := range []struct {
		away      time.Duration
		inFlight  int
		rangeSize int64
	}{
		{nearTime - 1, nearParts, 64 << 20},
		{nearTime, firstParts, 16 << 20},
		{time.Second, firstParts, 16 << 20},
	} {
		synctest.Test(t, func(t *testing.T) {
			e := &Engine{Bucket: "b", S3: s3.New(s3.Options{
				Region: "us-east-1", HTTPClient: answersAfter(test.away), RetryMaxAttempts: 1,
				Credentials: credentials.NewStaticCredentialsProvider("id", "secret", ""), BaseEndpoint: aws.String("http://s3.test"),
			})}
			v, err := e.Version(t.Context(), "key", 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			if got := e.limiter(v.Size).Limit(); got != test.inFlight {
				t.Errorf("%v away: %d in flight, want %d", test.away, got, test.inFlight)
			}
			if got := e.rangeSize(v.Size, e.limiter(v.Size).Limit()); got != test.rangeSize {
				t.Errorf("%v away: ranges of %d bytes, want %d", test.away, got, test.rangeSize)
			}
		})
	}
}

func TestRangeSize(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		partSize, size int64
		inFlight       int
		want           int64
	}{
		{0, 17 * mib, 4, 16 * mib},
		{0, 300 * mib, 4, 16 * mib},
		{0, 600 * mib, 4, 32 * mib},
		{0, 5 << 40, 4, 128 * mib}, // what breaks off is small beside the whole
		{0, 5 << 40, 64, 128 * mib},
		{8 * mib, 5 << 40, 4, 8 * mib}, // --part-size
	} {
		e := &Engine{PartSize: test.partSize}
		if got := e.rangeSize(test.size, test.inFlight); got != test.want {
			t.Errorf("%d bytes, %d in flight, parts of %d: %d, want %d", test.size, test.inFlight, test.partSize, got, test.want)
		}
	}
}
