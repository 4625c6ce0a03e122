package client_test

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// The ids of docs/contract.md, "Idempotent uploads", as another implementation has computed them.
func TestDerivedID(t *testing.T) {
	for _, test := range []struct {
		key        string
		generation int
		want       string
	}{
		{"a", 0, "navtpwko2jy8sggu"},
		{"a", 1, "wnj12474y8he03u4"},
		{"b", 0, "8mmak5onjmn27h0t"},
		{"shop-4f2a91c-dist/shop.tar.gz", 0, "mp35znk9n85srz0j"},
		{"shop-4f2a91c-dist/shop.tar.gz", 1, "6sav68yaete1aibz"},
		{"ü", 0, "l8un8ev88zi2coqi"},
		{strings.Repeat("x", 1024), 999, "tu5t6m0x67hyucls"},
	} {
		got := client.DerivedID(test.key, test.generation)
		if got != test.want || !client.ValidID(got) {
			t.Errorf("%.40q, generation %d: %q, want %q", test.key, test.generation, got, test.want)
		}
	}
}

// No character is likelier than another, at any place. The sample is always the same.
func TestDerivedIDsAreUniform(t *testing.T) {
	if testserver.Race {
		t.Skip("180,000 hashes by one goroutine")
	}
	const ids = 180_000
	var counts [16][256]int
	seen := make(map[string]bool, ids)
	for i := range ids {
		id := client.DerivedID("key", i)
		seen[id] = true
		for place := range len(id) {
			counts[place][id[place]]++
		}
	}
	if len(seen) != ids {
		t.Errorf("%d different ids of %d", len(seen), ids)
	}
	const expected = ids / 36.0
	for place := range counts {
		chiSquared := 0.0
		for _, c := range "abcdefghijklmnopqrstuvwxyz0123456789" {
			off := float64(counts[place][c]) - expected
			chiSquared += off * off / expected
		}
		// 35 degrees of freedom: one sample in a million exceeds 91. Bytes taken modulo 36 give about 390.
		if chiSquared > 91 {
			t.Errorf("place %d: chi squared is %.0f", place, chiSquared)
		}
	}
}

const key = "shop-4f2a91c-dist/shop.tar.gz"

// once uploads a file under key.
func (f *filestore) once(ctx context.Context, file transfer.File, change ...func(*client.UploadRequest)) (client.Idempotent, error) {
	req := client.UploadRequest{Name: "shop.tar.gz", Type: "application/gzip", File: file}
	for _, c := range change {
		c(&req)
	}
	return f.UploadIdempotent(ctx, req, key, false)
}

// renew is once with the wish for a new file, should the old one be gone.
func (f *filestore) renew(ctx context.Context, file transfer.File) (client.Idempotent, error) {
	return f.UploadIdempotent(ctx, client.UploadRequest{Name: "shop.tar.gz", Type: "application/gzip", File: file}, key, true)
}

func stored(req *client.UploadRequest) { req.Store = true }

// generation uses an id of key, so that the test looks for what is left of it.
func (f *filestore) generation(n int) string {
	id := client.DerivedID(key, n)
	f.used(id)
	return id
}

// sends returns how many requests with content reach S3 from now on.
func (f *filestore) sends() *atomic.Int64 {
	var n atomic.Int64
	f.s3Faults.OnRequest(func(r faultproxy.Request) {
		if r.Method == http.MethodPut || r.Method == http.MethodPost {
			n.Add(1)
		}
	})
	return &n
}

// during has do called with every request to S3, until its end is called.
func (f *filestore) during(do func(faultproxy.Request)) (end func()) {
	var ended atomic.Bool
	f.s3Faults.OnRequest(func(r faultproxy.Request) {
		if !ended.Load() {
			do(r)
		}
	})
	return func() { ended.Store(true) }
}

