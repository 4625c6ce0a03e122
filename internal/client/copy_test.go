package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// TestCopy copies between filestores of each kind. Both are clients of their own: that they may be on one server, no
// code of a copy knows (the scripts copy.txtar and copy_buckets.txtar do that).
func TestCopy(t *testing.T) {
	disk := servers{s3: testserver.Versitygw(t)}
	amazon := servers{s3: testserver.MinIO(t), dynamoDB: testserver.Dynalite(t)}
	between := map[string][2]servers{"from disk": {disk, amazon}}
	if !testserver.Race { // no other goroutines copy the other way
		between["to disk"] = [2]servers{amazon, disk}
	}
	for name, between := range between {
		t.Run(name, func(t *testing.T) {
			open := func(t *testing.T) (from, to *filestore) {
				t.Helper()
				return between[0].open(t), between[1].open(t)
			}
			for _, test := range []struct {
				name string
				run  func(t *testing.T, from, to *filestore)
			}{
				{"everything, and once more", testCopyAll},
				{"some files", testCopySome},
				{"dry run", testCopyDryRun},
				{"what was done at the source since", testCopyForward},
				{"what was done at the destination", testCopyDiffers},
				{"other files under the same ids", testCopyConflicts},
				{"objects that are missing at the destination", testCopyRepairs},
				{"objects that are damaged or missing at the source", testCopyDamaged},
				{"records that can't be written", testCopyMalformed},
				{"what a killed copy has left", testCopyTakesUp},
				{"failures at the destination", testCopyFails},
				{"sweeps at the destination", testCopySwept},
				{"announced at the destination", testCopyAnnounced},
				{"announced late, or by others", testCopyAnnouncedLate},
				{"deleted there meanwhile", testCopyDeletedMeanwhile},
				{"changes at the source meanwhile", testCopySourceChanges},
				{"two at once", testCopyTogether},
				{"interrupted", testCopyInterrupted},
				{"a reader that stops", testCopyStops},
			} {
				t.Run(test.name, func(t *testing.T) {
					from, to := open(t)
					test.run(t, from, to)
				})
			}
		})
	}
}

// copyTo copies, and fails the test unless every file gets one of the results.
func (f *filestore) copyTo(t testing.TB, to *filestore, opts client.CopyOptions) map[string]client.Copied {
	t.Helper()
	all := make(map[string]client.Copied)
	for c, err := range f.CopyTo(t.Context(), to.Client, opts) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := all[c.ID]; twice {
			t.Errorf("file %q is told of twice", c.ID)
		}
		all[c.ID] = c
		to.used(c.ID)
	}
	return all
}

// wantActions fails the test unless the files have these actions and no errors.
func wantActions(t testing.TB, got map[string]client.Copied, want map[string]client.CopyAction) {
	t.Helper()
	actions := make(map[string]client.CopyAction)
	for id, c := range got {
		if c.Err != nil {
			t.Errorf("%q: %v", id, c.Err)
		}
		actions[id] = c.Action
	}
	if diff := cmp.Diff(want, actions); diff != "" {
		t.Errorf("actions (-want +got):\n%s", diff)
	}
}

// full returns all records with all that they have.
func (f *filestore) full(t testing.TB) map[string]records.Record {
	t.Helper()
	all := make(map[string]records.Record)
	for page, err := range f.table.Scan(t.Context(), records.Filter{}, records.ScanOptions{Meta: true}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			all[r.ID] = r
		}
	}
	return all
}

// wantEqual fails the test unless two filestores hold the same files: records, contents and types.
// Placeholders of the first are not copied.
func wantEqual(t testing.TB, a, b *filestore) {
	t.Helper()
	want := a.full(t)
	for id, r := range want {
		if r.State() == records.Placeholder {
			delete(want, id)
			continue
		}
		text, mime, found := a.object(t, id)
		gotText, gotMime, gotFound := b.object(t, id)
		if text != gotText || mime != gotMime || found != gotFound {
			t.Errorf("object %q: %d bytes of %q (%t), and at the destination %d of %q (%t)", id, len(text), mime, found, len(gotText), gotMime, gotFound)
		}
	}
	if diff := cmp.Diff(want, b.full(t)); diff != "" {
		t.Errorf("records (-source +destination):\n%s", diff)
	}
	b.wantConsistent(t)
}

