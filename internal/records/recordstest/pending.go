package recordstest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/records"
)

// The attributes of docs/contract.md, "The pending index".
const (
	markAttribute   = "pending"
	markAtAttribute = "pending_at"
)

// pending returns what Pending finds, in how many pages. Meta and Fingerprint may be left out.
func pending(t *testing.T, table records.Table, f records.Filter, opts records.ScanOptions) (map[string]records.Record, int) {
	t.Helper()
	found := make(map[string]records.Record)
	pages := 0
	for page, err := range table.Pending(t.Context(), f, opts) {
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, r := range page {
			if _, twice := found[r.ID]; twice {
				t.Errorf("Pending returns %q twice", r.ID)
			}
			r.Meta, r.Fingerprint = "", ""
			found[r.ID] = r
		}
	}
	return found, pages
}

// testPending shows that the index finds what a Scan finds, of files whose every transition was made
// here, and nothing else but what may go.
func testPending(t *testing.T, table records.Table) {
	if found, _ := pending(t, table, records.Filter{UploadedBefore: later}, records.ScanOptions{}); len(found) != 0 {
		t.Fatalf("the new table is not empty: %v", found)
	}
	early, limit, late := records.Stamp("2026-01-01T00:00:00"), records.Stamp("2026-01-01T12:00:00"), records.Stamp("2026-01-02T00:00:00")
	const each = 12 // of every kind: several pages
	for kind, change := range map[string]func(*records.Record){
		"placeholder early": func(r *records.Record) { r.CreatedAt = early },
		"placeholder limit": func(r *records.Record) { r.CreatedAt = limit },
		"placeholder late":  func(r *records.Record) { r.CreatedAt = late },
		"placeholder api":   func(r *records.Record) { r.CreatedAt = "" },
		"temporary early":   func(r *records.Record) { r.CreatedAt, r.UploadedAt = early, early },
		"temporary limit":   func(r *records.Record) { r.CreatedAt, r.UploadedAt = early, limit },
		"temporary late":    func(r *records.Record) { r.CreatedAt, r.UploadedAt = early, late },
		"temporary api":     func(r *records.Record) { r.UploadedAt = early },
		"stored early":      func(r *records.Record) { r.CreatedAt, r.UploadedAt, r.StoredAt = early, early, early },
		"stored api":        func(r *records.Record) { r.UploadedAt, r.StoredAt = early, early },
		"deleted early":     func(r *records.Record) { r.CreatedAt, r.UploadedAt, r.DeletedAt = early, early, early },
		"deleted limit":     func(r *records.Record) { r.CreatedAt, r.UploadedAt, r.DeletedAt = early, early, limit },
		"deleted late":      func(r *records.Record) { r.CreatedAt, r.DeletedAt = early, late },
		"deleted stored":    func(r *records.Record) { r.UploadedAt, r.StoredAt, r.DeletedAt = early, early, late },
	} {
		for i := range each {
			r := records.Record{ID: fmt.Sprintf("%s %d", kind, i), Name: kind, Size: -1}
			change(&r)
			if r.UploadedAt.IsSet() {
				r.Type, r.Size = "text/plain", int64(i)
			}
			put(t, table, r)
		}
	}
	for _, f := range []records.Filter{
		{UploadedBefore: limit}, {CreatedBefore: limit}, {DeletedSince: limit},
		{UploadedBefore: limit, CreatedBefore: limit, DeletedSince: limit},
		{UploadedBefore: early, CreatedBefore: early, DeletedSince: later},
	} {
		for _, segments := range []int{0, 3, 50} {
			t.Run(fmt.Sprintf("%+v, %d segments", f, segments), func(t *testing.T) {
				want, _ := scan(t, table, f)
				meter := records.NewMeter(0)
				got, pages := pending(t, table, f, records.ScanOptions{Segments: segments, Meter: meter})
				maps.DeleteFunc(got, func(id string, r records.Record) bool {
					_, wanted := want[id]
					return !wanted && r.State() == records.Deleted // it was deleted before the limit
				})
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("- what Scan finds\n+ what Pending finds\n%s", diff)
				}
				if cost := meter.Total(); cost.Requests != int64(pages) || cost.Records < int64(len(want)) {
					t.Errorf("%+v for %d records in %d pages", cost, len(want), pages)
				}
			})
		}
	}

	t.Run("written meanwhile", func(t *testing.T) {
		f := records.Filter{UploadedBefore: limit, DeletedSince: limit}
		seen := 0
		for page, err := range table.Pending(t.Context(), f, records.ScanOptions{Segments: 2}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				if r.Name != "temporary early" && r.Name != "temporary api" {
					continue
				}
				seen++
				if _, err := table.Expire(t.Context(), r.ID, now, limit); err != nil {
					t.Error(err)
				}
			}
		}
		if seen != 2*each {
			t.Errorf("%d temporary files, want %d", seen, 2*each)
		}
		// Those that are deleted now are found to be cleaned again.
		found, _ := pending(t, table, records.Filter{DeletedSince: now}, records.ScanOptions{})
		maps.DeleteFunc(found, func(_ string, r records.Record) bool { return r.DeletedAt != now })
		if len(found) != 2*each {
			t.Errorf("%d files are found after they were claimed, want %d", len(found), 2*each)
		}
	})

	t.Run("ends early", func(t *testing.T) {
		for _, segments := range []int{0, 1, 8} {
			for _, err := range table.Pending(t.Context(), records.Filter{CreatedBefore: later}, records.ScanOptions{Segments: segments}) {
				if err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		if _, err := table.Delete(t.Context(), "placeholder early 0", now); err != nil {
			t.Error(err)
		}
	})
	t.Run("canceled", func(t *testing.T) {
		for _, segments := range []int{0, 1, 8} {
			checkCanceled(t, segments, func(ctx context.Context) iter.Seq2[[]records.Record, error] {
				f := records.Filter{CreatedBefore: later, UploadedBefore: later, DeletedSince: early}
				return table.Pending(ctx, f, records.ScanOptions{Segments: segments})
			})
		}
	})
}

// testMarking marks files and takes the marks away: only those of files that wait for something, or for nothing
// any more.
func testMarking(t *testing.T, table records.Table) {
	since := deleted
	for i, test := range []struct {
		name           string
		begin          func(id string) records.Record // nil: there is no record
		mark, unmarked error
	}{
		{"unknown", nil, records.ErrNotFound, records.ErrNotFound},
		{"placeholder", placeholder, nil, records.ErrNotDue},
		{"temporary", temporary, nil, records.ErrNotDue},
		{"stored", func(id string) records.Record {
			return with(temporary(id), func(r *records.Record) { r.StoredAt = stored })
		}, records.ErrStored, nil},
		{"deleted at the limit", func(id string) records.Record {
			return with(temporary(id), func(r *records.Record) { r.DeletedAt = deleted })
		}, nil, records.ErrNotDue},
		{"deleted before it", func(id string) records.Record {
			return with(temporary(id), func(r *records.Record) { r.DeletedAt = uploaded })
		}, records.ErrDeleted, nil},
		{"stored, and deleted at the limit", func(id string) records.Record {
			return with(temporary(id), func(r *records.Record) { r.StoredAt, r.DeletedAt = stored, deleted })
		}, nil, records.ErrNotDue},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := fmt.Sprintf("marking%d", i)
			before := records.Record{ID: id}
			if test.begin != nil {
				before = test.begin(id)
				put(t, table, before)
			}
			for name, call := range map[string]struct {
				do   func() (records.Record, error)
				want error
			}{
				"MarkPending":   {func() (records.Record, error) { return table.MarkPending(t.Context(), id, now, since) }, test.mark},
				"UnmarkPending": {func() (records.Record, error) { return table.UnmarkPending(t.Context(), id, since) }, test.unmarked},
			} {
				got, err := call.do()
				if call.want != nil {
					checkRefusal(t, err, id, call.want, before)
				} else if diff := cmp.Diff(before, got); err != nil || diff != "" {
					t.Errorf("%s: %v (-want +got)\n%s", name, err, diff)
				}
				checkUnchanged(t, table, id, test.begin != nil, before)
			}
		})
	}
	for _, bad := range []records.Stamp{"", "yesterday"} {
		for _, call := range []func() error{
			func() error { _, err := table.MarkPending(t.Context(), "marking1", bad, since); return err },
			func() error { _, err := table.MarkPending(t.Context(), "marking1", now, bad); return err },
			func() error { _, err := table.UnmarkPending(t.Context(), "marking3", bad); return err },
		} {
			err := call()
			if _, refused := errors.AsType[*records.TransitionError](err); err == nil || refused {
				t.Errorf("with the time %q: error %v", string(bad), err)
			}
		}
	}
}

