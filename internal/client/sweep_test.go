package client_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// counting is S3 and DynamoDB as a sweep sees them, without a network: so their time is that of
// synctest. It counts. Records are all temporary files that are due, with an id that tells the
// segment, unless they are deleted.
type counting struct {
	partSize  int           // records that one request of a scan looks at
	scanTakes time.Duration // such a request
	batches   bool          // knows BatchExecuteStatement
	atOnce    int           // writes in flight above which it throttles; 0: never
	refuses   func(key string) bool

	mu       sync.Mutex
	ids      []string
	taken    map[string]bool // by somebody else, and the scan does not know it yet
	deleted  map[string]bool // records
	gone     map[string]bool // objects
	writes   []time.Duration // when units were consumed
	began    time.Time
	inFlight int
	most     int // in flight at once
	throttle int // answers
	removals []int
	removing int // DeleteObjects in flight
	mostRem  int
	overlaps int // writes while a DeleteObjects was in flight
	uploads  time.Duration
}

// The times that requests take.
const (
	writeTakes  = 10 * time.Millisecond
	removeTakes = 500 * time.Millisecond
)

func newCounting(files int) *counting {
	c := &counting{
		partSize: 100, scanTakes: 20 * time.Millisecond, began: time.Now(),
		taken: map[string]bool{}, deleted: map[string]bool{}, gone: map[string]bool{},
	}
	for i := range files {
		c.ids = append(c.ids, fmt.Sprintf("due%013d", i))
	}
	return c
}

// client returns a client of it. Its clock stands.
func (c *counting) client() *client.Client {
	cfg := aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""), HTTPClient: doer(c.do)}
	s3 := client.NewS3(cfg)
	out := &client.Client{
		S3: s3, Bucket: "bucket", Transfer: &transfer.Engine{S3: s3, Bucket: "bucket"}, Claims: client.NewClaims(),
		Settings: client.Settings{URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime},
		Now:      func() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) },
	}
	out.Records = dynamo.New(dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
		// Not the adaptive mode: it may wait for no time at all, over and over, until a nanosecond has passed,
		// and the time of synctest stands still meanwhile.
		o.Retryer = client.TellThrottled(retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts, o.RateLimiter = 2, ratelimit.None
		}), out.Throttled)
	}), "Files")
	return out
}