func testIdempotent(t *testing.T, on servers) {
	for _, data := range [][]byte{nil, []byte(content), randomBytes(11 * mib)} {
		f := on.open(t)
		id := f.generation(0)
		first, err := f.once(t.Context(), tempFile(t, data))
		if err != nil {
			t.Fatal(err)
		}
		want := records.Record{
			ID: id, Name: "shop.tar.gz", Type: "application/gzip", Size: int64(len(data)),
			CreatedAt: f.stamp(0), UploadedAt: f.stamp(0),
		}
		sameRecord(t, first.Record, want)
		sameRecord(t, f.record(t, id), want)
		if text, mime, _ := f.object(t, id); text != string(data) || mime != "application/gzip" || first.Existing || first.Differs != nil {
			t.Errorf("%d bytes, type %q: %+v", len(text), mime, first)
		}

		// Once more, from another machine and later: nothing is sent, and nothing changes.
		f.clock.advance(time.Minute)
		sends := f.sends()
		again, err := f.once(t.Context(), tempFile(t, data))
		if err != nil || !again.Existing || again.Differs != nil {
			t.Errorf("%+v, %v", again, err)
		}
		sameRecord(t, again.Record, want)
		sameRecord(t, f.record(t, id), want)

		// Asked to, a rerun stores the file, and only once.
		want.StoredAt = f.stamp(0)
		for range 2 {
			again, err = f.once(t.Context(), tempFile(t, data), stored)
			if err != nil || !again.Existing {
				t.Errorf("%+v, %v", again, err)
			}
			sameRecord(t, again.Record, want)
			f.clock.advance(time.Minute)
		}
		again, err = f.once(t.Context(), tempFile(t, data))
		if err != nil || again.State() != records.Stored {
			t.Errorf("%+v, %v", again, err)
		}
		// So does the renewal of a file that is alive: it is none.
		again, err = f.renew(t.Context(), tempFile(t, data))
		if err != nil || !again.Existing {
			t.Errorf("%+v, %v", again, err)
		}
		sameRecord(t, again.Record, want)
		sameRecord(t, f.record(t, id), want)
		if n := sends.Load(); n != 0 {
			t.Errorf("reruns have sent %d requests with content", n)
		}
		if n := len(f.records(t)); n != 1 {
			t.Errorf("%d records", n)
		}
		f.wantConsistent(t)
	}

	t.Run("stored on load", func(t *testing.T) {
		f := on.open(t)
		id := f.generation(0)
		if _, err := f.once(t.Context(), tempFile(t, []byte(content))); err != nil {
			t.Fatal(err)
		}
		f.Settings.StoreOnLoad = true
		if r, err := f.once(t.Context(), tempFile(t, []byte(content))); err != nil || r.State() != records.Stored {
			t.Errorf("%+v, %v", r, err)
		}
		f.wantState(t, id, records.Stored)
	})

	t.Run("another name, type and metadata", func(t *testing.T) {
		f := on.open(t)
		id := f.generation(0)
		other := func(req *client.UploadRequest) {
			req.Name, req.Type, req.Meta = "b.bin", "application/x-thing", map[string]string{"commit": "4f2a91c", "branch": "main"}
		}
		first, err := f.once(t.Context(), tempFile(t, []byte(content)), other)
		if err != nil || first.Differs != nil {
			t.Fatalf("%+v, %v", first, err)
		}
		if r, err := f.once(t.Context(), tempFile(t, []byte(content)), other); err != nil || r.Differs != nil {
			t.Errorf("with the same: %+v, %v", r, err)
		}
		r, err := f.once(t.Context(), tempFile(t, []byte(content)))
		if err != nil || !slices.Equal(r.Differs, []string{"name", "type", "meta"}) {
			t.Errorf("with others: %+v, %v", r, err)
		}
		sameRecord(t, f.record(t, id), first.Record)
	})

	t.Run("what is no key, and no file", func(t *testing.T) {
		f := on.open(t)
		for _, key := range []string{"", strings.Repeat("x", client.MaxIdempotencyKey+1)} {
			_, err := f.UploadIdempotent(t.Context(), client.UploadRequest{Name: "a", File: tempFile(t, nil)}, key, false)
			wantReason(t, err, client.Usage)
		}
		_, err := f.UploadIdempotent(t.Context(), client.UploadRequest{Name: "a", Stream: strings.NewReader(content)}, key, false)
		wantReason(t, err, client.Usage)
		f.wantNothing(t, false)
	})
}