// everything makes a file of every kind, and returns their ids by what they are.
func (f *filestore) everything(t testing.TB) map[string]string {
	t.Helper()
	old := f.stamp(1000 * time.Hour)
	ids := map[string]string{
		"temporary":   f.temporary(t, time.Minute),
		"due":         f.temporary(t, 1000*time.Hour),
		"stored":      f.stored(t, "日本 \"q\".txt"),
		"placeholder": f.placeholder(t, time.Minute),
		"gone":        f.raw(t, records.Record{CreatedAt: old, UploadedAt: old, StoredAt: old, DeletedAt: f.stamp(time.Hour), Size: 7, Meta: `{"k":"v"}`}),
		"expired":     f.raw(t, records.Record{CreatedAt: old, UploadedAt: old, DeletedAt: old, Size: 7}),
		"abandoned":   f.raw(t, records.Record{CreatedAt: old, DeletedAt: old, Size: -1}),
		"of the API":  f.raw(t, records.Record{UploadedAt: old, StoredAt: old, Size: int64(len(content)), Meta: "no object"}),
	}
	f.put(t, ids["of the API"], content)
	for name, data := range map[string][]byte{"large": randomBytes(12*mib + 345), "one part": randomBytes(5 * mib), "empty": nil} {
		r, err := f.Upload(t.Context(), client.UploadRequest{
			Name: name, Type: "application/x-test", Store: true, Meta: map[string]string{"path": "a/" + name}, File: tempFile(t, data),
		})
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = r.ID
	}
	r, err := f.UploadIdempotent(t.Context(), client.UploadRequest{Name: "key.txt", Store: true, File: tempFile(t, []byte(content))}, "key", false)
	if err != nil {
		t.Fatal(err)
	}
	ids["with a key"] = r.ID
	return ids
}

func testCopyAll(t *testing.T, from, to *filestore) {
	ids := from.everything(t)
	want := make(map[string]client.CopyAction)
	for name, id := range ids {
		if name != "placeholder" {
			want[id] = client.CopyMade
		}
	}
	var moved progress
	ended := make(chan string, len(ids))
	got := from.copyTo(t, to, client.CopyOptions{Progress: moved.add, Ended: func() { ended <- "" }, Reads: records.NewMeter(0)})
	wantActions(t, got, want)
	for id, c := range got {
		if c.Unverified {
			t.Errorf("%q has no checksum", id)
		}
		if !records.Same(c.Record, to.full(t)[id]) {
			t.Errorf("%q is told to be %+v", id, c.Record)
		}
	}
	if want := int64(17*mib + 345 + 5*len(content)); moved.bytes() != want {
		t.Errorf("progress says %d bytes, want %d", moved.bytes(), want)
	}
	if len(ended) != len(want) {
		t.Errorf("%d files have ended, want %d", len(ended), len(want))
	}
	wantEqual(t, from, to)

	// The second time nothing is written, and no object is read.
	for id := range want {
		want[id] = client.CopySame
	}
	before := [2]int{len(from.s3Faults.Log()), len(to.s3Faults.Log())}
	wantActions(t, from.copyTo(t, to, client.CopyOptions{}), want)
	if log := from.s3Faults.Log()[before[0]:]; len(log) > 0 {
		t.Errorf("requests to the source: %v", log)
	}
	for _, r := range to.s3Faults.Log()[before[1]:] {
		if r.Method != http.MethodHead {
			t.Errorf("request to the destination: %s", r)
		}
	}
	wantEqual(t, from, to)

	// And back again: they are the same files.
	wantActions(t, to.copyTo(t, from, client.CopyOptions{}), want)
}

func testCopySome(t *testing.T, from, to *filestore) {
	ids := from.everything(t)
	wantActions(t, from.copyTo(t, to, client.CopyOptions{States: []records.State{records.Temporary}}), map[string]client.CopyAction{
		ids["temporary"]: client.CopyMade, ids["due"]: client.CopyMade,
	})
	unknown := client.NewID()
	asked := []string{ids["gone"], unknown, ids["large"], "no id", ids["due"], ids["placeholder"], ids["large"]}
	var order []string
	errs := make(map[string]error)
	for c, err := range from.CopyTo(t.Context(), to.Client, client.CopyOptions{IDs: asked}) {
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, c.ID)
		errs[c.ID] = c.Err
	}
	if !slices.Equal(order, asked[:6]) {
		t.Errorf("the answers are of %q, want %q", order, asked[:6])
	}
	wantReason(t, errs[unknown], client.NotFound)
	wantReason(t, errs["no id"], client.NotFound)
	wantReason(t, errs[ids["placeholder"]], client.NotUploaded)
	var got []string
	for id := range to.full(t) {
		got = append(got, id)
	}
	if want := []string{ids["temporary"], ids["due"], ids["gone"], ids["large"]}; !cmp.Equal(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))) {
		t.Errorf("copied are %q, want %q", got, want)
	}
	wantActions(t, from.copyTo(t, to, client.CopyOptions{IDs: []string{}}), map[string]client.CopyAction{})
}