func (c *counting) do(r *http.Request) (*http.Response, error) {
	body := []byte(nil)
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	status, answer := http.StatusOK, ""
	var err error
	_, call, isDynamoDB := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch {
	case isDynamoDB:
		status, answer, err = c.table(r.Context(), call, body)
	case r.Method == http.MethodGet && r.URL.Query().Has("uploads"):
		err = sleep(r.Context(), c.uploads)
		answer = `<ListMultipartUploadsResult></ListMultipartUploadsResult>`
	case r.Method == http.MethodPost && r.URL.Query().Has("delete"):
		answer, err = c.remove(r.Context(), body)
	case r.Method == http.MethodDelete:
		_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		status, err = http.StatusNoContent, c.removeKeys(r.Context(), key)
	default:
		status, err = http.StatusNotImplemented, nil
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Request: r, Header: http.Header{}, ContentLength: int64(len(answer)), Body: io.NopCloser(strings.NewReader(answer)),
	}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

type attribute struct{ S string }

func (c *counting) table(ctx context.Context, call string, body []byte) (int, string, error) {
	var in struct {
		Key                    struct{ ID attribute }
		ReturnConsumedCapacity string
		Segment, TotalSegments int
		ExclusiveStartKey      struct{ ID attribute }
		Statements             []struct {
			Statement  string
			Parameters []attribute
		}
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return 0, "", err
	}
	capacity := func(units float64) string {
		if in.ReturnConsumedCapacity != "TOTAL" {
			return ""
		}
		return fmt.Sprintf(`{"TableName":"Files","CapacityUnits":%g}`, units)
	}
	switch call {
	case "Query":
		return http.StatusBadRequest, `{"__type":"x#ValidationException","message":"The table does not have the specified index: pending"}`, nil
	case "Scan":
		if err := sleep(ctx, c.scanTakes); err != nil {
			return 0, "", err
		}
		answer := c.scan(in.Segment, max(1, in.TotalSegments), in.ExclusiveStartKey.ID.S)
		return http.StatusOK, answer + `,"ConsumedCapacity":` + capacity(128) + `}`, nil
	case "UpdateItem":
		id := in.Key.ID.S
		switch claimed, err := c.claim(ctx, id); {
		case err != nil:
			return http.StatusBadRequest, `{"__type":"x#ProvisionedThroughputExceededException","message":"too fast"}`, ctx.Err()
		case !claimed:
			return http.StatusBadRequest, `{"__type":"x#ConditionalCheckFailedException","message":"no","Item":` + item(id, true) + `}`, nil
		}
		answer := `{"Attributes":` + item(id, true)
		if units := capacity(1); units != "" {
			answer += `,"ConsumedCapacity":` + units
		}
		return http.StatusOK, answer + `}`, nil
	case "BatchExecuteStatement":
		if !c.batches {
			break
		}
		var responses, units []string
		results := make([]string, len(in.Statements))
		var wg sync.WaitGroup
		for i, s := range in.Statements {
			wg.Go(func() {
				id := s.Parameters[strings.Count(s.Statement, " SET ")].S // after what is set
				claimed, err := c.claim(ctx, id)
				switch {
				case err != nil:
					results[i] = `{"Error":{"Code":"ThrottlingError","Message":"too fast"}}`
				case !claimed:
					results[i] = `{"Error":{"Code":"ConditionalCheckFailed","Message":"no"}}`
				default:
					results[i] = `{"TableName":"Files","Item":` + item(id, true) + `}`
				}
			})
		}
		wg.Wait()
		for _, r := range results {
			responses = append(responses, r)
			if u := capacity(1); u != "" {
				units = append(units, u)
			}
		}
		return http.StatusOK, `{"Responses":[` + strings.Join(responses, ",") + `],"ConsumedCapacity":[` + strings.Join(units, ",") + `]}`, nil
	}
	return http.StatusBadRequest, `{"__type":"x#UnknownOperationException","message":"` + call + `"}`, nil
}

func item(id string, deleted bool) string {
	out := `{"id":{"S":"` + id + `"},"name":{"S":"a"},"uploaded_at":{"S":"2026-11-25T10:00:00"}`
	if deleted {
		out += `,"deleted_at":{"S":"2026-11-25T12:00:00"}`
	}
	return out + `}`
}

// scan looks at the next partSize records of a segment, which are every so-manyth.
func (c *counting) scan(segment, segments int, after string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := segment
	if after != "" {
		n, _ := strconv.Atoi(strings.TrimPrefix(after, "due"))
		i = n + segments
	}
	var items []string
	looked, last := 0, ""
	for ; i < len(c.ids) && looked < c.partSize; i += segments {
		looked, last = looked+1, c.ids[i]
		if !c.deleted[last] {
			items = append(items, item(last, false))
		}
	}
	answer := fmt.Sprintf(`{"Count":%d,"ScannedCount":%d,"Items":[%s]`, len(items), looked, strings.Join(items, ","))
	if i < len(c.ids) {
		answer += `,"LastEvaluatedKey":{"id":{"S":"` + last + `"}}`
	}
	return answer
}

var errTooFast = errors.New("too fast")

// claim is one conditional write.
func (c *counting) claim(ctx context.Context, id string) (bool, error) {
	c.mu.Lock()
	c.inFlight++
	c.most = max(c.most, c.inFlight)
	tooFast := c.atOnce > 0 && c.inFlight > c.atOnce
	if tooFast {
		c.throttle++
	}
	if c.removing > 0 {
		c.overlaps++
	}
	c.mu.Unlock()
	_ = sleep(ctx, writeTakes)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight--
	if tooFast {
		return false, errTooFast
	}
	c.writes = append(c.writes, time.Since(c.began))
	if c.taken[id] || c.deleted[id] {
		return false, nil
	}
	c.deleted[id] = true
	return true, nil
}

func (c *counting) remove(ctx context.Context, body []byte) (string, error) {
	var asked struct {
		Keys []string `xml:"Object>Key"`
	}
	if err := xml.Unmarshal(body, &asked); err != nil {
		return "", err
	}
	var failed strings.Builder
	keys := slices.DeleteFunc(asked.Keys, func(key string) bool {
		if c.refuses == nil || !c.refuses(key) {
			return false
		}
		fmt.Fprintf(&failed, `<Error><Key>%s</Key><Code>InternalError</Code><Message>try again</Message></Error>`, key)
		return true
	})
	if err := c.removeKeys(ctx, keys...); err != nil {
		return "", err
	}
	return `<DeleteResult>` + failed.String() + `</DeleteResult>`, nil
}

func (c *counting) removeKeys(ctx context.Context, keys ...string) error {
	c.mu.Lock()
	c.removals = append(c.removals, len(keys))
	c.removing++
	c.mostRem = max(c.mostRem, c.removing)
	c.mu.Unlock()
	err := sleep(ctx, removeTakes)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.removing--
	for _, key := range keys {
		c.gone[key] = true
	}
	return err
}

// wantWhole fails the test unless every file that was claimed has lost its object, and no other one.
func (c *counting) wantWhole(t *testing.T) {
	t.Helper()
	if !maps.Equal(c.deleted, c.gone) {
		t.Errorf("%d records are marked as deleted, %d objects are gone", len(c.deleted), len(c.gone))
	}
}

// In any t seconds no more units are written than the rate times t+1, and what one request takes;
// claims that somebody else was faster with count too.
func TestSweepKeepsWriteRate(t *testing.T) {
	const files, lost, rate = 2000, 400, 100
	for _, batches := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			server := newCounting(files)
			server.batches = batches
			for _, id := range server.ids[:lost] {
				server.taken[id] = true
			}
			writes := records.NewMeter(rate)
			s, err := server.client().Expire(t.Context(), client.ExpireOptions{Writes: writes})
			if err != nil || s != (client.Summary{Expired: files - lost}) {
				t.Fatalf("%+v, %v", s, err)
			}
			largest := 1.0
			if batches {
				largest = 25
			}
			slices.Sort(server.writes)
			for i, first := range server.writes {
				for j := i; j < len(server.writes); j++ {
					if taken, seconds := float64(j-i+1), (server.writes[j] - first).Seconds(); taken > rate*(seconds+1)+largest {
						t.Fatalf("batches %t: %g units in %.2f s", batches, taken, seconds)
					}
				}
			}
			took := server.writes[len(server.writes)-1].Seconds()
			if ideal := float64(len(server.writes)) / rate; took > 1.1*ideal+2 {
				t.Errorf("batches %t: %.1f s for what the rate allows in %.1f", batches, took, ideal)
			}
			// A claim that a batch does not carry out is made again by itself, to get its reason.
			if got := writes.Total().Units; got != float64(len(server.writes)) || got < files {
				t.Errorf("batches %t: %g units are counted, %d were consumed", batches, got, len(server.writes))
			}
			server.wantWhole(t)
		})
	}
}