// testMarks looks at the mark that has a file in the index, in tables where it is an attribute: after every
// transition, of files that were made here and of such that others have made without it.
func testMarks(t *testing.T, table records.Table) {
	attributes, ok := table.(Attributes)
	if !ok {
		t.Skip("in this table nothing is marked: the database keeps the index by itself")
	}
	ctx := t.Context()
	want := func(t *testing.T, id string, at records.Stamp) {
		t.Helper()
		shard := ""
		if at.IsSet() {
			shard = records.Shard(id)
		}
		if got := attributes.Attribute(t, id, markAttribute); got != shard {
			t.Errorf("part of the index %q, want %q", got, shard)
		}
		if got := attributes.Attribute(t, id, markAtAttribute); got != string(at) {
			t.Errorf("in the index as of %q, want %q", got, at)
		}
	}
	none := records.Stamp("")
	uploadedFile := func(store bool) func(id string) error {
		return func(id string) error { _, err := table.Uploaded(ctx, id, upload(store)); return err }
	}
	store := func(id string) error { _, err := table.Store(ctx, id, stored, nil); return err }
	remove := func(id string) error { _, err := table.Delete(ctx, id, deleted); return err }
	correct := func(known records.Stamp, store bool) func(id string) error {
		return func(id string) error {
			_, err := table.Correct(ctx, id, known, records.Upload{At: now, Type: "text/plain", Size: 7, Store: store})
			return err
		}
	}
	for i, test := range []struct {
		name  string
		steps []func(id string) error
		// own and others are the time of the mark in the end, of a file that was made here, and of one that
		// had no mark before the last step.
		own, others records.Stamp
	}{
		{"created", nil, created, none},
		{"uploaded", []func(string) error{uploadedFile(false)}, created, uploaded},
		{"uploaded and stored at once", []func(string) error{uploadedFile(true)}, none, none},
		{"stored", []func(string) error{uploadedFile(false), store}, none, none},
		{"stored twice", []func(string) error{uploadedFile(false), store, store}, none, none},
		{"stored, upload filled in", []func(string) error{
			func(id string) error { _, err := table.Store(ctx, id, stored, new(upload(false))); return err },
		}, none, none},
		{"uploaded once more after it was stored", []func(string) error{uploadedFile(true), uploadedFile(false)}, none, none},
		{"corrected, upload not recorded", []func(string) error{correct("", false)}, created, now},
		{"corrected, upload not recorded, and stored at once", []func(string) error{correct("", true)}, none, none},
		{"corrected", []func(string) error{uploadedFile(false), correct(uploaded, false)}, created, none},
		{"corrected after it was stored", []func(string) error{uploadedFile(true), correct(uploaded, true)}, none, none},
		{"deleted while it is a placeholder", []func(string) error{remove}, created, deleted},
		{"deleted while it is temporary", []func(string) error{uploadedFile(false), remove}, created, deleted},
		{"deleted after it was stored", []func(string) error{uploadedFile(true), remove}, deleted, deleted},
		{"expired", []func(string) error{
			uploadedFile(false), func(id string) error { _, err := table.Expire(ctx, id, now, now); return err },
		}, created, now},
		{"abandoned", []func(string) error{
			func(id string) error { _, err := table.Abandon(ctx, id, now, now); return err },
		}, created, now},
		{"marked", []func(string) error{
			uploadedFile(false), func(id string) error { _, err := table.MarkPending(ctx, id, now, now); return err },
		}, created, now},
		{"marked again after it was deleted", []func(string) error{
			uploadedFile(false), remove, func(id string) error { _, err := table.MarkPending(ctx, id, now, deleted); return err },
		}, created, now},
		{"cleaned again, and done", []func(string) error{
			uploadedFile(false), remove, func(id string) error { _, err := table.UnmarkPending(ctx, id, now); return err },
		}, none, none},
		{"deleted once more after that", []func(string) error{
			uploadedFile(false), remove, func(id string) error { _, err := table.UnmarkPending(ctx, id, now); return err }, remove,
		}, deleted, deleted},
	} {
		for who, at := range map[string]records.Stamp{"own": test.own, "others": test.others} {
			t.Run(test.name+"/"+who, func(t *testing.T) {
				id := fmt.Sprintf("marks%02d%s", i, who)
				if err := table.Create(ctx, placeholder(id)); err != nil {
					t.Fatal(err)
				}
				steps := slices.Clone(test.steps)
				if len(steps) == 0 && who == "others" {
					attributes.RemoveAttributes(t, id, markAttribute, markAtAttribute)
				}
				for n, step := range steps {
					if n == len(steps)-1 && who == "others" {
						attributes.RemoveAttributes(t, id, markAttribute, markAtAttribute)
					}
					if err := step(id); err != nil {
						t.Fatal(err)
					}
				}
				want(t, id, at)
			})
		}
	}

	// What comes from another filestore waits from when it was made there; of what is deleted nothing is
	// here to be cleaned up.
	for name, r := range map[string]struct {
		file records.Record
		at   records.Stamp
	}{
		"temporary": {temporary(""), created},
		"undated":   {with(temporary(""), func(r *records.Record) { r.CreatedAt = "" }), uploaded},
		"stored":    {with(temporary(""), func(r *records.Record) { r.StoredAt = stored }), none},
		"deleted":   {with(temporary(""), func(r *records.Record) { r.DeletedAt = deleted }), none},
	} {
		t.Run("imported/"+name, func(t *testing.T) {
			for _, over := range []string{"nothing", "a placeholder", "what was announced"} {
				file := r.file
				file.ID = fmt.Sprintf("imported %s over %s", name, over)
				if over != "nothing" {
					put(t, table, records.Record{ID: file.ID, Name: file.Name, Meta: file.Meta, Fingerprint: file.Fingerprint, Size: -1})
					want(t, file.ID, none)
				}
				write := func() error { return table.Import(ctx, file) }
				if over == "what was announced" {
					if _, err := table.Uploaded(ctx, file.ID, records.Upload{At: now, Type: file.Type, Size: file.Size}); err != nil {
						t.Fatal(err)
					}
					want(t, file.ID, now)
					write = func() error { return table.ImportAnnounced(ctx, file, now) }
				}
				if err := write(); err != nil {
					t.Fatal(err)
				}
				want(t, file.ID, r.at)
			}
		})
	}

	t.Run("of others", func(t *testing.T) {
		testMismarked(t, table, attributes)
	})
}