func testCopyDryRun(t *testing.T, from, to *filestore) {
	ids := from.everything(t)
	from.copyTo(t, to, client.CopyOptions{IDs: []string{ids["due"], ids["stored"]}})
	if _, err := from.table.Store(t.Context(), ids["due"], from.stamp(0), nil); err != nil {
		t.Fatal(err)
	}
	to.remove(t, ids["stored"])
	before, objects := to.full(t), to.objects(t)
	got := from.copyTo(t, to, client.CopyOptions{DryRun: true})
	if len(got) != len(ids)-1 || got[ids["due"]].Action != client.CopyForward || got[ids["stored"]].Action != client.CopyMade || got[ids["gone"]].Action != client.CopyMade {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(before, to.full(t)); diff != "" {
		t.Errorf("a dry run changes records:\n%s", diff)
	}
	if diff := cmp.Diff(objects, to.objects(t)); diff != "" {
		t.Errorf("a dry run changes objects:\n%s", diff)
	}
}

func testCopyForward(t *testing.T, from, to *filestore) {
	stored, deleted, both, keeps := from.temporary(t, time.Minute), from.stored(t, "a.txt"), from.temporary(t, 2*time.Minute), from.stored(t, "b.txt")
	from.copyTo(t, to, client.CopyOptions{})
	from.clock.advance(time.Minute)
	for _, r := range slices.Collect(from.Store(t.Context(), []string{stored, both})) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	from.clock.advance(time.Minute)
	for _, r := range slices.Collect(from.Delete(t.Context(), []string{deleted, both})) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	want := map[string]client.CopyAction{
		stored: client.CopyForward, deleted: client.CopyForward, both: client.CopyForward, keeps: client.CopySame,
	}
	// Nothing is deleted of which the audit can't tell.
	to.Audit = func(context.Context, []client.Deletion) error { return errTable }
	for _, id := range []string{deleted, both} {
		if got := from.copyTo(t, to, client.CopyOptions{IDs: []string{id}})[id]; !errors.Is(got.Err, errTable) {
			t.Errorf("%+v", got)
		}
		if _, _, found := to.object(t, id); !found || to.record(t, id).State() != records.Stored {
			t.Errorf("without an audit, file %q is %+v, and its object there: %t", id, to.record(t, id), found)
		}
	}
	var audited []string
	var mu sync.Mutex
	to.Audit = func(_ context.Context, files []client.Deletion) error {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range files {
			audited = append(audited, f.ID)
		}
		return nil
	}
	before := len(from.s3Faults.Log())
	got := from.copyTo(t, to, client.CopyOptions{})
	wantActions(t, got, want)
	if slices.Sort(audited); !slices.Equal(audited, slices.Sorted(slices.Values([]string{deleted, both}))) {
		t.Errorf("the audit is told of %q", audited)
	}
	if !records.Same(got[both].Record, from.record(t, both)) {
		t.Errorf("it is told to be %+v", got[both].Record)
	}
	if log := from.s3Faults.Log()[before:]; len(log) > 0 {
		t.Errorf("requests to the source: %v", log)
	}
	wantEqual(t, from, to)
}

func testCopyDiffers(t *testing.T, from, to *filestore) {
	// What was done at the destination stays, whatever was done at the source later.
	deleted, stored, storedBoth, expired := from.stored(t, "a.txt"), from.temporary(t, time.Minute), from.temporary(t, time.Minute), from.temporary(t, time.Minute)
	storedHereGoneThere := from.temporary(t, time.Minute)
	from.copyTo(t, to, client.CopyOptions{})
	for _, r := range slices.Collect(to.Delete(t.Context(), []string{deleted, expired})) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for _, r := range slices.Collect(to.Store(t.Context(), []string{stored, storedBoth, storedHereGoneThere})) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	from.clock.advance(time.Minute)
	for _, r := range slices.Collect(from.Store(t.Context(), []string{storedBoth})) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	for _, r := range slices.Collect(from.Delete(t.Context(), []string{expired, storedHereGoneThere})) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	before := to.full(t)
	wantActions(t, from.copyTo(t, to, client.CopyOptions{}), map[string]client.CopyAction{
		deleted: client.CopyDiffers, stored: client.CopyDiffers, storedBoth: client.CopyDiffers, storedHereGoneThere: client.CopyDiffers,
		expired: client.CopySame, // on both sides, if not in the same second
	})
	if diff := cmp.Diff(before, to.full(t)); diff != "" {
		t.Errorf("the records have changed:\n%s", diff)
	}
	to.wantState(t, deleted, records.Deleted)
	to.wantState(t, stored, records.Stored)
	to.wantState(t, storedHereGoneThere, records.Stored)
}

func testCopyConflicts(t *testing.T, from, to *filestore) {
	const other = "Another file.\n"
	source := from.record(t, from.stored(t, "a.txt"))
	for name, change := range map[string]func(r *records.Record){
		"name":        func(r *records.Record) { r.Name = "b.txt" },
		"type":        func(r *records.Record) { r.Type = "text/html" },
		"size":        func(r *records.Record) { r.Size++ },
		"meta":        func(r *records.Record) { r.Meta = `{"a":"b"}` },
		"fingerprint": func(r *records.Record) { r.Fingerprint = "crc64nvme:rosUhgp5mIg=:3" },
		"created_at":  func(r *records.Record) { r.CreatedAt = "" },
		"uploaded_at": func(r *records.Record) { r.UploadedAt = from.stamp(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			from, to := from.open(t), to.open(t)
			r := source
			r.ID = client.NewID()
			from.raw(t, r)
			from.put(t, r.ID, content)
			change(&r)
			to.raw(t, r)
			to.put(t, r.ID, other)
			got := from.copyTo(t, to, client.CopyOptions{})[r.ID]
			wantReason(t, got.Err, client.Conflict)
			if !strings.Contains(fmt.Sprint(got.Err), name) {
				t.Errorf("it does not say in what they differ: %v", got.Err)
			}
			if !records.Same(to.record(t, r.ID), r) {
				t.Errorf("the record has become %+v", to.record(t, r.ID))
			}
			if text, _, _ := to.object(t, r.ID); text != other {
				t.Errorf("the object has become %q", text)
			}
		})
	}
	t.Run("an upload under way", func(t *testing.T) {
		r := source
		r.UploadedAt, r.StoredAt, r.Type, r.Size = "", "", "", -1
		to.raw(t, r)
		wantReason(t, from.copyTo(t, to, client.CopyOptions{})[r.ID].Err, client.Conflict)
		if !records.Same(to.record(t, r.ID), r) {
			t.Errorf("the record has become %+v", to.record(t, r.ID))
		}
	})
	t.Run("an object of another size", func(t *testing.T) {
		id := from.stored(t, "c.txt")
		from.copyTo(t, to, client.CopyOptions{IDs: []string{id}})
		to.put(t, id, other)
		wantReason(t, from.copyTo(t, to, client.CopyOptions{IDs: []string{id}})[id].Err, client.Conflict)
		if text, _, _ := to.object(t, id); text != other {
			t.Errorf("the object has become %q", text)
		}
	})
	t.Run("an object that is not of the fingerprint", func(t *testing.T) {
		r, err := from.UploadIdempotent(t.Context(), client.UploadRequest{Name: "key.txt", File: tempFile(t, []byte(content))}, "key", false)
		if err != nil {
			t.Fatal(err)
		}
		from.copyTo(t, to, client.CopyOptions{IDs: []string{r.ID}})
		if _, err := to.api.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &to.Bucket, Key: &r.ID, Body: strings.NewReader(strings.ToUpper(content)), ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
		}); err != nil {
			t.Fatal(err)
		}
		wantReason(t, from.copyTo(t, to, client.CopyOptions{IDs: []string{r.ID}})[r.ID].Err, client.Conflict)
	})
}

