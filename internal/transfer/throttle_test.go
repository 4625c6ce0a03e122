package transfer_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/transfer"
)

// A service that says SlowDown gets fewer requests at once, and more again once it takes them. Time
// is that of synctest: every request takes exactly 10 ms.
func TestSlowDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := &throttlingS3{bearable: 1 << 30}
		e := &transfer.Engine{Bucket: bucket, S3: client.NewS3(aws.Config{
			Region: "us-east-1", HTTPClient: service,
			Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
		})}
		file := bytesFile([]byte("hello\n"))
		// upload uploads n files, as many at once as the engine asks for, and returns how many requests
		// were in flight at most.
		upload := func(n int) int {
			t.Helper()
			next := make(chan int)
			var wg sync.WaitGroup
			for range e.FilesAtOnce() {
				wg.Go(func() {
					for i := range next {
						object, err := e.UploadFile(t.Context(), fmt.Sprint(i), "text/plain", file, nil)
						if err != nil || object.Verified != "CRC64NVME" {
							t.Errorf("file %d: %+v, %v", i, object, err)
						}
					}
				})
			}
			for i := range n {
				next <- i
			}
			close(next)
			wg.Wait()
			return service.most()
		}

		if n := upload(1000); n < 200 {
			t.Errorf("%d requests in flight at a service that takes all, want about 256", n)
		}
		const bearable = 40
		service.bear(bearable)
		upload(800) // to find out
		if service.throttled() == 0 {
			t.Error("nothing was throttled")
		}
		if n := upload(300); n > 2*bearable {
			t.Errorf("%d requests in flight at a service that takes %d", n, bearable)
		}
		// From one moment to the next a 64th, the fewest that it goes down to: no file fails for it.
		service.bear(1 << 30)
		upload(1000)
		service.bear(4)
		upload(2000)
		service.bear(1 << 30)
		if n := upload(3000); n < 3*bearable {
			t.Errorf("%d requests in flight when the storm is over, want more and more", n)
		}
	})
}

// throttlingS3 takes any PutObject, in 10 ms, and answers SlowDown to those that come while more
// than it bears are under way.
type throttlingS3 struct {
	mu             sync.Mutex
	bearable       int
	inFlight, peak int
	slowedDown     int
}

func (s *throttlingS3) bear(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bearable = n
}

// most returns how many requests were in flight since it was last called.
func (s *throttlingS3) most() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.peak
	s.peak = 0
	return n
}

func (s *throttlingS3) throttled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slowedDown
}

func (s *throttlingS3) Do(r *http.Request) (*http.Response, error) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.inFlight++
	s.peak = max(s.peak, s.inFlight)
	slowDown := s.inFlight > s.bearable
	if slowDown {
		s.slowedDown++
	}
	s.mu.Unlock()

	time.Sleep(10 * time.Millisecond)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.inFlight--
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody}
	if slowDown {
		resp.StatusCode = http.StatusServiceUnavailable
		resp.Body = io.NopCloser(strings.NewReader("<Error><Code>SlowDown</Code></Error>"))
		return resp, nil
	}
	resp.Header.Set("ETag", `"etag"`)
	resp.Header.Set("X-Amz-Checksum-Crc64nvme", r.Header.Get("X-Amz-Checksum-Crc64nvme"))
	return resp, nil
}

var _ s3.HTTPClient = (*throttlingS3)(nil)
