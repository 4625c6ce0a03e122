package client_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
)

// auditor is an audit that looks at the filestore while it is told: the records are marked by then, and
// the objects still there.
type auditor struct {
	t *testing.T
	f *filestore

	mu     sync.Mutex
	begun  map[string]client.Action
	failed map[string]client.Action
	refuse error
}

func audited(t *testing.T, f *filestore) *auditor {
	a := &auditor{t: t, f: f, begun: make(map[string]client.Action), failed: make(map[string]client.Action)}
	f.Audit = a.tell
	return a
}

func (a *auditor) tell(_ context.Context, files []client.Deletion) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refuse != nil {
		return a.refuse
	}
	for _, d := range files {
		if d.Err != nil {
			a.failed[d.ID] = d.Action
			continue
		}
		if _, twice := a.begun[d.ID]; twice {
			a.t.Errorf("%q is told twice", d.ID)
		}
		a.begun[d.ID] = d.Action
		if d.Action == client.ActionAbort {
			continue // of what has no record
		}
		r := a.f.record(a.t, d.ID)
		if r.State() != records.Deleted || d.Name != r.Name || d.Size != r.Size || d.Type != r.Type {
			a.t.Errorf("%+v is told of %+v", d, r)
		}
		if _, _, found := a.f.object(a.t, d.ID); !found && d.Action != client.ActionAbandon {
			a.t.Errorf("the object of %q is gone before it is told", d.ID)
		}
	}
	return nil
}

func (a *auditor) want(begun, failed map[string]client.Action) {
	a.t.Helper()
	if diff := cmp.Diff(begun, a.begun); diff != "" {
		a.t.Errorf("begun: %s", diff)
	}
	if diff := cmp.Diff(failed, a.failed); diff != "" {
		a.t.Errorf("failed: %s", diff)
	}
	clear(a.begun)
	clear(a.failed)
}

// The audit is told of everything that a sweep or a deletion removes, and of what could not be.
func testAudit(t *testing.T, on servers) {
	none := map[string]client.Action{}
	t.Run("sweep", func(t *testing.T) {
		f := on.open(t)
		f.clock.advance(25 * time.Hour) // so that the multipart upload is that old
		audit := audited(t, f)
		want := map[string]client.Action{
			f.temporary(t, 2*time.Hour):   client.ActionExpire,
			f.temporary(t, 3*time.Hour):   client.ActionExpire,
			f.placeholder(t, 3*time.Hour): client.ActionAbandon,
		}
		cleaned := f.raw(t, records.Record{UploadedAt: f.stamp(time.Hour), DeletedAt: f.stamp(time.Hour), Size: 1})
		f.put(t, cleaned, "came back")
		want[cleaned] = client.ActionClean
		orphan := client.NewID()
		f.used(orphan)
		f.begin(t, orphan)
		want[orphan] = client.ActionAbort
		f.stored(t, "stays.txt")
		settled := f.placeholder(t, 3*time.Hour) // nothing of it is deleted
		f.put(t, settled, content)

		f.sweep(t, client.ExpireOptions{DryRun: true})
		audit.want(none, none)
		f.sweep(t, client.ExpireOptions{})
		audit.want(want, none)
	})

	t.Run("delete", func(t *testing.T) {
		f := on.open(t)
		audit := audited(t, f)
		a, b := f.stored(t, "a"), f.stored(t, "b")
		f.S3 = f.refusing(b)
		for r := range f.Delete(t.Context(), []string{a, b, client.NewID(), "no id"}) {
			if (r.Err == nil) != (r.ID == a) {
				t.Errorf("%q: %v", r.ID, r.Err)
			}
		}
		audit.want(map[string]client.Action{a: client.ActionDelete, b: client.ActionDelete}, map[string]client.Action{b: client.ActionDelete})
	})

	t.Run("sweep that fails", func(t *testing.T) {
		f := on.open(t)
		audit := audited(t, f)
		id := f.temporary(t, 2*time.Hour)
		rule := f.s3Faults.Inject(deleteObject, faultproxy.Always(), faultproxy.SlowDown())
		if s, _ := f.sweep(t, client.ExpireOptions{}); s.Failed != 1 || rule.Hits() == 0 {
			t.Errorf("%+v, %d faults", s, rule.Hits())
		}
		want := map[string]client.Action{id: client.ActionExpire}
		audit.want(want, want)
	})
}

// Where the audit can't be written, no object is deleted, and nothing new begun. The next sweep
// finishes what is marked by then.
func testAuditFails(t *testing.T, on servers) {
	full := errors.New("no space left on device")
	t.Run("sweep", func(t *testing.T) {
		f := on.open(t)
		audit := audited(t, f)
		audit.refuse = full
		due := make(map[string]client.Action)
		for range 3 {
			due[f.temporary(t, 2*time.Hour)] = client.ActionExpire
		}
		s, err := f.Expire(t.Context(), client.ExpireOptions{})
		failure, ok := errors.AsType[*client.AuditError](err)
		if !ok || !errors.Is(err, full) || client.ReasonOf(err) != client.Failed {
			t.Fatal(err)
		}
		marked := make(map[string]client.Action)
		for id, r := range f.records(t) {
			if r.State() == records.Deleted {
				marked[id] = client.ActionClean
			}
		}
		if len(f.objects(t)) != len(due) || s.Expired != 0 || s.Failed != len(marked) || failure.Left != len(marked) || len(marked) == 0 {
			t.Errorf("%d objects, %d marked, %+v, %v", len(f.objects(t)), len(marked), s, err)
		}
		audit.refuse = nil
		f.sweep(t, client.ExpireOptions{})
		maps.Copy(due, marked)
		audit.want(due, map[string]client.Action{})
		f.wantNothing(t, true)
	})

	t.Run("multipart upload", func(t *testing.T) {
		f := on.open(t)
		f.clock.advance(25 * time.Hour)
		audit := audited(t, f)
		audit.refuse = full
		orphan := client.NewID()
		f.used(orphan)
		f.begin(t, orphan)
		if _, err := f.Expire(t.Context(), client.ExpireOptions{}); !errors.Is(err, full) {
			t.Error(err)
		}
		audit.refuse = nil
		f.sweep(t, client.ExpireOptions{})
		audit.want(map[string]client.Action{orphan: client.ActionAbort}, map[string]client.Action{})
	})

	t.Run("delete", func(t *testing.T) {
		f := on.open(t)
		audit := audited(t, f)
		audit.refuse = full
		// One more than are marked together.
		ids := f.many(t, 251, func(int) records.Record { return records.Record{CreatedAt: f.stamp(0), Size: -1} })
		for _, id := range []string{ids[0], ids[250]} {
			f.put(t, id, content)
		}
		results := slices.Collect(f.Delete(t.Context(), ids))
		for _, r := range results {
			if !errors.Is(r.Err, full) {
				t.Fatalf("%q: %v", r.ID, r.Err)
			}
		}
		if text := results[0].Err.Error(); !strings.HasPrefix(text, "the record is marked as deleted, but its object is still there: ") {
			t.Error(text)
		}
		if text := results[250].Err.Error(); !strings.HasPrefix(text, "not deleted: ") {
			t.Error(text)
		}
		if got := f.record(t, ids[250]).State(); got != records.Placeholder || len(f.objects(t)) != 2 {
			t.Errorf("the next one is %s; %d objects", got, len(f.objects(t)))
		}
	})
}
