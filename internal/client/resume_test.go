package client_test

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/state"
	"github.com/designfultech/filestore/internal/transfer"
)

// resumable is one file, and the journal of its uploads to f.
type resumable struct {
	f        *filestore
	path     string
	stateDir string
	uploads  *state.Uploads
}

func (f *filestore) resumable(t *testing.T, data []byte) *resumable {
	t.Helper()
	f.Transfer.Concurrency = 1 // the parts go in their order
	r := &resumable{f: f, path: filepath.Join(t.TempDir(), "large.bin"), stateDir: t.TempDir()}
	if err := os.WriteFile(r.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.uploads, err = state.OpenUploads(r.stateDir); err != nil {
		t.Fatal(err)
	}
	return r
}

// told is what an upload told beside its result.
type told struct {
	there int64
	anew  []error
	moved int64
}

// upload is one run of the program.
func (r *resumable) upload(t *testing.T, req client.UploadRequest) (records.Record, told, error) {
	t.Helper()
	file, err := os.Open(r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	journal, err := r.uploads.Lock("here", r.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := journal.Close(); err != nil {
			t.Error(err)
		}
	}()
	var what told
	var moved progress
	req.File, req.Journal, req.Progress = file, journal, moved.add
	req.Resumed = func(_, there int64) { what.there = there }
	req.Anew = func(why error) { what.anew = append(what.anew, why) }
	record, err := r.f.Upload(t.Context(), req)
	if err == nil { // and the id is told
		if err := journal.Remove(); err != nil {
			t.Error(err)
		}
	}
	what.moved = moved.bytes()
	return record, what, err
}

// breakOff has an upload with Resume fail at its last part, and returns the id that is kept.
func (r *resumable) breakOff(t *testing.T, req client.UploadRequest) string {
	t.Helper()
	r.f.s3Faults.Inject(lastPart, faultproxy.Always(), faultproxy.SlowDown())
	req.Resume = true
	_, _, err := r.upload(t, req)
	r.f.heal()
	kept, ok := errors.AsType[*client.KeptError](err)
	if !ok || client.ReasonOf(err) != client.Retry {
		t.Fatalf("error %v", err)
	}
	if r.f.record(t, kept.ID).State() != records.Placeholder || r.f.uploads(t, kept.ID) != 1 || len(r.remembered(t)) != 1 {
		t.Fatalf("not everything was kept of %q", kept.ID)
	}
	return kept.ID
}

// lastPart is the third of the file of these tests.
func lastPart(r *http.Request) bool { return r.URL.Query().Get("partNumber") == "3" }

func (r *resumable) remembered(t *testing.T) []state.UploadEntry {
	t.Helper()
	all, err := r.uploads.All("here")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantOnly fails the test unless the record is the only one beside deleted ones, its object is data, and
// nothing is half done or remembered.
func (r *resumable) wantOnly(t *testing.T, got records.Record, data []byte) {
	t.Helper()
	for id, record := range r.f.records(t) {
		if id != got.ID && record.State() != records.Deleted {
			t.Errorf("there is %+v too", record)
		}
	}
	if text, _, _ := r.f.object(t, got.ID); text != string(data) {
		t.Errorf("the object has %d bytes, and is not the file", len(text))
	}
	if all := r.remembered(t); len(all) != 0 {
		t.Errorf("remembered is %+v", all)
	}
	r.f.wantConsistent(t)
}

func testResume(t *testing.T, on servers) {
	data := randomBytes(11 * mib)

	t.Run("goes on", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		id := r.breakOff(t, client.UploadRequest{Name: "first", Type: "video/mp4", Meta: map[string]string{"try": "1"}})
		sent := 0
		f.s3Faults.OnRequest(func(r faultproxy.Request) {
			if r.Method == http.MethodPut {
				sent++
			}
		})
		got, what, err := r.upload(t, client.UploadRequest{Name: "second", Type: "text/plain", Resume: true})
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != id || sent != 1 || what.there != 10*mib || what.moved != 11*mib || len(what.anew) != 0 {
			t.Errorf("%q after %q, %d parts sent, %+v", got.ID, id, sent, what)
		}
		if got.Name != "first" || got.Type != "video/mp4" || got.Meta != `{"try":"1"}` || got.State() != records.Temporary {
			t.Errorf("%+v", got)
		}
		r.wantOnly(t, got, data)
	})

	t.Run("stored at the end", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		r.breakOff(t, client.UploadRequest{Name: "a"})
		got, _, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true, Store: true})
		if err != nil || got.State() != records.Stored {
			t.Errorf("%+v, %v", got, err)
		}
	})

	t.Run("of a file that has changed", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		id := r.breakOff(t, client.UploadRequest{Name: "a"})
		for _, changed := range [][]byte{randomBytes(12 * mib), []byte(content)} {
			if err := os.WriteFile(r.path, changed, 0o600); err != nil {
				t.Fatal(err)
			}
			got, what, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true})
			if err != nil || got.ID == id || len(what.anew) != 1 || !errors.Is(what.anew[0], transfer.ErrChanged) {
				t.Fatalf("%+v, %+v, %v", got, what, err)
			}
			r.wantOnly(t, got, changed)
			// For the next one, as small as it may be: what is half done is of another file.
			if _, err := f.table.Delete(t.Context(), got.ID, f.stamp(0)); err != nil {
				t.Fatal(err)
			}
			f.remove(t, got.ID)
			if err := os.WriteFile(r.path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			id = r.breakOff(t, client.UploadRequest{Name: "a"})
		}
	})

	t.Run("of a file that somebody deleted", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		id := r.breakOff(t, client.UploadRequest{Name: "a"})
		if _, err := f.table.Delete(t.Context(), id, f.stamp(0)); err != nil {
			t.Fatal(err)
		}
		got, what, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true})
		if err != nil || got.ID == id || len(what.anew) != 1 || !errors.Is(what.anew[0], client.ErrRecordGone) {
			t.Fatalf("%+v, %+v, %v", got, what, err)
		}
		r.wantOnly(t, got, data)
	})

	t.Run("that a sweep has removed", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		id := r.breakOff(t, client.UploadRequest{Name: "a"})
		f.clock.advance(2*time.Hour + time.Minute)
		if s, _ := f.sweep(t, client.ExpireOptions{}); s.Abandoned != 1 {
			t.Errorf("%+v", s)
		}
		got, what, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true})
		if err != nil || got.ID == id || len(what.anew) != 1 || !errors.Is(what.anew[0], client.ErrRecordGone) {
			t.Fatalf("%+v, %+v, %v", got, what, err)
		}
		r.wantOnly(t, got, data)
	})

	t.Run("of an upload that was aborted", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		id := r.breakOff(t, client.UploadRequest{Name: "first"})
		if err := f.Transfer.AbortUploads(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		got, what, err := r.upload(t, client.UploadRequest{Name: "second", Resume: true})
		if err != nil || got.ID != id || got.Name != "first" || len(what.anew) != 1 || !errors.Is(what.anew[0], transfer.ErrUploadGone) {
			t.Fatalf("%+v, %+v, %v", got, what, err)
		}
		r.wantOnly(t, got, data)
	})

	t.Run("of what is uploaded already", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		id := r.breakOff(t, client.UploadRequest{Name: "a"})
		entry := r.remembered(t)[0]
		if got, _, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true}); err != nil || got.ID != id {
			t.Fatalf("%+v, %v", got, err)
		}
		// As if the process had been killed before it could forget the upload.
		r.remember(t, entry)
		got, what, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true, Store: true})
		if err != nil || got.ID != id || got.State() != records.Stored || len(what.anew) != 0 || what.moved != 11*mib {
			t.Fatalf("%+v, %+v, %v", got, what, err)
		}
		r.wantOnly(t, got, data)

		// Or somebody had put another object there since.
		r.remember(t, entry)
		f.put(t, id, content)
		got, what, err = r.upload(t, client.UploadRequest{Name: "a", Resume: true})
		if err != nil || got.ID == id || len(what.anew) != 1 || !errors.Is(what.anew[0], client.ErrOtherUploaded) {
			t.Fatalf("%+v, %+v, %v", got, what, err)
		}
		f.wantState(t, id, records.Stored)
	})

	t.Run("fails again and again", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		id := r.breakOff(t, client.UploadRequest{Name: "a"})
		for _, test := range []struct {
			what string
			fail func()
		}{
			{"the look for the parts", func() { f.s3Faults.Inject(listParts, faultproxy.Always(), faultproxy.InternalError()) }},
			{"completing", func() { f.s3Faults.Inject(completeUpload, faultproxy.Always(), faultproxy.InternalError()) }},
			{"the record", func() { f.failRecords(faultproxy.Before, onUploaded) }},
			{"the look for the object", func() { f.s3Faults.Inject(headObject, faultproxy.Always(), faultproxy.InternalError()) }},
			{"the answer of the record", func() { f.failRecords(faultproxy.After, onUploaded) }},
		} {
			test.fail()
			_, _, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true})
			f.heal()
			if kept, ok := errors.AsType[*client.KeptError](err); !ok || kept.ID != id || len(r.remembered(t)) != 1 {
				t.Errorf("%s: %v", test.what, err)
			}
		}
		got, _, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true})
		if err != nil || got.ID != id {
			t.Fatalf("%+v, %v", got, err)
		}
		r.wantOnly(t, got, data)
	})
}

