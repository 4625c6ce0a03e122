package client_test

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
)

// sweep runs a sweep and returns, beside its summary, what it reported by id.
func (f *filestore) sweep(t testing.TB, opts client.ExpireOptions) (client.Summary, map[string]client.Swept) {
	t.Helper()
	swept := make(map[string]client.Swept)
	opts.Report = func(s client.Swept) {
		if _, twice := swept[s.ID]; twice {
			t.Errorf("%q was reported twice", s.ID)
		}
		swept[s.ID] = s
	}
	summary, err := f.Expire(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if f.Records == f.table || f.dynamoFaults != nil {
		if want := f.indexed && !opts.Full; summary.Indexed != want {
			t.Errorf("the index was read: %t, want %t", summary.Indexed, want)
		}
	}
	summary.Indexed = false // the tests are the same with an index and without
	if n := summary.Expired + summary.Abandoned + summary.Settled + summary.Cleaned + summary.Aborted + summary.Failed; n != len(swept) {
		t.Errorf("%d files are counted, %d were reported", n, len(swept))
	}
	return summary, swept
}

// wantSwept fails the test unless exactly these actions were reported, all of them done.
func wantSwept(t testing.TB, got map[string]client.Swept, want map[string]client.Action) {
	t.Helper()
	for id, s := range got {
		if s.Err != nil || s.Action != want[id] {
			t.Errorf("file %q (%s): %q, %v; want %q", id, s.Name, s.Action, s.Err, want[id])
		}
	}
	for id, action := range want {
		if _, ok := got[id]; !ok {
			t.Errorf("file %q was not reported, want %q", id, action)
		}
	}
}

const day = 24 * time.Hour

func testExpireTemporary(t *testing.T, on servers) {
	f := on.open(t)
	if s, swept := f.sweep(t, client.ExpireOptions{}); len(swept) != 0 || s != (client.Summary{}) {
		t.Errorf("an empty filestore: %+v", s)
	}

	young := f.temporary(t, time.Hour-time.Second)
	onTheSecond := f.temporary(t, time.Hour) // not before now - lifetime
	due := f.temporary(t, time.Hour+time.Second)
	ancient := f.temporary(t, 400*day)
	lenient := f.raw(t, records.Record{Name: "of others", UploadedAt: "2024-01-02T03:04:05.678Z", Size: 1})
	stored := f.raw(t, records.Record{UploadedAt: f.stamp(5 * time.Hour), StoredAt: f.stamp(5 * time.Hour), Size: 1})
	f.put(t, stored, content)

	s, swept := f.sweep(t, client.ExpireOptions{})
	wantSwept(t, swept, map[string]client.Action{
		due: client.ActionExpire, ancient: client.ActionExpire, lenient: client.ActionExpire,
	})
	if s != (client.Summary{Expired: 3}) || swept[lenient].Name != "of others" {
		t.Errorf("%+v", s)
	}
	for _, id := range []string{due, ancient, lenient} {
		f.wantState(t, id, records.Deleted)
		if got := f.record(t, id).DeletedAt; got != f.stamp(0) {
			t.Errorf("deleted at %s", got)
		}
	}
	f.wantState(t, young, records.Temporary)
	f.wantState(t, onTheSecond, records.Temporary)
	f.wantState(t, stored, records.Stored)

	// A second later one more is due. What was taken before is cleaned again.
	f.clock.advance(time.Second)
	s, _ = f.sweep(t, client.ExpireOptions{})
	if s != (client.Summary{Expired: 1, Cleaned: 3}) {
		t.Errorf("%+v", s)
	}
	f.wantState(t, onTheSecond, records.Deleted)
	f.wantState(t, young, records.Temporary)

	t.Run("older than", func(t *testing.T) {
		f := on.open(t)
		f.Settings.TemporaryLifetime = 10 * time.Hour
		old, young := f.temporary(t, 16*time.Minute), f.temporary(t, 14*time.Minute)
		if _, swept := f.sweep(t, client.ExpireOptions{}); len(swept) != 0 {
			t.Errorf("%+v", swept)
		}
		_, swept := f.sweep(t, client.ExpireOptions{OlderThan: 15 * time.Minute})
		wantSwept(t, swept, map[string]client.Action{old: client.ActionExpire})
		f.wantState(t, young, records.Temporary)
	})
}

func testExpirePlaceholders(t *testing.T, on servers) {
	f := on.open(t)
	f.Settings.URLLifetime, f.Settings.TemporaryLifetime = 2*time.Hour, time.Hour
	const age = 3 * time.Hour
	onTheSecond := f.placeholder(t, age)
	due := f.placeholder(t, age+time.Second)
	uploaded := f.placeholder(t, age+time.Second) // and nobody wrote it down
	f.put(t, uploaded, content)
	ageless := f.raw(t, records.Record{Name: "by the API", Size: -1})

	s, swept := f.sweep(t, client.ExpireOptions{})
	wantSwept(t, swept, map[string]client.Action{due: client.ActionAbandon, uploaded: client.ActionSettle})
	if s != (client.Summary{Abandoned: 1, Settled: 1}) {
		t.Errorf("%+v", s)
	}
	f.wantState(t, due, records.Deleted)
	f.wantState(t, uploaded, records.Temporary)
	f.wantState(t, onTheSecond, records.Placeholder)
	f.wantState(t, ageless, records.Placeholder)
	r := f.record(t, uploaded)
	if at, err := r.UploadedAt.Time(); err != nil || time.Since(at).Abs() > time.Minute || r.Type != "text/plain" || r.Size != int64(len(content)) {
		t.Errorf("%+v", r)
	}

	// Without created_at a placeholder has no age: it is never swept.
	f.clock.advance(1000 * day)
	f.sweep(t, client.ExpireOptions{})
	f.wantState(t, onTheSecond, records.Deleted)
	f.wantState(t, uploaded, records.Deleted) // it became a temporary file, and that has expired
	f.wantState(t, ageless, records.Placeholder)

	t.Run("where files are stored on load", func(t *testing.T) {
		f := on.open(t)
		f.Settings.StoreOnLoad = true
		id := f.placeholder(t, age)
		f.put(t, id, content)
		_, swept := f.sweep(t, client.ExpireOptions{})
		wantSwept(t, swept, map[string]client.Action{id: client.ActionSettle})
		f.wantState(t, id, records.Stored)
		f.clock.advance(day)
		f.sweep(t, client.ExpireOptions{})
		f.wantState(t, id, records.Stored)
	})
}

func testExpireCleansAgain(t *testing.T, on servers) {
	f := on.open(t)
	deleted := func(ago time.Duration) string {
		id := f.raw(t, records.Record{UploadedAt: f.stamp(ago), DeletedAt: f.stamp(ago), Size: 1})
		f.put(t, id, "left, or uploaded again")
		return id
	}
	now, within, onTheSecond, after := deleted(0), deleted(day-time.Second), deleted(day), deleted(day+time.Second)
	s, swept := f.sweep(t, client.ExpireOptions{})
	wantSwept(t, swept, map[string]client.Action{
		now: client.ActionClean, within: client.ActionClean, onTheSecond: client.ActionClean,
	})
	if s != (client.Summary{Cleaned: 3}) {
		t.Errorf("%+v", s)
	}
	if left := slices.Collect(maps.Keys(f.objects(t))); !slices.Equal(left, []string{after}) {
		t.Errorf("the objects %q are left, want %q", left, after)
	}
	if got := f.record(t, within).DeletedAt; got != f.stamp(day-time.Second) {
		t.Errorf("the time of its deletion has become %s", got)
	}
}

func testExpireMultipart(t *testing.T, on servers) {
	f := on.open(t)
	// Two hours are over, but a part has just arrived: a large file on a slow line.
	active := f.placeholder(t, 3*time.Hour)
	f.begin(t, active)
	idle := f.placeholder(t, 3*time.Hour)
	_, swept := f.sweep(t, client.ExpireOptions{})
	wantSwept(t, swept, map[string]client.Action{idle: client.ActionAbandon})
	f.wantState(t, active, records.Placeholder)
	if f.uploads(t, active) != 1 {
		t.Error("the active upload was aborted")
	}

	// Nothing came for as long as placeholders live: it was given up.
	f.clock.advance(2*time.Hour + time.Minute)
	_, swept = f.sweep(t, client.ExpireOptions{})
	wantSwept(t, swept, map[string]client.Action{active: client.ActionAbandon, idle: client.ActionClean})
	f.wantState(t, active, records.Deleted)
	if f.uploads(t, active) != 0 {
		t.Error("the upload that was given up is left")
	}

	t.Run("of more than a day, with its placeholder", func(t *testing.T) {
		f := on.open(t)
		old := f.placeholder(t, 0)
		f.begin(t, old)
		f.clock.advance(day + time.Minute)
		_, swept := f.sweep(t, client.ExpireOptions{})
		wantSwept(t, swept, map[string]client.Action{old: client.ActionAbandon})
		f.wantState(t, old, records.Deleted)
		f.wantConsistent(t)
	})

	t.Run("without a placeholder", func(t *testing.T) {
		f := on.open(t)
		orphan, stored, deleted := client.NewID(), f.stored(t, "a.txt"), client.NewID()
		const foreign = "not/one-of-ours"
		f.used(orphan)
		for _, key := range []string{orphan, stored, deleted, foreign} {
			f.begin(t, key)
		}
		f.clock.advance(day - time.Minute)
		f.raw(t, records.Record{ID: deleted, DeletedAt: f.stamp(time.Hour), Size: -1})
		_, swept := f.sweep(t, client.ExpireOptions{})
		wantSwept(t, swept, map[string]client.Action{deleted: client.ActionClean})
		if f.uploads(t, deleted) != 0 || f.uploads(t, orphan) != 1 || f.uploads(t, stored) != 1 {
			t.Errorf("%d, %d and %d uploads", f.uploads(t, deleted), f.uploads(t, orphan), f.uploads(t, stored))
		}

		f.clock.advance(2 * time.Minute)
		_, swept = f.sweep(t, client.ExpireOptions{})
		wantSwept(t, swept, map[string]client.Action{
			deleted: client.ActionClean, orphan: client.ActionAbort, stored: client.ActionAbort,
		})
		f.wantState(t, stored, records.Stored)
		f.wantConsistent(t)
		if f.uploads(t, foreign) != 1 {
			t.Error("an upload under a key that is no id was touched")
		}
	})
}

// What has no readable time is left alone and, where the scan selects it, counted.
func testExpireUnreadable(t *testing.T, on servers) {
	f := on.open(t)
	now := f.stamp(0)
	counted := []records.Record{
		{UploadedAt: "0 o'clock", Size: 1},
		{CreatedAt: "1 January", Size: -1},
		{UploadedAt: f.stamp(30 * day), DeletedAt: "yesterday", Size: 1},
	}
	left := append(slices.Clone(counted),
		records.Record{UploadedAt: "soon", Size: 1},                             // after every limit, as text
		records.Record{UploadedAt: f.stamp(30 * day), StoredAt: "x", Size: 1},   // somebody meant to store it
		records.Record{UploadedAt: "0 o'clock", StoredAt: now, Size: 1},         //
		records.Record{UploadedAt: "0", StoredAt: "0", DeletedAt: "0", Size: 1}, //
	)
	var ids []string
	for _, r := range left {
		ids = append(ids, f.raw(t, r))
		f.put(t, ids[len(ids)-1], content)
	}
	if on.dynamoDB != "" {
		// A time that is no text.
		id := client.NewID()
		if _, err := f.dynamoAPI.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(f.tableName), Item: map[string]types.AttributeValue{
			"id": &types.AttributeValueMemberS{Value: id}, "name": &types.AttributeValueMemberS{Value: "x"},
			"uploaded_at": &types.AttributeValueMemberN{Value: "1"},
		}}); err != nil {
			t.Fatal(err)
		}
		f.put(t, id, content)
		ids = append(ids, id)
	}
	due := f.temporary(t, 2*time.Hour)
	before := f.records(t)

	s, swept := f.sweep(t, client.ExpireOptions{})
	wantSwept(t, swept, map[string]client.Action{due: client.ActionExpire})
	if s != (client.Summary{Expired: 1, Unreadable: len(counted)}) {
		t.Errorf("%+v", s)
	}
	for _, id := range ids {
		sameRecord(t, f.record(t, id), before[id])
		if _, _, found := f.object(t, id); !found {
			t.Errorf("the object of %+v is gone", before[id])
		}
	}
}