// After its time a sweep begins nothing new, also where it waits for units, and finishes what it has begun.
func TestSweepOverInTime(t *testing.T) {
	for name, rates := range map[string][2]float64{
		"without other limits": {},
		"slow writes":          {0, 20},
		"slow reads":           {1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const files = 20_000
				server := newCounting(files)
				server.scanTakes = 200 * time.Millisecond
				begin := time.Now()
				s, err := server.client().Expire(t.Context(), client.ExpireOptions{
					MaxDuration: 3 * time.Second, Reads: records.NewMeter(rates[0]), Writes: records.NewMeter(rates[1]),
				})
				took := time.Since(begin)
				if err != nil || !s.Unfinished || s.Failed > 0 || s.Expired != len(server.deleted) || s.Expired == 0 || s.Expired == files {
					t.Errorf("%+v, %v", s, err)
				}
				// What waited to be claimed is counted, and no file twice.
				if rates[1] > 0 && s.Left == 0 || (s.Left == 0) != s.LeftSince.IsZero() || s.Expired+s.Left > files {
					t.Errorf("%d files are left, since %s", s.Left, s.LeftSince)
				}
				// Then a write, and the requests that delete the objects, are finished.
				if took < 3*time.Second || took > 3*time.Second+writeTakes+2*removeTakes {
					t.Errorf("it took %s", took)
				}
				server.wantWhole(t)
			})
		})
	}

	t.Run("all is done", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := newCounting(100)
			s, err := server.client().Expire(t.Context(), client.ExpireOptions{MaxDuration: time.Hour})
			if err != nil || s != (client.Summary{Expired: 100}) {
				t.Errorf("%+v, %v", s, err)
			}
			server.wantWhole(t)
		})
	})

	t.Run("before the records", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			server := newCounting(100)
			server.uploads = time.Minute
			s, err := server.client().Expire(t.Context(), client.ExpireOptions{MaxDuration: time.Second})
			if err != nil || s != (client.Summary{Unfinished: true}) || len(server.writes) > 0 {
				t.Errorf("%+v, %v, %d writes", s, err, len(server.writes))
			}
		})
	})
}