// testMismarked finds, by a Scan, what should be in the index and is not, and what is and should not be.
func testMismarked(t *testing.T, table records.Table, attributes Attributes) {
	old := records.Stamp("2025-01-01T00:00:00")
	var want []string
	for kind, change := range map[string]func(*records.Record){
		"placeholder":           func(*records.Record) {},
		"placeholder, no age":   func(r *records.Record) { r.CreatedAt = "" },
		"temporary":             func(r *records.Record) { r.UploadedAt = uploaded },
		"temporary of API":      func(r *records.Record) { r.CreatedAt, r.UploadedAt = "", uploaded },
		"stored":                func(r *records.Record) { r.UploadedAt, r.StoredAt = uploaded, stored },
		"deleted":               func(r *records.Record) { r.DeletedAt = deleted },
		"deleted, stored":       func(r *records.Record) { r.UploadedAt, r.StoredAt, r.DeletedAt = uploaded, stored, deleted },
		"deleted long ago":      func(r *records.Record) { r.DeletedAt = old },
		"stored, long ago gone": func(r *records.Record) { r.UploadedAt, r.StoredAt, r.DeletedAt = uploaded, stored, old },
	} {
		r := records.Record{Name: kind, Size: -1, CreatedAt: created}
		change(&r)
		if r.UploadedAt.IsSet() {
			r.Type, r.Size = "text/plain", 1
		}
		waits := r.DeletedAt == deleted || r.State() == records.Temporary || r.State() == records.Placeholder && r.CreatedAt.IsSet()
		settled := r.DeletedAt == old || r.State() == records.Stored
		for _, marked := range []bool{true, false} {
			r.ID = fmt.Sprintf("%s %t", kind, marked)
			put(t, table, r)
			if marked {
				attributes.SetAttribute(t, r.ID, markAttribute, records.Shard(r.ID))
				attributes.SetAttribute(t, r.ID, markAtAttribute, string(created))
			} else {
				attributes.RemoveAttributes(t, r.ID, markAttribute, markAtAttribute)
			}
			if waits && !marked || settled && marked {
				want = append(want, r.ID)
			}
		}
	}
	slices.Sort(want)
	mismarked := func() []string {
		found, _ := scan(t, table, records.Filter{Mismarked: deleted})
		maps.DeleteFunc(found, func(_ string, r records.Record) bool { return r.Name == placeholder("").Name }) // those of before
		return slices.Sorted(maps.Keys(found))
	}
	if diff := cmp.Diff(want, mismarked()); diff != "" {
		t.Errorf("mismarked (-want +got):\n%s", diff)
	}
	for _, id := range want {
		if _, err := table.MarkPending(t.Context(), id, now, deleted); err != nil {
			if _, err := table.UnmarkPending(t.Context(), id, deleted); err != nil {
				t.Error(err)
			}
		}
	}
	if left := mismarked(); len(left) != 0 {
		t.Errorf("still mismarked: %q", left)
	}
	// What should go comes along with what is due, so that somebody takes it out.
	attributes.SetAttribute(t, "stored false", markAttribute, records.Shard("stored false"))
	attributes.SetAttribute(t, "stored false", markAtAttribute, string(created))
	found, _ := pending(t, table, records.Filter{DeletedSince: later}, records.ScanOptions{})
	if found["stored false"].State() != records.Stored {
		t.Error("a stored file that is in the index is not found there")
	}
}

