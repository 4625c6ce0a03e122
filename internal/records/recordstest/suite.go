// Package recordstest is the contract suite of [records.Table], with helpers for tests that
// need a table full of records.
package recordstest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/records"
)

// Attributes is implemented by tables under test that can hold attributes which package
// records does not know. The suite then shows that no transition loses them.
type Attributes interface {
	SetAttribute(t *testing.T, id, name, value string)
	Attribute(t *testing.T, id, name string) string
	RemoveAttributes(t *testing.T, id string, names ...string)
}

// The times of the suite. Files are made at created and uploaded at uploaded; every
// transition has a time of its own, so that a record tells which one has written it.
const (
	created  records.Stamp = "2026-01-02T03:00:00"
	uploaded records.Stamp = "2026-01-02T03:10:00"
	stored   records.Stamp = "2026-01-02T03:20:00"
	deleted  records.Stamp = "2026-01-02T03:30:00"
	now      records.Stamp = "2026-01-02T05:00:00"
	later    records.Stamp = "2026-01-02T06:00:00"
)

// Run runs the suite of docs/contract.md, "The transitions", on the tables that open makes:
// each one must be empty, have the index of pending files, and is used by one subtest only. To see the
// bounds of pages, its pages should be small: at most 20 records in a page of Scan.
func Run(t *testing.T, open func(t *testing.T) records.Table) {
	t.Run("transitions", func(t *testing.T) { testTransitions(t, open(t)) })
	t.Run("create", func(t *testing.T) { testCreate(t, open(t)) })
	t.Run("import", func(t *testing.T) { testImport(t, open(t)) })
	t.Run("import of what was announced", func(t *testing.T) { testImportAnnounced(t, open(t)) })
	t.Run("text", func(t *testing.T) { testText(t, open(t)) })
	t.Run("strict stamps", func(t *testing.T) { testStrictStamps(t, open(t)) })
	t.Run("unusable ids", func(t *testing.T) { testUnusableIDs(t, open(t)) })
	t.Run("limits", func(t *testing.T) { testLimits(t, open(t)) })
	t.Run("get", func(t *testing.T) { testGet(t, open(t)) })
	t.Run("scan", func(t *testing.T) { testScan(t, open(t)) })
	t.Run("scan selection", func(t *testing.T) { testScanSelection(t, open(t)) })
	t.Run("scan options", func(t *testing.T) { testScanOptions(t, open(t)) })
	t.Run("scan ends early", func(t *testing.T) { testScanEndsEarly(t, open(t)) })
	t.Run("scan canceled", func(t *testing.T) { testScanCanceled(t, open(t)) })
	t.Run("canceled", func(t *testing.T) { testCanceled(t, open(t)) })
	t.Run("many claims", func(t *testing.T) { testExpireMany(t, open(t)) })
	t.Run("many claims meet", func(t *testing.T) { testExpireManyMeet(t, open(t)) })
	t.Run("races", func(t *testing.T) { testRaces(t, open(t)) })
	t.Run("pending", func(t *testing.T) { testPending(t, open(t)) })
	t.Run("marking", func(t *testing.T) { testMarking(t, open(t)) })
	t.Run("marks", func(t *testing.T) { testMarks(t, open(t)) })
	t.Run("no index", func(t *testing.T) { testNoIndex(t, open(t)) })
	t.Run("unknown attributes", func(t *testing.T) { testUnknownAttributes(t, open(t)) })
}

// upload is the upload of every file of the suite.
func upload(store bool) records.Upload {
	return records.Upload{At: uploaded, Type: "image/png", Size: 3 << 32, Store: store}
}

func placeholder(id string) records.Record {
	return records.Record{
		ID: id, Name: "holiday.png", Size: -1, Meta: `{"path":"a/b"}`,
		Fingerprint: "crc64nvme:rosUhgp5mIg=:12884901888", CreatedAt: created,
	}
}

func temporary(id string) records.Record {
	r := placeholder(id)
	r.UploadedAt, r.Type, r.Size = uploaded, "image/png", 3<<32
	return r
}

func with(r records.Record, change func(*records.Record)) records.Record {
	change(&r)
	return r
}