// The same key with other content is a conflict in whatever state the file is, and changes nothing.
func testIdempotentOtherContent(t *testing.T, on servers) {
	upper := strings.ToUpper(content)
	for _, test := range []struct {
		name  string
		begin func(f *filestore)
	}{
		{"temporary", func(f *filestore) {
			if _, err := f.once(t.Context(), tempFile(t, []byte(content))); err != nil {
				t.Fatal(err)
			}
		}},
		{"stored", func(f *filestore) {
			if _, err := f.once(t.Context(), tempFile(t, []byte(content)), stored); err != nil {
				t.Fatal(err)
			}
		}},
		{"a placeholder", func(f *filestore) {
			f.raw(t, records.Record{ID: f.generation(0), Size: -1, CreatedAt: f.stamp(0), Fingerprint: f.fingerprint(t, content)})
		}},
		{"of unknown content", func(f *filestore) {
			f.raw(t, records.Record{ID: f.generation(0), Size: -1, CreatedAt: f.stamp(0)})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := on.open(t)
			test.begin(f)
			id := f.generation(0)
			before := f.record(t, id)
			sends := f.sends()
			for _, text := range []string{upper, content + "\n", ""} {
				_, err := f.once(t.Context(), tempFile(t, []byte(text)), stored)
				wantReason(t, err, client.Conflict)
				if err != nil && !strings.Contains(err.Error(), id) {
					t.Errorf("%v does not name %q", err, id)
				}
				_, err = f.renew(t.Context(), tempFile(t, []byte(text)))
				wantReason(t, err, client.Conflict)
			}
			sameRecord(t, f.record(t, id), before)
			if sends.Load() != 0 || len(f.records(t)) != 1 {
				t.Errorf("%d requests, %d records", sends.Load(), len(f.records(t)))
			}
			f.wantState(t, id, before.State())
		})
	}
}

func (f *filestore) fingerprint(t testing.TB, text string) string {
	t.Helper()
	content, err := f.Transfer.ContentOf(t.Context(), tempFile(t, []byte(text)))
	if err != nil {
		t.Fatal(err)
	}
	return content.String()
}

// A run that failed, was interrupted or was killed leaves a placeholder. The next one takes it up.
func testIdempotentTakesUp(t *testing.T, on servers) {
	large := randomBytes(11 * mib)
	for _, test := range []struct {
		name   string
		data   []byte
		breaks func(f *filestore) // what has the first run fail
		object bool               // that there may be an object then
	}{
		{name: "create is written and the answer lost", data: []byte(content), breaks: func(f *filestore) {
			f.failRecords(faultproxy.After, onCreate)
		}},
		{name: "the object is refused", data: []byte(content), breaks: func(f *filestore) {
			f.s3Faults.Inject(putObject, faultproxy.Always(), faultproxy.SlowDown())
		}},
		{name: "a part is refused", data: large, breaks: func(f *filestore) {
			f.s3Faults.Inject(uploadPart, faultproxy.Always(), faultproxy.SlowDown())
		}},
		{name: "completing fails", data: large, breaks: func(f *filestore) {
			f.s3Faults.Inject(completeUpload, faultproxy.Always(), faultproxy.ErrorIn200("InternalError"))
		}},
		{name: "the object is written, and nobody hears of it", data: []byte(content), object: true, breaks: func(f *filestore) {
			f.useS3(f.losingAnswers(putObject))
			f.s3Faults.Inject(headObject, faultproxy.Always(), faultproxy.InternalError())
		}},
		{name: "uploaded is not written", data: []byte(content), object: true, breaks: func(f *filestore) {
			f.failRecords(faultproxy.Before, onUploaded)
		}},
		{name: "uploaded is written and the answer lost", data: []byte(content), object: true, breaks: func(f *filestore) {
			f.failRecords(faultproxy.After, onUploaded)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := on.open(t)
			api := f.S3
			id := f.generation(0)
			test.breaks(f)
			if r, err := f.once(t.Context(), tempFile(t, test.data)); err == nil {
				t.Fatalf("no error, but %+v", r)
			}
			f.heal()
			f.useS3(api)
			if state := f.record(t, id).State(); state == records.Deleted {
				t.Errorf("a %s file is left", state)
			}
			if objects := f.objects(t); !test.object && len(objects) > 0 {
				t.Errorf("objects are left: %v", objects)
			}
			f.clock.advance(time.Minute)
			r, err := f.once(t.Context(), tempFile(t, test.data))
			if err != nil || r.ID != id {
				t.Errorf("%+v, %v", r, err)
			}
			f.wantState(t, id, records.Temporary)
			if text, _, _ := f.object(t, id); text != string(test.data) {
				t.Errorf("the object has %d bytes", len(text))
			}
			f.wantConsistent(t)
		})
	}

	// Killed at any request: what is left then is taken up.
	t.Run("broken off at any request", func(t *testing.T) {
		for n, reached := 1, true; reached; n++ {
			f := on.open(t)
			id := f.generation(0)
			ctx, cancel := context.WithCancel(t.Context())
			var arrived atomic.Bool
			end := f.during(func(r faultproxy.Request) {
				if r.N == n {
					arrived.Store(true)
					cancel()
				}
			})
			_, err := f.once(ctx, tempFile(t, large))
			reached = arrived.Load()
			cancel()
			if reached && err != nil {
				wantReason(t, err, client.Interrupted)
			}
			if !reached && err != nil {
				t.Fatal(err)
			}
			end()
			r, err := f.once(t.Context(), tempFile(t, large))
			if err != nil || r.ID != id {
				t.Fatalf("broken off at request %d, then %+v, %v", n, r, err)
			}
			f.wantState(t, id, records.Temporary)
			f.wantConsistent(t)
		}
	})
}

