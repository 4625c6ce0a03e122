package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// found is what verify has found of files, by id. A file may have several findings.
type found map[string][]client.Class

// verify runs Verify and returns, beside its summary, what it reported by id. Few rows are held in
// memory, so that the disk is used.
func (f *filestore) verify(t testing.TB, opts client.VerifyOptions) (client.VerifySummary, map[string][]client.Finding) {
	t.Helper()
	findings := make(map[string][]client.Finding)
	counted := make(map[client.Class]int)
	if opts.SpoolRows == 0 {
		opts.SpoolRows, opts.TempDir = 3, t.TempDir()
	}
	if opts.Settle == 0 {
		opts.Settle = 10 * time.Millisecond
	}
	opts.Report = func(x client.Finding) {
		findings[x.ID] = append(findings[x.ID], x)
		if x.Class != "" {
			counted[x.Class]++
		}
		if left, err := os.ReadDir(opts.TempDir); opts.TempDir != "" && (err != nil || len(left) > 0 && runtime.GOOS != "windows") {
			t.Errorf("%v is in the directory for temporary files, %v", left, err)
		}
	}
	summary, err := f.Verify(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(counted, summary.Found) {
		t.Errorf("%v are counted, %v were reported", summary.Found, counted)
	}
	return summary, findings
}

// wantFound fails the test unless exactly these classes were found, and none failed.
func wantFound(t testing.TB, got map[string][]client.Finding, want found) {
	t.Helper()
	for id, findings := range got {
		var classes []client.Class
		for _, x := range findings {
			if classes = append(classes, x.Class); x.Err != nil {
				t.Errorf("file %q: %v", id, x.Err)
			}
		}
		slices.Sort(classes)
		if wanted := slices.Sorted(slices.Values(want[id])); !slices.Equal(classes, wanted) {
			t.Errorf("file %q (%+v): found %q, want %q", id, findings[0].Record, classes, wanted)
		}
	}
	for id, classes := range want {
		if _, ok := got[id]; !ok {
			t.Errorf("file %q: nothing was found, want %q", id, classes)
		}
	}
}

// damage makes a file of every kind that verify finds when it is old, and beside them files of every
// kind with which all is well. It returns what is to be found.
func (f *filestore) damage(t *testing.T) found {
	t.Helper()
	// Well.
	f.stored(t, "a.txt")
	f.temporary(t, 0)
	f.raw(t, records.Record{UploadedAt: f.stamp(time.Hour), DeletedAt: f.stamp(time.Hour), Size: 1})
	f.raw(t, records.Record{Size: -1}) // a placeholder of the API: nobody knows how old
	f.placeholder(t, -100*time.Hour)   // made when everything else has become old

	size := int64(len(content))
	now := f.stamp(0)
	want := make(found)
	orphan := client.NewID()
	f.used(orphan)
	f.put(t, orphan, content)
	want[orphan] = []client.Class{client.ClassOrphan}
	add := func(class client.Class, object string, r records.Record) string {
		if r.Size == 0 {
			r.Size = -1
		}
		id := f.raw(t, r)
		if object != "" {
			f.put(t, id, object)
		}
		want[id] = append(want[id], class)
		return id
	}
	add(client.ClassMissing, "", records.Record{UploadedAt: now, Size: size})
	add(client.ClassMissing, "", records.Record{UploadedAt: now, StoredAt: now, Size: size})
	add(client.ClassMissing, "", records.Record{StoredAt: now}) // by the API, which does not look
	add(client.ClassUndeleted, content, records.Record{UploadedAt: now, DeletedAt: now, Size: size})
	add(client.ClassUndeleted, content, records.Record{CreatedAt: now, DeletedAt: now})
	add(client.ClassDiffers, content+content, records.Record{UploadedAt: now, StoredAt: now, Size: size})
	add(client.ClassDiffers, content, records.Record{UploadedAt: now, Size: -1})
	add(client.ClassUnrecorded, content, records.Record{CreatedAt: now})
	add(client.ClassUnrecorded, content, records.Record{})
	add(client.ClassUnrecorded, content, records.Record{StoredAt: now, CreatedAt: now})
	add(client.ClassNeverUploaded, "", records.Record{CreatedAt: now})
	add(client.ClassMalformed, content, records.Record{UploadedAt: now, Size: size, Meta: "[]"})
	lost := add(client.ClassMissing, "", records.Record{UploadedAt: "yesterday", Size: size})
	want[lost] = append(want[lost], client.ClassMalformed)

	// Uploads that nobody goes on with: of a file that is there, of one that is not, of a placeholder.
	stored, gone := f.stored(t, "b.txt"), client.NewID()
	f.used(gone)
	waiting := add(client.ClassNeverUploaded, "", records.Record{CreatedAt: now})
	for _, id := range []string{stored, gone, waiting} {
		f.begin(t, id)
		want[id] = append(want[id], client.ClassStaleUpload)
	}
	return want
}

// repairable is want without what stays as it is.
func (want found) repairable(repairable bool) found {
	part := make(found)
	for id, classes := range want {
		for _, class := range classes {
			if (class.Repair() != "") == repairable {
				part[id] = append(part[id], class)
			}
		}
	}
	return part
}

// repairedTogether is want where everything is repaired at once: a placeholder that is given up goes with its
// uploads, before these are looked at.
func (want found) repairedTogether() found {
	part := maps.Clone(want)
	for id, classes := range want {
		if slices.Contains(classes, client.ClassNeverUploaded) {
			part[id] = []client.Class{client.ClassNeverUploaded}
		}
	}
	return part
}

func allRepairable() []client.Class {
	return slices.DeleteFunc(client.Classes(), func(c client.Class) bool { return c.Repair() == "" })
}

// Every kind of damage is found, once it is older than the grace, and repaired on demand; then nothing
// is found any more.
func testVerify(t *testing.T, on servers) {
	f := on.open(t)
	if s, findings := f.verify(t, client.VerifyOptions{}); len(findings) != 0 || s.Records != 0 || s.Objects != 0 {
		t.Errorf("an empty filestore: %+v", s)
	}
	want := f.damage(t)
	f.put(t, "no-id.txt", "foreign")
	f.put(t, "Zebra", "foreign")
	f.put(t, "zzz/last", "foreign")
	f.raw(t, records.Record{ID: "NO ID", Size: -1})

	// All of it is young: somebody may be at it.
	_, findings := f.verify(t, client.VerifyOptions{})
	young := want.repairable(false)
	for id := range young {
		young[id] = want[id] // what has no time that can be read is never young
	}
	wantFound(t, findings, young)

	f.clock.advance(29 * time.Hour)
	before, objects := f.records(t), f.objects(t)
	s, findings := f.verify(t, client.VerifyOptions{})
	wantFound(t, findings, want)
	if s.Records != int64(len(before)) || s.Objects != int64(len(objects)-3) || s.ForeignKeys != 3 || s.ForeignRecords != 1 || s.Failed != 0 {
		t.Errorf("%+v of %d records and %d objects", s, len(before), len(objects))
	}
	s, findings = f.verify(t, client.VerifyOptions{Fix: allRepairable(), DryRun: true})
	wantFound(t, findings, want)
	for id, all := range findings {
		for _, x := range all {
			if x.Repair != x.Class.Repair() || x.Done {
				t.Errorf("%q: %+v in a dry run", id, x)
			}
		}
	}
	for id, r := range f.records(t) {
		sameRecord(t, r, before[id])
	}
	if len(s.Repaired) != 0 || !maps.Equal(f.objects(t), objects) {
		t.Errorf("a dry run has changed something: %+v", s)
	}

	s, findings = f.verify(t, client.VerifyOptions{Fix: allRepairable()})
	wantFound(t, findings, want.repairedTogether())
	for class, n := range s.Found {
		if repaired := s.Repaired[class]; class.Repair() != "" && repaired != n || class.Repair() == "" && repaired != 0 {
			t.Errorf("%d of %d that are %s are repaired", repaired, n, class)
		}
	}
	_, findings = f.verify(t, client.VerifyOptions{})
	wantFound(t, findings, want.repairable(false))
	f.sameFiles(t, want, before)
	f.wantConsistentBeside(t, "no-id.txt", "Zebra", "zzz/last")
}

// sameFiles compares the files after their repair with what they were.
func (f *filestore) sameFiles(t *testing.T, want found, before map[string]records.Record) {
	t.Helper()
	for id, r := range f.records(t) {
		was := before[id]
		if was.ID == "" {
			was = records.Record{ID: id, Name: id, CreatedAt: f.stamp(0), Size: -1} // of an orphan
		}
		for _, class := range want[id] {
			switch class {
			case client.ClassOrphan, client.ClassMissing, client.ClassNeverUploaded:
				was.DeletedAt = f.stamp(0)
			case client.ClassDiffers, client.ClassUnrecorded:
				text, _, ok := f.object(t, id)
				if was.Size, was.Type = int64(len(text)), "text/plain"; !ok {
					t.Errorf("the object of %q is gone", id)
				}
				if class == client.ClassUnrecorded {
					if !r.UploadedAt.IsSet() {
						t.Errorf("%+v is not uploaded", r)
					}
					was.UploadedAt = r.UploadedAt // when the object was made
				}
			}
		}
		sameRecord(t, r, was)
	}
}

// wantConsistentBeside is wantConsistent with objects that are not ours.
func (f *filestore) wantConsistentBeside(t *testing.T, foreign ...string) {
	t.Helper()
	for _, key := range foreign {
		if !f.objects(t)[key] {
			t.Errorf("the object under the key %q, which is no id, is gone", key)
		}
		f.remove(t, key)
	}
	f.wantConsistent(t)
}

// Only what is named is repaired.
func testVerifyFixesWhatIsNamed(t *testing.T, on servers) {
	f := on.open(t)
	want := f.damage(t)
	f.clock.advance(29 * time.Hour)
	left := maps.Clone(want)
	for _, class := range allRepairable() {
		before := f.objects(t)
		s, findings := f.verify(t, client.VerifyOptions{Fix: []client.Class{class}})
		if class == client.ClassNeverUploaded {
			left = left.repairedTogether()
		}
		wantFound(t, findings, left)
		if s.Found[class] == 0 || !maps.Equal(s.Repaired, map[client.Class]int{class: s.Found[class]}) {
			t.Errorf("%s: %+v", class, s)
		}
		for id, classes := range left {
			left[id] = slices.DeleteFunc(slices.Clone(classes), func(c client.Class) bool { return c == class })
			if len(left[id]) == 0 {
				delete(left, id)
			}
		}
		after := f.objects(t)
		for id := range before {
			deletes := class == client.ClassOrphan || class == client.ClassUndeleted
			if !after[id] && (!deletes || !slices.Contains(want[id], class)) {
				t.Errorf("to repair what is %s, the object %q was deleted", class, id)
			}
		}
	}
	f.wantConsistent(t)
}

// With store on load, an upload that was not recorded is stored.
func testVerifyStoresOnLoad(t *testing.T, on servers) {
	f := on.open(t)
	f.Settings.StoreOnLoad = true
	id := f.placeholder(t, 0)
	f.put(t, id, content)
	f.clock.advance(5 * time.Hour)
	_, findings := f.verify(t, client.VerifyOptions{Fix: []client.Class{client.ClassUnrecorded}})
	wantFound(t, findings, found{id: {client.ClassUnrecorded}})
	f.wantState(t, id, records.Stored)
}

// Deep, the content and the type of every file are looked at, and nothing is ever done about content.
func testVerifyDeep(t *testing.T, on servers) {
	f := on.open(t)
	now := f.stamp(0)
	whole, damaged, hurt := f.stored(t, "a.txt"), f.stored(t, "b.txt"), f.stored(t, "c.txt")
	typed := f.raw(t, records.Record{UploadedAt: now, Type: "image/png", Size: int64(len(content))})
	f.put(t, typed, content)
	untyped := f.raw(t, records.Record{UploadedAt: now, Type: "application/octet-stream", Size: 1})
	if _, err := f.api.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &f.Bucket, Key: &untyped, Body: strings.NewReader("x"), ContentType: aws.String("binary/octet-stream"),
	}); err != nil {
		t.Fatal(err)
	}
	_, err := f.Upload(t.Context(), client.UploadRequest{Name: "large.bin", Type: "a/b", File: tempFile(t, randomBytes(11*mib))})
	if err != nil {
		t.Fatal(err)
	}
	f.clock.advance(5 * time.Hour)
	f.temporary(t, 0) // young ones are read, too

	of := func(id string) faultproxy.Match {
		return func(r *http.Request) bool { return r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, id) }
	}
	f.s3Faults.Inject(of(damaged), faultproxy.Always(), faultproxy.FlipDownload(3))
	once := f.s3Faults.Inject(of(hurt), faultproxy.First(1), faultproxy.FlipDownload(3)) // on its way
	progress := new(client.VerifyProgress)
	s, findings := f.verify(t, client.VerifyOptions{Deep: true, Fix: allRepairable(), Progress: progress})
	wantFound(t, findings, found{damaged: {client.ClassDamaged}, typed: {client.ClassDiffers}})
	if s.Checked != 6 || once.Hits() != 1 || s.Repaired[client.ClassDamaged] != 0 {
		t.Errorf("%+v; a byte was flipped %d times", s, once.Hits())
	}
	if !errors.Is(findings[damaged][0].Damage, transfer.ErrChecksum) {
		t.Errorf("damage: %v", findings[damaged][0].Damage)
	}
	if read := progress.Bytes.Load(); read < 11*mib || progress.Objects.Load() != 7 {
		t.Errorf("%d bytes of %d objects", read, progress.Objects.Load())
	}
	if r := f.record(t, typed); r.Type != "text/plain" || r.UploadedAt != now {
		t.Errorf("%+v", r)
	}
	for _, id := range []string{whole, damaged, hurt} {
		f.wantState(t, id, records.Stored)
	}
	f.heal()
	_, findings = f.verify(t, client.VerifyOptions{Deep: true})
	wantFound(t, findings, found{})
}