// put brings a file into the state of want, by the transitions that lead there.
func put(t *testing.T, table records.Table, want records.Record) {
	t.Helper()
	ctx := t.Context()
	if err := table.Create(ctx, want); err != nil {
		t.Fatal(err)
	}
	if want.UploadedAt.IsSet() {
		if _, err := table.Uploaded(ctx, want.ID, records.Upload{At: want.UploadedAt, Type: want.Type, Size: want.Size}); err != nil {
			t.Fatal(err)
		}
	}
	if want.StoredAt.IsSet() {
		if _, err := table.Store(ctx, want.ID, want.StoredAt, nil); err != nil {
			t.Fatal(err)
		}
	}
	if want.DeletedAt.IsSet() {
		if _, err := table.Delete(ctx, want.ID, want.DeletedAt); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(&want, read(t, table, want.ID)); diff != "" {
		t.Fatalf("file to begin with (-want +got):\n%s", diff)
	}
}

// read returns the record of id, nil when there is none.
func read(t *testing.T, table records.Table, id string) *records.Record {
	t.Helper()
	found, err := table.Get(t.Context(), []string{id})
	if err != nil {
		t.Fatal(err)
	}
	r, ok := found[id]
	if !ok {
		return nil
	}
	return &r
}

// testTransitions is the table of docs/contract.md, "The transitions": each of them on a file
// in each of the states.
func testTransitions(t *testing.T, table records.Table) {
	states := []struct {
		name string
		make func(id string) records.Record // nil: there is no record
	}{
		{"unknown", nil},
		{"placeholder", placeholder},
		{"temporary", temporary},
		{"stored", func(id string) records.Record {
			return with(temporary(id), func(r *records.Record) { r.StoredAt = stored })
		}},
		{"deleted placeholder", func(id string) records.Record {
			return with(placeholder(id), func(r *records.Record) { r.DeletedAt = deleted })
		}},
		{"deleted temporary", func(id string) records.Record {
			return with(temporary(id), func(r *records.Record) { r.DeletedAt = deleted })
		}},
		{"deleted stored", func(id string) records.Record {
			return with(temporary(id), func(r *records.Record) { r.StoredAt, r.DeletedAt = stored, deleted })
		}},
	}

	// What a transition does: the reason for which it is refused, or else what it changes.
	type outcome struct {
		refused error
		change  func(*records.Record)
	}
	refused := func(reason error) outcome { return outcome{refused: reason} }
	change := func(f func(*records.Record)) outcome { return outcome{change: f} }
	nothing := change(func(*records.Record) {})
	reupload := func(r *records.Record) { r.UploadedAt, r.Type, r.Size = now, "text/plain", 0 }

	transitions := []struct {
		name string
		do   func(ctx context.Context, id string) (records.Record, error)
		want [7]outcome // in the order of states
	}{
		{
			"uploaded",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Uploaded(ctx, id, records.Upload{At: now, Type: "text/plain", Size: 0})
			},
			[7]outcome{
				refused(records.ErrNotFound), change(reupload), change(reupload), change(reupload),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"uploaded, store on load",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Uploaded(ctx, id, records.Upload{At: now, Type: "text/plain", Size: 0, Store: true})
			},
			[7]outcome{
				refused(records.ErrNotFound),
				change(func(r *records.Record) { reupload(r); r.StoredAt = now }),
				change(func(r *records.Record) { reupload(r); r.StoredAt = now }),
				change(reupload), // the first stored_at stays
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"store",
			func(ctx context.Context, id string) (records.Record, error) { return table.Store(ctx, id, now, nil) },
			[7]outcome{
				refused(records.ErrNotFound), refused(records.ErrNotUploaded),
				change(func(r *records.Record) { r.StoredAt = now }),
				nothing,
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"store, upload filled in",
			func(ctx context.Context, id string) (records.Record, error) {
				// Store has no say here: a file that is filled in is stored at the time of the store.
				return table.Store(ctx, id, now, new(upload(true)))
			},
			[7]outcome{
				refused(records.ErrNotFound),
				change(func(r *records.Record) { *r = temporary(r.ID); r.StoredAt = now }),
				change(func(r *records.Record) { r.StoredAt = now }),
				nothing,
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"store, other upload known already",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Store(ctx, id, now, &records.Upload{At: now, Type: "text/plain", Size: 7})
			},
			[7]outcome{
				refused(records.ErrNotFound),
				change(func(r *records.Record) { r.UploadedAt, r.Type, r.Size, r.StoredAt = now, "text/plain", 7, now }),
				change(func(r *records.Record) { r.StoredAt = now }),
				nothing,
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"delete",
			func(ctx context.Context, id string) (records.Record, error) { return table.Delete(ctx, id, now) },
			[7]outcome{
				refused(records.ErrNotFound),
				change(func(r *records.Record) { r.DeletedAt = now }),
				change(func(r *records.Record) { r.DeletedAt = now }),
				change(func(r *records.Record) { r.DeletedAt = now }),
				nothing, nothing, nothing, // the first deleted_at stays
			},
		},
		{
			"expire",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Expire(ctx, id, now, now)
			},
			[7]outcome{
				refused(records.ErrNotFound), refused(records.ErrNotUploaded),
				change(func(r *records.Record) { r.DeletedAt = now }),
				refused(records.ErrStored),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"expire, too early",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Expire(ctx, id, now, uploaded)
			},
			[7]outcome{
				refused(records.ErrNotFound), refused(records.ErrNotUploaded), refused(records.ErrNotDue),
				refused(records.ErrStored),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"abandon",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Abandon(ctx, id, now, now)
			},
			[7]outcome{
				refused(records.ErrNotFound),
				change(func(r *records.Record) { r.DeletedAt = now }),
				refused(records.ErrUploaded), refused(records.ErrStored),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"abandon, too early",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Abandon(ctx, id, now, created)
			},
			[7]outcome{
				refused(records.ErrNotFound), refused(records.ErrNotDue),
				refused(records.ErrUploaded), refused(records.ErrStored),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"correct",
			func(ctx context.Context, id string) (records.Record, error) {
				// The upload that was seen keeps its time, and store has no say.
				return table.Correct(ctx, id, uploaded, records.Upload{At: now, Type: "text/plain", Size: 7, Store: true})
			},
			[7]outcome{
				refused(records.ErrNotFound), refused(records.ErrChanged),
				change(func(r *records.Record) { r.Type, r.Size = "text/plain", 7 }),
				change(func(r *records.Record) { r.Type, r.Size = "text/plain", 7 }),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"correct, other upload seen",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Correct(ctx, id, now, records.Upload{At: now, Type: "text/plain", Size: 7})
			},
			[7]outcome{
				refused(records.ErrNotFound),
				refused(records.ErrChanged), refused(records.ErrChanged), refused(records.ErrChanged),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"correct, upload not recorded",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Correct(ctx, id, "", records.Upload{At: now, Type: "text/plain", Size: 0})
			},
			[7]outcome{
				refused(records.ErrNotFound), change(reupload), refused(records.ErrChanged), refused(records.ErrChanged),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"correct, upload not recorded, store on load",
			func(ctx context.Context, id string) (records.Record, error) {
				return table.Correct(ctx, id, "", records.Upload{At: now, Type: "text/plain", Size: 0, Store: true})
			},
			[7]outcome{
				refused(records.ErrNotFound),
				change(func(r *records.Record) { reupload(r); r.StoredAt = now }),
				refused(records.ErrChanged), refused(records.ErrChanged),
				refused(records.ErrDeleted), refused(records.ErrDeleted), refused(records.ErrDeleted),
			},
		},
		{
			"create again",
			func(ctx context.Context, id string) (records.Record, error) {
				r := records.Record{ID: id, Name: "other.txt", Size: -1, CreatedAt: now}
				return r, table.Create(ctx, r)
			},
			[7]outcome{
				change(func(r *records.Record) { *r = records.Record{ID: r.ID, Name: "other.txt", Size: -1, CreatedAt: now} }),
				refused(records.ErrExists), refused(records.ErrExists), refused(records.ErrExists),
				refused(records.ErrExists), refused(records.ErrExists), refused(records.ErrExists),
			},
		},
	}

	for i, transition := range transitions {
		for j, state := range states {
			t.Run(transition.name+"/"+state.name, func(t *testing.T) {
				id := fmt.Sprintf("transition%02d%02d", i, j)
				before := records.Record{ID: id}
				if state.make != nil {
					before = state.make(id)
					put(t, table, before)
				}
				want := transition.want[j]

				got, err := transition.do(t.Context(), id)

				if want.refused != nil {
					checkRefusal(t, err, id, want.refused, before)
					checkUnchanged(t, table, id, state.make != nil, before)
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				after := with(before, want.change)
				if diff := cmp.Diff(after, got); diff != "" {
					t.Errorf("returned (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(&after, read(t, table, id)); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			})
		}
	}

	// Discard is the one that leaves no record to compare.
	for j, want := range []error{
		records.ErrNotFound, nil, records.ErrUploaded, records.ErrStored,
		records.ErrDeleted, records.ErrDeleted, records.ErrDeleted,
	} {
		t.Run("discard/"+states[j].name, func(t *testing.T) {
			id := fmt.Sprintf("discard%02d", j)
			before := records.Record{ID: id}
			if states[j].make != nil {
				before = states[j].make(id)
				put(t, table, before)
			}
			err := table.Discard(t.Context(), id)
			if want != nil {
				checkRefusal(t, err, id, want, before)
				checkUnchanged(t, table, id, states[j].make != nil, before)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r := read(t, table, id); r != nil {
				t.Errorf("the record is still there: %+v", *r)
			}
		})
	}
}

// checkRefusal checks that err is the refusal of a write on id for reason, and that it shows
// the record as it is.
func checkRefusal(t *testing.T, err error, id string, reason error, current records.Record) {
	t.Helper()
	refusal, ok := errors.AsType[*records.TransitionError](err)
	if !ok || !errors.Is(err, reason) || refusal.ID != id {
		t.Fatalf("error %v, want that of file %q: %v", err, id, reason)
	}
	if errors.Is(reason, records.ErrNotFound) {
		current = records.Record{}
	}
	if diff := cmp.Diff(current, refusal.Current); diff != "" {
		t.Errorf("current record of the refusal (-want +got):\n%s", diff)
	}
}

func checkUnchanged(t *testing.T, table records.Table, id string, exists bool, want records.Record) {
	t.Helper()
	got := read(t, table, id)
	if !exists {
		if got != nil {
			t.Errorf("a refused write has made the record %+v", *got)
		}
		return
	}
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("a refused write has changed the record (-before +after):\n%s", diff)
	}
}

func testCreate(t *testing.T, table records.Table) {
	ctx := t.Context()
	full := temporary("full")
	full.StoredAt, full.DeletedAt = stored, deleted
	if err := table.Create(ctx, full); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(new(placeholder("full")), read(t, table, "full")); diff != "" {
		t.Errorf("Create writes ID, Name, Meta, Fingerprint and CreatedAt only (-want +got):\n%s", diff)
	}
	// Exactly the same record once more is still another file.
	err := table.Create(ctx, full)
	checkRefusal(t, err, "full", records.ErrExists, placeholder("full"))

	// A placeholder of the API: no created_at, no meta, no fingerprint.
	bare := records.Record{ID: "bare", Name: "a.txt", Size: -1}
	put(t, table, bare)

	// Discard frees the id.
	if err := table.Discard(ctx, "bare"); err != nil {
		t.Fatal(err)
	}
	put(t, table, bare)
}

// testImport shows that a record comes from another table as it is: where there is none, and in the
// place of the placeholder that was made for it. Nothing else gives way.
func testImport(t *testing.T, table records.Table) {
	ctx := t.Context()
	undated := func(r *records.Record) { r.CreatedAt = "" }
	sources := map[string]records.Record{
		"temporary":         temporary(""),
		"stored":            with(temporary(""), func(r *records.Record) { r.StoredAt = stored }),
		"deleted":           with(temporary(""), func(r *records.Record) { r.DeletedAt = deleted }),
		"deleted stored":    with(temporary(""), func(r *records.Record) { r.StoredAt, r.DeletedAt = stored, deleted }),
		"never uploaded":    with(placeholder(""), func(r *records.Record) { r.DeletedAt = deleted }),
		"of the API":        with(temporary(""), func(r *records.Record) { r.CreatedAt, r.Fingerprint, r.Meta = "", "", "" }),
		"empty":             with(temporary(""), func(r *records.Record) { r.Size = 0 }),
		"without size":      with(temporary(""), func(r *records.Record) { r.Type, r.Size = "", -1 }),
		"stored, not dated": with(placeholder(""), func(r *records.Record) { r.CreatedAt, r.StoredAt = "", stored }),
	}
	for name, source := range sources {
		for _, begin := range []string{"new", "placeholder"} {
			t.Run(name+" "+begin, func(t *testing.T) {
				want := source
				want.ID = "import " + name + " " + begin
				if begin == "placeholder" {
					put(t, table, records.Record{ID: want.ID, Name: want.Name, Meta: want.Meta, Fingerprint: want.Fingerprint, Size: -1})
				}
				for range 2 { // and the second time nothing changes
					if err := table.Import(ctx, want); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(&want, read(t, table, want.ID)); diff != "" {
						t.Fatalf("record (-want +got):\n%s", diff)
					}
				}
			})
		}
	}

	for name, refused := range map[string]struct {
		there  records.Record
		reason error
	}{
		"placeholder":         {placeholder(""), records.ErrExists},
		"temporary":           {temporary(""), records.ErrUploaded},
		"temporary, undated":  {with(temporary(""), undated), records.ErrUploaded},
		"stored":              {with(temporary(""), func(r *records.Record) { r.StoredAt = stored }), records.ErrStored},
		"deleted":             {with(temporary(""), func(r *records.Record) { r.StoredAt, r.DeletedAt = stored, deleted }), records.ErrDeleted},
		"deleted placeholder": {with(placeholder(""), func(r *records.Record) { undated(r); r.DeletedAt = deleted }), records.ErrDeleted},
	} {
		t.Run("refused "+name, func(t *testing.T) {
			there := refused.there
			there.ID = "refused " + name
			put(t, table, there)
			for _, source := range []records.Record{
				with(temporary(there.ID), func(r *records.Record) { r.UploadedAt = now }),
				with(temporary(there.ID), func(r *records.Record) { r.DeletedAt = now }),
			} {
				checkRefusal(t, table.Import(ctx, source), there.ID, refused.reason, there)
			}
			checkUnchanged(t, table, there.ID, true, there)
		})
	}

	t.Run("not UTF-8", func(t *testing.T) {
		if err := table.Import(ctx, with(temporary("latin1 import"), func(r *records.Record) { r.Name = "caf\xe9.txt" })); err != nil {
			t.Fatal(err)
		}
		if got := read(t, table, "latin1 import").Name; got != "caf\uFFFD.txt" {
			t.Errorf("name %q", got)
		}
	})
	if err := table.Import(ctx, temporary("")); err == nil {
		t.Error("a record without id was made")
	}
}

// testImportAnnounced shows that a record comes in the place of what a notification has made of the placeholder that was
// made for it, and of nothing else.
func testImportAnnounced(t *testing.T, table records.Table) {
	ctx := t.Context()
	// announced is the placeholder of a copy of source, after its object was announced at now.
	announced := func(t *testing.T, source records.Record, store bool) {
		t.Helper()
		left := records.Record{ID: source.ID, Name: source.Name, Meta: source.Meta, Fingerprint: source.Fingerprint}
		if err := table.Create(ctx, left); err != nil {
			t.Fatal(err)
		}
		if _, err := table.Uploaded(ctx, source.ID, records.Upload{At: now, Type: "binary/octet-stream", Size: 99, Store: store}); err != nil {
			t.Fatal(err)
		}
	}
	for name, source := range map[string]records.Record{
		"temporary":      temporary(""),
		"stored":         with(temporary(""), func(r *records.Record) { r.StoredAt = stored }),
		"deleted":        with(temporary(""), func(r *records.Record) { r.DeletedAt = deleted }),
		"never uploaded": with(placeholder(""), func(r *records.Record) { r.DeletedAt = deleted }),
		"of the API":     with(temporary(""), func(r *records.Record) { r.CreatedAt, r.Fingerprint, r.Meta = "", "", "" }),
		"without size":   with(temporary(""), func(r *records.Record) { r.Type, r.Size = "", -1 }),
	} {
		for _, store := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, stored on load %t", name, store), func(t *testing.T) {
				want := source
				want.ID = fmt.Sprintf("announced %s %t", name, store)
				announced(t, want, store)
				if err := table.ImportAnnounced(ctx, want, now); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(&want, read(t, table, want.ID)); diff != "" {
					t.Fatalf("record (-want +got):\n%s", diff)
				}
			})
		}
	}

	undated := func(r *records.Record) { r.CreatedAt = "" }
	for name, refused := range map[string]struct {
		there  records.Record
		reason error
	}{
		"placeholder of a copy": {with(placeholder(""), undated), records.ErrChanged},
		"placeholder":           {placeholder(""), records.ErrExists},
		"dated":                 {temporary(""), records.ErrExists},
		"uploaded at another time": {
			with(temporary(""), func(r *records.Record) { undated(r); r.UploadedAt = later }), records.ErrChanged,
		},
		"stored": {with(temporary(""), func(r *records.Record) { undated(r); r.StoredAt = stored }), records.ErrStored},
		"deleted": {
			with(temporary(""), func(r *records.Record) { undated(r); r.DeletedAt = deleted }), records.ErrDeleted,
		},
	} {
		t.Run("refused "+name, func(t *testing.T) {
			there := refused.there
			there.ID = "not announced " + name
			put(t, table, there)
			for _, source := range []records.Record{
				temporary(there.ID),
				with(temporary(there.ID), func(r *records.Record) { r.DeletedAt = now }),
			} {
				checkRefusal(t, table.ImportAnnounced(ctx, source, uploaded), there.ID, refused.reason, there)
			}
			checkUnchanged(t, table, there.ID, true, there)
		})
	}
	t.Run("nothing there", func(t *testing.T) {
		checkRefusal(t, table.ImportAnnounced(ctx, temporary("not announced"), uploaded), "not announced", records.ErrNotFound, records.Record{})
		checkUnchanged(t, table, "not announced", false, records.Record{})
	})
}

func testText(t *testing.T, table records.Table) {
	for i, name := range []string{
		"", " ", "plain.txt", "日本語.txt", "e\u0301 \U0001F4C1", "line\nbreak\r\n\ttab", "nul\x00byte", `a"; filename=b`,
		"../../etc/passwd", strings.Repeat("x", 300), strings.Repeat("日", 300), "null", "' OR 1=1 --",
	} {
		t.Run(fmt.Sprintf("%.20q", name), func(t *testing.T) {
			want := temporary(fmt.Sprintf("text%02d", i))
			want.Name, want.Meta, want.Type = name, `{"k":"ü \" \n <&>\u0000"}`, "text/"+name
			put(t, table, want)
		})
	}
	t.Run("not UTF-8", func(t *testing.T) {
		r := records.Record{ID: "latin1", Name: "caf\xe9.txt", Size: -1, CreatedAt: created}
		if err := table.Create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if got := read(t, table, "latin1").Name; got != "caf\uFFFD.txt" {
			t.Errorf("name %q", got)
		}
	})
	t.Run("no meta", func(t *testing.T) {
		put(t, table, with(temporary("nometa"), func(r *records.Record) { r.Meta = "" }))
	})
	t.Run("no fingerprint", func(t *testing.T) {
		put(t, table, with(temporary("nofingerprint"), func(r *records.Record) { r.Fingerprint = "" }))
	})
	t.Run("no type", func(t *testing.T) {
		put(t, table, with(temporary("notype"), func(r *records.Record) { r.Type, r.Size = "", 0 }))
	})
}

// testStrictStamps shows that no time is written, or acted on, that is not in the form of the
// contract.
func testStrictStamps(t *testing.T, table records.Table) {
	ctx := t.Context()
	put(t, table, temporary("strict"))
	for _, bad := range []records.Stamp{
		"", "yesterday", "2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.5", "2026-01-02 03:04:05",
	} {
		calls := map[string]func() error{
			"Uploaded": func() error {
				_, err := table.Uploaded(ctx, "strict", records.Upload{At: bad})
				return err
			},
			"Store": func() error { _, err := table.Store(ctx, "strict", bad, nil); return err },
			"Store missing": func() error {
				_, err := table.Store(ctx, "strict", now, &records.Upload{At: bad})
				return err
			},
			"Delete":        func() error { _, err := table.Delete(ctx, "strict", bad); return err },
			"Expire":        func() error { _, err := table.Expire(ctx, "strict", bad, now); return err },
			"Expire before": func() error { _, err := table.Expire(ctx, "strict", now, bad); return err },
			"Correct": func() error {
				_, err := table.Correct(ctx, "strict", "", records.Upload{At: bad})
				return err
			},
			"Abandon":        func() error { _, err := table.Abandon(ctx, "strict", bad, now); return err },
			"Abandon before": func() error { _, err := table.Abandon(ctx, "strict", now, bad); return err },
		}
		if bad.IsSet() {
			calls["Create"] = func() error { return table.Create(ctx, records.Record{ID: "new", Name: "a", CreatedAt: bad}) }
			for name, set := range map[string]func(*records.Record){
				"created_at":  func(r *records.Record) { r.CreatedAt = bad },
				"uploaded_at": func(r *records.Record) { r.UploadedAt = bad },
				"stored_at":   func(r *records.Record) { r.StoredAt = bad },
				"deleted_at":  func(r *records.Record) { r.DeletedAt = bad },
			} {
				calls["Import of "+name] = func() error { return table.Import(ctx, with(temporary("new"), set)) }
			}
		}
		for name, call := range calls {
			err := call()
			if _, refused := errors.AsType[*records.TransitionError](err); err == nil || refused {
				t.Errorf("%s with time %q: error %v", name, string(bad), err)
			}
		}
	}
	checkUnchanged(t, table, "strict", true, temporary("strict"))
	checkUnchanged(t, table, "new", false, records.Record{})
}

// testUnusableIDs shows that text which can be no id is an id that is not there, so that one
// such line in a list does not take the answer from the others.
func testUnusableIDs(t *testing.T, table records.Table) {
	ctx := t.Context()
	put(t, table, temporary("good"))
	bad := []string{"", "caf\xe9", strings.Repeat("x", 3000), "with space", "nul\x00", "../x", "GOOD"}

	found, err := table.Get(ctx, append(slices.Clone(bad), "good"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]records.Record{"good": temporary("good")}, found); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
	for _, id := range bad {
		if _, err := table.Store(ctx, id, now, new(upload(false))); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("Store of %.20q: error %v", id, err)
		}
		if _, err := table.Delete(ctx, id, now); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("Delete of %.20q: error %v", id, err)
		}
		if err := table.Discard(ctx, id); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("Discard of %.20q: error %v", id, err)
		}
	}
	if err := table.Create(ctx, placeholder("")); err == nil {
		t.Error("a record without id was made")
	}
}

// testLimits shows that "before" is exactly that.
func testLimits(t *testing.T, table records.Table) {
	ctx := t.Context()
	at := func(d time.Duration) records.Stamp {
		base, err := uploaded.Time()
		if err != nil {
			t.Fatal(err)
		}
		return records.At(base.Add(d))
	}
	for i, test := range []struct {
		limit records.Stamp
		due   bool
	}{
		{at(-time.Second), false},
		{at(0), false},
		{at(time.Second), true},
	} {
		id := fmt.Sprintf("expire%d", i)
		put(t, table, temporary(id))
		if _, err := table.Expire(ctx, id, now, test.limit); (err == nil) != test.due || err != nil && !errors.Is(err, records.ErrNotDue) {
			t.Errorf("uploaded at %s, expire before %s: error %v", uploaded, test.limit, err)
		}
		id = fmt.Sprintf("abandon%d", i)
		put(t, table, with(placeholder(id), func(r *records.Record) { r.CreatedAt = uploaded }))
		if _, err := table.Abandon(ctx, id, now, test.limit); (err == nil) != test.due || err != nil && !errors.Is(err, records.ErrNotDue) {
			t.Errorf("created at %s, abandon before %s: error %v", uploaded, test.limit, err)
		}
	}

	// The API's placeholders have no age.
	put(t, table, records.Record{ID: "ageless", Name: "a", Size: -1})
	_, err := table.Abandon(ctx, "ageless", now, later)
	checkRefusal(t, err, "ageless", records.ErrNotDue, records.Record{ID: "ageless", Name: "a", Size: -1})
}

func testGet(t *testing.T, table records.Table) {
	ctx := t.Context()
	// More than a batch of BatchGetItem, 100, and than two.
	const n = 250
	want := make(map[string]records.Record, n)
	var ids []string
	for i := range n {
		r := records.Record{ID: fmt.Sprintf("get%03d", i), Name: fmt.Sprint(i), Size: -1, CreatedAt: created}
		if err := table.Create(ctx, r); err != nil {
			t.Fatal(err)
		}
		want[r.ID] = r
		ids = append(ids, r.ID, fmt.Sprintf("unknown%03d", i), r.ID)
	}
	got, err := table.Get(ctx, ids)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Get (-want +got):\n%s", diff)
	}
	for _, none := range [][]string{nil, {}, {"unknown"}, {"unknown", "unknown"}} {
		if got, err := table.Get(ctx, none); err != nil || len(got) != 0 {
			t.Errorf("Get of %q: %v, error %v", none, got, err)
		}
	}
}

func testScan(t *testing.T, table records.Table) {
	ctx := t.Context()
	if pages, _ := scan(t, table, records.Filter{}); len(pages) != 0 {
		t.Fatalf("the new table is not empty: %v", pages)
	}

	early, limit, late := records.Stamp("2026-01-01T00:00:00"), records.Stamp("2026-01-01T12:00:00"), records.Stamp("2026-01-02T00:00:00")
	kinds := map[string]func(*records.Record){
		"placeholder early": func(r *records.Record) { r.CreatedAt = early },
		"placeholder limit": func(r *records.Record) { r.CreatedAt = limit },
		"placeholder late":  func(r *records.Record) { r.CreatedAt = late },
		"placeholder api":   func(r *records.Record) { r.CreatedAt = "" },
		"temporary early":   func(r *records.Record) { r.CreatedAt, r.UploadedAt = early, early },
		"temporary limit":   func(r *records.Record) { r.CreatedAt, r.UploadedAt = early, limit },
		"temporary late":    func(r *records.Record) { r.CreatedAt, r.UploadedAt = early, late },
		"stored early":      func(r *records.Record) { r.CreatedAt, r.UploadedAt, r.StoredAt = early, early, early },
		"deleted early":     func(r *records.Record) { r.CreatedAt, r.UploadedAt, r.DeletedAt = early, early, early },
		"deleted limit":     func(r *records.Record) { r.CreatedAt, r.UploadedAt, r.DeletedAt = early, early, limit },
		"deleted late":      func(r *records.Record) { r.CreatedAt, r.DeletedAt = early, late },
		"deleted stored":    func(r *records.Record) { r.UploadedAt, r.StoredAt, r.DeletedAt = early, early, late },
	}
	const each = 8 // of every kind: several pages for each filter
	all := make(map[string]records.Record)
	for kind, change := range kinds {
		for i := range each {
			r := records.Record{ID: fmt.Sprintf("%s %d", kind, i), Name: kind, Size: -1}
			change(&r)
			if r.UploadedAt.IsSet() {
				r.Type, r.Size = "text/plain", int64(i)
			}
			put(t, table, r)
			all[r.ID] = r
		}
	}

	temporaries, placeholders, deletions := []string{"temporary early"}, []string{"placeholder early"}, []string{"deleted limit", "deleted late", "deleted stored"}
	for _, test := range []struct {
		name   string
		filter records.Filter
		want   []string
	}{
		{"everything", records.Filter{}, slices.Collect(maps.Keys(kinds))},
		{"temporaries", records.Filter{UploadedBefore: limit}, temporaries},
		{"placeholders", records.Filter{CreatedBefore: limit}, placeholders},
		{"deleted", records.Filter{DeletedSince: limit}, deletions},
		{"temporaries, placeholders", records.Filter{UploadedBefore: limit, CreatedBefore: limit}, slices.Concat(temporaries, placeholders)},
		{"temporaries, deleted", records.Filter{UploadedBefore: limit, DeletedSince: limit}, slices.Concat(temporaries, deletions)},
		{"placeholders, deleted", records.Filter{CreatedBefore: limit, DeletedSince: limit}, slices.Concat(placeholders, deletions)},
		{"all limits", records.Filter{UploadedBefore: limit, CreatedBefore: limit, DeletedSince: limit}, slices.Concat(temporaries, placeholders, deletions)},
		{"no match", records.Filter{UploadedBefore: early, CreatedBefore: early, DeletedSince: later}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := make(map[string]records.Record)
			for id, r := range all {
				if slices.Contains(test.want, r.Name) {
					want[id] = r
				}
			}
			got, pages := scan(t, table, test.filter)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Scan (-want +got):\n%s", diff)
			}
			if pages < 2 && len(want) > 20 {
				t.Errorf("%d records in %d page", len(want), pages)
			}
		})
	}

	t.Run("written meanwhile", func(t *testing.T) {
		// A sweep claims what it is told, while it goes on.
		seen := 0
		for page, err := range table.Scan(ctx, records.Filter{UploadedBefore: limit}, records.ScanOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				seen++
				if _, err := table.Expire(ctx, r.ID, now, limit); err != nil {
					t.Error(err)
				}
			}
		}
		if seen != each {
			t.Errorf("%d records, want %d", seen, each)
		}
	})
}