func testCopyRepairs(t *testing.T, from, to *filestore) {
	missing, there := from.stored(t, "a.txt"), from.stored(t, "b.txt")
	from.copyTo(t, to, client.CopyOptions{})
	to.remove(t, missing)
	wantActions(t, from.copyTo(t, to, client.CopyOptions{}), map[string]client.CopyAction{missing: client.CopyMade, there: client.CopySame})
	wantEqual(t, from, to)
}

func testCopyDamaged(t *testing.T, from, to *filestore) {
	ids := make(map[string]string)
	for name, data := range map[string][]byte{"small": []byte(content), "large": randomBytes(11 * mib)} {
		r, err := from.Upload(t.Context(), client.UploadRequest{Name: name, Store: true, File: tempFile(t, data)})
		if err != nil {
			t.Fatal(err)
		}
		ids[name] = r.ID
	}
	wantFailed := func(t *testing.T, files int, want error) {
		t.Helper()
		got := from.copyTo(t, to, client.CopyOptions{})
		if len(got) != files {
			t.Errorf("%d files are told of, want %d", len(got), files)
		}
		for id, c := range got {
			if !errors.Is(c.Err, want) {
				t.Errorf("%q: %v, want %v", id, c.Err, want)
			}
		}
		to.wantNothing(t, false)
	}
	rule := from.s3Faults.Inject(getObject, faultproxy.Always(), faultproxy.FlipDownload(3))
	wantFailed(t, 2, transfer.ErrChecksum)
	if rule.Hits() < 2 {
		t.Errorf("%d bytes were flipped", rule.Hits())
	}
	from.heal()

	// On the way to the destination it is that one which notices, and the body is sent again.
	rule = to.s3Faults.Inject(faultproxy.On(http.MethodPut), faultproxy.First(1), faultproxy.FlipUpload(3))
	wantActions(t, from.copyTo(t, to, client.CopyOptions{IDs: []string{ids["large"]}}), map[string]client.CopyAction{ids["large"]: client.CopyMade})
	if rule.Hits() != 1 {
		t.Errorf("%d bytes were flipped", rule.Hits())
	}
	to.heal()

	from, to = from.open(t), to.open(t)
	from.put(t, from.stored(t, "a.txt"), content+"and more")
	wantFailed(t, 1, transfer.ErrSize)

	from, to = from.open(t), to.open(t)
	from.remove(t, from.stored(t, "a.txt"))
	wantFailed(t, 1, client.ErrObjectMissing)
}