// What can't be looked at or repaired is said, and the rest is done.
func testVerifyFailures(t *testing.T, on servers) {
	old := func(t *testing.T) (*filestore, found) {
		t.Helper()
		f := on.open(t)
		want := f.damage(t)
		f.clock.advance(29 * time.Hour)
		return f, want
	}
	t.Run("HeadObject", func(t *testing.T) {
		f, want := old(t)
		f.s3Faults.Inject(headObject, faultproxy.Always(), faultproxy.InternalError())
		s, findings := f.verify(t, client.VerifyOptions{Fix: allRepairable()})
		for id := range want {
			for _, x := range findings[id] {
				if x.Class != client.ClassStaleUpload {
					wantReason(t, x.Err, client.Retry)
				}
			}
		}
		if s.Failed < 10 || len(s.Repaired) != 1 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("ListObjectsV2", func(t *testing.T) {
		f, _ := old(t)
		f.s3Faults.Inject(faultproxy.On(http.MethodGet, "list-type"), faultproxy.Always(), faultproxy.InternalError())
		_, err := f.Verify(t.Context(), client.VerifyOptions{Fix: allRepairable()})
		wantReason(t, err, client.Retry)
	})
	t.Run("Scan", func(t *testing.T) {
		f, want := old(t)
		f.Records = &breakingTable{f.table}
		s, err := f.Verify(t.Context(), client.VerifyOptions{Fix: allRepairable(), SpoolRows: 2})
		if !errors.Is(err, errTable) || len(s.Found) != 0 {
			t.Errorf("%+v, %v", s, err)
		}
		f.Records = f.table
		_, findings := f.verify(t, client.VerifyOptions{})
		wantFound(t, findings, want) // half of a table says nothing
	})
	t.Run("DeleteObjects", func(t *testing.T) {
		f, want := old(t)
		var orphan string
		for id, classes := range want {
			if classes[0] == client.ClassOrphan {
				orphan = id
			}
		}
		through := f.S3
		f.S3 = f.refusing(orphan)
		s, findings := f.verify(t, client.VerifyOptions{Fix: []client.Class{client.ClassOrphan, client.ClassUndeleted}})
		wantReason(t, findings[orphan][0].Err, client.Permission)
		if s.Failed != 1 || s.Repaired[client.ClassUndeleted] != 2 || s.Repaired[client.ClassOrphan] != 0 {
			t.Errorf("%+v", s)
		}
		// It has a record from then on, and is not lost sight of.
		f.S3 = through
		f.clock.advance(5 * time.Hour)
		_, findings = f.verify(t, client.VerifyOptions{})
		if got := findings[orphan]; len(got) != 1 || got[0].Class != client.ClassUndeleted {
			t.Errorf("%+v", got)
		}
	})
	t.Run("records", func(t *testing.T) {
		f, _ := old(t)
		f.Records = &tellingTable{Table: f.table, before: func(call, _ string) error {
			if call == "Correct" {
				return errTable
			}
			return nil
		}}
		s, findings := f.verify(t, client.VerifyOptions{Fix: allRepairable()})
		if s.Repaired[client.ClassDiffers] != 0 || s.Failed != s.Found[client.ClassDiffers]+s.Found[client.ClassUnrecorded] {
			t.Errorf("%+v", s)
		}
		for _, all := range findings {
			for _, x := range all {
				if x.Err != nil && (!errors.Is(x.Err, errTable) || x.Done) {
					t.Errorf("%+v", x)
				}
			}
		}
	})
	// What can't be written down is not deleted, and ends it.
	t.Run("the audit", func(t *testing.T) {
		f, want := old(t)
		f.Audit = func(context.Context, []client.Deletion) error { return errTable }
		objects := f.objects(t)
		var done []client.Finding
		s, err := f.Verify(t.Context(), client.VerifyOptions{Fix: allRepairable(), Report: func(x client.Finding) {
			if deletes := x.Repair != client.RepairCorrect && x.Repair != client.RepairSettle; x.Done && deletes {
				done = append(done, x)
			}
		}})
		if _, ok := errors.AsType[*client.AuditError](err); !ok || !errors.Is(err, errTable) || len(done) > 0 {
			t.Errorf("%+v, %v; done: %+v", s, err, done)
		}
		if !maps.Equal(f.objects(t), objects) {
			t.Error("something was deleted")
		}

		// Once it can, everything that goes has a line before it goes.
		audited := make(map[string]client.Action)
		f.Audit = func(_ context.Context, files []client.Deletion) error {
			for _, d := range files {
				audited[d.ID] = d.Action
				if d.Action != client.Action(client.ClassStaleUpload) && objects[d.ID] && !f.objects(t)[d.ID] {
					t.Errorf("%q was deleted before its line was written", d.ID)
				}
			}
			return nil
		}
		f.clock.advance(5 * time.Hour)
		f.verify(t, client.VerifyOptions{Fix: allRepairable()})
		left := f.objects(t)
		for id := range objects {
			if !left[id] && audited[id] == "" {
				t.Errorf("%q (%q) was deleted without a line", id, want[id])
			}
		}
	})
	// An orphan gets a record first. Killed after it, a placeholder with an object is left, which a sweep finds.
	t.Run("killed after the record of an orphan", func(t *testing.T) {
		f := on.open(t)
		orphan := client.NewID()
		f.used(orphan)
		f.put(t, orphan, content)
		f.clock.advance(5 * time.Hour)
		f.Records = &tellingTable{Table: f.table, before: func(call, _ string) error {
			if call == "Delete" {
				return errTable
			}
			return nil
		}}
		_, findings := f.verify(t, client.VerifyOptions{Fix: []client.Class{client.ClassOrphan}})
		if x := findings[orphan]; len(x) != 1 || !errors.Is(x[0].Err, errTable) || x[0].Done {
			t.Errorf("%+v", x)
		}
		f.Records = f.table
		f.clock.advance(3 * time.Hour)
		_, swept := f.sweep(t, client.ExpireOptions{})
		wantSwept(t, swept, map[string]client.Action{orphan: client.ActionSettle})
		f.sweep(t, client.ExpireOptions{})
		f.wantNothing(t, true)
	})
	// Where uploads may not be listed, placeholders are left alone for a day longer.
	t.Run("ListMultipartUploads not allowed", func(t *testing.T) {
		f := on.open(t)
		young, aged := f.placeholder(t, 28*time.Hour-time.Minute), f.placeholder(t, 28*time.Hour+time.Minute)
		f.S3 = f.answering(listUploads, func(*http.Request) (int, string, error) {
			return http.StatusForbidden, `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`, nil
		})
		s, findings := f.verify(t, client.VerifyOptions{})
		wantReason(t, s.Unlisted, client.Permission)
		wantFound(t, findings, found{aged: {client.ClassNeverUploaded}})
		f.wantState(t, young, records.Placeholder)
	})
	t.Run("an interrupt", func(t *testing.T) {
		f, _ := old(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		dir := t.TempDir()
		_, err := f.Verify(ctx, client.VerifyOptions{
			Fix: allRepairable(), SpoolRows: 2, TempDir: dir, Settle: time.Hour, Report: func(client.Finding) { cancel() },
		})
		wantReason(t, err, client.Interrupted)
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%v is left, %v", left, err)
		}
		f.verify(t, client.VerifyOptions{Fix: allRepairable()})
		f.clock.advance(5 * time.Hour)
		f.verify(t, client.VerifyOptions{Fix: allRepairable()})
		f.wantConsistent(t)
	})
}

// tellingTable is a table with something done before every call on single records.
type tellingTable struct {
	records.Table
	before func(call, id string) error
}

func (h *tellingTable) Get(ctx context.Context, ids []string) (map[string]records.Record, error) {
	if err := h.before("Get", ""); err != nil {
		return nil, err
	}
	return h.Table.Get(ctx, ids)
}

func (h *tellingTable) Create(ctx context.Context, r records.Record) error {
	return errors.Join(h.before("Create", r.ID), h.Table.Create(ctx, r))
}

func (h *tellingTable) Delete(ctx context.Context, id string, at records.Stamp) (records.Record, error) {
	if err := h.before("Delete", id); err != nil {
		return records.Record{}, err
	}
	return h.Table.Delete(ctx, id, at)
}

func (h *tellingTable) Abandon(ctx context.Context, id string, at, before records.Stamp) (records.Record, error) {
	if err := h.before("Abandon", id); err != nil {
		return records.Record{}, err
	}
	return h.Table.Abandon(ctx, id, at, before)
}

func (h *tellingTable) Correct(ctx context.Context, id string, known records.Stamp, u records.Upload) (records.Record, error) {
	if err := h.before("Correct", id); err != nil {
		return records.Record{}, err
	}
	return h.Table.Correct(ctx, id, known, u)
}

// Between any two of verify's looks, and between the last one and the repair, somebody may finish what
// looked like damage. Then nothing is found, nothing fails, and what he has made stays.
func testVerifyRaces(t *testing.T, on servers) {
	size := int64(len(content))
	type world struct {
		*filestore
		id string
	}
	uploaded := func(ctx context.Context, w world) error {
		_, err := w.table.Uploaded(ctx, w.id, records.Upload{At: w.stamp(0), Type: "text/plain", Size: size})
		return err
	}
	putAndUploaded := func(ctx context.Context, w world) error {
		if err := w.tryPut(ctx, w.id, content); err != nil {
			return err
		}
		return uploaded(ctx, w)
	}
	remove := func(ctx context.Context, w world) error {
		_, err := w.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &w.Bucket, Key: &w.id})
		return err
	}
	deleted := func(ctx context.Context, w world) error {
		_, err := w.table.Delete(ctx, w.id, w.stamp(0))
		return err
	}
	create := func(ctx context.Context, w world) error {
		return w.table.Create(ctx, records.Record{ID: w.id, Name: "new", CreatedAt: w.stamp(0)})
	}
	const (
		firstGet, head, secondGet = "Get 1", "HEAD", "Get 2"
	)
	for class, race := range map[client.Class]struct {
		object string
		record records.Record // a zero one for none
		finish map[string]func(context.Context, world) error
	}{
		client.ClassOrphan: {content, records.Record{}, map[string]func(context.Context, world) error{
			firstGet: remove, head: remove, secondGet: create, "Create": create,
		}},
		client.ClassMissing: {"", records.Record{UploadedAt: "now", Size: size}, map[string]func(context.Context, world) error{
			firstGet: deleted, head: deleted, secondGet: deleted,
		}},
		client.ClassUndeleted: {content, records.Record{UploadedAt: "now", DeletedAt: "now", Size: size}, map[string]func(context.Context, world) error{
			firstGet: remove, head: remove,
		}},
		client.ClassDiffers: {content, records.Record{UploadedAt: "now", Size: 5}, map[string]func(context.Context, world) error{
			firstGet: uploaded, head: uploaded, secondGet: uploaded, "Correct": uploaded,
		}},
		client.ClassUnrecorded: {content, records.Record{CreatedAt: "now", Size: -1}, map[string]func(context.Context, world) error{
			firstGet: uploaded, head: uploaded, secondGet: uploaded, "Correct": uploaded,
		}},
		client.ClassNeverUploaded: {"", records.Record{CreatedAt: "now", Size: -1}, map[string]func(context.Context, world) error{
			firstGet: putAndUploaded, head: putAndUploaded, secondGet: putAndUploaded, "Abandon": putAndUploaded,
		}},
	} {
		for point, finish := range race.finish {
			t.Run(fmt.Sprintf("%s, finished before %s", class, point), func(t *testing.T) {
				w := world{on.open(t), client.NewID()}
				w.used(w.id)
				if race.record.Size != 0 {
					r := race.record
					r.ID = w.id
					for _, s := range []*records.Stamp{&r.CreatedAt, &r.UploadedAt, &r.DeletedAt} {
						if *s == "now" {
							*s = w.stamp(0)
						}
					}
					w.raw(t, r)
				}
				if race.object != "" {
					w.put(t, w.id, race.object)
				}
				w.clock.advance(5 * time.Hour)

				gets, met := 0, false
				ctx := context.WithoutCancel(t.Context())
				at := func(now string) {
					if now != point || met {
						return
					}
					met = true
					if err := finish(ctx, w); err != nil {
						t.Error(err)
					}
				}
				w.Records = &tellingTable{Table: w.table, before: func(call, _ string) error {
					if call == "Get" {
						gets++
						call = fmt.Sprintf("Get %d", gets)
					}
					at(call)
					return nil
				}}
				w.s3Faults.OnRequest(func(r faultproxy.Request) {
					if r.Method == http.MethodHead {
						at(head)
					}
				})
				before := w.objects(t)
				_, findings := w.verify(t, client.VerifyOptions{Fix: allRepairable()})
				wantFound(t, findings, found{})
				if !met {
					t.Error("that point never came")
				}
				if after := w.objects(t); len(after) < len(before) && point != firstGet && point != head {
					t.Error("the object is gone")
				}
				if point == "Create" {
					if r := w.record(t, w.id); r.State() != records.Placeholder || r.Name != "new" {
						t.Errorf("%+v", r)
					}
				}
			})
		}
	}
}