// Two runs at the same time both succeed with the same id, also where both send the object at once.
func testIdempotentTogether(t *testing.T, on servers) {
	for _, data := range [][]byte{[]byte(content), randomBytes(11 * mib)} {
		f := on.open(t)
		id := f.generation(0)
		// No object is whole before both are on their way: each waits for the other in its last
		// request with content.
		both := make(chan struct{})
		var waiting atomic.Int64
		f.s3Faults.OnRequest(func(r faultproxy.Request) {
			whole := r.Method == http.MethodPut && !slices.Contains(r.Query, "uploadId") ||
				r.Method == http.MethodPost && slices.Contains(r.Query, "uploadId")
			if !whole {
				return
			}
			if waiting.Add(1) == 2 {
				close(both)
			}
			select {
			case <-both:
			case <-time.After(time.Minute):
				t.Error("the other one does not come")
			}
		})
		var results [2]client.Idempotent
		var errs [2]error
		var wg sync.WaitGroup
		for i := range results {
			source := tempFile(t, data)
			wg.Go(func() { results[i], errs[i] = f.once(t.Context(), source) })
		}
		wg.Wait()
		for i, r := range results {
			if errs[i] != nil || r.ID != id || r.Existing {
				t.Errorf("%+v, %v", r, errs[i])
			}
		}
		f.wantState(t, id, records.Temporary)
		if text, _, _ := f.object(t, id); text != string(data) {
			t.Errorf("the object has %d bytes", len(text))
		}
		if n := len(f.records(t)); n != 1 {
			t.Errorf("%d records", n)
		}
		f.wantConsistent(t)
	}

	// The one that ends last neither changes the time that the other was told, nor forgets to store.
	t.Run("one after the other", func(t *testing.T) {
		for _, store := range []bool{false, true} {
			f := on.open(t)
			var first client.Idempotent
			other := sync.OnceFunc(func() {
				var err error
				if first, err = f.once(context.WithoutCancel(t.Context()), tempFile(t, []byte(content))); err != nil {
					t.Error(err)
				}
				f.clock.advance(time.Minute)
			})
			var begun atomic.Bool
			f.s3Faults.OnRequest(func(r faultproxy.Request) {
				if r.Method == http.MethodPut && begun.CompareAndSwap(false, true) {
					other()
				}
			})
			last, err := f.once(t.Context(), tempFile(t, []byte(content)), func(req *client.UploadRequest) {
				req.Type, req.Store = "text/x-other", store
			})
			if err != nil || last.ID != first.ID || last.UploadedAt != first.UploadedAt || last.StoredAt.IsSet() != store {
				t.Errorf("first %+v, then %+v, %v", first, last, err)
			}
			if _, mime, _ := f.object(t, last.ID); f.record(t, last.ID).Type != mime {
				t.Errorf("%+v has an object of the type %q", f.record(t, last.ID), mime)
			}
			f.wantConsistent(t)
		}
	})

	// Many at the same moment, without a barrier, and with the wish for a new file after the end of
	// the old one: there is one file.
	t.Run("many", func(t *testing.T) {
		f := on.open(t)
		for generation := range 5 {
			id := f.generation(generation)
			results, errs := make([]client.Idempotent, 8), make([]error, 8)
			start := make(chan struct{})
			var wg sync.WaitGroup
			for i := range results {
				source := tempFile(t, []byte(content))
				wg.Go(func() { <-start; results[i], errs[i] = f.renew(t.Context(), source) })
			}
			close(start)
			wg.Wait()
			for i, r := range results {
				if errs[i] != nil || r.ID != id {
					t.Errorf("generation %d: %+v, %v", generation, r, errs[i])
				}
			}
			f.wantState(t, id, records.Temporary)
			if _, err := f.table.Delete(t.Context(), id, f.stamp(0)); err != nil {
				t.Fatal(err)
			}
			f.remove(t, id)
		}
		if n := len(f.records(t)); n != 5 {
			t.Errorf("%d records", n)
		}
		f.wantConsistent(t)
	})
}