// remember writes an entry of a process that has ended.
func (r *resumable) remember(t *testing.T, e state.UploadEntry) {
	t.Helper()
	journal, err := r.uploads.Lock("here", r.path)
	if err == nil {
		err = errors.Join(journal.Save(e), journal.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Who has not asked for it has nothing kept, and the journal empty again.
func testJournalWithoutResume(t *testing.T, on servers) {
	data := randomBytes(11 * mib)
	for name, fail := range map[string]func(f *filestore){
		"create":     func(f *filestore) { f.failRecords(faultproxy.Before, onCreate) },
		"begin":      func(f *filestore) { f.s3Faults.Inject(createUpload, faultproxy.Always(), faultproxy.SlowDown()) },
		"a part":     func(f *filestore) { f.s3Faults.Inject(lastPart, faultproxy.Always(), faultproxy.SlowDown()) },
		"completing": func(f *filestore) { f.s3Faults.Inject(completeUpload, faultproxy.Always(), faultproxy.InternalError()) },
		"the record": func(f *filestore) { f.failRecords(faultproxy.Before, onUploaded) },
	} {
		t.Run(name, func(t *testing.T) {
			f := on.open(t)
			r := f.resumable(t, data)
			fail(f)
			_, _, err := r.upload(t, client.UploadRequest{Name: "a"})
			if kept, ok := errors.AsType[*client.KeptError](err); err == nil || ok {
				t.Errorf("error %v, kept %v", err, kept)
			}
			if all := r.remembered(t); len(all) != 0 {
				t.Errorf("remembered is %+v", all)
			}
			f.heal()
			f.wantNothing(t, true)
		})
	}
	t.Run("what could not be undone is remembered", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		f.s3Faults.Inject(lastPart, faultproxy.Always(), faultproxy.SlowDown())
		f.failRecords(faultproxy.Before, onDiscard)
		_, _, err := r.upload(t, client.UploadRequest{Name: "a"})
		undo, ok := errors.AsType[*client.UndoError](err)
		f.heal()
		if !ok || len(r.remembered(t)) != 1 {
			t.Fatalf("error %v, remembered is %+v", err, r.remembered(t))
		}
		got, _, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true})
		if err != nil || got.ID != undo.ID {
			t.Fatalf("%+v, %v", got, err)
		}
		r.wantOnly(t, got, data)
	})
	t.Run("a journal that can't be written", func(t *testing.T) {
		f := on.open(t)
		for _, resume := range []bool{true, false} {
			r := f.resumable(t, data)
			file, err := os.Open(r.path)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			journal, err := r.uploads.Lock("here", r.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(r.stateDir); err != nil {
				t.Fatal(err)
			}
			_, err = f.Upload(t.Context(), client.UploadRequest{Name: "a", File: file, Journal: journal, Resume: resume})
			if (err != nil) != resume {
				t.Errorf("with Resume %t: %v", resume, err)
			}
			if resume {
				f.wantNothing(t, false)
			}
		}
		f.wantConsistent(t)
	})
	t.Run("a file that changes is of no use", func(t *testing.T) {
		f := on.open(t)
		r := f.resumable(t, data)
		f.s3Faults.OnRequest(func(req faultproxy.Request) {
			if slices.Contains(req.Query, "partNumber") {
				if err := os.Chtimes(r.path, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
					t.Error(err)
				}
			}
		})
		_, _, err := r.upload(t, client.UploadRequest{Name: "a", Resume: true})
		wantReason(t, err, client.Conflict)
		if kept, ok := errors.AsType[*client.KeptError](err); ok || len(r.remembered(t)) != 0 {
			t.Errorf("kept %v, remembered is %+v", kept, r.remembered(t))
		}
		f.wantNothing(t, false)
	})
	if client.ReasonOf(state.ErrLocked) != client.Conflict {
		t.Error("two uploads of one file at once are no conflict")
	}
}

func testUploads(t *testing.T, on servers) {
	f := on.open(t)
	list := func() map[string]client.HalfDone {
		t.Helper()
		found := make(map[string]client.HalfDone)
		for u, err := range f.Uploads(t.Context(), f.ids) {
			if err != nil {
				t.Fatal(err)
			}
			if _, twice := found[u.ID]; twice {
				t.Errorf("%q is listed twice", u.ID)
			}
			found[u.ID] = u
		}
		return found
	}
	if found := list(); len(found) != 0 {
		t.Errorf("an empty filestore: %+v", found)
	}
	waiting, done, stored, alone := f.placeholder(t, time.Hour), f.placeholder(t, time.Hour), f.stored(t, "a.txt"), client.NewID()
	f.used(alone)
	for _, id := range []string{waiting, stored, alone, "not/one-of-ours"} {
		f.begin(t, id)
	}
	found := list()
	if len(found) != 3 {
		t.Errorf("%+v", found)
	}
	for id, name := range map[string]string{waiting: "raw.txt", stored: "a.txt", alone: ""} {
		u := found[id]
		begun := time.Duration(0)
		if id == waiting {
			begun = time.Hour
		}
		if u.Record.Name != name || u.Size != int64(len(content)) || u.UploadID == "" ||
			(time.Since(u.Started)-begun).Abs() > time.Minute || time.Since(u.Latest).Abs() > time.Minute {
			t.Errorf("%+v", u)
		}
	}

	// A dry run does nothing.
	if r, err := f.AbortUpload(t.Context(), waiting, false, true); err != nil || r.Name != "raw.txt" || len(list()) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, id := range []string{waiting, stored, alone} {
		if _, err := f.AbortUpload(t.Context(), id, false, false); err != nil {
			t.Error(err)
		}
	}
	if _, ok := f.records(t)[waiting]; ok || len(list()) != 0 {
		t.Errorf("left is %+v", list())
	}
	f.wantState(t, stored, records.Stored)
	// A placeholder may wait for somebody with a URL; only who made it knows better.
	for _, id := range []string{waiting, stored, done, "abcdefghijklmnop", "bad"} {
		_, err := f.AbortUpload(t.Context(), id, false, false)
		wantReason(t, err, client.NotFound)
	}
	f.wantState(t, done, records.Placeholder)
	f.put(t, done, content)
	_, err := f.AbortUpload(t.Context(), done, true, false)
	wantReason(t, err, client.NotFound) // it is whole, and a sweep will say so
	f.remove(t, done)
	if _, err := f.AbortUpload(t.Context(), done, true, false); err != nil {
		t.Error(err)
	}
	if _, ok := f.records(t)[done]; ok {
		t.Error("the placeholder is left")
	}
	f.wantConsistent(t)
}