// An upload in parts that is going on is left alone, however long it takes. Once it has ended, S3 dates its
// object from its beginning: one look can't tell it from an old one, and a second one is taken.
func testVerifyMultipart(t *testing.T, on servers) {
	f := on.open(t)
	active := f.placeholder(t, 5*time.Hour) // past its time; but a part has just come
	f.begin(t, active)
	_, findings := f.verify(t, client.VerifyOptions{})
	wantFound(t, findings, found{})

	// It is completed, and before its uploader has written that down, verify looks.
	complete := func(id string) {
		t.Helper()
		out, err := f.api.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &f.Bucket, Key: &id, ContentType: aws.String("text/plain")})
		if err != nil {
			t.Fatal(err)
		}
		part, err := f.api.UploadPart(t.Context(), &s3.UploadPartInput{
			Bucket: &f.Bucket, Key: &id, UploadId: out.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader(content),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.api.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
			Bucket: &f.Bucket, Key: &id, UploadId: out.UploadId,
			MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{ETag: part.ETag, PartNumber: aws.Int32(1)}}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	slow, killed := f.placeholder(t, 0), f.placeholder(t, 0)
	complete(slow)
	complete(killed)
	f.clock.advance(5 * time.Hour)
	gets := 0
	f.Records = &tellingTable{Table: f.table, before: func(call, _ string) error {
		if gets++; gets == 3 && call == "Get" { // of the second look
			if _, err := f.table.Uploaded(t.Context(), slow, records.Upload{At: f.stamp(0), Type: "text/plain", Size: int64(len(content))}); err != nil {
				t.Error(err)
			}
		}
		return nil
	}}
	if err := f.table.Discard(t.Context(), active); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, findings = f.verify(t, client.VerifyOptions{Settle: 50 * time.Millisecond, Fix: allRepairable()})
	wantFound(t, findings, found{killed: {client.ClassUnrecorded}})
	if took := time.Since(begin); took < 50*time.Millisecond || gets < 3 {
		t.Errorf("it took %s and looked %d times", took, gets)
	}
	f.wantState(t, killed, records.Temporary)
	f.wantState(t, slow, records.Temporary)
}

