package client_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/testserver"
)

func testStore(t *testing.T, on servers) {
	f := on.open(t)
	uploaded := f.upload(t)
	f.clock.advance(10 * time.Second)
	first := f.stamp(0)
	unknown := client.NewID()
	ids := []string{unknown, uploaded.ID, "not an id", uploaded.ID, "../../etc/passwd", ""}

	results := slices.Collect(f.Store(t.Context(), ids))
	order, errs := errorsOf(results)
	if want := []string{unknown, uploaded.ID, "not an id", "../../etc/passwd", ""}; !slices.Equal(order, want) {
		t.Errorf("results for %q, want %q", order, want)
	}
	if errs[uploaded.ID] != nil || results[1].Value.StoredAt != first {
		t.Errorf("%+v", results[1])
	}
	for _, id := range []string{unknown, "not an id", "../../etc/passwd", ""} {
		wantReason(t, errs[id], client.NotFound)
	}
	f.wantState(t, uploaded.ID, records.Stored)
	if n := len(f.records(t)); n != 1 {
		t.Errorf("%d records: storing an unknown id must not make one", n)
	}

	// Once more: it succeeds, and the first time stays.
	f.clock.advance(time.Hour)
	r := one(t, f.Store(t.Context(), []string{uploaded.ID}))
	if r.Err != nil || r.Value.StoredAt != first {
		t.Errorf("%+v, %v; want the time %s", r.Value, r.Err, first)
	}
	if got := f.record(t, uploaded.ID).StoredAt; got != first {
		t.Errorf("stored at %s, want %s", got, first)
	}

	t.Run("many at once", func(t *testing.T) {
		f := on.open(t)
		now := f.stamp(0)
		ids := f.many(t, 250, func(int) records.Record { return records.Record{CreatedAt: now, UploadedAt: now, Size: 1} })
		var done []string
		for r := range f.Store(t.Context(), ids) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			done = append(done, r.ID)
		}
		if !slices.Equal(done, ids) {
			t.Error("the results are not in the order of the ids")
		}
		for id, r := range f.records(t) {
			if r.State() != records.Stored {
				t.Errorf("%q is %s", id, r.State())
			}
		}
	})

	t.Run("where files are stored on load", func(t *testing.T) {
		f := on.open(t)
		id := f.upload(t).ID
		f.Settings.StoreOnLoad = true
		r := one(t, f.Store(t.Context(), []string{id}))
		wantReason(t, r.Err, client.Usage)
		if !errors.Is(r.Err, client.ErrStoreOnLoad) {
			t.Error(r.Err)
		}
		f.wantState(t, id, records.Temporary)
	})
}

// A file that somebody uploads through a presigned URL is in the bucket before the record knows
// of it, if it ever does.
func testStoreFillsIn(t *testing.T, on servers) {
	f := on.open(t)
	id, url, err := f.PresignPut(t.Context(), "photo.png", map[string]string{"album": "1"}, 0, presign.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, one(t, f.Store(t.Context(), []string{id})).Err, client.NotUploaded)
	f.wantState(t, id, records.Placeholder)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url.URL, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "image/png; q=1")
	before := time.Now()
	if resp, body := testserver.Ask(t, req); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	after := time.Now()

	f.clock.advance(5 * time.Second)
	r := one(t, f.Store(t.Context(), []string{id}))
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	sameRecord(t, r.Value, records.Record{
		ID: id, Name: "photo.png", Type: "image/png", Size: int64(len(content)), Meta: `{"album":"1"}`,
		CreatedAt: f.stamp(5 * time.Second), UploadedAt: r.Value.UploadedAt, StoredAt: f.stamp(0),
	})
	at, err := r.Value.UploadedAt.Time()
	if err != nil || at.Before(before.Truncate(time.Second)) || at.After(after) {
		t.Errorf("uploaded at %q, and not from %s to %s: %v", r.Value.UploadedAt, before, after, err)
	}
	sameRecord(t, f.record(t, id), r.Value)
	f.wantState(t, id, records.Stored)
}

// Records do not say why a file was deleted; its times do.
func testStoreGone(t *testing.T, on servers) {
	f := on.open(t)
	deletedAt := func(after time.Duration) records.Record {
		return records.Record{
			Size: 1, CreatedAt: f.stamp(5 * time.Hour), UploadedAt: f.stamp(5 * time.Hour), DeletedAt: f.stamp(5*time.Hour - after),
		}
	}
	wasStored := deletedAt(3 * time.Hour)
	wasStored.StoredAt = wasStored.UploadedAt
	neverUploaded := deletedAt(3 * time.Hour)
	neverUploaded.UploadedAt, neverUploaded.Size = "", -1
	for _, test := range []struct {
		name   string
		record records.Record
		want   client.Reason
		says   string
	}{
		{"a minute after the upload", deletedAt(time.Minute), client.Deleted, "deleted on "},
		{"a second before its time", deletedAt(time.Hour - time.Second), client.Deleted, "deleted on "},
		{"when its time had come", deletedAt(time.Hour), client.Expired, "expired on "},
		{"long after its time", deletedAt(3 * time.Hour), client.Expired, "expired on "},
		{"long after, but it was stored", wasStored, client.Deleted, "deleted on "},
		{"never uploaded", neverUploaded, client.Deleted, "deleted on "},
		{"at a time that can't be read", records.Record{Size: 1, UploadedAt: f.stamp(5 * time.Hour), DeletedAt: "yesterday"}, client.Deleted, "deleted"},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := f.raw(t, test.record)
			r := one(t, f.Store(t.Context(), []string{id}))
			wantReason(t, r.Err, test.want)
			if r.Err != nil && !strings.HasPrefix(r.Err.Error(), test.says) {
				t.Errorf("it says %q", r.Err)
			}
			if got := f.record(t, id); got.DeletedAt != test.record.DeletedAt || got.StoredAt != test.record.StoredAt {
				t.Errorf("the record has become %+v", got)
			}
		})
	}

	t.Run("what a sweep took", func(t *testing.T) {
		f := on.open(t)
		id := f.upload(t).ID
		f.clock.advance(time.Hour + time.Second)
		if s, err := f.Expire(t.Context(), client.ExpireOptions{}); err != nil || s.Expired != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		wantReason(t, one(t, f.Store(t.Context(), []string{id})).Err, client.Expired)
	})
}
