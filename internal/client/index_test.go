package client_test

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/recordstest"
)

// indexed is test on filestores with the index of pending files.
func indexed(test func(*testing.T, servers)) func(*testing.T, servers) {
	return func(t *testing.T, on servers) { test(t, on.withIndex()) }
}

// inIndex returns the ids of all that is in the index.
func (f *filestore) inIndex(t testing.TB) []string {
	t.Helper()
	all := records.Filter{UploadedBefore: "9", CreatedBefore: "9", DeletedSince: "0"}
	var ids []string
	for page, err := range f.table.Pending(t.Context(), all, records.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			ids = append(ids, r.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// byOthers puts a record into the table as the API would, which marks nothing.
func (f *filestore) byOthers(t testing.TB, r records.Record) string {
	t.Helper()
	r.ID = client.NewID()
	f.used(r.ID)
	if r.Name == "" {
		r.Name = "of others"
	}
	if r.UploadedAt.IsSet() {
		r.Type = "text/plain"
	}
	if f.database != "" {
		f.insert(t, []records.Record{r})
		return r.ID
	}
	if _, err := f.dynamoAPI.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &f.tableName, Item: recordstest.Item(r)}); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

// A sweep that is killed between a claim and the deletion of the object leaves it to the next one, by the
// index too; as a delete does. The file stays there for as long as it is to be cleaned again.
func testIndexHalfDone(t *testing.T, on servers) {
	f := on.open(t)
	expired, abandoned := f.temporary(t, 2*time.Hour), f.placeholder(t, 3*time.Hour)
	deleted := f.stored(t, "deleted.txt")
	if got := f.inIndex(t); !slices.Equal(got, slices.Sorted(slices.Values([]string{expired, abandoned}))) {
		t.Fatalf("%q are in the index", got)
	}
	// Every object stays where it is.
	f.s3Faults.Inject(deleteObjects, faultproxy.Always(), faultproxy.InternalError())
	f.s3Faults.Inject(deleteObject, faultproxy.Always(), faultproxy.InternalError())
	if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{Failed: 2}) {
		t.Errorf("%+v", s)
	}
	for r := range f.Delete(t.Context(), []string{deleted}) {
		if r.Err == nil {
			t.Error("the object could be deleted")
		}
	}
	if err := f.tryPut(t.Context(), abandoned, "came after all"); err != nil {
		t.Fatal(err)
	}
	all := slices.Sorted(slices.Values([]string{expired, abandoned, deleted}))
	if got := f.inIndex(t); !slices.Equal(got, all) {
		t.Errorf("%q are in the index, want %q", got, all)
	}

	// Half done once more, and much later: a file stays in the index until its object is gone.
	f.clock.advance(3 * day)
	if s, _ := f.sweep(t, client.ExpireOptions{}); f.database == "" && s != (client.Summary{Failed: 3}) {
		t.Errorf("%+v", s)
	}
	if got := f.inIndex(t); !slices.Equal(got, all) {
		t.Errorf("%q are in the index, want %q", got, all)
	}
	f.clock.advance(-3 * day)

	f.heal()
	if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{Cleaned: 3}) {
		t.Errorf("%+v", s)
	}
	f.wantNothing(t, true)
}