// scan returns what a Scan selects, and in how many pages. Meta and Fingerprint are not compared:
// they may be left out.
func scan(t *testing.T, table records.Table, f records.Filter) (map[string]records.Record, int) {
	t.Helper()
	found, pages := scanWith(t, table, f, records.ScanOptions{})
	for id, r := range found {
		r.Meta, r.Fingerprint = "", ""
		found[id] = r
	}
	return found, pages
}

func scanWith(t *testing.T, table records.Table, f records.Filter, opts records.ScanOptions) (map[string]records.Record, int) {
	t.Helper()
	found := make(map[string]records.Record)
	pages := 0
	for page, err := range table.Scan(t.Context(), f, opts) {
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, r := range page {
			if _, twice := found[r.ID]; twice {
				t.Errorf("Scan returns %q twice", r.ID)
			}
			found[r.ID] = r
		}
	}
	return found, pages
}

// testScanSelection selects by state and by time, as a list does.
func testScanSelection(t *testing.T, table records.Table) {
	first, second, third, fourth := records.Stamp("2026-01-01T00:00:00"), records.Stamp("2026-01-02T00:00:00"), records.Stamp("2026-01-03T00:00:00"), records.Stamp("2026-01-04T00:00:00")
	for id, times := range map[string][4]records.Stamp{
		"placeholder":         {first},
		"placeholder of API":  {},
		"temporary":           {first, second},
		"temporary of API":    {"", second},
		"stored":              {first, second, third},
		"deleted placeholder": {first, "", "", second},
		"deleted temporary":   {first, second, "", third},
		"deleted stored":      {first, second, third, fourth},
	} {
		r := records.Record{ID: id, Name: "a", Size: -1, CreatedAt: times[0], UploadedAt: times[1], StoredAt: times[2], DeletedAt: times[3]}
		if r.UploadedAt.IsSet() {
			r.Type, r.Size = "text/plain", 1
		}
		put(t, table, r)
	}
	for _, test := range []struct {
		name   string
		filter records.Filter
		want   []string
	}{
		{"placeholders", records.Filter{States: []records.State{records.Placeholder}}, []string{"placeholder", "placeholder of API"}},
		{"temporary files", records.Filter{States: []records.State{records.Temporary}}, []string{"temporary", "temporary of API"}},
		{"stored files", records.Filter{States: []records.State{records.Stored}}, []string{"stored"}},
		{"deleted files", records.Filter{States: []records.State{records.Deleted}}, []string{"deleted placeholder", "deleted stored", "deleted temporary"}},
		{"two states", records.Filter{States: []records.State{records.Stored, records.Placeholder}}, []string{"placeholder", "placeholder of API", "stored"}},
		{"a state that there is not", records.Filter{States: []records.State{"lost"}}, nil},
		{"since", records.Filter{Since: second}, []string{"deleted stored", "deleted temporary", "stored", "temporary", "temporary of API"}},
		{"until is not included", records.Filter{Until: second}, []string{"deleted placeholder", "placeholder"}},
		{"since and until", records.Filter{Since: first, Until: second}, []string{"deleted placeholder", "placeholder"}},
		{"nothing between", records.Filter{Since: third, Until: fourth}, nil},
		{"created", records.Filter{By: records.ByCreated, Since: first}, []string{"deleted placeholder", "deleted stored", "deleted temporary", "placeholder", "stored", "temporary"}},
		{"uploaded", records.Filter{By: records.ByUploaded, Until: third}, []string{"deleted stored", "deleted temporary", "stored", "temporary", "temporary of API"}},
		{"stored", records.Filter{By: records.ByStored, Since: first}, []string{"deleted stored", "stored"}},
		{"deleted", records.Filter{By: records.ByDeleted, Since: second, Until: fourth}, []string{"deleted placeholder", "deleted temporary"}},
		{"state and time", records.Filter{States: []records.State{records.Temporary, records.Stored}, By: records.ByCreated, Since: first}, []string{"stored", "temporary"}},
		{"a time by itself limits nothing", records.Filter{By: records.ByStored, States: []records.State{records.Stored}}, []string{"stored"}},
		{"limit of a sweep, and state", records.Filter{UploadedBefore: third, CreatedBefore: second, States: []records.State{records.Placeholder}}, []string{"placeholder"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, _ := scan(t, table, test.filter)
			if diff := cmp.Diff(test.want, slices.Sorted(maps.Keys(found))); diff != "" {
				t.Errorf("selected (-want +got):\n%s", diff)
			}
		})
	}
}