func testCopyMalformed(t *testing.T, from, to *filestore) {
	// Others write times that are longer, and mean the same.
	lenient := from.raw(t, records.Record{CreatedAt: "2026-01-02T03:04:05Z", UploadedAt: "2026-01-02T03:04:06.75", StoredAt: "2026-01-02T03:04:07.5Z", Size: int64(len(content))})
	from.put(t, lenient, content)
	bad := from.raw(t, records.Record{UploadedAt: from.stamp(0), StoredAt: "yesterday", Size: int64(len(content))})
	from.put(t, bad, content)
	got := from.copyTo(t, to, client.CopyOptions{})
	if got[lenient].Err != nil || got[bad].Err == nil {
		t.Errorf("%+v", got)
	}
	want := from.record(t, lenient)
	want.CreatedAt, want.UploadedAt, want.StoredAt = "2026-01-02T03:04:05", "2026-01-02T03:04:06", "2026-01-02T03:04:07"
	if diff := cmp.Diff(map[string]records.Record{lenient: want}, to.full(t)); diff != "" {
		t.Errorf("copied (-want +got):\n%s", diff)
	}
	wantActions(t, from.copyTo(t, to, client.CopyOptions{IDs: []string{lenient}}), map[string]client.CopyAction{lenient: client.CopySame})
}

// leave makes at f what a copy of r has left that was killed.
func (f *filestore) leave(t testing.TB, r records.Record) {
	t.Helper()
	if err := f.table.Create(t.Context(), records.Record{ID: r.ID, Name: r.Name, Meta: r.Meta, Fingerprint: r.Fingerprint}); err != nil {
		t.Fatal(err)
	}
	f.used(r.ID)
}

func testCopyTakesUp(t *testing.T, from, to *filestore) {
	ids := from.everything(t)
	all := from.full(t)
	// A placeholder; one with an object; with a wrong one; with a multipart upload. And the record alone of
	// what was deleted meanwhile.
	for _, name := range []string{"temporary", "large", "stored", "of the API", "one part", "with a key", "gone"} {
		to.leave(t, all[ids[name]])
	}
	if _, err := to.api.PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &to.Bucket, Key: aws.String(ids["large"]), Body: bytes.NewReader(randomBytes(12*mib + 345)),
		ContentType: aws.String("application/x-test"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme,
	}); err != nil {
		t.Fatal(err)
	}
	to.put(t, ids["stored"], "wrong")
	to.put(t, ids["gone"], content)
	to.begin(t, ids["one part"])
	to.begin(t, ids["gone"])
	for id, c := range from.copyTo(t, to, client.CopyOptions{}) {
		if c.Err != nil || c.Action != client.CopyMade {
			t.Errorf("%q: %+v", id, c)
		}
	}
	for _, r := range to.s3Faults.Log() {
		if strings.HasSuffix(r.Path, ids["large"]) && r.Method == http.MethodPut {
			t.Errorf("an object that was there is sent again: %s", r)
		}
	}
	wantEqual(t, from, to)
}