// What was deleted more than a day ago is cleaned once more, and then taken out of the index; and what
// others have stored is taken out, and otherwise left alone.
func testIndexSettled(t *testing.T, on servers) {
	f := on.open(t)
	if f.database != "" {
		return // in SQLite nothing has to be taken out: see testIndexHalfDone
	}
	old := f.raw(t, records.Record{CreatedAt: f.stamp(30 * day), UploadedAt: f.stamp(30 * day), DeletedAt: f.stamp(day + time.Second), Size: 1})
	onTheSecond := f.raw(t, records.Record{CreatedAt: f.stamp(30 * day), UploadedAt: f.stamp(30 * day), DeletedAt: f.stamp(day), Size: 1})
	f.put(t, old, "left")
	stored := f.temporary(t, 2*time.Hour)
	f.storeAsOthers(t, stored)
	all := slices.Sorted(slices.Values([]string{old, onTheSecond, stored}))
	if got := f.inIndex(t); !slices.Equal(got, all) {
		t.Fatalf("%q are in the index, want %q", got, all)
	}

	if _, swept := f.sweep(t, client.ExpireOptions{DryRun: true}); len(swept) != 2 {
		t.Errorf("%+v", swept)
	}
	if got := f.inIndex(t); !slices.Equal(got, all) {
		t.Errorf("after a dry run %q are in the index, want %q", got, all)
	}

	s, swept := f.sweep(t, client.ExpireOptions{})
	wantSwept(t, swept, map[string]client.Action{old: client.ActionClean, onTheSecond: client.ActionClean})
	if s != (client.Summary{Cleaned: 2}) {
		t.Errorf("%+v", s)
	}
	if got := f.inIndex(t); !slices.Equal(got, []string{onTheSecond}) {
		t.Errorf("%q are in the index, want %q", got, onTheSecond)
	}
	f.wantState(t, stored, records.Stored)
	if objects := f.objects(t); len(objects) != 1 || !objects[stored] {
		t.Errorf("the objects %v are left", slices.Collect(maps.Keys(objects)))
	}
	f.clock.advance(time.Second)
	f.sweep(t, client.ExpireOptions{})
	if got := f.inIndex(t); len(got) != 0 {
		t.Errorf("%q are in the index", got)
	}
	if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{}) {
		t.Errorf("%+v", s)
	}

	t.Run("that fails", func(t *testing.T) {
		f := on.open(t)
		old := f.raw(t, records.Record{CreatedAt: f.stamp(30 * day), DeletedAt: f.stamp(2 * day), Size: -1})
		stored := f.temporary(t, 2*time.Hour)
		f.storeAsOthers(t, stored)
		f.dynamoFaults.Inject(faultproxy.Operation("UpdateItem"), faultproxy.Always(), faultproxy.InternalError())
		s, swept := f.sweep(t, client.ExpireOptions{})
		if s != (client.Summary{Failed: 2}) {
			t.Errorf("%+v", s)
		}
		for _, id := range []string{old, stored} {
			wantReason(t, swept[id].Err, client.Retry)
		}
		f.heal()
		f.sweep(t, client.ExpireOptions{})
		if got := f.inIndex(t); len(got) != 0 {
			t.Errorf("%q are in the index", got)
		}
	})
}

// storeAsOthers stores a file as the API does, which leaves its mark.
func (f *filestore) storeAsOthers(t testing.TB, id string) {
	t.Helper()
	set := "SET stored_at = :at"
	if _, err := f.dynamoAPI.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: &f.tableName, Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}},
		UpdateExpression:          &set,
		ExpressionAttributeValues: map[string]types.AttributeValue{":at": &types.AttributeValueMemberS{Value: string(f.stamp(0))}},
	}); err != nil {
		t.Fatal(err)
	}
}

// Files of others are not in the index, and found by reading the whole table. A full sweep that is killed leaves
// them to any sweep.
func testIndexOfOthers(t *testing.T, on servers) {
	f := on.open(t)
	due := f.byOthers(t, records.Record{UploadedAt: f.stamp(2 * time.Hour), Size: int64(len(content))})
	f.put(t, due, content)
	if f.database == "" { // the database keeps its index whoever writes
		if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{}) {
			t.Errorf("%+v: the index knows what is not in it", s)
		}
		f.wantState(t, due, records.Temporary)
	}

	f.s3Faults.Inject(deleteObject, faultproxy.Always(), faultproxy.InternalError())
	if s, _ := f.sweep(t, client.ExpireOptions{Full: true}); s != (client.Summary{Failed: 1}) {
		t.Errorf("%+v", s)
	}
	f.heal()
	if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{Cleaned: 1}) {
		t.Errorf("%+v", s)
	}
	f.wantNothing(t, true)
}

// A role that may not read the index reads the table, and says why.
func testIndexNotAllowed(t *testing.T, on servers) {
	f := on.open(t)
	if f.database != "" {
		return // nobody is refused on this disk
	}
	f.temporary(t, 2*time.Hour)
	f.dynamoFaults.Inject(faultproxy.Operation("Query"), faultproxy.Always(), faultproxy.Answer(http.StatusBadRequest,
		`{"__type":"com.amazon.coral.service#AccessDeniedException","Message":"not authorized to perform: dynamodb:Query"}`))
	s, err := f.Expire(t.Context(), client.ExpireOptions{})
	if err != nil || s.Expired != 1 || s.Indexed {
		t.Errorf("%+v, %v", s, err)
	}
	wantReason(t, s.Unindexed, client.Permission)

	// What fails otherwise is no reason to read the whole table.
	f.heal()
	f.temporary(t, 2*time.Hour)
	f.dynamoFaults.Inject(faultproxy.Operation("Query"), faultproxy.Always(), faultproxy.InternalError())
	_, err = f.Expire(t.Context(), client.ExpireOptions{})
	wantReason(t, err, client.Retry)
	if n := len(f.inIndex(t)); n != 2 {
		t.Errorf("%d files are in the index, want 2", n)
	}
}