// testScanOptions reads the same records in every way: each comes once, whole, and is counted.
func testScanOptions(t *testing.T, table records.Table) {
	all := make(map[string]records.Record)
	for i := range 150 {
		r := placeholder(fmt.Sprintf("options%03d", i))
		put(t, table, r)
		all[r.ID] = r
	}
	for _, opts := range []records.ScanOptions{
		{},
		{Segments: 1}, {Segments: 2}, {Segments: 3}, {Segments: 8}, {Segments: 200},
		{FirstPage: 1}, {FirstPage: 4}, {FirstPage: 1000}, {FirstPage: 2, Segments: 5},
		{Segments: 2, Parts: 2}, {Segments: 1, Parts: 2}, {Segments: 3, Parts: 20}, {Segments: 8, Parts: 300}, {FirstPage: 2, Segments: 2, Parts: 5},
	} {
		t.Run(fmt.Sprintf("segments %d of %d, first page %d", opts.Segments, opts.Parts, opts.FirstPage), func(t *testing.T) {
			opts.Meta, opts.Meter = true, records.NewMeter(0)
			found, pages := scanWith(t, table, records.Filter{}, opts)
			if diff := cmp.Diff(all, found); diff != "" {
				t.Errorf("Scan (-want +got):\n%s", diff)
			}
			cost := opts.Meter.Total()
			if cost.Records != int64(len(all)) || cost.Requests != int64(pages) {
				t.Errorf("%+v for %d records in %d pages", cost, len(all), pages)
			}
		})
	}
	t.Run("a few", func(t *testing.T) {
		meter := records.NewMeter(0)
		for page, err := range table.Scan(t.Context(), records.Filter{}, records.ScanOptions{FirstPage: 3, Meter: meter}) {
			if err != nil || len(page) != 3 {
				t.Errorf("%d records, error %v", len(page), err)
			}
			break
		}
		if cost := meter.Total(); cost.Records != 3 || cost.Requests != 1 {
			t.Errorf("%+v to see 3 records", cost)
		}
	})
}