func testExpireMax(t *testing.T, on servers) {
	f := on.open(t)
	for range 4 {
		f.temporary(t, 2*time.Hour)
	}
	f.placeholder(t, 3*time.Hour)
	// Cleaning again is no claim, and does not count.
	f.raw(t, records.Record{UploadedAt: f.stamp(time.Hour), DeletedAt: f.stamp(time.Hour), Size: 1})
	taken := 0
	for _, want := range []struct {
		max, claimed int
		more         bool
		left         int
	}{{2, 2, true, 3}, {2, 2, true, 1}, {1, 1, false, 0}, {1, 0, false, 0}} {
		s, _ := f.sweep(t, client.ExpireOptions{Max: want.max})
		if got := s.Expired + s.Abandoned; got != want.claimed || s.More != want.more || s.Left != want.left || s.LeftSince.IsZero() != (want.left == 0) {
			t.Errorf("%+v, want %+v", s, want)
		}
		taken += s.Expired + s.Abandoned
	}
	if taken != 5 {
		t.Errorf("%d files were taken, want 5", taken)
	}
	f.wantNothing(t, true)
}

// A dry run says what a sweep would do, and changes nothing.
func testExpireDryRun(t *testing.T, on servers) {
	f := on.open(t)
	f.clock.advance(25 * time.Hour) // so that the multipart upload is that old
	want := map[string]client.Action{
		f.temporary(t, 2*time.Hour):   client.ActionExpire,
		f.placeholder(t, 3*time.Hour): client.ActionAbandon,
		f.raw(t, records.Record{UploadedAt: f.stamp(time.Hour), DeletedAt: f.stamp(time.Hour), Size: 1}): client.ActionClean,
	}
	settled := f.placeholder(t, 3*time.Hour)
	f.put(t, settled, content)
	want[settled] = client.ActionSettle
	orphan := client.NewID()
	f.used(orphan)
	f.begin(t, orphan)
	want[orphan] = client.ActionAbort
	for id := range want {
		if want[id] == client.ActionClean {
			f.put(t, id, "left")
		}
	}
	before, objects := f.records(t), f.objects(t)

	dry, swept := f.sweep(t, client.ExpireOptions{DryRun: true})
	wantSwept(t, swept, want)
	for id, r := range f.records(t) {
		sameRecord(t, r, before[id])
	}
	if !maps.Equal(f.objects(t), objects) {
		t.Error("the objects have changed")
	}
	for id, action := range want {
		if action == client.ActionAbort && f.uploads(t, id) != 1 {
			t.Error("the multipart upload is gone")
		}
	}

	real, swept := f.sweep(t, client.ExpireOptions{})
	wantSwept(t, swept, want)
	if dry != real {
		t.Errorf("it said %+v and did %+v", dry, real)
	}
}