// The index is used from the moment on when it is there.
func testIndexComes(t *testing.T, on servers) {
	f := on.open(t)
	f.temporary(t, 2*time.Hour)
	if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{Expired: 1}) {
		t.Errorf("%+v", s)
	}
	if f.database == "" {
		return // dynalite can't make it
	}
	created, index, err := f.CreateIndex(t.Context(), client.IndexOptions{Wait: true})
	if !created || err != nil || index.State != records.IndexActive {
		t.Fatalf("created %t, %+v, %v", created, index, err)
	}
	f.indexed = true
	f.temporary(t, 2*time.Hour)
	if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{Expired: 1, Cleaned: 1}) {
		t.Errorf("%+v", s)
	}
	dropped, index, err := f.DropIndex(t.Context(), client.IndexOptions{Wait: true})
	if !dropped || err != nil || index.State != records.IndexNone {
		t.Fatalf("dropped %t, %+v, %v", dropped, index, err)
	}
	f.indexed = false
	if s, _ := f.sweep(t, client.ExpireOptions{}); s != (client.Summary{Cleaned: 2}) {
		t.Errorf("%+v", s)
	}
}

// A backfill gives every record the mark that it should have, whoever has made it.
func testBackfill(t *testing.T, on servers) {
	f := on.open(t)
	ago := f.stamp(2 * time.Hour)
	marked := []string{
		f.byOthers(t, records.Record{UploadedAt: ago, Size: 1}),
		f.byOthers(t, records.Record{CreatedAt: ago, Size: -1}), // of an older version
		f.byOthers(t, records.Record{UploadedAt: ago, StoredAt: ago, DeletedAt: ago, Size: 1}),
		f.byOthers(t, records.Record{UploadedAt: ago + ".5Z", Size: 1}),
	}
	f.byOthers(t, records.Record{Size: -1}) // has no age: no sweep has anything to do with it
	f.byOthers(t, records.Record{UploadedAt: ago, StoredAt: ago, Size: 1})
	f.byOthers(t, records.Record{UploadedAt: ago, DeletedAt: f.stamp(2 * day), Size: 1})
	right := f.temporary(t, time.Minute)
	want := client.BackfillSummary{Marked: len(marked)}
	var unmarked []string
	if f.database == "" {
		unmarked = []string{
			f.temporary(t, time.Minute),
			f.raw(t, records.Record{CreatedAt: f.stamp(3 * day), DeletedAt: f.stamp(2 * day), Size: -1}),
		}
		f.storeAsOthers(t, unmarked[0])
		want.Unmarked = len(unmarked)
	} else {
		want = client.BackfillSummary{} // nothing can be wrong
	}
	before := f.records(t)

	reported := make(map[string]client.Action)
	opts := client.BackfillOptions{DryRun: true, Reads: records.NewMeter(0), Writes: records.NewMeter(0), Report: func(s client.Swept) {
		if s.Err != nil {
			t.Error(s.Err)
		}
		reported[s.ID] = s.Action
	}}
	if s, err := f.Backfill(t.Context(), opts); err != nil || s != want {
		t.Errorf("dry run: %+v, %v; want %+v", s, err, want)
	}
	opts.DryRun = false
	if s, err := f.Backfill(t.Context(), opts); err != nil || s != want {
		t.Errorf("%+v, %v; want %+v", s, err, want)
	}
	if f.database == "" {
		for id, action := range reported {
			switch {
			case action == client.ActionMark && slices.Contains(marked, id):
			case action == client.ActionUnmark && slices.Contains(unmarked, id):
			default:
				t.Errorf("%+v was reported: %s", before[id], action)
			}
		}
		if got := opts.Writes.Total().Records; got != int64(len(marked)+len(unmarked)) {
			t.Errorf("%d writes are counted, want %d", got, len(marked)+len(unmarked))
		}
	}
	for id, r := range f.records(t) {
		sameRecord(t, r, before[id])
	}
	if got, want := f.inIndex(t), slices.Sorted(slices.Values(append(marked, right))); f.database == "" && !slices.Equal(got, want) {
		t.Errorf("%q are in the index, want %q", got, want)
	}
	if s, err := f.Backfill(t.Context(), client.BackfillOptions{}); err != nil || s != (client.BackfillSummary{}) {
		t.Errorf("the second time: %+v, %v", s, err)
	}
	if s, _ := f.sweep(t, client.ExpireOptions{}); s.Expired != 2 {
		t.Errorf("after it the sweep has done %+v", s)
	}
}

