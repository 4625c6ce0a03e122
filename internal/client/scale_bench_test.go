package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/testserver"
)

// BenchmarkExpire sweeps tables of which every tenth record is due, and has an object; beside it
// runs a plain loop over the same table, as the HTTP API does it: page by page, for each due file one
// conditional write, and then one DeleteObject.
//
// It takes one round of each, "-benchtime 1x". FILESTORE_SCALE sets the number of records: "1000000", or
// several, "100000 1000000". The numbers are in docs/scale.md.
func BenchmarkExpire(b *testing.B) {
	sizes := func(byDefault int) []int {
		var all []int
		for field := range strings.FieldsSeq(os.Getenv("FILESTORE_SCALE")) {
			n, err := strconv.Atoi(field)
			if err != nil {
				b.Fatal(err)
			}
			all = append(all, n)
		}
		if all == nil {
			return []int{byDefault}
		}
		return all
	}
	for _, n := range sizes(100_000) {
		b.Run(fmt.Sprintf("sqlite/%d", n), func(b *testing.B) {
			benchmarkExpire(b, servers{s3: testserver.Versitygw(b)}, n, 0)
		})
	}
	// Between a client and AWS some milliseconds pass with every request, and none to this machine.
	for _, latency := range []time.Duration{0, 5 * time.Millisecond} {
		for _, n := range sizes(20_000) {
			b.Run(fmt.Sprintf("dynalite/%s/%d", latency, n), func(b *testing.B) {
				benchmarkExpire(b, servers{s3: testserver.Versitygw(b), dynamoDB: testserver.Dynalite(b)}, n, latency)
			})
		}
	}
}

func benchmarkExpire(b *testing.B, on servers, n int, latency time.Duration) {
	b.Helper()
	for _, way := range []struct {
		name string
		run  func(*filestore) (expired int, err error)
	}{
		{"sweep", func(f *filestore) (int, error) {
			s, err := f.Expire(b.Context(), client.ExpireOptions{})
			if s.Failed > 0 {
				err = errors.Join(err, fmt.Errorf("%d files failed", s.Failed))
			}
			return s.Expired, err
		}},
		{"loop", func(f *filestore) (int, error) { return expireOneByOne(b.Context(), f) }},
	} {
		b.Run(way.name, func(b *testing.B) {
			var requests atomic.Int64
			for range b.N {
				b.StopTimer()
				f := on.open(b)
				fillDue(b, f, n)
				f.slow(b, latency, &requests)
				requests.Store(0)
				reset := resetPeak(b)
				b.StartTimer()
				expired, err := way.run(f)
				b.StopTimer()
				if err != nil || expired != n/10 {
					b.Fatalf("%d files of %d expired: %v", expired, n/10, err)
				}
				if reset {
					b.ReportMetric(peakRSS(b), "peak-RSS-MiB")
				}
				if objects := f.objects(b); len(objects) > 0 {
					b.Fatalf("%d objects are left", len(objects))
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(requests.Load()), "requests")
			b.ReportMetric(float64(n/10)*float64(b.N)/b.Elapsed().Seconds(), "files/s")
		})
	}
}

// slow has the client's requests wait before they are sent, straight to the servers, and counts them.
func (f *filestore) slow(b *testing.B, latency time.Duration, requests *atomic.Int64) {
	through := client.HTTPClient(time.Minute, nil)
	transport := doer(func(r *http.Request) (*http.Response, error) {
		requests.Add(1)
		if latency > 0 {
			select {
			case <-time.After(latency):
			case <-r.Context().Done():
				return nil, r.Context().Err()
			}
		}
		return through.Do(r)
	})
	f.useS3(s3.New(f.api.Options(), func(o *s3.Options) { o.HTTPClient = transport }))
	f.Records = f.table
	if f.dynamoDB != "" {
		f.Records = dynamo.New(testserver.DynamoDB(f.dynamoDB, func(o *dynamodb.Options) {
			o.HTTPClient, o.Retryer = transport, client.TellThrottled(client.NewRetryer(), f.Throttled)
		}), f.tableName)
		f.Claims = client.NewClaims()
	}
}

// expireOneByOne expires what is due without anything at the same time.
func expireOneByOne(ctx context.Context, f *filestore) (expired int, err error) {
	limit := f.stamp(client.DefaultTemporaryLifetime)
	for page, err := range f.Records.Scan(ctx, records.Filter{UploadedBefore: limit}, records.ScanOptions{}) {
		if err != nil {
			return expired, err
		}
		for _, r := range page {
			if _, err := f.Records.Expire(ctx, r.ID, f.stamp(0), limit); err != nil {
				return expired, err
			}
			if _, err := f.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &f.Bucket, Key: &r.ID}); err != nil {
				return expired, err
			}
			expired++
		}
	}
	return expired, nil
}

// fillDue makes n records, of which every tenth is due and has an object.
func fillDue(b *testing.B, f *filestore, n int) {
	b.Helper()
	uploaded, stored := f.stamp(2*time.Hour), f.stamp(time.Hour)
	record := func(i int) records.Record {
		r := records.Record{
			ID: scaleID(i), Name: fmt.Sprintf("file number %d, with a name of common length.pdf", i), Type: "application/pdf",
			Size: 1 << 20, Meta: `{"path":"some/where"}`, CreatedAt: uploaded, UploadedAt: uploaded,
		}
		if i%10 != 0 {
			r.StoredAt = stored
		}
		return r
	}
	const together = 10_000
	for first := 0; first < n; first += together {
		var rs []records.Record
		for i := first; i < min(first+together, n); i++ {
			rs = append(rs, record(i))
		}
		f.fill(b, rs)
	}
	var group errgroup.Group
	group.SetLimit(8)
	for i := 0; i < n; i += 10 {
		group.Go(func() error { return f.tryPut(b.Context(), scaleID(i), "") })
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

// scaleID is an id of 16 characters; those that follow each other are far apart, as ids are.
func scaleID(i int) string {
	const odd, room = 6364136223846793005, 2821109907456 // 36^8
	return fmt.Sprintf("%08s%08d", strconv.FormatUint(uint64(i)*odd%room, 36), i)
}

// resetPeak forgets the memory that the process has used so far, and reports whether that can be done
// (proc(5), "/proc/pid/clear_refs").
func resetPeak(b *testing.B) bool {
	b.Helper()
	debug.FreeOSMemory()
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) == nil
}

// peakRSS is the most memory that the process has had, in MiB.
func peakRSS(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	for line := range bytes.Lines(status) {
		if kib, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			n, err := strconv.Atoi(string(bytes.Fields(kib)[0]))
			if err != nil {
				b.Fatal(err)
			}
			return float64(n) / 1024
		}
	}
	b.Fatal("no VmHWM")
	return 0
}