// While a store is in use, and nothing in it is wrong, nothing is found: uploads that begin, succeed, fail and
// are interrupted, stores, deletes, URLs that others use, and sweeps, all at once with verify.
func TestVerifyInUse(t *testing.T) {
	const files = 30
	onBothTables(t, func(t *testing.T, on servers) {
		f := on.open(t)
		var temporaries, stored, waiting []string
		for i := range files {
			temporaries = append(temporaries, f.temporary(t, 3*time.Hour))
			stored = append(stored, f.stored(t, "a.txt"))
			waiting = append(waiting, f.placeholder(t, 119*time.Minute))
			if i%2 == 0 {
				f.put(t, waiting[i], content)
			}
			f.raw(t, records.Record{UploadedAt: f.stamp(time.Hour), DeletedAt: f.stamp(time.Hour), Size: 1})
		}
		// For verify the grace ends with the second that begins now: what is there is old, and what is done
		// from now on is young, however long it takes.
		edge := time.Now().Truncate(time.Second).Add(time.Second)
		<-time.After(time.Until(edge))
		verifier := f.another(t)
		verifier.Now = func() time.Time { return edge.Add(client.DefaultGrace) }
		user, sweeper := f.another(t), f.another(t)
		user.Now = func() time.Time { return edge.Add(time.Second) }
		sweeper.Now = func() time.Time { return edge.Add(2 * time.Hour) } // to which all is due

		ctx := t.Context()
		var wg, used sync.WaitGroup
		var begun atomic.Bool
		started := make(chan struct{})
		use := func(what func(i int) error) {
			used.Go(func() {
				<-started
				for i := range files {
					if err := what(i); err != nil {
						t.Error(err)
					}
				}
			})
		}
		use(func(i int) error {
			for r := range user.Store(ctx, temporaries[i:i+1]) {
				if reason := client.ReasonOf(r.Err); r.Err != nil && reason != client.Deleted && reason != client.Expired {
					return r.Err
				}
			}
			return nil
		})
		use(func(i int) error {
			for r := range user.Delete(ctx, stored[i:i+1]) {
				if r.Err != nil {
					return r.Err
				}
			}
			return nil
		})
		use(func(i int) error {
			// Through a URL, maybe once more; the record does not know until somebody stores it.
			if err := f.tryPut(ctx, waiting[i], content); err != nil || i%3 == 0 {
				return err
			}
			for r := range user.Store(ctx, waiting[i:i+1]) {
				if reason := client.ReasonOf(r.Err); r.Err != nil && reason != client.Deleted && reason != client.Expired && reason != client.NotUploaded {
					return r.Err
				}
			}
			return nil
		})
		use(func(i int) error {
			r, err := user.Upload(ctx, client.UploadRequest{Name: "new", Stream: strings.NewReader(content), Store: i%2 == 0})
			if err == nil && i%3 == 0 {
				for d := range user.Delete(ctx, []string{r.ID}) {
					err = d.Err
				}
			}
			return err
		})
		use(func(int) error {
			// It breaks off, and is undone.
			_, err := user.Upload(ctx, client.UploadRequest{Name: "broken", Stream: brokenReader(randomBytes(6*mib), errTable)})
			if !errors.Is(err, errTable) {
				return fmt.Errorf("an upload that breaks off: %w", err)
			}
			return nil
		})
		use(func(i int) error {
			if i%5 != 0 {
				return nil
			}
			s, err := sweeper.Expire(ctx, client.ExpireOptions{})
			if err == nil && s.Failed > 0 {
				err = fmt.Errorf("sweep: %+v", s)
			}
			return err
		})
		var over atomic.Bool
		runs := 0
		wg.Go(func() {
			for last := false; !last; runs++ {
				last = over.Load()
				s, err := verifier.Verify(ctx, client.VerifyOptions{
					Deep: runs%2 == 1, SpoolRows: 20, TempDir: t.TempDir(), Settle: 10 * time.Millisecond, Report: func(x client.Finding) {
						t.Errorf("found in a store in use: %+v, object %+v", x, x.Object)
					},
				})
				if err != nil || s.Records < files {
					t.Errorf("%+v, %v", s, err)
				}
				if begun.CompareAndSwap(false, true) {
					close(started)
				}
			}
		})
		used.Wait()
		over.Store(true)
		wg.Wait()
		t.Logf("%d runs", runs)
		if runs < 3 {
			t.Errorf("only %d runs", runs)
		}

		// Of which it is not blind.
		lost := f.stored(t, "lost.txt")
		f.remove(t, lost)
		f.Now = func() time.Time { return edge.Add(24 * time.Hour) }
		_, findings := f.verify(t, client.VerifyOptions{})
		if got := findings[lost]; len(got) != 1 || got[0].Class != client.ClassMissing {
			t.Errorf("a file whose object is lost: %+v", got)
		}
	})
}

