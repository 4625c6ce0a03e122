package client_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
)

// What nobody has stored can be taken back, however old it is; what is stored can't.
func testRevert(t *testing.T, on servers) {
	f := on.open(t)
	temporary, old, unrecorded := f.temporary(t, 0), f.temporary(t, 5*time.Hour), f.placeholder(t, 0)
	f.put(t, unrecorded, content)
	stored := f.stored(t, "a.txt")
	placeholder := f.placeholder(t, 0)
	if r, err := f.Revert(t.Context(), placeholder); err != nil || r.State() != records.Deleted {
		t.Errorf("%+v, %v", r, err)
	}
	a := audited(t, f)
	for _, id := range []string{temporary, old, unrecorded} {
		r, err := f.Revert(t.Context(), id)
		if err != nil || r.DeletedAt != f.stamp(0) {
			t.Errorf("%+v, %v", r, err)
		}
		f.wantState(t, id, records.Deleted)
		if a.begun[id] != client.ActionDelete {
			t.Errorf("the audit of %q: %q", id, a.begun[id])
		}
	}
	_, err := f.Revert(t.Context(), stored)
	wantReason(t, err, client.Conflict)
	f.wantState(t, stored, records.Stored)
	if objects := f.objects(t); len(objects) != 1 || !objects[stored] {
		t.Errorf("objects: %v", objects)
	}

	// Again: it succeeds, keeps the first time, and deletes what came through a URL that was still good.
	f.Audit = nil
	first := f.stamp(0)
	f.clock.advance(time.Minute)
	f.put(t, temporary, "late")
	if r, err := f.Revert(t.Context(), temporary); err != nil || r.DeletedAt != first {
		t.Errorf("%+v, %v", r, err)
	}
	f.wantConsistent(t)

	for _, id := range []string{client.NewID(), "no id", "../" + stored[3:]} {
		_, err := f.Revert(t.Context(), id)
		wantReason(t, err, client.NotFound)
	}
	if n := len(f.records(t)); n != 5 {
		t.Errorf("%d records: taking back what is not there must not make one", n)
	}
	// What can't be dated is left alone, as sweeps leave it.
	undated := f.raw(t, records.Record{Size: -1})
	_, err = f.Revert(t.Context(), undated)
	wantReason(t, err, client.Conflict)
	f.wantState(t, undated, records.Placeholder)

	// The record is marked, and the next sweep finishes it.
	left := f.temporary(t, 0)
	f.s3Faults.Inject(faultproxy.On("DELETE"), faultproxy.Always(), faultproxy.Refusal(403, "AccessDenied"))
	_, err = f.Revert(t.Context(), left)
	wantReason(t, err, client.Permission)
	if r := f.record(t, left); r.State() != records.Deleted {
		t.Errorf("%+v", r)
	}
}

// Of a store and a revert at the same time one wins, and the other learns that it lost.
func TestRevertAndStoreMeet(t *testing.T) {
	onBothTables(t, func(t *testing.T, on servers) {
		f := on.open(t)
		other := f.another(t)
		for range 20 {
			id := f.temporary(t, 0)
			var storeErr, revertErr error
			var both sync.WaitGroup
			both.Go(func() { storeErr = slices.Collect(other.Store(t.Context(), []string{id}))[0].Err })
			both.Go(func() { _, revertErr = f.Revert(t.Context(), id) })
			both.Wait()
			switch {
			case storeErr == nil:
				wantReason(t, revertErr, client.Conflict)
				f.wantState(t, id, records.Stored)
			case revertErr == nil:
				wantReason(t, storeErr, client.Deleted)
				f.wantState(t, id, records.Deleted)
			default:
				t.Errorf("both failed: %v, %v", storeErr, revertErr)
			}
		}
		f.wantConsistent(t)
	})
}

// Where no notification has come, who asks for a file finds what was uploaded.
func testInfoSettles(t *testing.T, on servers) {
	f := on.open(t)
	uploaded, waiting, deleted := f.placeholder(t, 0), f.placeholder(t, 0), f.placeholder(t, 0)
	f.put(t, uploaded, content)
	f.put(t, deleted, content)
	if _, err := f.Records.Delete(t.Context(), deleted, f.stamp(0)); err != nil {
		t.Fatal(err)
	}
	ids := []string{waiting, uploaded, deleted, client.NewID()}
	ask := func(opts client.InfoOptions) []client.Result[client.FileInfo] {
		return slices.Collect(f.Info(t.Context(), ids, opts))
	}

	ask(client.InfoOptions{NonStored: true})
	if r := f.record(t, uploaded); r.State() != records.Placeholder {
		t.Errorf("nobody has asked to settle it: %+v", r)
	}
	results := ask(client.InfoOptions{NonStored: true, Settle: true})
	for i, want := range []records.State{records.Placeholder, records.Temporary, records.Deleted} {
		if r := results[i]; r.Err != nil || r.ID != ids[i] || r.Value.State() != want {
			t.Errorf("%q: %+v, %v", want, r.Value, r.Err)
		}
	}
	wantReason(t, results[3].Err, client.NotFound)
	if r := f.record(t, uploaded); r.Size != int64(len(content)) || r.Type != "text/plain" || !r.UploadedAt.IsSet() {
		t.Errorf("%+v", r)
	}

	f.Settings.StoreOnLoad = true
	f.put(t, waiting, content)
	if r := ask(client.InfoOptions{Settle: true})[0]; r.Err != nil || r.Value.URL.URL == "" || r.Value.State() != records.Stored {
		t.Errorf("store on load: %+v, %v", r.Value, r.Err)
	}

	// A bucket that does not answer is no reason to say that nothing was uploaded.
	another := f.placeholder(t, 0)
	f.s3Faults.Inject(faultproxy.On("HEAD"), faultproxy.Always(), faultproxy.Refusal(403, "AccessDenied"))
	ids = []string{uploaded, another}
	results = ask(client.InfoOptions{NonStored: true, Settle: true})
	if results[0].Err != nil {
		t.Error(results[0].Err)
	}
	wantReason(t, results[1].Err, client.Permission)
}