// What S3 refuses is said and counted, and the next sweep finishes it.
func testExpireFailures(t *testing.T, on servers) {
	t.Run("DeleteObjects", func(t *testing.T) {
		f := on.open(t)
		ids := []string{f.temporary(t, 2*time.Hour), f.temporary(t, 3*time.Hour), f.temporary(t, 4*time.Hour)}
		f.s3Faults.Inject(deleteObjects, faultproxy.Always(), faultproxy.SlowDown())
		s, swept := f.sweep(t, client.ExpireOptions{})
		if s != (client.Summary{Failed: 3}) {
			t.Errorf("%+v", s)
		}
		for _, id := range ids {
			wantReason(t, swept[id].Err, client.Retry)
			if f.record(t, id).State() != records.Deleted {
				t.Errorf("%q is not claimed", id)
			}
		}
		f.heal()
		if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{Cleaned: 3}) {
			t.Errorf("%+v", s)
		}
		f.wantNothing(t, true)
	})

	t.Run("one of several objects", func(t *testing.T) {
		f := on.open(t)
		refused := f.temporary(t, 3*time.Hour)
		f.temporary(t, 2*time.Hour)
		through := f.S3
		f.S3 = f.refusing(refused)
		s, swept := f.sweep(t, client.ExpireOptions{})
		if s != (client.Summary{Expired: 1, Failed: 1}) {
			t.Errorf("%+v", s)
		}
		wantReason(t, swept[refused].Err, client.Permission)
		f.S3 = through
		f.sweep(t, client.ExpireOptions{})
		f.wantNothing(t, true)
	})

	t.Run("HeadObject", func(t *testing.T) {
		f := on.open(t)
		uploaded := f.placeholder(t, 3*time.Hour)
		f.put(t, uploaded, content)
		due := f.temporary(t, 2*time.Hour)
		f.s3Faults.Inject(headObject, faultproxy.Always(), faultproxy.InternalError())
		s, swept := f.sweep(t, client.ExpireOptions{})
		if since, _ := f.record(t, uploaded).CreatedAt.Time(); s != (client.Summary{Failed: 1, Expired: 1, Left: 1, LeftSince: since}) {
			t.Errorf("%+v", s)
		}
		wantReason(t, swept[uploaded].Err, client.Retry)
		if f.record(t, uploaded).State() != records.Placeholder {
			t.Error("a placeholder of which nothing is known was taken")
		}
		f.wantState(t, due, records.Deleted)
	})

	t.Run("ListMultipartUploads", func(t *testing.T) {
		f := on.open(t)
		due := f.temporary(t, 2*time.Hour)
		f.s3Faults.Inject(listUploads, faultproxy.Always(), faultproxy.InternalError())
		_, err := f.Expire(t.Context(), client.ExpireOptions{})
		wantReason(t, err, client.Retry)
		f.wantState(t, due, records.Temporary)
	})

	// Where they may not be listed at all, an upload in progress can't be seen: placeholders are
	// left alone for a day longer.
	t.Run("ListMultipartUploads not allowed", func(t *testing.T) {
		f := on.open(t)
		due := f.temporary(t, 2*time.Hour)
		young, old := f.placeholder(t, 3*time.Hour), f.placeholder(t, 27*time.Hour)
		f.S3 = f.answering(listUploads, func(*http.Request) (int, string, error) {
			return http.StatusForbidden, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`, nil
		})
		s, swept := f.sweep(t, client.ExpireOptions{})
		wantSwept(t, swept, map[string]client.Action{due: client.ActionExpire, old: client.ActionAbandon})
		wantReason(t, s.Unlisted, client.Permission)
		f.wantState(t, young, records.Placeholder)
	})

	t.Run("ListParts", func(t *testing.T) {
		f := on.open(t)
		id := f.placeholder(t, 3*time.Hour)
		f.begin(t, id)
		f.s3Faults.Inject(listParts, faultproxy.Always(), faultproxy.SlowDown())
		_, swept := f.sweep(t, client.ExpireOptions{})
		wantReason(t, swept[id].Err, client.Retry)
		if f.record(t, id).State() != records.Placeholder || f.uploads(t, id) != 1 {
			t.Error("an upload of which nothing is known was taken")
		}
	})

	t.Run("no bucket", func(t *testing.T) {
		f := on.open(t)
		f.Bucket = "no-such-bucket"
		_, err := f.Expire(t.Context(), client.ExpireOptions{})
		wantReason(t, err, client.Usage)
	})

	t.Run("no records", func(t *testing.T) {
		f := on.open(t)
		f.Records = &hookedTable{Table: f.table, scan: func() error { return errTable }}
		if _, err := f.Expire(t.Context(), client.ExpireOptions{}); !errors.Is(err, errTable) {
			t.Error(err)
		}
	})

	t.Run("records that break off", func(t *testing.T) {
		f := on.open(t)
		due := f.temporary(t, 2*time.Hour)
		f.Records = &breakingTable{f.table}
		if _, err := f.Expire(t.Context(), client.ExpireOptions{}); !errors.Is(err, errTable) {
			t.Error(err)
		}
		f.wantState(t, due, records.Deleted) // what was read before is done
		f.wantNothing(t, true)
	})

	t.Run("an interrupt", func(t *testing.T) {
		f := on.open(t)
		f.temporary(t, 2*time.Hour)
		f.temporary(t, 2*time.Hour)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f.s3Faults.OnRequest(func(r faultproxy.Request) {
			if r.Method == http.MethodPost {
				cancel()
			}
		})
		_, err := f.Expire(ctx, client.ExpireOptions{})
		wantReason(t, err, client.Interrupted)
		f.sweep(t, client.ExpireOptions{})
		f.wantNothing(t, true)
	})
}

// breakingTable is a table whose scan fails when it should end.
type breakingTable struct{ records.Table }

func (b *breakingTable) Scan(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	return func(yield func([]records.Record, error) bool) {
		for page, err := range b.Table.Scan(ctx, f, opts) {
			if !yield(page, err) {
				return
			}
		}
		yield(nil, errTable)
	}
}

// hookedTable is a table with something done before some calls.
type hookedTable struct {
	records.Table
	scan   func() error
	claims func(id string) // before Expire and Abandon
}

func (h *hookedTable) Scan(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	if h.scan != nil {
		if err := h.scan(); err != nil {
			return func(yield func([]records.Record, error) bool) { yield(nil, err) }
		}
	}
	return h.Table.Scan(ctx, f, opts)
}

func (h *hookedTable) Expire(ctx context.Context, id string, at, before records.Stamp) (records.Record, error) {
	h.claims(id)
	return h.Table.Expire(ctx, id, at, before)
}

func (h *hookedTable) Abandon(ctx context.Context, id string, at, before records.Stamp) (records.Record, error) {
	h.claims(id)
	return h.Table.Abandon(ctx, id, at, before)
}

// hookedBulk is a hookedTable in which files are claimed together, as they are in SQLite.
type hookedBulk struct{ hookedTable }

func (h *hookedBulk) ExpireMany(ctx context.Context, ids []string, at, before records.Stamp) ([]string, error) {
	for _, id := range ids {
		h.claims(id)
	}
	return h.Table.(records.BulkExpirer).ExpireMany(ctx, ids, at, before)
}

// Between the look of a sweep and its write, the uploader has written that it is uploaded: a little later
// than S3 says, and that is what he was told.
func testExpireSettlesLate(t *testing.T, on servers) {
	f := on.open(t)
	id := f.placeholder(t, 3*time.Hour)
	f.put(t, id, content)
	told := f.stamp(-time.Minute)
	var once sync.Once
	f.s3Faults.OnRequest(func(r faultproxy.Request) {
		if r.Method != http.MethodHead {
			return
		}
		once.Do(func() {
			upload := records.Upload{At: told, Type: "text/plain", Size: int64(len(content))}
			if _, err := f.table.Uploaded(context.WithoutCancel(t.Context()), id, upload); err != nil {
				t.Error(err)
			}
		})
	})
	if s, swept := f.sweep(t, client.ExpireOptions{}); s.Settled > 0 || s.Failed > 0 {
		t.Errorf("%+v, %+v", s, swept)
	}
	if r := f.record(t, id); r.UploadedAt != told || r.Type != "text/plain" {
		t.Errorf("the record is %+v, and %q was told", r, told)
	}
}

// deleting returns an S3 client that tells which objects DeleteObjects is about to delete.
func (f *filestore) deleting(tell func(keys []string)) *s3.Client {
	return s3.New(f.S3.Options(), func(o *s3.Options) {
		o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
			return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("TellDeleted", func(
				ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
			) (middleware.InitializeOutput, middleware.Metadata, error) {
				if input, ok := in.Parameters.(*s3.DeleteObjectsInput); ok {
					var keys []string
					for _, object := range input.Delete.Objects {
						keys = append(keys, aws.ToString(object.Key))
					}
					tell(keys)
				}
				return next.HandleInitialize(ctx, in)
			}), middleware.Before)
		})
	})
}

// No object is deleted before its record is claimed; and where a claim comes too late, nothing is.
func testExpireClaimsFirst(t *testing.T, on servers) {
	f := on.open(t)
	var ids []string
	for range 40 {
		ids = append(ids, f.temporary(t, 2*time.Hour))
	}
	abandoned := []string{f.placeholder(t, 3*time.Hour), f.placeholder(t, 3*time.Hour)}

	// Between the look at these and their claim, somebody is faster.
	stored, late := ids[7], abandoned[0]
	var mu sync.Mutex
	claims, deleted := 0, 0
	hooked := hookedTable{Table: f.table, claims: func(id string) {
		mu.Lock()
		defer mu.Unlock()
		claims++
		ctx := context.WithoutCancel(t.Context())
		var err error
		switch id {
		case stored:
			_, err = f.table.Store(ctx, id, f.stamp(0), nil)
		case late:
			if err = f.tryPut(ctx, id, content); err != nil {
				break
			}
			_, err = f.table.Uploaded(ctx, id, records.Upload{At: f.stamp(0), Type: "text/plain", Size: int64(len(content))})
		}
		if err != nil {
			t.Error(err)
		}
	}}
	f.Records = &hooked
	if on.dynamoDB == "" {
		f.Records = &hookedBulk{hooked}
	}
	f.useS3(f.deleting(func(keys []string) {
		all, err := f.table.Get(context.WithoutCancel(t.Context()), keys)
		if err != nil {
			t.Error(err)
		}
		for _, id := range keys {
			if state := all[id].State(); state != records.Deleted {
				t.Errorf("the object of the %s file %q is deleted, which is not claimed", state, id)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		deleted += len(keys)
	}))
	s, swept := f.sweep(t, client.ExpireOptions{})
	if s != (client.Summary{Expired: 39, Abandoned: 1}) || claims != 42 || deleted != 40 {
		t.Errorf("%+v, %d claims, %d objects deleted", s, claims, deleted)
	}
	for _, id := range []string{stored, late} {
		if got, ok := swept[id]; ok {
			t.Errorf("%+v was reported", got)
		}
	}
	f.wantState(t, stored, records.Stored)
	f.wantState(t, late, records.Temporary)
	f.wantConsistent(t)
}