// A table of which one run looks at a tenth is swept by some more runs: each looks elsewhere.
func TestSweepsStarveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const files = 5000
		server := newCounting(files)
		server.scanTakes = time.Second // 512 parts, 8 at once: 64 s for all
		runs := 0
		for ; len(server.deleted) < files; runs++ {
			before := len(server.deleted)
			s, err := server.client().Expire(t.Context(), client.ExpireOptions{MaxDuration: 6500 * time.Millisecond})
			if err != nil || !s.Unfinished || s.Expired != len(server.deleted)-before {
				t.Fatalf("%+v, %v", s, err)
			}
			if runs == 1000 {
				t.Fatalf("%d files are left", files-len(server.deleted))
			}
		}
		// A coupon collector's arithmetic: a part is missed by a run with a chance of 0.9, by 150 runs by 1e-7.
		t.Logf("after %d runs", runs)
		server.wantWhole(t)
	})
}

// Fewer claims are in flight once the table throttles, more when it takes them; none is lost.
func TestClaimsAdapt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const files = 5000
		server := newCounting(files)
		c := server.client()
		if s, err := c.Expire(t.Context(), client.ExpireOptions{}); err != nil || s.Expired != files {
			t.Fatalf("%+v, %v", s, err)
		}
		if server.most < 100 || c.Claims.Limit() < 100 {
			t.Errorf("%d claims were in flight, the bound is %d: more would have brought more", server.most, c.Claims.Limit())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		const files, atOnce = 600, 4
		server := newCounting(files)
		server.atOnce = atOnce
		c := server.client()
		s, err := c.Expire(t.Context(), client.ExpireOptions{})
		if err != nil || s.Expired != files || s.Failed > 0 {
			t.Fatalf("%+v, %v", s, err)
		}
		if bound := c.Claims.Limit(); bound > 5*atOnce {
			t.Errorf("the bound is %d where %d are taken", bound, atOnce)
		}
		if server.throttle == 0 || server.throttle > files/4 {
			t.Errorf("%d answers said that it was too fast", server.throttle)
		}
		server.wantWhole(t)
	})
}

// Objects are deleted 1,000 with a request, some requests at once, and meanwhile claims go on.
func TestObjectsGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const files = 12_500
		server := newCounting(files)
		s, err := server.client().Expire(t.Context(), client.ExpireOptions{})
		if err != nil || s != (client.Summary{Expired: files}) {
			t.Fatalf("%+v, %v", s, err)
		}
		full := 0
		for _, n := range server.removals {
			if n == 1000 {
				full++
			}
		}
		if full != 12 || len(server.removals) != 13 {
			t.Errorf("requests for %d objects", server.removals)
		}
		if server.mostRem < 2 || server.mostRem > 4 || server.overlaps < files/4 {
			t.Errorf("%d requests at once, %d claims meanwhile", server.mostRem, server.overlaps)
		}
		server.wantWhole(t)
	})
}

// Where claims are slow, objects do not wait for a full request.
func TestObjectsWaitNotLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const files = 100
		server := newCounting(files)
		s, err := server.client().Expire(t.Context(), client.ExpireOptions{Writes: records.NewMeter(1)})
		if err != nil || s.Expired != files {
			t.Fatalf("%+v, %v", s, err)
		}
		if most := slices.Max(server.removals); most > 10 {
			t.Errorf("%d objects have waited for each other, with a claim a second", most)
		}
		server.wantWhole(t)
	})
}

// What S3 refused to delete is told by key, and the next sweep deletes it.
func TestRefusedObjects(t *testing.T) {
	const files, refused = 2500, 7
	onDisk := openRecords(t)
	limit := onDisk.stamp(2 * time.Hour)
	server := newCounting(files)
	var rs []records.Record
	for _, id := range server.ids {
		rs = append(rs, records.Record{ID: id, Name: "a", UploadedAt: limit, Size: 1})
		server.deleted[id] = true // as far as objects are concerned
	}
	onDisk.insert(t, rs)
	c := server.client()
	onDisk.S3, onDisk.Bucket, onDisk.Transfer = c.S3, c.Bucket, c.Transfer
	server.refuses = func(key string) bool { return slices.Index(server.ids, key)%(files/refused+1) == 0 }
	s, swept := onDisk.sweep(t, client.ExpireOptions{})
	if s != (client.Summary{Expired: files - refused, Failed: refused}) {
		t.Errorf("%+v", s)
	}
	for id, done := range swept {
		if server.refuses(id) {
			wantReason(t, done.Err, client.Retry)
		} else if done.Err != nil {
			t.Errorf("%q: %v", id, done.Err)
		}
	}
	server.refuses = nil
	if s, _ := onDisk.sweep(t, client.ExpireOptions{}); s != (client.Summary{Cleaned: files}) {
		t.Errorf("%+v", s)
	}
	server.wantWhole(t)
}

// claimable is a generated table whose files can be claimed.
type claimable struct{ generated }

func (claimable) ExpireMany(_ context.Context, ids []string, _, _ records.Stamp) ([]string, error) {
	return ids, nil
}