// A backfill counts what it can't date, and reports what it could not write.
func testBackfillUnreadable(t *testing.T, on servers) {
	f := on.open(t)
	if f.database != "" {
		return // nothing is written there
	}
	f.byOthers(t, records.Record{UploadedAt: "soon", Size: 1})
	f.byOthers(t, records.Record{UploadedAt: f.stamp(30 * day), DeletedAt: "yesterday", Size: 1})
	refused := f.byOthers(t, records.Record{UploadedAt: f.stamp(time.Hour), Size: 1})
	f.dynamoFaults.Inject(faultproxy.Operation("UpdateItem"), faultproxy.Always(), faultproxy.InternalError())
	var reported []client.Swept
	s, err := f.Backfill(t.Context(), client.BackfillOptions{Report: func(s client.Swept) { reported = append(reported, s) }})
	if err != nil || s != (client.BackfillSummary{Failed: 1, Unreadable: 2}) {
		t.Errorf("%+v, %v", s, err)
	}
	if len(reported) != 1 || reported[0].ID != refused {
		t.Fatalf("%+v", reported)
	}
	wantReason(t, reported[0].Err, client.Retry)

	f.heal()
	f.dynamoFaults.Inject(faultproxy.Operation("Scan"), faultproxy.Always(), faultproxy.InternalError())
	_, err = f.Backfill(t.Context(), client.BackfillOptions{})
	wantReason(t, err, client.Retry)
}

// slowIndex is a table whose index takes its time, from one state to the next.
type slowIndex struct {
	records.Table
	begun  time.Time
	states []records.IndexState // each for a minute
	looks  int
}

func (s *slowIndex) CreateIndex(context.Context) (bool, error) { return true, nil }
func (s *slowIndex) DropIndex(context.Context) (bool, error)   { return true, nil }

func (s *slowIndex) Index(context.Context) (records.Index, error) {
	s.looks++
	n := min(int(time.Since(s.begun)/time.Minute), len(s.states)-1)
	return records.Index{State: s.states[n]}, nil
}

// Whoever waits for an index looks at it ever more rarely, until it is there.
func TestAwaitIndex(t *testing.T) {
	for _, test := range []struct {
		name   string
		states []records.IndexState
		drop   bool
		wait   bool
		after  time.Duration
		want   records.IndexState
		fails  bool
	}{
		{"made", []records.IndexState{"creating", "creating", "active"}, false, true, 2 * time.Minute, records.IndexActive, false},
		{"made, and not waited for", []records.IndexState{"creating", "active"}, false, false, 0, records.IndexCreating, false},
		{"there, and given capacity", []records.IndexState{"updating"}, false, true, 0, records.IndexUpdating, false},
		{"made, and removed by somebody", []records.IndexState{"creating", "deleting", "none"}, false, true, 2 * time.Minute, records.IndexNone, true},
		{"removed", []records.IndexState{"active", "deleting", "none"}, true, true, 2 * time.Minute, records.IndexNone, false},
		{"removed, and not waited for", []records.IndexState{"deleting", "none"}, true, false, 0, records.IndexDeleting, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := &slowIndex{begun: time.Now(), states: test.states}
				c := &client.Client{Records: table}
				change := c.CreateIndex
				if test.drop {
					change = c.DropIndex
				}
				var told int
				changed, index, err := change(t.Context(), client.IndexOptions{Wait: test.wait, Progress: func(records.Index) { told++ }})
				if changed != true || index.State != test.want || (err != nil) != test.fails {
					t.Errorf("changed %t, %+v, %v", changed, index, err)
				}
				if took := time.Since(table.begun); took < test.after || took > test.after+10*time.Second {
					t.Errorf("it took %s, want %s", took, test.after)
				}
				if told != table.looks || told > 20 {
					t.Errorf("%d looks, %d of them told", table.looks, told)
				}
			})
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
			defer cancel()
			c := &client.Client{Records: &slowIndex{begun: time.Now(), states: []records.IndexState{records.IndexCreating}}}
			if created, _, err := c.CreateIndex(ctx, client.IndexOptions{Wait: true}); !created || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("created %t, %v", created, err)
			}
		})
	})
}