// testNoIndex takes the index away and makes it again.
func testNoIndex(t *testing.T, table records.Table) {
	put(t, table, temporary("temporary"))
	f := records.Filter{UploadedBefore: now}
	state := func() records.IndexState {
		t.Helper()
		index, err := table.Index(t.Context())
		if err != nil || index.Name == "" {
			t.Fatalf("%+v, %v", index, err)
		}
		return index.State
	}
	if s := state(); s != records.IndexActive {
		t.Fatalf("the index is %s", s)
	}
	if created, err := table.CreateIndex(t.Context()); created || err != nil {
		t.Errorf("an index that is there is made: %t, %v", created, err)
	}
	if dropped, err := table.DropIndex(t.Context()); !dropped || err != nil {
		t.Fatalf("DropIndex: %t, %v", dropped, err)
	}
	if dropped, err := table.DropIndex(t.Context()); dropped || err != nil {
		t.Errorf("an index that is not there is removed: %t, %v", dropped, err)
	}
	if s := state(); s != records.IndexNone {
		t.Errorf("the index is %s", s)
	}
	wantNoIndex(t, table.Pending(t.Context(), f, records.ScanOptions{Segments: 4}))
	put(t, table, temporary("meanwhile"))

	if created, err := table.CreateIndex(t.Context()); !created || err != nil {
		t.Fatalf("CreateIndex: %t, %v", created, err)
	}
	if found, _ := pending(t, table, f, records.ScanOptions{}); len(found) != 2 {
		t.Errorf("the new index finds %v", found)
	}
}

func wantNoIndex(t *testing.T, pages iter.Seq2[[]records.Record, error]) {
	t.Helper()
	errs := 0
	for page, err := range pages {
		if errs++; !errors.Is(err, records.ErrNoIndex) || page != nil {
			t.Errorf("page %v, error %v", page, err)
		}
	}
	if errs != 1 {
		t.Errorf("Pending goes on after its error: %d rounds", errs)
	}
}
