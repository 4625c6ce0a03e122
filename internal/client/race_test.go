package client_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/testserver"
)

// onBothTables runs test with records in SQLite and in DynamoDB.
func onBothTables(t *testing.T, test func(t *testing.T, on servers)) {
	if !testserver.Race { // the other one has more under way at the same time
		t.Run("sqlite", func(t *testing.T) { test(t, servers{s3: testserver.Versitygw(t)}) })
	}
	t.Run("dynalite", func(t *testing.T) {
		test(t, servers{s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)})
	})
}

// another returns a client of the same filestore with connections of its own, as another process
// has them.
func (f *filestore) another(t testing.TB) *client.Client {
	t.Helper()
	c := *f.Client
	c.S3 = f.s3Client(f.s3.Endpoint)
	if f.database == "" {
		c.Records = dynamo.New(testserver.DynamoDB(f.dynamoDB, func(o *dynamodb.Options) { o.Retryer = quickRetries() }), f.tableName)
		return &c
	}
	table, err := sqlite.Open(t.Context(), f.database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	c.Records = table
	return &c
}

// expired collects what a sweep has deleted.
type expired struct {
	summary client.Summary
	err     error
	ids     []string
	failed  []error
}

// runSweep may be called by any goroutine.
func runSweep(t testing.TB, c *client.Client) *expired {
	var e expired
	e.summary, e.err = c.Expire(t.Context(), client.ExpireOptions{Report: func(s client.Swept) {
		switch {
		case s.Err != nil:
			e.failed = append(e.failed, s.Err)
		case s.Action == client.ActionExpire || s.Action == client.ActionAbandon:
			e.ids = append(e.ids, s.ID)
		}
	}})
	return &e
}

// Stores, deletes, uploads through URLs and two sweeps, all at once on the same files: no stored
// file ever loses its object, no file is both stored and expired, and what was claimed has no
// object.
func TestRaces(t *testing.T) {
	const (
		rounds = 15
		files  = 8 // of each kind in a round
	)
	onBothTables(t, func(t *testing.T, on servers) {
		f := on.open(t)
		sweepers := []*client.Client{f.another(t), f.another(t)}
		storer, deleter := f.another(t), f.another(t)
		var storedFirst, sweptFirst int
		for round := range rounds {
			var due, waiting, doomed []string
			for range files {
				due = append(due, f.temporary(t, 2*time.Hour))
				waiting = append(waiting, f.placeholder(t, 3*time.Hour))
			}
			doomed = due[:2] // somebody deletes these, too

			var wg sync.WaitGroup
			sweeps := make([]*expired, len(sweepers))
			ids := slices.Concat(due, waiting)
			started := make(chan struct{})
			storeErrs := make(map[string]error)
			wg.Go(func() {
				<-started
				for i := range ids {
					id := ids[(i+round)%len(ids)] // who is first and has a chance changes
					if slices.Contains(waiting, id) {
						// Through a URL: the record does not know.
						if err := f.tryPut(t.Context(), id, content); err != nil {
							t.Error(err)
						}
					}
					for r := range storer.Store(t.Context(), []string{id}) {
						storeErrs[r.ID] = r.Err
					}
				}
			})
			for i, c := range sweepers {
				wg.Go(func() { <-started; sweeps[i] = runSweep(t, c) })
			}
			wg.Go(func() {
				<-started
				for r := range deleter.Delete(t.Context(), doomed) {
					if r.Err != nil {
						t.Errorf("delete: %v", r.Err)
					}
				}
			})
			close(started)
			wg.Wait()

			claimed := make(map[string]int)
			for _, s := range sweeps {
				if s.err != nil || len(s.failed) > 0 {
					t.Errorf("sweep: %v, %v", s.err, s.failed)
				}
				for _, id := range s.ids {
					claimed[id]++
				}
			}
			all, objects := f.records(t), f.objects(t)
			for _, id := range ids {
				r, isClaimed := all[id], claimed[id] > 0
				storedOK := storeErrs[id] == nil
				if storedOK {
					storedFirst++
				} else if isClaimed {
					sweptFirst++
				}
				if claimed[id] > 1 {
					t.Errorf("%+v was claimed %d times", r, claimed[id])
				}
				if isClaimed && (storedOK || r.StoredAt.IsSet()) {
					t.Errorf("%+v is both stored and expired", r)
				}
				if storedOK != r.StoredAt.IsSet() {
					t.Errorf("%+v, and store said %v", r, storeErrs[id])
				}
				if !storedOK {
					// A placeholder's object may be swept after store has looked at the record, and before
					// it looks for the object.
					reason := client.ReasonOf(storeErrs[id])
					if reason != client.Deleted && reason != client.Expired &&
						(reason != client.NotUploaded || !slices.Contains(waiting, id)) {
						t.Errorf("store failed with %s: %v", reason, storeErrs[id])
					}
				}
				switch {
				case slices.Contains(doomed, id):
					if r.State() != records.Deleted || objects[id] {
						t.Errorf("%+v was deleted; object there: %t", r, objects[id])
					}
				case storedOK:
					if r.State() != records.Stored || !objects[id] {
						t.Errorf("%+v was stored; object there: %t", r, objects[id])
					}
				case slices.Contains(due, id) && objects[id]:
					t.Errorf("%+v has expired, and its object is there", r)
				}
			}
			// A claimed placeholder may have got its object afterwards: the next sweep cleans it.
			if s := runSweep(t, f.Client); s.err != nil || len(s.failed) > 0 {
				t.Fatal(s.err, s.failed)
			}
			f.wantConsistent(t)
			f.clock.advance(25 * time.Hour) // nothing of this round is cleaned again in the next
			f.ids = nil
			if t.Failed() {
				t.Fatalf("in round %d", round)
			}
		}
		t.Logf("of %d files, %d were stored and %d swept first", 2*rounds*files, storedFirst, sweptFirst)
		if storedFirst == 0 || sweptFirst == 0 {
			t.Error("there was no race: one side always won")
		}
	})
}

// Sweeps that run at the same time never fail each other, and together do everything once.
func TestSweepsTogether(t *testing.T) {
	onBothTables(t, func(t *testing.T, on servers) {
		f := on.open(t)
		due := f.many(t, 280, func(i int) records.Record {
			if i%3 == 0 {
				return records.Record{CreatedAt: f.stamp(3 * time.Hour), Size: -1}
			}
			return records.Record{UploadedAt: f.stamp(2 * time.Hour), Size: 1} // the object is gone already
		})
		for range 20 {
			due = append(due, f.temporary(t, 2*time.Hour))
		}
		settled := f.placeholder(t, 3*time.Hour)
		f.put(t, settled, content)

		sweeps := make([]*expired, 3)
		var wg sync.WaitGroup
		for i := range sweeps {
			c := f.another(t)
			wg.Go(func() { sweeps[i] = runSweep(t, c) })
		}
		wg.Wait()
		var done []string
		for _, s := range sweeps {
			if s.err != nil || len(s.failed) > 0 || s.summary.Failed > 0 {
				t.Errorf("%+v: %v, %v", s.summary, s.err, s.failed)
			}
			done = append(done, s.ids...)
		}
		slices.Sort(done)
		slices.Sort(due)
		if !slices.Equal(done, due) {
			t.Errorf("%d files were due, %d were done: %s", len(due), len(done), strings.Join(done, " "))
		}
		f.wantState(t, settled, records.Temporary)
		f.wantConsistent(t)
	})
}
