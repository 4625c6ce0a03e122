package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
)

// pageUnits is what a megabyte costs, read eventually consistently.
const pageUnits = 128

// segmented is a DynamoDB that counts: of so many pages in each segment, with one record each. A
// page takes 100 ms.
type segmented struct {
	dynamo.API // nil: only Scan is called
	pages      int
	fail       func(segment, page int) error
	silent     bool // tells no ConsumedCapacity

	mu       sync.Mutex
	begin    time.Time
	answered []time.Duration
	inFlight int
	most     int // in flight at once
}

func (s *segmented) Scan(ctx context.Context, in *dynamodb.ScanInput, _ ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	segment, page := 0, 0
	if in.Segment != nil {
		segment = int(*in.Segment)
	}
	if key, ok := in.ExclusiveStartKey["id"].(*types.AttributeValueMemberS); ok {
		n, err := strconv.Atoi(key.Value)
		if err != nil {
			return nil, err
		}
		page = n + 1
	}
	s.mu.Lock()
	if s.begin.IsZero() {
		s.begin = time.Now()
	}
	s.inFlight++
	s.most = max(s.most, s.inFlight)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.inFlight--
	}()
	if s.fail != nil {
		if err := s.fail(segment, page); err != nil {
			return nil, err
		}
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(100 * time.Millisecond):
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answered = append(s.answered, time.Since(s.begin))
	out := &dynamodb.ScanOutput{
		Items:        []map[string]types.AttributeValue{{"id": text(fmt.Sprintf("segment%d page%d", segment, page))}},
		ScannedCount: 3000,
	}
	if in.ReturnConsumedCapacity == types.ReturnConsumedCapacityTotal && !s.silent {
		out.ConsumedCapacity = &types.ConsumedCapacity{CapacityUnits: aws.Float64(pageUnits)}
	}
	if page+1 < s.pages {
		out.LastEvaluatedKey = map[string]types.AttributeValue{"id": text(strconv.Itoa(page))}
	}
	return out, nil
}

func (s *segmented) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.answered) + s.inFlight
}

// Segments are read at the same time, every page of them, and what it cost is counted.
func TestSegments(t *testing.T) {
	for _, test := range []struct {
		segments int
		want     time.Duration
	}{{0, time.Second}, {1, time.Second}, {8, time.Second}, {50, time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			server := &segmented{pages: 10}
			meter := records.NewMeter(0)
			begin := time.Now()
			seen := make(map[string]bool)
			for page, err := range dynamo.New(server, "Files").Scan(t.Context(), records.Filter{}, records.ScanOptions{Segments: test.segments, Meter: meter}) {
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page {
					seen[r.ID] = true
				}
			}
			pages := 10 * max(test.segments, 1)
			if took := time.Since(begin); len(seen) != pages || took != test.want || server.most != max(test.segments, 1) {
				t.Errorf("%d segments: %d pages in %s, %d at once", test.segments, len(seen), took, server.most)
			}
			want := records.Cost{Requests: int64(pages), Records: int64(3000 * pages), Units: float64(pageUnits * pages)}
			if got := meter.Total(); got != want {
				t.Errorf("%d segments: %+v, want %+v", test.segments, got, want)
			}
		})
	}
}

// A table in more parts than are read at once: each is read to its end, once, and those that come first
// are others each time.
func TestParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const segments, parts, pages = 4, 64, 3
		first := make(map[string]bool)
		for range 20 {
			server := &segmented{pages: pages}
			seen := make(map[string]bool)
			for page, err := range dynamo.New(server, "Files").Scan(t.Context(), records.Filter{}, records.ScanOptions{Segments: segments, Parts: parts}) {
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range page {
					if len(seen) == 0 {
						first[r.ID] = true
					}
					if seen[r.ID] {
						t.Errorf("%s was read twice", r.ID)
					}
					seen[r.ID] = true
				}
			}
			if len(seen) != parts*pages || server.most != segments {
				t.Errorf("%d pages, %d at once", len(seen), server.most)
			}
		}
		// 20 of 64: that they are fewer than 8 different ones has a chance of less than 1e-12.
		if len(first) < 8 {
			t.Errorf("the scans began at %v", first)
		}
	})
}

// A caller that takes its time has one page of each segment waiting for it, and no more: memory
// does not depend on the size of the table. Without segments nothing is read ahead.
func TestReadAhead(t *testing.T) {
	for segments, ahead := range map[int]int{0: 0, 1: 1, 4: 4} {
		synctest.Test(t, func(t *testing.T) {
			server := &segmented{pages: 1000}
			taken := 0
			for _, err := range dynamo.New(server, "Files").Scan(t.Context(), records.Filter{}, records.ScanOptions{Segments: segments}) {
				if err != nil {
					t.Fatal(err)
				}
				taken++
				time.Sleep(time.Hour)
				if got := server.requests(); got != taken+ahead {
					t.Fatalf("%d segments: %d requests for %d pages", segments, got, taken)
				}
				if taken == 20 {
					break
				}
			}
		})
	}
}