func testScanEndsEarly(t *testing.T, table records.Table) {
	for i := range 60 {
		put(t, table, records.Record{ID: fmt.Sprintf("early%02d", i), Name: "a", Size: -1})
	}
	for _, segments := range []int{0, 1, 4} {
		pages := 0
		for _, err := range table.Scan(t.Context(), records.Filter{}, records.ScanOptions{Segments: segments}) {
			if err != nil {
				t.Fatal(err)
			}
			if pages++; pages == 2 {
				break
			}
		}
		if pages != 2 {
			t.Errorf("%d segments: %d pages, want at least 2", segments, pages)
		}
	}
	// The table is free for others: nothing of the broken-off Scan is left.
	if _, err := table.Delete(t.Context(), "early00", now); err != nil {
		t.Error(err)
	}
}

// testScanCanceled ends the context while a page is looked at: the scan says so, once.
func testScanCanceled(t *testing.T, table records.Table) {
	for i := range 120 {
		put(t, table, records.Record{ID: fmt.Sprintf("canceled%03d", i), Name: "a", Size: -1})
	}
	for _, segments := range []int{0, 1, 4} {
		checkCanceled(t, segments, func(ctx context.Context) iter.Seq2[[]records.Record, error] {
			return table.Scan(ctx, records.Filter{}, records.ScanOptions{Segments: segments})
		})
	}
}