// bucketOf is an S3 that holds the objects of keys, which are sorted, each of the size 1 and from long ago.
// It knows ListObjectsV2 and, for what is looked at again, HeadObject.
type bucketOf struct {
	keys []string
	page func() // before each page of a listing
}

func (b *bucketOf) Do(r *http.Request) (*http.Response, error) {
	answer := func(status int, body string) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Request: r, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
			Header: http.Header{"Content-Type": {"application/xml"}, "Last-Modified": {"Wed, 01 Jan 2025 00:00:00 GMT"}, "Content-Length": {"1"}},
		}, nil
	}
	query := r.URL.Query()
	switch {
	case r.Method == http.MethodHead:
		if _, there := slices.BinarySearch(b.keys, path.Base(r.URL.Path)); !there {
			return answer(http.StatusNotFound, "")
		}
		return answer(http.StatusOK, "")
	case query.Has("uploads"):
		return answer(http.StatusOK, "<ListMultipartUploadsResult></ListMultipartUploadsResult>")
	}
	b.page()
	const most = 1000
	from, _ := slices.BinarySearch(b.keys, max(query.Get("start-after"), query.Get("continuation-token"))+"\x00")
	keys := b.keys[from:min(from+most, len(b.keys))]
	var body strings.Builder
	body.WriteString("<ListBucketResult>")
	if from+len(keys) < len(b.keys) {
		fmt.Fprintf(&body, "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", keys[len(keys)-1])
	}
	for _, key := range keys {
		fmt.Fprintf(&body, "<Contents><Key>%s</Key><Size>1</Size><LastModified>2025-01-01T00:00:00.000Z</LastModified></Contents>", key)
	}
	body.WriteString("</ListBucketResult>")
	return answer(http.StatusOK, body.String())
}

