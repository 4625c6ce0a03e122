package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
)

// created has the client told that an object was written, and returns the record, which must be what it says.
func (f *filestore) created(t testing.TB, id string) records.Record {
	t.Helper()
	r, known, err := f.ObjectCreated(t.Context(), id)
	if err != nil || !known {
		t.Fatalf("ObjectCreated(%q): known %t, %v", id, known, err)
	}
	if diff := cmp.Diff(f.record(t, id), r); diff != "" {
		t.Errorf("- the record + what ObjectCreated says of it\n%s", diff)
	}
	return r
}

// What is the placeholder of a copy for sure is left to the copy; of another writer it is one like any other.
func testCreatedByCopy(t *testing.T, on servers) {
	f := on.open(t)
	id := f.raw(t, records.Record{Size: -1})
	f.put(t, id, content)
	f.OnlyWriter = true
	if r := f.created(t, id); r.State() != records.Placeholder {
		t.Errorf("%+v", r)
	}
	f.OnlyWriter = false
	if r := f.created(t, id); r.State() != records.Temporary {
		t.Errorf("%+v", r)
	}
}

// Whoever uploads through a presigned URL writes the object and nothing else. S3 tells of it.
func testObjectCreated(t *testing.T, on servers) {
	f := on.open(t)
	id, _, err := f.PresignPut(t.Context(), "a.txt", nil, 0, presign.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	before := records.At(time.Now().Add(-2 * time.Second)) // S3's clock is cut to seconds, and may be another
	f.put(t, id, content)
	r := f.created(t, id)
	if r.State() != records.Temporary || r.Size != int64(len(content)) || r.Type != "text/plain" || r.UploadedAt < before {
		t.Errorf("%+v", r)
	}

	// It may tell of it twice, and much later.
	f.clock.advance(time.Hour)
	if again := f.created(t, id); !cmp.Equal(again, r) {
		t.Errorf("%+v, and after the second time %+v", r, again)
	}

	// Who still has the URL may upload something else.
	const other = "Something else, and longer than before.\n"
	f.put(t, id, other)
	if r = f.created(t, id); r.State() != records.Temporary || r.Size != int64(len(other)) {
		t.Errorf("%+v after it was overwritten", r)
	}
	for r := range f.Store(t.Context(), []string{id}) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	stored := f.record(t, id).StoredAt
	f.put(t, id, content)
	if r = f.created(t, id); r.State() != records.Stored || r.Size != int64(len(content)) || r.StoredAt != stored {
		t.Errorf("%+v after it was overwritten once it was stored", r)
	}
	f.wantConsistent(t)

	t.Run("and stored on load", func(t *testing.T) {
		f := on.open(t)
		f.Settings.StoreOnLoad = true
		id := f.placeholder(t, time.Minute)
		f.put(t, id, content)
		r := f.created(t, id)
		if r.State() != records.Stored || r.StoredAt != r.UploadedAt {
			t.Errorf("%+v", r)
		}
		if again := f.created(t, id); !cmp.Equal(again, r) {
			t.Errorf("%+v, and after the second time %+v", r, again)
		}
	})
}

// What a client that writes both has recorded by itself stays.
func testObjectCreatedRecorded(t *testing.T, on servers) {
	f := on.open(t)
	uploaded := f.upload(t)
	if r := f.created(t, uploaded.ID); !cmp.Equal(r, uploaded) {
		t.Errorf("%+v, and before %+v", r, uploaded)
	}

	// A copy has the times of the file that it is a copy of; its object is new.
	copied := f.temporary(t, 30*24*time.Hour)
	before := f.record(t, copied)
	if r := f.created(t, copied); !cmp.Equal(r, before) {
		t.Errorf("%+v, and before %+v", r, before)
	}
	f.wantConsistent(t)
}

// Of what is no file nothing becomes one.
func testObjectCreatedUnknown(t *testing.T, on servers) {
	f := on.open(t)
	for _, key := range []string{client.NewID(), "", "reports/2026/a b.pdf", "../../etc/passwd", "3P1XK0S9D2MFA7QZ"} {
		if key != "" && key[0] != '.' { // which an S3 server on a disk does not take
			f.put(t, key, content)
		}
		if r, known, err := f.ObjectCreated(t.Context(), key); known || err != nil || !cmp.Equal(r, records.Record{}) {
			t.Errorf("%q: %+v, known %t, %v", key, r, known, err)
		}
	}
	if n := len(f.records(t)); n != 0 {
		t.Errorf("%d records", n)
	}
	if n := len(f.objects(t)); n != 3 {
		t.Errorf("%d of 3 objects are left", n)
	}

	// An object may be gone by the time that S3 tells of it.
	id := f.placeholder(t, time.Minute)
	if r := f.created(t, id); r.State() != records.Placeholder {
		t.Errorf("%+v", r)
	}
	gone := f.temporary(t, time.Minute)
	f.remove(t, gone)
	before := f.record(t, gone)
	if r := f.created(t, gone); !cmp.Equal(r, before) {
		t.Errorf("%+v, and before %+v", r, before)
	}
}

// Of a file that was deleted no object may come back.
func testObjectCreatedDeleted(t *testing.T, on servers) {
	f := on.open(t)
	now := f.stamp(0)
	id := f.raw(t, records.Record{CreatedAt: now, UploadedAt: now, DeletedAt: now, Size: 1})
	f.put(t, id, content)
	f.created(t, id)
	f.wantState(t, id, records.Deleted)

	// So it is where it is deleted at the last moment.
	id = f.placeholder(t, time.Minute)
	f.put(t, id, content)
	f.Records = &lateTable{Table: f.Records, before: func() error {
		_, err := f.table.Delete(t.Context(), id, now)
		return err
	}}
	f.created(t, id)
	f.wantState(t, id, records.Deleted)
	f.wantConsistent(t)
}

// lateTable has something happen just before an upload is recorded, which then is not where that fails.
type lateTable struct {
	records.Table
	before func() error
}

func (l *lateTable) Correct(ctx context.Context, id string, known records.Stamp, u records.Upload) (records.Record, error) {
	if err := l.before(); err != nil {
		return records.Record{}, err
	}
	return l.Table.Correct(ctx, id, known, u)
}

// Where something fails nothing is done, and it can be done again.
func testObjectCreatedFails(t *testing.T, on servers) {
	f := on.open(t)
	id := f.placeholder(t, time.Minute)
	f.put(t, id, content)
	f.s3Faults.Inject(faultproxy.Any, faultproxy.Always(), faultproxy.InternalError())
	_, known, err := f.ObjectCreated(t.Context(), id)
	wantReason(t, err, client.Retry)
	if !known {
		t.Errorf("%q is not known", id)
	}
	f.heal()

	f.Records = &lateTable{Table: f.Records, before: func() error { return errTable }}
	if _, _, err = f.ObjectCreated(t.Context(), id); !errors.Is(err, errTable) {
		t.Errorf("%v, want %v", err, errTable)
	}
	f.Records = f.table
	if r := f.record(t, id); r.State() != records.Placeholder {
		t.Errorf("%+v", r)
	}
	f.created(t, id)
	f.wantState(t, id, records.Temporary)
}