// checkCanceled ends the context while the first page is looked at: the pages end with one error.
func checkCanceled(t *testing.T, segments int, pages func(context.Context) iter.Seq2[[]records.Record, error]) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs []error
	for _, err := range pages(ctx) {
		cancel()
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
		t.Errorf("%d segments: errors %v", segments, errs)
	}
}

func testCanceled(t *testing.T, table records.Table) {
	put(t, table, temporary("canceled"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := table.Store(ctx, "canceled", now, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Store: error %v", err)
	}
	if _, err := table.Get(ctx, []string{"canceled"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: error %v", err)
	}
	errs := 0
	for page, err := range table.Scan(ctx, records.Filter{}, records.ScanOptions{}) {
		if errs++; !errors.Is(err, context.Canceled) || page != nil {
			t.Errorf("Scan: page %v, error %v", page, err)
		}
	}
	if errs != 1 {
		t.Errorf("Scan goes on after its error: %d rounds", errs)
	}
	checkUnchanged(t, table, "canceled", true, temporary("canceled"))
}

func testUnknownAttributes(t *testing.T, table records.Table) {
	attributes, ok := table.(Attributes)
	if !ok {
		t.Skip("this table has no other attributes than the record's")
	}
	ctx := t.Context()
	put(t, table, placeholder("extra"))
	attributes.SetAttribute(t, "extra", "owner", "somebody")
	for _, transition := range []func() (records.Record, error){
		func() (records.Record, error) { return table.Uploaded(ctx, "extra", upload(false)) },
		func() (records.Record, error) { return table.Store(ctx, "extra", stored, nil) },
		func() (records.Record, error) { return table.Uploaded(ctx, "extra", upload(true)) },
		func() (records.Record, error) { return table.Delete(ctx, "extra", deleted) },
	} {
		r, err := transition()
		if err != nil {
			t.Fatal(err)
		}
		if got := attributes.Attribute(t, "extra", "owner"); got != "somebody" {
			t.Fatalf("%s record: owner %q", r.State(), got)
		}
	}
	undated := func(r *records.Record) { r.CreatedAt = "" }
	for id, test := range map[string]struct {
		from func(id string) records.Record
		do   func(id string) (records.Record, error)
	}{
		"expired":    {temporary, func(id string) (records.Record, error) { return table.Expire(ctx, id, now, now) }},
		"abandoned":  {placeholder, func(id string) (records.Record, error) { return table.Abandon(ctx, id, now, now) }},
		"filled":     {placeholder, func(id string) (records.Record, error) { return table.Store(ctx, id, now, new(upload(false))) }},
		"unrecorded": {placeholder, func(id string) (records.Record, error) { return table.Correct(ctx, id, "", upload(false)) }},
		"corrected":  {temporary, func(id string) (records.Record, error) { return table.Correct(ctx, id, uploaded, upload(false)) }},
		"marked":     {temporary, func(id string) (records.Record, error) { return table.MarkPending(ctx, id, now, deleted) }},
		"unmarked": {
			func(id string) records.Record {
				return with(temporary(id), func(r *records.Record) { r.StoredAt = stored })
			},
			func(id string) (records.Record, error) { return table.UnmarkPending(ctx, id, now) },
		},
		"imported": {
			func(id string) records.Record { return with(placeholder(id), undated) },
			func(id string) (records.Record, error) { return records.Record{}, table.Import(ctx, temporary(id)) },
		},
		"announced": { // this one removes attributes
			func(id string) records.Record { return with(temporary(id), undated) },
			func(id string) (records.Record, error) {
				r := with(placeholder(id), func(r *records.Record) { r.DeletedAt = deleted })
				return r, table.ImportAnnounced(ctx, r, uploaded)
			},
		},
	} {
		put(t, table, test.from(id))
		attributes.SetAttribute(t, id, "owner", "somebody")
		if _, err := test.do(id); err != nil {
			t.Fatalf("%s record: %v", id, err)
		}
		if got := attributes.Attribute(t, id, "owner"); got != "somebody" {
			t.Errorf("%s record: owner %q", id, got)
		}
	}
}

// expireMany claims together, or one by one where the table can't.
func expireMany(ctx context.Context, table records.Table, ids []string, at, before records.Stamp) (claimed []string, err error) {
	if bulk, ok := table.(records.BulkExpirer); ok {
		return bulk.ExpireMany(ctx, ids, at, before)
	}
	for _, id := range ids {
		_, err := table.Expire(ctx, id, at, before)
		if _, refused := errors.AsType[*records.TransitionError](err); refused {
			continue
		}
		if err != nil {
			return claimed, err
		}
		claimed = append(claimed, id)
	}
	return claimed, nil
}

// testExpireMany shows that of many files those are claimed that would be by themselves, and no other
// record is touched.
func testExpireMany(t *testing.T, table records.Table) {
	limit := records.Stamp("2026-01-02T03:10:01") // a second after uploaded
	var ids, due []string
	others := make(map[string]records.Record)
	for i := range 60 {
		r := temporary(fmt.Sprintf("many%03d", i))
		switch i % 6 {
		case 0:
			r = placeholder(r.ID)
		case 1:
			r.StoredAt = stored
		case 2:
			r.DeletedAt = deleted
		case 3:
			r.UploadedAt = limit
		default:
			due = append(due, r.ID)
		}
		put(t, table, r)
		if ids = append(ids, r.ID); !slices.Contains(due, r.ID) {
			others[r.ID] = r
		}
	}
	left := temporary("not asked for")
	put(t, table, left)
	others[left.ID] = left

	for _, stamps := range [][2]records.Stamp{{"", limit}, {now, ""}, {"now", limit}, {now, "2026-01-02"}} {
		if claimed, err := expireMany(t.Context(), table, ids, stamps[0], stamps[1]); err == nil || len(claimed) > 0 {
			t.Errorf("stamps %q: %q were claimed", stamps, claimed)
		}
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if claimed, err := expireMany(canceled, table, ids, now, limit); !errors.Is(err, context.Canceled) || len(claimed) > 0 {
		t.Errorf("canceled: %q were claimed, error %v", claimed, err)
	}

	claimed, err := expireMany(t.Context(), table, append(slices.Clone(ids), "unknown", "caf\xe9", strings.Repeat("x", 3000)), now, limit)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Sort(claimed); !slices.Equal(claimed, due) {
		t.Errorf("%q were claimed, want %q", claimed, due)
	}
	for _, id := range due {
		want := with(temporary(id), func(r *records.Record) { r.DeletedAt = now })
		if diff := cmp.Diff(&want, read(t, table, id)); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
	}
	for id, want := range others {
		checkUnchanged(t, table, id, true, want)
	}
	if again, err := expireMany(t.Context(), table, ids, later, limit); err != nil || len(again) > 0 {
		t.Errorf("%q were claimed twice, error %v", again, err)
	}
	if none, err := expireMany(t.Context(), table, nil, now, limit); err != nil || len(none) > 0 {
		t.Errorf("of none %q were claimed, error %v", none, err)
	}
}

// testExpireManyMeet has two claim the same files at the same time: each file is one's.
func testExpireManyMeet(t *testing.T, table records.Table) {
	var ids []string
	for i := range 100 {
		id := fmt.Sprintf("meet%03d", i)
		put(t, table, temporary(id))
		ids = append(ids, id)
	}
	var claimed [2][]string
	var wg sync.WaitGroup
	for i := range claimed {
		wg.Go(func() {
			var err error
			if claimed[i], err = expireMany(t.Context(), table, ids, now, now); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	all := slices.Concat(claimed[0], claimed[1])
	if slices.Sort(all); !slices.Equal(all, ids) {
		t.Errorf("%d and %d of %d were claimed: %q", len(claimed[0]), len(claimed[1]), len(ids), all)
	}
}

// rounds is how often each race is run.
const rounds = 50

// testRaces lets transitions meet on one record at the same time, and checks that what they
// report and what the record then says is one story.
func testRaces(t *testing.T, table records.Table) {
	ctx := t.Context()
	store := func(id string) error { _, err := table.Store(ctx, id, stored, nil); return err }
	expireAt := func(at records.Stamp) func(id string) error {
		return func(id string) error { _, err := table.Expire(ctx, id, at, now); return err }
	}
	remove := func(id string) error { _, err := table.Delete(ctx, id, deleted); return err }
	abandon := func(id string) error { _, err := table.Abandon(ctx, id, now, now); return err }
	uploadIt := func(id string) error { _, err := table.Uploaded(ctx, id, upload(false)); return err }
	correct := func(id string) error {
		_, err := table.Correct(ctx, id, "", records.Upload{At: now, Type: "text/plain", Size: 7})
		return err
	}
	fill := func(id string) error { _, err := table.Store(ctx, id, stored, new(upload(false))); return err }
	discard := func(id string) error { return table.Discard(ctx, id) }
	importIt := func(id string) error { return table.Import(ctx, temporary(id)) }
	create := func(name string) func(id string) error {
		return func(id string) error {
			return table.Create(ctx, records.Record{ID: id, Name: name, CreatedAt: created})
		}
	}

	// oneOf checks that exactly one of the results is a success, and each other one a refusal.
	oneOf := func(t *testing.T, results []error) (winner int) {
		t.Helper()
		winner = -1
		for i, err := range results {
			if _, refused := errors.AsType[*records.TransitionError](err); err != nil && !refused {
				t.Fatal(err)
			}
			if err == nil && winner >= 0 {
				t.Fatalf("two winners: %v", results)
			}
			if err == nil {
				winner = i
			}
		}
		if winner < 0 {
			t.Fatalf("no winner: %v", results)
		}
		return winner
	}
	lostTo := func(t *testing.T, err, reason error) {
		t.Helper()
		if !errors.Is(err, reason) {
			t.Errorf("the loser is told %v, want %v", err, reason)
		}
	}

	for _, race := range []struct {
		name    string
		begin   func(id string) records.Record // nil: no record
		callers []func(id string) error
		check   func(t *testing.T, results []error, after *records.Record)
	}{
		{"store, expire", temporary, []func(string) error{store, expireAt(now)},
			func(t *testing.T, results []error, after *records.Record) {
				if oneOf(t, results) == 0 {
					lostTo(t, results[1], records.ErrStored)
				} else {
					lostTo(t, results[0], records.ErrDeleted)
				}
				if after.StoredAt.IsSet() == after.DeletedAt.IsSet() {
					t.Errorf("stored_at %q, deleted_at %q", after.StoredAt, after.DeletedAt)
				}
			}},
		{"store, expire, expire", temporary, []func(string) error{store, expireAt(now), expireAt(later)},
			func(t *testing.T, results []error, after *records.Record) {
				want := []records.Record{{StoredAt: stored}, {DeletedAt: now}, {DeletedAt: later}}[oneOf(t, results)]
				if after.StoredAt != want.StoredAt || after.DeletedAt != want.DeletedAt {
					t.Errorf("stored_at %q, deleted_at %q after %v", after.StoredAt, after.DeletedAt, results)
				}
			}},
		// With one time for both: the claim is still only one's.
		{"expire, expire in the same second", temporary, []func(string) error{expireAt(now), expireAt(now)},
			func(t *testing.T, results []error, after *records.Record) {
				lostTo(t, results[1-oneOf(t, results)], records.ErrDeleted)
			}},
		{"store, expire, delete", temporary, []func(string) error{store, expireAt(now), remove},
			func(t *testing.T, results []error, after *records.Record) {
				if results[2] != nil {
					t.Fatalf("delete: %v", results[2])
				}
				if results[1] == nil && (results[0] == nil || after.StoredAt.IsSet() || after.DeletedAt != now) {
					t.Errorf("expired, but stored_at %q, deleted_at %q, store says %v", after.StoredAt, after.DeletedAt, results[0])
				}
				if results[1] != nil && after.DeletedAt != deleted {
					t.Errorf("expire says %v, but deleted_at is %q", results[1], after.DeletedAt)
				}
				if (results[0] == nil) != after.StoredAt.IsSet() {
					t.Errorf("store says %v, but stored_at is %q", results[0], after.StoredAt)
				}
			}},
		{"uploaded, abandon", placeholder, []func(string) error{uploadIt, abandon},
			func(t *testing.T, results []error, after *records.Record) {
				if oneOf(t, results) == 0 {
					lostTo(t, results[1], records.ErrUploaded)
				} else {
					lostTo(t, results[0], records.ErrDeleted)
				}
				if after.UploadedAt.IsSet() == after.DeletedAt.IsSet() {
					t.Errorf("uploaded_at %q, deleted_at %q", after.UploadedAt, after.DeletedAt)
				}
			}},
		// Whoever uploads knows the time better than who has found the object.
		{"uploaded, correct", placeholder, []func(string) error{uploadIt, correct},
			func(t *testing.T, results []error, after *records.Record) {
				if results[0] != nil {
					t.Fatalf("uploaded: %v", results[0])
				}
				if results[1] != nil {
					lostTo(t, results[1], records.ErrChanged)
				}
				if diff := cmp.Diff(new(temporary(after.ID)), after); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			}},
		{"store filled in, uploaded", placeholder, []func(string) error{fill, uploadIt},
			func(t *testing.T, results []error, after *records.Record) {
				if err := errors.Join(results...); err != nil {
					t.Fatal(err)
				}
				want := with(temporary(after.ID), func(r *records.Record) { r.StoredAt = stored })
				if diff := cmp.Diff(&want, after); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			}},
		{"store filled in, abandon", placeholder, []func(string) error{fill, abandon},
			func(t *testing.T, results []error, after *records.Record) {
				oneOf(t, results)
				if after.StoredAt.IsSet() == after.DeletedAt.IsSet() {
					t.Errorf("stored_at %q, deleted_at %q", after.StoredAt, after.DeletedAt)
				}
			}},
		{"uploaded, discard", placeholder, []func(string) error{uploadIt, discard},
			func(t *testing.T, results []error, after *records.Record) {
				if oneOf(t, results) == 0 {
					lostTo(t, results[1], records.ErrUploaded)
				} else {
					lostTo(t, results[0], records.ErrNotFound)
				}
				if (results[0] == nil) != (after != nil) {
					t.Errorf("uploaded says %v, the record is %+v", results[0], after)
				}
			}},
		// Two copies of one file end as one; a copy and a delete of it in either order.
		{"import, import", func(id string) records.Record {
			return with(placeholder(id), func(r *records.Record) { r.CreatedAt = "" })
		},
			[]func(string) error{importIt, importIt},
			func(t *testing.T, results []error, after *records.Record) {
				if err := errors.Join(results...); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(new(temporary(after.ID)), after); diff != "" {
					t.Errorf("record (-want +got):\n%s", diff)
				}
			}},
		{"import, create", nil, []func(string) error{importIt, create("a")},
			func(t *testing.T, results []error, after *records.Record) {
				if oneOf(t, results) == 0 {
					lostTo(t, results[1], records.ErrExists)
				} else {
					lostTo(t, results[0], records.ErrExists)
				}
				if (results[0] == nil) != after.UploadedAt.IsSet() {
					t.Errorf("import says %v, uploaded_at is %q", results[0], after.UploadedAt)
				}
			}},
		{"import, delete", func(id string) records.Record {
			return with(placeholder(id), func(r *records.Record) { r.CreatedAt = "" })
		},
			[]func(string) error{importIt, remove},
			func(t *testing.T, results []error, after *records.Record) {
				if results[1] != nil {
					t.Fatal(results[1])
				}
				if results[0] != nil {
					lostTo(t, results[0], records.ErrDeleted)
				}
				if after.DeletedAt != deleted || (results[0] == nil) != after.UploadedAt.IsSet() {
					t.Errorf("import says %v, the record is %+v", results[0], after)
				}
			}},
		{"create, create", nil, []func(string) error{create("a"), create("b"), create("b")},
			func(t *testing.T, results []error, after *records.Record) {
				winner := oneOf(t, results)
				if want := []string{"a", "b", "b"}[winner]; after.Name != want {
					t.Errorf("name %q, want %q", after.Name, want)
				}
			}},
	} {
		t.Run(race.name, func(t *testing.T) {
			for round := range rounds {
				id := fmt.Sprintf("%s %d", race.name, round)
				if race.begin != nil {
					put(t, table, race.begin(id))
				}
				results := make([]error, len(race.callers))
				start := make(chan struct{})
				var wg sync.WaitGroup
				for i, call := range race.callers {
					wg.Go(func() {
						<-start
						results[i] = call(id)
					})
				}
				close(start)
				wg.Wait()
				race.check(t, results, read(t, table, id))
				if t.Failed() {
					return
				}
			}
		})
	}
}