func testCopyFails(t *testing.T, from, to *filestore) {
	ids := from.everything(t)
	for name, fail := range map[string]func(to *filestore){
		"objects": func(to *filestore) {
			to.s3Faults.Inject(faultproxy.On(http.MethodPut), faultproxy.Always(), faultproxy.Refusal(403, "AccessDenied"))
		},
		"some objects": func(to *filestore) {
			// Of one file, whatever the order: a request that breaks off is made again, and would be another.
			match := func(r *http.Request) bool {
				return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, ids["one part"])
			}
			to.s3Faults.Inject(match, faultproxy.Always(), faultproxy.Refusal(403, "AccessDenied"))
		},
		"answers": func(to *filestore) {
			to.s3Faults.Inject(faultproxy.On(http.MethodPut), faultproxy.Always(), faultproxy.CutDownload(0))
		},
		"the last request": func(to *filestore) {
			to.s3Faults.Inject(faultproxy.On(http.MethodPost, "uploadId"), faultproxy.Always(), faultproxy.Refusal(403, "AccessDenied"))
		},
		"imports":                 func(to *filestore) { to.failImports(faultproxy.Before) },
		"answers to imports":      func(to *filestore) { to.failImports(faultproxy.After) },
		"placeholders":            func(to *filestore) { to.failRecords(faultproxy.Before, onCreate) },
		"answers to placeholders": func(to *filestore) { to.failRecords(faultproxy.After, onCreate) },
	} {
		if testserver.Race && name != "some objects" && name != "answers to imports" { // one of each end that a file comes to
			continue
		}
		t.Run(name, func(t *testing.T) {
			to := to.open(t)
			fail(to)
			failures := 0
			for _, c := range from.copyTo(t, to, client.CopyOptions{}) {
				if c.Err != nil {
					failures++
				}
			}
			if failures == 0 && name != "answers" && !strings.HasPrefix(name, "answers to") {
				t.Error("nothing fails")
			}
			to.heal()
			// No sweep takes away what is to be gone on with.
			to.clock.advance(100 * time.Hour)
			if summary, err := to.Expire(t.Context(), client.ExpireOptions{OlderThan: 100_000 * time.Hour}); err != nil || summary.Failed > 0 || summary.Abandoned > 0 {
				t.Errorf("%+v, %v", summary, err)
			}
			for id, c := range from.copyTo(t, to, client.CopyOptions{}) {
				if c.Err != nil {
					t.Errorf("%q: %v", id, c.Err)
				}
			}
			wantEqual(t, from, to)
		})
	}
}

// failImports has every import fail from now on.
func (f *filestore) failImports(when faultproxy.When) {
	if f.dynamoFaults == nil {
		f.Records = &failingImports{Table: f.table, when: when}
		return
	}
	fault := faultproxy.InternalError()
	if when == faultproxy.After {
		fault = faultproxy.CutDownload(0)
	}
	f.dynamoFaults.Inject(faultproxy.Operation("UpdateItem"), faultproxy.Always(), fault)
}

type failingImports struct {
	records.Table
	when faultproxy.When
}

func (f *failingImports) Import(ctx context.Context, r records.Record) error {
	if f.when == faultproxy.After {
		if err := f.Table.Import(ctx, r); err != nil {
			return err
		}
	}
	return errTable
}

// testCopyAnnounced has the destination told of the copy's object at every point between two requests of the copy, and
// in the end once more.
func testCopyAnnounced(t *testing.T, from, to *filestore) {
	for _, onLoad := range []bool{false, true} {
		id := from.stored(t, "a.txt")
		old := from.temporary(t, 30*24*time.Hour)
		notified := *to.Client
		notified.S3, notified.Records = to.api, to.table
		notified.Settings.StoreOnLoad = onLoad
		var telling sync.Mutex
		told := make(map[records.State]int)
		tell := func(faultproxy.Request) {
			telling.Lock()
			defer telling.Unlock()
			for _, id := range []string{id, old} {
				r, known, err := notified.ObjectCreated(t.Context(), id)
				if err != nil {
					t.Errorf("%q: %v", id, err)
				}
				if known {
					told[r.State()]++
				}
			}
		}
		to.s3Faults.OnRequest(tell)
		to.Records = &announcing{Table: to.Records, tell: func() { tell(faultproxy.Request{}) }}
		want := map[string]client.CopyAction{id: client.CopyMade, old: client.CopyMade}
		opts := client.CopyOptions{IDs: []string{id, old}}
		wantActions(t, from.copyTo(t, to, opts), want)
		if told[records.Placeholder] == 0 || told[records.Temporary]+told[records.Stored] < 2 {
			t.Errorf("told of files that were %v", told)
		}
		tell(faultproxy.Request{})
		for id := range want {
			want[id] = client.CopySame
		}
		wantActions(t, from.copyTo(t, to, opts), want)
		wantEqual(t, from, to)
	}
}

// announcing has something told before and after a record is imported.
type announcing struct {
	records.Table
	tell func()
}