// A segment that fails ends the scan: its error comes once, and nothing is left running, which
// synctest would report.
func TestSegmentFails(t *testing.T) {
	broken := errors.New("broken")
	for _, segments := range []int{1, 2, 8} {
		synctest.Test(t, func(t *testing.T) {
			server := &segmented{pages: 100, fail: func(segment, page int) error {
				if segment == segments-1 && page == 3 {
					return broken
				}
				return nil
			}}
			var errs []error
			pages := 0
			for page, err := range dynamo.New(server, "Files").Scan(t.Context(), records.Filter{}, records.ScanOptions{Segments: segments}) {
				if err != nil {
					errs = append(errs, err)
					continue
				}
				pages += len(page)
			}
			if len(errs) != 1 || !errors.Is(errs[0], broken) || pages < 3 || pages > 5*segments {
				t.Errorf("%d segments: errors %v after %d pages", segments, errs, pages)
			}
			synctest.Wait()
			if server.inFlight != 0 {
				t.Errorf("%d segments: %d requests are left", segments, server.inFlight)
			}
		})
	}
}

// However the caller stops, by a panic too, the segments have ended when it goes on.
func TestSegmentsStopped(t *testing.T) {
	scan := func(t *testing.T, server *segmented, each func(page int)) {
		t.Helper()
		defer func() {
			_ = recover() // the caller's own
			if server.inFlight != 0 {
				t.Errorf("%d requests are left", server.inFlight)
			}
		}()
		page := 0
		for _, err := range dynamo.New(server, "Files").Scan(t.Context(), records.Filter{}, records.ScanOptions{Segments: 8}) {
			if err != nil {
				t.Error(err)
			}
			each(page)
			if page++; page == 5 {
				break
			}
		}
	}
	synctest.Test(t, func(t *testing.T) { scan(t, &segmented{pages: 100}, func(int) {}) })
	synctest.Test(t, func(t *testing.T) {
		scan(t, &segmented{pages: 100}, func(page int) {
			if page == 2 {
				panic("in the caller")
			}
		})
	})
}

// When the context ends, requests in flight are broken off, and so are those that wait for
// their turn in the budget.
func TestSegmentsCanceled(t *testing.T) {
	for _, rate := range []float64{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 950*time.Millisecond)
			defer cancel()
			begin := time.Now()
			var errs []error
			for _, err := range dynamo.New(&segmented{pages: 100}, "Files").Scan(ctx, records.Filter{}, records.ScanOptions{Segments: 4, Meter: records.NewMeter(rate)}) {
				if err != nil {
					errs = append(errs, err)
				}
			}
			if len(errs) != 1 || !errors.Is(errs[0], context.DeadlineExceeded) || time.Since(begin) != 950*time.Millisecond {
				t.Errorf("rate %g: errors %v after %s", rate, errs, time.Since(begin))
			}
		})
	}
}

// However many segments there are, they share one budget: in any t seconds the server is asked
// for no more than the rate times t+1, and what one request takes.
func TestScanKeepsRate(t *testing.T) {
	const rate = 500
	for _, segments := range []int{0, 1, 8} {
		synctest.Test(t, func(t *testing.T) {
			server := &segmented{pages: 80 / max(segments, 1)}
			meter := records.NewMeter(rate)
			for _, err := range dynamo.New(server, "Files").Scan(t.Context(), records.Filter{}, records.ScanOptions{Segments: segments, Meter: meter}) {
				if err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(server.answered)
			for i, first := range server.answered {
				for j := i; j < len(server.answered); j++ {
					seconds := (server.answered[j] - first).Seconds()
					if taken := float64(j-i+1) * pageUnits; taken > rate*(seconds+1)+pageUnits {
						t.Fatalf("%d segments: %.0f units in %.2f s", segments, taken, seconds)
					}
				}
			}
			took, ideal := server.answered[len(server.answered)-1].Seconds(), 80*pageUnits/float64(rate)
			if took > 1.1*ideal+1 {
				t.Errorf("%d segments: %.1f s, where the rate allows %.1f", segments, took, ideal)
			}
			if units := meter.Total().Units; units != 80*pageUnits {
				t.Errorf("%d segments: %g units", segments, units)
			}
		})
	}
}

// Where a server does not tell what a request has cost, the rate still holds: each counts as
// all of a second.
func TestScanOfUnknownCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &segmented{pages: 10, silent: true}
		meter := records.NewMeter(500)
		for _, err := range dynamo.New(server, "Files").Scan(t.Context(), records.Filter{}, records.ScanOptions{Segments: 2, Meter: meter}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if last := slices.Max(server.answered); last < 19*time.Second {
			t.Errorf("20 requests in %s", last)
		}
		if got := meter.Total(); got != (records.Cost{Requests: 20, Records: 60_000}) {
			t.Errorf("%+v", got)
		}
	})
}