func (claimable) Expire(context.Context, string, records.Stamp, records.Stamp) (records.Record, error) {
	return records.Record{}, nil
}

// oneByOne hides that a table can claim many at once.
type oneByOne struct{ records.Table }

// However many files are due, or are cleaned again, a sweep holds a few of them.
func TestSweepIsFlat(t *testing.T) {
	if testserver.Race {
		t.Skip("400,000 records, to see how the heap grows")
	}
	const n = 100_000
	for name, deleted := range map[string]bool{"due": false, "cleaned again": true} {
		for _, together := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, together %t", name, together), func(t *testing.T) {
				server := newCounting(0)
				c := server.client()
				done := make(chan struct{})
				quick := doer(func(r *http.Request) (*http.Response, error) {
					if r.Method == http.MethodPost {
						runtime.Gosched()
					}
					answer := `<DeleteResult></DeleteResult>`
					return &http.Response{StatusCode: http.StatusOK, Request: r, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(answer))}, nil
				})
				c.S3 = client.NewS3(aws.Config{Region: "us-east-1", HTTPClient: quick, Credentials: credentials.NewStaticCredentialsProvider("key", "secret", "")})
				heap := func() int64 {
					runtime.GC()
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					return int64(min(m.HeapAlloc, math.MaxInt64))
				}
				before, peak := heap(), int64(0)
				table := claimable{generated{n: n, end: func() { close(done) }, record: func(i int) records.Record {
					if i%(n/10) == n/20 {
						peak = max(peak, heap())
					}
					r := records.Record{ID: fmt.Sprintf("flat%012d", i), Name: strings.Repeat("n", 200), Size: 1, UploadedAt: "2026-11-25T10:00:00"}
					if deleted {
						r.DeletedAt = "2026-11-25T11:00:00"
					}
					return r
				}}}
				c.Records = table
				if !together {
					c.Records = oneByOne{table}
				}
				s, err := c.Expire(t.Context(), client.ExpireOptions{})
				if err != nil || s.Expired+s.Cleaned != n {
					t.Fatalf("%+v, %v", s, err)
				}
				<-done
				// 100,000 records of 300 bytes alone would be 30 MiB.
				if grown := peak - before; grown > 10<<20 {
					t.Errorf("the heap has grown by %d KiB", grown>>10)
				}
			})
		}
	}
}

// Two sweeps at the same time are mostly at different parts of the table: each does its share, and few
// claims are lost to the other.
func TestTwoSweepsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const files = 3000
		server := newCounting(files)
		server.partSize = 10
		var sweeps [2]*expired
		var running sync.WaitGroup
		for i := range sweeps {
			running.Go(func() { sweeps[i] = runSweep(t, server.client()) })
		}
		running.Wait()
		a, b := sweeps[0].summary, sweeps[1].summary
		if a.Expired+b.Expired != files || a.Failed+b.Failed > 0 || min(a.Expired, b.Expired) < files/4 {
			t.Errorf("%+v and %+v", a, b)
		}
		if lost := len(server.writes) - files; lost > files/4 {
			t.Errorf("%d claims of %d were lost", lost, len(server.writes))
		}
		server.wantWhole(t)
	})
}

// Two sweeps of many files at the same time: none fails, and none is counted twice.
func TestTwoSweepsOfMany(t *testing.T) {
	onBothTables(t, func(t *testing.T, on servers) {
		files := 2000 // four pages
		if on.dynamoDB != "" {
			files = 400 // in parts, each file with a request of its own
		}
		f := on.open(t)
		uploaded := f.stamp(2 * time.Hour)
		f.many(t, files, func(i int) records.Record {
			return records.Record{ID: scaleID(i), Size: 1, CreatedAt: uploaded, UploadedAt: uploaded}
		})
		var sweeps [2]*expired
		var running sync.WaitGroup
		for i := range sweeps {
			c := f.another(t)
			running.Go(func() { sweeps[i] = runSweep(t, c) })
		}
		running.Wait()
		sum := 0
		for _, s := range sweeps {
			if s.err != nil || s.summary.Failed > 0 {
				t.Errorf("%+v, %v, %v", s.summary, s.err, s.failed)
			}
			sum += s.summary.Expired
		}
		t.Logf("%d and %d files", sweeps[0].summary.Expired, sweeps[1].summary.Expired)
		if sum != files {
			t.Errorf("%d files of %d", sum, files)
		}
		for _, r := range f.records(t) {
			if r.State() != records.Deleted {
				t.Fatalf("%+v is left", r)
			}
		}
	})
}