// openBucketOf makes a filestore of so many files, in no order in the table, each with an object.
func openBucketOf(t testing.TB, n int) (*filestore, *bucketOf) {
	t.Helper()
	f := openRecords(t)
	ids := make([]string, n)
	for i := range ids {
		// Multiplied by a prime, numbers come in no order, and each once.
		ids[i] = fmt.Sprintf("%016s", strconv.FormatUint(uint64(i)*11400714819323198485>>1, 36))
	}
	b := &bucketOf{keys: slices.Sorted(slices.Values(ids)), page: func() {}}
	f.S3 = client.NewS3(aws.Config{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}}, func(o *s3.Options) {
		o.BaseEndpoint, o.HTTPClient = aws.String("http://s3.invalid"), b
	})
	f.Bucket = "bucket"
	f.Records = generated{Table: f.table, n: n, end: func() {}, record: func(i int) records.Record {
		return records.Record{ID: ids[i], Name: "a", Size: 1, Type: "a/b", UploadedAt: "2025-01-01T00:00:00", StoredAt: "2025-01-01T00:00:00"}
	}}
	return f, b
}

// Of a large filestore no more is in memory than of a small one.
func TestVerifyIsFlat(t *testing.T) {
	if testserver.Race {
		t.Skip("240,000 records, to see how the heap grows")
	}
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var peaks []int64
	for _, n := range []int{40_000, 200_000} { // each shard has full pages
		f, b := openBucketOf(t, n)
		missing := b.keys[n/2]
		b.keys = slices.Delete(slices.Clone(b.keys), n/2, n/2+1)
		var peak, pages atomic.Int64
		before := heap()
		b.page = func() {
			if pages.Add(1)%50 == 0 {
				peak.Store(max(peak.Load(), heap()-before))
			}
		}
		// The rows of 2,000 records are in memory: those of 200,000 would be 6 MiB.
		var ids []string
		s, err := f.Verify(t.Context(), client.VerifyOptions{SpoolRows: 2000, TempDir: t.TempDir(), Report: func(x client.Finding) { ids = append(ids, x.ID) }})
		if err != nil || s.Records != int64(n) || s.Objects != int64(n-1) {
			t.Fatalf("%+v, %v", s, err)
		}
		// The table has nothing under that id: when it was looked at again, record and object were gone.
		if len(ids) != 0 {
			t.Errorf("%q found, beside %q", ids, missing)
		}
		t.Logf("%d records: %d KiB", n, peak.Load()>>10)
		peaks = append(peaks, peak.Load())
	}
	if peaks[0] > 16<<20 || peaks[1] > peaks[0]+3<<20 {
		t.Errorf("the heap has grown by %d KiB for few records, and by %d for many", peaks[0]>>10, peaks[1]>>10)
	}
}

// Whoever lists objects in another order can't be compared with a sorted table: that is said, and no object is
// taken for one without a record.
func TestVerifyWantsOrder(t *testing.T) {
	f, b := openBucketOf(t, 3000)
	slices.Reverse(b.keys[1500:1600])
	if _, err := f.Verify(t.Context(), client.VerifyOptions{}); err == nil || !strings.Contains(err.Error(), "in order") {
		t.Error(err)
	}
}

// BenchmarkVerify compares a table that costs nothing to read with a bucket that costs nothing to list.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f, _ := openBucketOf(b, n)
			for b.Loop() {
				if s, err := f.Verify(b.Context(), client.VerifyOptions{}); err != nil || s.Objects != int64(n) || len(s.Found) > 0 {
					b.Fatalf("%+v, %v", s, err)
				}
			}
		})
	}
}