func (a *announcing) Import(ctx context.Context, r records.Record) error {
	a.tell()
	defer a.tell()
	return a.Table.Import(ctx, r)
}

func (a *announcing) ImportAnnounced(ctx context.Context, r records.Record, known records.Stamp) error {
	a.tell()
	defer a.tell()
	return a.Table.ImportAnnounced(ctx, r, known)
}

// testCopyAnnouncedLate has other clients, which know of no conditions, record the upload after the copy has made
// the record, or have a killed copy's placeholder become a file.
func testCopyAnnouncedLate(t *testing.T, from, to *filestore) {
	day := 24 * time.Hour
	upload := func(id string, at records.Stamp, store bool) {
		t.Helper()
		if _, err := to.table.Uploaded(t.Context(), id, records.Upload{At: at, Type: "text/plain", Size: int64(len(content)), Store: store}); err != nil {
			t.Fatal(err)
		}
	}
	// After the copy: it is the same file, uploaded later.
	late := from.temporary(t, 30*day)
	wantActions(t, from.copyTo(t, to, client.CopyOptions{}), map[string]client.CopyAction{late: client.CopyMade})
	upload(late, to.stamp(0), false)
	// Of one without created_at the record is made right.
	undated := from.raw(t, records.Record{UploadedAt: from.stamp(30 * day), Size: int64(len(content))})
	from.put(t, undated, content)
	from.copyTo(t, to, client.CopyOptions{IDs: []string{undated}})
	upload(undated, to.stamp(0), true)
	// A copy that was killed before it could make the record.
	killed := from.stored(t, "a.txt")
	source := from.full(t)[killed]
	if err := to.table.Create(t.Context(), records.Record{ID: killed, Name: source.Name, Meta: source.Meta}); err != nil {
		t.Fatal(err)
	}
	to.put(t, killed, content)
	upload(killed, to.stamp(-time.Minute), false)
	// One that is deleted at the source since.
	gone := from.temporary(t, 30*day)
	if err := to.table.Create(t.Context(), records.Record{ID: gone, Name: from.full(t)[gone].Name}); err != nil {
		t.Fatal(err)
	}
	to.put(t, gone, content)
	upload(gone, to.stamp(0), false)
	for r := range from.Delete(t.Context(), []string{gone}) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}

	wantActions(t, from.copyTo(t, to, client.CopyOptions{}), map[string]client.CopyAction{
		late: client.CopySame, undated: client.CopyMade, killed: client.CopyMade, gone: client.CopyMade,
	})
	// The late one may keep its later time; all else is as at the source.
	if r := to.record(t, late); r.UploadedAt != to.stamp(0) {
		t.Errorf("%+v", r)
	}
	want := from.full(t)
	delete(want, late)
	got := to.full(t)
	delete(got, late)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-source +destination):\n%s", diff)
	}
	to.wantConsistent(t)

	// A file of another name is another file, whatever else is alike.
	other := from.temporary(t, 30*day)
	to.raw(t, records.Record{ID: other, Name: "b.txt", UploadedAt: to.stamp(0), Size: int64(len(content))})
	wantReason(t, from.copyTo(t, to, client.CopyOptions{IDs: []string{other}})[other].Err, client.Conflict)
}

// testCopySwept has sweeps run between any two requests of a copy, long after the lifetime of
// everything that is temporary.
func testCopySwept(t *testing.T, from, to *filestore) {
	for _, size := range []int{10, 11 * mib} {
		r, err := from.Upload(t.Context(), client.UploadRequest{Name: "a.bin", Store: true, File: tempFile(t, randomBytes(size))})
		if err != nil {
			t.Fatal(err)
		}
		sweeper := *to.Client
		sweeper.S3 = to.api
		sweeper.Records = to.table
		sweeper.Transfer = &transfer.Engine{S3: to.api, Bucket: to.Bucket}
		sweeper.Now = func() time.Time { return to.clock.now().Add(1000 * time.Hour) }
		var sweeping sync.Mutex
		swept := 0
		sweep := func(faultproxy.Request) {
			sweeping.Lock()
			defer sweeping.Unlock()
			swept++
			if summary, err := sweeper.Expire(t.Context(), client.ExpireOptions{}); err != nil || summary.Failed > 0 || summary.Abandoned+summary.Settled > 0 {
				t.Errorf("%+v, %v", summary, err)
			}
		}
		from.s3Faults.OnRequest(sweep)
		to.s3Faults.OnRequest(sweep)
		if to.dynamoFaults != nil {
			to.dynamoFaults.OnRequest(sweep)
		}
		got := from.copyTo(t, to, client.CopyOptions{IDs: []string{r.ID}})
		// A multipart upload so old is one that nobody goes on with: the sweep may abort it, but not
		// where its placeholder is.
		wantActions(t, got, map[string]client.CopyAction{r.ID: client.CopyMade})
		if swept < 2 {
			t.Errorf("%d sweeps", swept)
		}
	}
	wantEqual(t, from, to)
}