// What has expired or was deleted needs to be renewed; from then on the key stands for the new file.
func testIdempotentRenew(t *testing.T, on servers) {
	f := on.open(t)
	first := f.generation(0)
	if _, err := f.once(t.Context(), tempFile(t, []byte(content))); err != nil {
		t.Fatal(err)
	}
	f.clock.advance(time.Hour + time.Second)
	if s, err := f.Expire(t.Context(), client.ExpireOptions{}); err != nil || s.Expired != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	wantGone := func(id string, reason client.Reason) {
		t.Helper()
		n := len(f.records(t))
		// Also with other content: what the key stood for is gone.
		for _, text := range []string{content, "other"} {
			_, err := f.once(t.Context(), tempFile(t, []byte(text)))
			wantReason(t, err, reason)
			if renew, ok := errors.AsType[*client.RenewError](err); !ok || renew.Gone.ID != id || !strings.Contains(err.Error(), id) {
				t.Errorf("error %v", err)
			}
		}
		if len(f.records(t)) != n {
			t.Error("there is a new record")
		}
	}
	wantGone(first, client.Expired)

	second := f.generation(1)
	r, err := f.renew(t.Context(), tempFile(t, []byte("other")))
	if err != nil || r.ID != second || r.Existing {
		t.Errorf("%+v, %v", r, err)
	}
	f.wantState(t, second, records.Temporary)
	f.wantState(t, first, records.Deleted)
	r, err = f.once(t.Context(), tempFile(t, []byte("other")), stored)
	if err != nil || r.ID != second || !r.Existing {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = f.once(t.Context(), tempFile(t, []byte(content)))
	wantReason(t, err, client.Conflict)

	for r := range f.Delete(t.Context(), []string{second}) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	wantGone(second, client.Deleted)
	// Renewed again and again: more generations than are read at once.
	last := second
	for generation := 2; generation < 7; generation++ {
		r, err := f.renew(t.Context(), tempFile(t, []byte(content)))
		if err != nil || r.ID != f.generation(generation) {
			t.Fatalf("generation %d: %+v, %v", generation, r, err)
		}
		last = r.ID
		for d := range f.Delete(t.Context(), []string{r.ID}) {
			if d.Err != nil {
				t.Fatal(d.Err)
			}
		}
	}
	wantGone(last, client.Deleted)
	f.wantConsistent(t)

	t.Run("for ever", func(t *testing.T) {
		f := on.open(t)
		now := f.stamp(0)
		var all []records.Record
		for generation := range 1100 {
			all = append(all, records.Record{ID: client.DerivedID(key, generation), UploadedAt: now, DeletedAt: now, Size: 1})
		}
		f.fill(t, all)
		_, err := f.renew(t.Context(), tempFile(t, []byte(content)))
		wantReason(t, err, client.Failed)
		if err == nil || !strings.Contains(err.Error(), "more than 1000 times") {
			t.Errorf("error %v", err)
		}
	})

	// A placeholder that a sweep has claimed was never a file.
	t.Run("never uploaded", func(t *testing.T) {
		f := on.open(t)
		f.raw(t, records.Record{ID: f.generation(0), Size: -1, CreatedAt: f.stamp(0), DeletedAt: f.stamp(0), Fingerprint: f.fingerprint(t, "other")})
		r, err := f.once(t.Context(), tempFile(t, []byte(content)))
		if err != nil || r.ID != f.generation(1) {
			t.Fatalf("%+v, %v", r, err)
		}
		// Nor does it hide that there was a file before it.
		for d := range f.Delete(t.Context(), []string{r.ID}) {
			if d.Err != nil {
				t.Fatal(d.Err)
			}
		}
		f.raw(t, records.Record{ID: f.generation(2), Size: -1, CreatedAt: f.stamp(0), DeletedAt: f.stamp(0)})
		_, err = f.once(t.Context(), tempFile(t, []byte(content)))
		if renew, ok := errors.AsType[*client.RenewError](err); !ok || renew.Gone.ID != r.ID {
			t.Errorf("error %v", err)
		}
		if r, err := f.renew(t.Context(), tempFile(t, []byte(content))); err != nil || r.ID != f.generation(3) {
			t.Errorf("%+v, %v", r, err)
		}
	})

	t.Run("deleted while it is uploaded", func(t *testing.T) {
		f := on.open(t)
		id := f.generation(0)
		end := f.during(func(r faultproxy.Request) {
			if r.Method == http.MethodPut {
				if _, err := f.table.Delete(context.WithoutCancel(t.Context()), id, f.stamp(0)); err != nil {
					t.Error(err)
				}
			}
		})
		_, err := f.once(t.Context(), tempFile(t, []byte(content)))
		wantReason(t, err, client.Deleted)
		f.wantState(t, id, records.Deleted)
		end()
		if r, err := f.once(t.Context(), tempFile(t, []byte(content))); err != nil || r.ID != f.generation(1) {
			t.Errorf("%+v, %v", r, err)
		}
		f.wantConsistent(t)
	})

	// A sweep claims the file after a rerun has read that it is there.
	t.Run("expired while it is looked at", func(t *testing.T) {
		f := on.open(t)
		id := f.generation(0)
		if _, err := f.once(t.Context(), tempFile(t, []byte(content))); err != nil {
			t.Fatal(err)
		}
		for _, deletesObject := range []bool{true, false} {
			end := f.during(func(faultproxy.Request) {
				if _, err := f.table.Expire(context.WithoutCancel(t.Context()), id, f.stamp(-2*time.Hour), f.stamp(-time.Hour)); err != nil {
					if _, lost := errors.AsType[*records.TransitionError](err); !lost {
						t.Error(err)
					}
				}
				if deletesObject {
					if _, err := f.api.DeleteObject(context.WithoutCancel(t.Context()), &s3.DeleteObjectInput{Bucket: &f.Bucket, Key: &id}); err != nil {
						t.Error(err)
					}
				}
			})
			_, err := f.once(t.Context(), tempFile(t, []byte(content)), stored)
			wantReason(t, err, client.Expired)
			end()
			r, err := f.renew(t.Context(), tempFile(t, []byte(content)))
			if err != nil {
				t.Fatal(err)
			}
			id = r.ID
		}
	})
}

// A rerun does not say that a file is there which is not, or not whole.
func testIdempotentDamaged(t *testing.T, on servers) {
	for _, test := range []struct {
		name   string
		damage func(f *filestore, id string)
		reason client.Reason
		want   error
	}{
		{"the object is missing", func(f *filestore, id string) { f.remove(t, id) }, client.NotFound, client.ErrObjectMissing},
		{"the object has another size", func(f *filestore, id string) { f.put(t, id, content+content) }, client.Failed, transfer.ErrSize},
		{"the object has another checksum", func(f *filestore, id string) {
			if _, err := f.api.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: &f.Bucket, Key: &id, Body: strings.NewReader(strings.ToUpper(content)),
				ContentType: aws.String("text/plain"), ChecksumAlgorithm: "CRC64NVME",
			}); err != nil {
				t.Fatal(err)
			}
		}, client.Failed, transfer.ErrChecksum},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := on.open(t)
			id := f.generation(0)
			if _, err := f.once(t.Context(), tempFile(t, []byte(content))); err != nil {
				t.Fatal(err)
			}
			test.damage(f, id)
			before := f.record(t, id)
			_, err := f.once(t.Context(), tempFile(t, []byte(content)), stored)
			wantReason(t, err, test.reason)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), id) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			sameRecord(t, f.record(t, id), before)
		})
	}
}

// shifting is a file that gives another content at its second reading, with nothing to tell it by.
type shifting struct {
	*os.File
	other *os.File
	reads *atomic.Int64
	until int64
}

func (s shifting) ReadAt(p []byte, off int64) (int, error) {
	if s.reads.Add(1) > s.until {
		return s.other.ReadAt(p, off)
	}
	return s.File.ReadAt(p, off)
}

// A file that is another one when it is sent than when its checksum was computed does not get in.
func testIdempotentChangedFile(t *testing.T, on servers) {
	for _, n := range []int{1000, 2 * mib, 11 * mib} {
		f := on.open(t)
		id := f.generation(0)
		data := randomBytes(n)
		other := slices.Clone(data)
		other[n-1] ^= 1
		var reads atomic.Int64
		source := shifting{tempFile(t, data), tempFile(t, other), &reads, int64(max(1, n/(256<<10)))}
		_, err := f.once(t.Context(), source)
		if !errors.Is(err, transfer.ErrChanged) {
			t.Errorf("%d bytes: error %v", n, err)
		}
		wantReason(t, err, client.Conflict)
		f.wantState(t, id, records.Placeholder)
		// What the record was made for still gets in.
		r, err := f.once(t.Context(), tempFile(t, data))
		if err != nil || r.ID != id || r.Existing {
			t.Errorf("%d bytes: %+v, %v", n, r, err)
		}
		f.wantConsistent(t)
	}

	// One that changes after it was sent: what is in the bucket is what the record names. It stays,
	// since it may be that of another run.
	t.Run("while it is sent", func(t *testing.T) {
		f := on.open(t)
		id := f.generation(0)
		source := tempFile(t, randomBytes(2*mib))
		f.s3Faults.OnRequest(func(r faultproxy.Request) {
			if r.Method == http.MethodPut {
				if err := os.Chtimes(source.Name(), time.Time{}, time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
			}
		})
		_, err := f.once(t.Context(), source)
		if !errors.Is(err, transfer.ErrChanged) {
			t.Errorf("error %v", err)
		}
		if state := f.record(t, id).State(); state != records.Placeholder {
			t.Errorf("it is %s", state)
		}
		if text, _, _ := f.object(t, id); text != string(randomBytes(2*mib)) {
			t.Errorf("the object has %d bytes", len(text))
		}
	})

	// Where the server compares no checksums, nobody knows what is there: it goes.
	t.Run("while it is sent to a server that compares nothing", func(t *testing.T) {
		f := on.open(t)
		id := f.generation(0)
		f.useS3(withoutChecksums(f.S3))
		source := changedBetween{File: tempFile(t, randomBytes(2*mib)), at: new(atomic.Bool)}
		f.s3Faults.OnRequest(func(r faultproxy.Request) {
			if r.Method == http.MethodPut {
				source.at.Store(true)
			}
		})
		_, err := f.once(t.Context(), source)
		if !errors.Is(err, transfer.ErrChanged) {
			t.Errorf("error %v", err)
		}
		f.wantState(t, id, records.Placeholder)
	})
}

// changedBetween is a file whose time is another one from a moment on.
type changedBetween struct {
	*os.File
	at *atomic.Bool
}

func (c changedBetween) Stat() (fs.FileInfo, error) {
	info, err := c.File.Stat()
	return changedInfo{info, c.at.Load()}, err
}

type changedInfo struct {
	fs.FileInfo
	changed bool
}

func (i changedInfo) ModTime() time.Time {
	if i.changed {
		return i.FileInfo.ModTime().Add(time.Second)
	}
	return i.FileInfo.ModTime()
}

// withoutChecksums is S3 as a server has it that passes over everything about checksums.
func withoutChecksums(api *s3.Client) *s3.Client {
	through := api.Options().HTTPClient
	passOver := middleware.FinalizeMiddlewareFunc("PassOverChecksums", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		if r, ok := in.Request.(*smithyhttp.Request); ok {
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Amz-Checksum") || strings.HasPrefix(name, "X-Amz-Sdk-Checksum") {
					r.Header.Del(name)
				}
			}
		}
		return next.HandleFinalize(ctx, in)
	})
	return s3.New(api.Options(), func(o *s3.Options) {
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(passOver, "Signing", middleware.Before)
		})
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			resp, err := through.Do(r)
			if err == nil {
				for name := range resp.Header {
					if strings.HasPrefix(name, "X-Amz-Checksum") {
						resp.Header.Del(name)
					}
				}
			}
			return resp, err
		})
	})
}