func testCopyDeletedMeanwhile(t *testing.T, from, to *filestore) {
	id := from.stored(t, "a.txt")
	var once sync.Once
	to.s3Faults.OnRequest(func(r faultproxy.Request) {
		if r.Method == http.MethodPut {
			once.Do(func() {
				if _, err := to.table.Delete(t.Context(), id, to.stamp(0)); err != nil {
					t.Error(err)
				}
			})
		}
	})
	if got := from.copyTo(t, to, client.CopyOptions{})[id]; got.Err == nil {
		t.Errorf("%+v", got)
	}
	to.wantState(t, id, records.Deleted)
}

func testCopySourceChanges(t *testing.T, from, to *filestore) {
	id := from.stored(t, "a.txt")
	var once sync.Once
	from.s3Faults.OnRequest(func(r faultproxy.Request) {
		if r.Method == http.MethodGet {
			once.Do(func() {
				if _, err := from.table.Delete(t.Context(), id, from.stamp(0)); err != nil {
					t.Error(err)
				}
				from.remove(t, id)
			})
		}
	})
	wantActions(t, from.copyTo(t, to, client.CopyOptions{}), map[string]client.CopyAction{id: client.CopyMade})
	wantEqual(t, from, to)
}

func testCopyTogether(t *testing.T, from, to *filestore) {
	ids := from.everything(t)
	var running sync.WaitGroup
	for range 3 {
		running.Go(func() {
			for c, err := range from.CopyTo(t.Context(), to.Client, client.CopyOptions{}) {
				if err != nil || c.Err != nil {
					t.Errorf("%q: %v, %v", c.ID, c.Err, err)
				}
				to.used(c.ID)
			}
		})
	}
	running.Wait()
	// A copy that takes up what another has begun aborts its multipart uploads at the end. Where a part comes
	// in at that moment, versitygw may keep the upload; a sweep a day later takes it away.
	for _, id := range ids {
		if err := to.Transfer.AbortUploads(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	wantEqual(t, from, to)
}

func testCopyInterrupted(t *testing.T, from, to *filestore) {
	ids := from.everything(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// In the middle of a large file.
	to.s3Faults.OnRequest(func(r faultproxy.Request) {
		if slices.Contains(r.Query, "partNumber") {
			cancel()
		}
	})
	var got client.Copied
	for c, err := range from.CopyTo(ctx, to.Client, client.CopyOptions{IDs: []string{ids["large"]}}) {
		if err != nil {
			t.Fatal(err)
		}
		got = c
	}
	wantReason(t, got.Err, client.Interrupted)
	to.used(ids["large"])
	to.wantNothing(t, false)
	from.copyTo(t, to, client.CopyOptions{})
	wantEqual(t, from, to)
}

func testCopyStops(t *testing.T, from, to *filestore) {
	for range 20 {
		from.stored(t, "a.txt")
	}
	for c, err := range from.CopyTo(t.Context(), to.Client, client.CopyOptions{}) {
		if err != nil || c.Err != nil {
			t.Fatal(err, c.Err)
		}
		break
	}
	from.copyTo(t, to, client.CopyOptions{})
	wantEqual(t, from, to)
}

// TestCopyReadFails shows that a copy ends with the error of reading the records, of either side.
func TestCopyReadFails(t *testing.T) {
	on := servers{s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}
	from, to := on.open(t), on.open(t)
	from.stored(t, "a.txt")
	for name, fail := range map[string]func(){
		"source": func() {
			from.dynamoFaults.Inject(faultproxy.Operation("Scan"), faultproxy.Always(), faultproxy.Refusal(400, "AccessDeniedException"))
		},
		"destination": func() {
			to.dynamoFaults.Inject(faultproxy.Operation("BatchGetItem"), faultproxy.Always(), faultproxy.Refusal(400, "AccessDeniedException"))
		},
	} {
		fail()
		var last error
		for c, err := range from.CopyTo(t.Context(), to.Client, client.CopyOptions{}) {
			if last = err; err == nil {
				t.Errorf("%+v", c)
			}
		}
		wantReason(t, last, client.Permission)
		if !strings.Contains(fmt.Sprint(last), name) {
			t.Errorf("it does not name the %s: %v", name, last)
		}
		from.heal()
		to.heal()
	}
	to.wantNothing(t, false)
}
