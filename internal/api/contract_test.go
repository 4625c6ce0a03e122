package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/api"
	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

// Every row of docs/contract.md, "The HTTP API", on every store.
func TestContract(t *testing.T) {
	onEveryStore(t, func(t *testing.T, f *fixture) {
		for _, test := range []struct {
			name string
			run  func(*testing.T, *fixture)
		}{
			{"the life of a file", testLife},
			{"which records info shows", testInfo},
			{"store", testStore},
			{"store on load", testStoreOnLoad},
			{"delete", testDelete},
			{"how many ids", testHowMany},
			{"names and metadata", testNames},
			{"taking an upload back", testRevert},
		} {
			t.Run(test.name, func(t *testing.T) {
				g := *f
				g.t = t
				test.run(t, &g)
			})
		}
	})
}

const content = "What every test file says.\n"

func testLife(t *testing.T, f *fixture) {
	u := f.newFile()
	f.keyed("POST", "/files?nonstored=yes", array(u.ID)).want(t, 200, `[{"id": "`+u.ID+`", "name": "a.txt"}]`)
	f.keyed("PUT", "/files", array(u.ID)).wantMessage(t, 409, "not uploaded yet")

	if put := do(t, "PUT", u.URL, content); put.status != 200 {
		t.Fatalf("upload: %d %s", put.status, put.body)
	}
	// No notification comes here: whoever asks finds it all the same.
	shown := f.info(t, "/files?nonstored=yes", u.ID)
	if r := f.record(u.ID); r.State() != records.Temporary || shown["uploaded_at"] != string(r.UploadedAt) ||
		shown["size"] != float64(len(content)) || shown["type"] != "text/plain" || shown["url"] != nil || shown["stored_at"] != nil {
		t.Errorf("%v of %+v", shown, r)
	}
	f.keyed("POST", "/files", array(u.ID)).want(t, 200, `[]`)

	f.keyed("PUT", "/files", array(u.ID)).want(t, 200, array(u.ID))
	shown = f.info(t, "/files", u.ID)
	url, _ := shown["url"].(string)
	got := do(t, "GET", url, "")
	if got.body != content || got.header.Get("Content-Disposition") != `attachment; filename="a.txt"` {
		t.Errorf("%d %q, %v", got.status, got.body, got.header)
	}
	if stored := shown["stored_at"]; stored != string(f.record(u.ID).StoredAt) || len(stored.(string)) != len("2006-01-02T15:04:05") {
		t.Errorf("stored at %v", stored)
	}

	f.keyed("DELETE", "/files/", array(u.ID)).want(t, 200, array(u.ID))
	if got := do(t, "GET", url, ""); got.status != 404 {
		t.Errorf("a deleted file: %d", got.status)
	}
	f.keyed("POST", "/files", array(u.ID)).want(t, 200, `[]`)
	f.keyed("PUT", "/files", array(u.ID)).wantMessage(t, 410, "deleted")
	if shown = f.info(t, "/files?deleted=yes", u.ID); shown["deleted_at"] != string(f.record(u.ID).DeletedAt) || shown["url"] != nil {
		t.Errorf("%v", shown)
	}
}

// info is POST /files of one file, which must be shown.
func (f *fixture) info(t *testing.T, target, id string) map[string]any {
	t.Helper()
	a := f.keyed("POST", target, array(id))
	var files []map[string]any
	if err := json.Unmarshal([]byte(a.body), &files); err != nil || a.status != 200 || len(files) != 1 {
		t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return files[0]
}

func testInfo(t *testing.T, f *fixture) {
	sixth, now := f.stamp(5*time.Hour), f.stamp(0)
	for _, test := range []struct {
		name   string
		record records.Record
		// shown to who asks for: nothing more, deleted ones, non-stored ones, both
		shown [4]bool
		want  string // all but the id
		url   bool
	}{
		{"a placeholder", records.Record{CreatedAt: sixth, Size: -1}, [4]bool{false, false, true, true}, `{"name": "a.txt"}`, false},
		{
			"a temporary file", records.Record{UploadedAt: sixth, Size: 0}, [4]bool{false, false, true, true},
			`{"name": "a.txt", "type": "text/plain", "size": 0, "uploaded_at": "` + string(sixth) + `"}`, false,
		},
		{
			"a stored file", records.Record{UploadedAt: sixth, StoredAt: now, Size: 7, Meta: `{"a":{"b":[1]}}`}, [4]bool{true, true, true, true},
			`{"name": "a.txt", "type": "text/plain", "size": 7, "uploaded_at": "` + string(sixth) + `", "stored_at": "` + string(now) + `", "meta": {"a": {"b": [1]}}}`, true,
		},
		{
			"an expired file", records.Record{UploadedAt: sixth, DeletedAt: now, Size: 1}, [4]bool{false, true, true, true},
			`{"name": "a.txt", "type": "text/plain", "size": 1, "uploaded_at": "` + string(sixth) + `", "deleted_at": "` + string(now) + `"}`, false,
		},
		{
			"a deleted file that was stored", records.Record{UploadedAt: sixth, StoredAt: sixth, DeletedAt: now, Size: 1}, [4]bool{false, true, false, true},
			`{"name": "a.txt", "type": "text/plain", "size": 1, "uploaded_at": "` + string(sixth) + `", "stored_at": "` + string(sixth) + `", "deleted_at": "` + string(now) + `"}`, false,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := *f
			f.t = t
			id, unknown := f.file(test.record), client.NewID()
			for i, query := range []string{"", "?deleted=yes", "?nonstored=yes", "?deleted=yes&nonstored=yes"} {
				if !test.shown[i] {
					f.keyed("POST", "/files"+query, array(unknown, id)).want(t, 200, `[]`)
					continue
				}
				shown := f.info(t, "/files/"+query, id)
				url, _ := shown["url"].(string)
				if hasURL := strings.Contains(url, "X-Amz-Signature="); hasURL != test.url {
					t.Errorf("%q: the URL %q", query, url)
				}
				delete(shown, "url")
				want := parsed(t, test.want).(map[string]any)
				want["id"] = id
				if got := fmt.Sprint(shown); got != fmt.Sprint(want) {
					t.Errorf("%q: %s\nwant %v", query, got, want)
				}
			}
		})
	}
	t.Run("in the order of the request", func(t *testing.T) {
		a, b := f.file(records.Record{UploadedAt: now, StoredAt: now}), f.file(records.Record{UploadedAt: now, StoredAt: now})
		for _, ids := range [][]string{{a, b}, {b, a}} {
			var got []struct{ ID string }
			if err := json.Unmarshal([]byte(f.keyed("POST", "/files", array(append(ids, ids[0], client.NewID())...)).body), &got); err != nil {
				t.Fatal(err)
			}
			if len(got) != 2 || got[0].ID != ids[0] || got[1].ID != ids[1] {
				t.Errorf("%v of %v", got, ids)
			}
		}
	})
	t.Run("only yes is yes", func(t *testing.T) {
		id := f.file(records.Record{UploadedAt: now, Size: 1})
		for _, query := range []string{"?nonstored=no", "?nonstored=", "?nonstored=true", "?NonStored=yes"} {
			f.keyed("POST", "/files"+query, array(id)).want(t, 200, `[]`)
		}
	})
}

func testStore(t *testing.T, f *fixture) {
	now, old := f.stamp(0), f.stamp(5*time.Hour)
	temporary, stored := f.file(records.Record{UploadedAt: now}), f.file(records.Record{UploadedAt: old, StoredAt: old})
	expired := f.file(records.Record{UploadedAt: old, DeletedAt: now})
	waiting, unknown := f.file(records.Record{CreatedAt: now, Size: -1}), client.NewID()

	f.keyed("PUT", "/files", array(expired)).wantMessage(t, 410, "expired on")
	f.keyed("PUT", "/files", array(waiting)).wantMessage(t, 409, "not uploaded yet")
	f.keyed("PUT", "/files", array(unknown)).want(t, 404, `{"message": "1 of 1 files were not stored: \"`+unknown+`\": no such file",
		"failed": [{"id": "`+unknown+`", "reason": "not_found", "message": "no such file"}]}`)
	if r := f.record(unknown); r.ID != "" {
		t.Errorf("storing what is not there has made %+v", r)
	}

	// What could be done is done, and the status does not say that all was.
	a := f.keyed("PUT", "/files", array(unknown, temporary, expired))
	a.wantMessage(t, 409, "2 of 3 files were not stored")
	if got, want := fmt.Sprint(parsed(t, a.body).(map[string]any)["done"]), "["+temporary+"]"; got != want || f.record(temporary).StoredAt != now {
		t.Errorf("done %s, want %s, of %+v", got, want, f.record(temporary))
	}
	f.keyed("PUT", "/files/", array(stored, temporary, stored)).want(t, 200, array(stored, temporary))
	if r := f.record(stored); r.StoredAt != old {
		t.Errorf("stored again: %+v", r)
	}
	f.keyed("PUT", "/files", `[]`).want(t, 200, `[]`)
}

func testStoreOnLoad(t *testing.T, f *fixture) {
	f.client.Settings.StoreOnLoad = true
	defer func() { f.client.Settings.StoreOnLoad = false }()
	u := f.newFile()
	do(t, "PUT", u.URL, content)
	for _, path := range []string{"/files", "/files/"} {
		f.keyed("PUT", path, array(u.ID)).want(t, 400, `{"message": "Configured to store files at the time of upload."}`)
	}
	if shown := f.info(t, "/files", u.ID); shown["url"] == nil || shown["stored_at"] != shown["uploaded_at"] || shown["stored_at"] == nil {
		t.Errorf("%v", shown)
	}
}

func testDelete(t *testing.T, f *fixture) {
	now, old := f.stamp(0), f.stamp(5*time.Hour)
	stored, unknown := f.file(records.Record{UploadedAt: old, StoredAt: old}), client.NewID()
	deleted := f.file(records.Record{UploadedAt: old, DeletedAt: old})
	f.keyed("DELETE", "/files", array(unknown)).wantMessage(t, 404, "no such file")
	if r := f.record(unknown); r.ID != "" {
		t.Errorf("deleting what is not there has made %+v", r)
	}
	f.keyed("DELETE", "/files", array(deleted, stored, unknown)).wantMessage(t, 404, "1 of 3 files were not deleted")
	f.keyed("DELETE", "/files", array(deleted, stored)).want(t, 200, array(deleted, stored))
	if r, s := f.record(deleted), f.record(stored); r.DeletedAt != old || s.DeletedAt != now {
		t.Errorf("deleted at %s and %s", r.DeletedAt, s.DeletedAt)
	}
}

func testHowMany(t *testing.T, f *fixture) {
	now := f.stamp(0)
	var ids []string
	for range 11 {
		ids = append(ids, f.file(records.Record{UploadedAt: now}))
	}
	f.keyed("PUT", "/files", array(ids...)).want(t, 400, `{"message": "11 ids are given, and one request to store takes at most 10"}`)
	f.keyed("POST", "/files?nonstored=yes", array(ids...)).want(t, 400, `{"message": "11 ids are given, and one request to info takes at most 10"}`)
	if r := f.record(ids[0]); r.StoredAt.IsSet() {
		t.Errorf("refused, and stored: %+v", r)
	}
	f.keyed("PUT", "/files", array(ids[:10]...)).want(t, 200, array(ids[:10]...))
	f.keyed("DELETE", "/files", array(ids...)).want(t, 200, array(ids...))
}

func testNames(t *testing.T, f *fixture) {
	for _, name := range []string{"a b.txt", `"quoted" \ and/or.txt`, "Größe – 大きさ.pdf", "line\nfeed", "NUL\x00inside", "../../etc/passwd", strings.Repeat("n", api.MaxName)} {
		a := f.send("POST", "/file", string(must(json.Marshal(map[string]any{"name": name, "meta": map[string]string{"k": name}, "other": 1}))))
		var u uploaded
		if err := json.Unmarshal([]byte(a.body), &u); err != nil || a.status != 200 {
			t.Fatalf("%d %s: %v", a.status, a.body, err)
		}
		if r := f.record(u.ID); r.Name != name || r.CreatedAt != f.stamp(0) {
			t.Errorf("%q became %+v", name, r)
		}
		if shown := f.info(t, "/files?nonstored=yes", u.ID); shown["name"] != name || shown["meta"].(map[string]any)["k"] != name {
			t.Errorf("%q is shown as %v", name, shown)
		}
	}
}

func headOf(f *fixture, id string) *s3.HeadObjectInput {
	return &s3.HeadObjectInput{Bucket: &f.client.Bucket, Key: &id}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func testRevert(t *testing.T, f *fixture) {
	revert := func(id, token string) answer {
		return f.send("DELETE", "/file/"+id, "", "Authorization: Bearer "+token)
	}
	placeholder, temporary, stored := f.newFile(), f.newFile(), f.newFile()
	for _, u := range []uploaded{temporary, stored} {
		do(t, "PUT", u.URL, content)
	}
	f.keyed("PUT", "/files", array(stored.ID)).want(t, 200, array(stored.ID))
	f.info(t, "/files?nonstored=yes", temporary.ID) // settles it

	for _, token := range []string{"", "x", stored.Token + "x", stored.Token[:len(stored.Token)-1], temporary.Token, "0" + stored.Token, "+" + stored.Token} {
		revert(stored.ID, token).want(t, 403, `{"message": "Forbidden"}`)
	}
	revert(stored.ID, stored.Token).wantMessage(t, 409, "stored")
	if got := f.record(stored.ID); got.State() != records.Stored {
		t.Errorf("%+v", got)
	}
	for _, u := range []uploaded{placeholder, temporary, temporary} {
		revert(u.ID, u.Token).want(t, 204, "")
		if r := f.record(u.ID); r.DeletedAt != f.stamp(0) {
			t.Errorf("taken back: %+v", r)
		}
	}
	f.keyed("PUT", "/files", array(temporary.ID)).wantMessage(t, 410, "deleted on")
	if _, err := f.client.S3.HeadObject(t.Context(), headOf(f, temporary.ID)); client.ReasonOf(err) != client.NotFound {
		t.Errorf("its object: %v", err)
	}

	late, later := f.newFile(), f.newFile()
	g := *f
	g.clock = &clock{at: f.clock.now()}
	old := f.client.Now
	defer func() { f.client.Now = old }()
	f.client.Now = g.clock.now
	g.clock.advance(client.DefaultURLLifetime + client.DefaultTemporaryLifetime - time.Second)
	revert(late.ID, late.Token).want(t, 204, "")
	g.clock.advance(time.Second)
	revert(later.ID, later.Token).want(t, 403, `{"message": "Forbidden"}`)
}

// A store that comes between the look at a file and its deletion wins.
func TestRevertLosesToStore(t *testing.T) {
	f := newFixture(t, openSQLite(t), emptyBucket())
	u := f.newFile()
	f.client.Records = storedFirst{f.client.Records}
	f.send("DELETE", "/file/"+u.ID, "", "Authorization: Bearer "+u.Token).wantMessage(t, 409, "stored")
	if r := f.record(u.ID); r.State() != records.Stored {
		t.Errorf("%+v", r)
	}
}

// storedFirst is a table in which somebody stores a file before it is claimed.
type storedFirst struct{ records.Table }

func (s storedFirst) Abandon(ctx context.Context, id string, at, before records.Stamp) (records.Record, error) {
	if _, err := s.Store(ctx, id, at, &records.Upload{At: at, Type: "text/plain", Size: 1}); err != nil {
		return records.Record{}, err
	}
	return s.Table.Abandon(ctx, id, at, before)
}

// What goes wrong behind the API is its failure, and never said to be done or not to be there.
func TestFailuresBehind(t *testing.T) {
	errSecret := errors.New("bucket-of-somebody does not answer")
	t.Run("the table", func(t *testing.T) {
		f := newFixture(t, broken{err: errSecret}, emptyBucket())
		for method, path := range map[string]string{"PUT": "/files", "POST": "/files", "DELETE": "/files"} {
			a := f.keyed(method, path, array(client.NewID()))
			a.wantMessage(t, 500, "Internal Server Error")
			if strings.Contains(a.body, "somebody") || !strings.Contains(f.log.String(), errSecret.Error()) {
				t.Errorf("%s, and the log:\n%s", a.body, f.log)
			}
		}
		f.send("POST", "/file", `{"name": "a"}`).want(t, 500, `{"message": "Internal Server Error"}`)
	})
	t.Run("the table is busy", func(t *testing.T) {
		f := newFixture(t, broken{err: records.ErrBusy}, emptyBucket())
		for method, path := range map[string]string{"PUT": "/files", "POST": "/files", "DELETE": "/files"} {
			if a := f.keyed(method, path, array(client.NewID())); a.status != 503 || a.header.Get("Retry-After") != "1" {
				t.Errorf("%s: %d %s", method, a.status, a.body)
			}
		}
	})
	t.Run("the bucket", func(t *testing.T) {
		f := newFixture(t, openSQLite(t), answering(http.StatusInternalServerError))
		now := f.stamp(0)
		placeholder, temporary := f.file(records.Record{CreatedAt: now, Size: -1}), f.file(records.Record{UploadedAt: now})
		f.keyed("POST", "/files?nonstored=yes", array(temporary)).wantNot(t, 500)
		f.keyed("POST", "/files?nonstored=yes", array(temporary, placeholder)).wantMessage(t, 503, "try again")
		a := f.keyed("PUT", "/files", array(temporary, placeholder, client.NewID()))
		a.wantMessage(t, 503, "2 of 3 files were not stored")
		f.keyed("DELETE", "/files", array(temporary)).wantMessage(t, 503, "1 of 1 files were not deleted")
	})
	t.Run("a panic", func(t *testing.T) {
		f := newFixture(t, nil, emptyBucket())
		f.keyed("POST", "/files", array(client.NewID())).want(t, 500, `{"message": "Internal Server Error"}`)
		if !strings.Contains(f.log.String(), "panic") {
			t.Errorf("the log:\n%s", f.log)
		}
	})
	t.Run("somebody is always faster", func(t *testing.T) {
		f := newFixture(t, contended{openSQLite(t)}, answering(http.StatusOK))
		a := f.keyed("POST", "/files?nonstored=yes", array(f.file(records.Record{CreatedAt: f.stamp(0), Size: -1})))
		if a.wantMessage(t, 503, "try again"); a.header.Get("Retry-After") != "1" {
			t.Errorf("%v", a.header)
		}
	})
	t.Run("no time left", func(t *testing.T) {
		f := newFixture(t, broken{wait: true}, emptyBucket())
		f.options.Timeout = time.Millisecond
		f.serve(f.options)
		f.keyed("POST", "/files", array(client.NewID())).wantMessage(t, 503, "try again")
	})
}

func (a answer) wantNot(t testing.TB, least int) {
	t.Helper()
	if a.status >= least {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// broken is a table that fails.
type broken struct {
	records.Table
	err  error
	wait bool // until the context ends
}

func (b broken) fail(ctx context.Context) error {
	if b.wait {
		<-ctx.Done()
		return ctx.Err()
	}
	return b.err
}

func (b broken) Get(ctx context.Context, _ []string) (map[string]records.Record, error) {
	return nil, b.fail(ctx)
}
func (b broken) Create(ctx context.Context, _ records.Record) error { return b.fail(ctx) }
func (b broken) Discard(ctx context.Context, _ string) error        { return b.fail(ctx) }
func (b broken) Delete(ctx context.Context, _ string, _ records.Stamp) (records.Record, error) {
	return records.Record{}, b.fail(ctx)
}

func (b broken) Store(ctx context.Context, _ string, _ records.Stamp, _ *records.Upload) (records.Record, error) {
	return records.Record{}, b.fail(ctx)
}

// contended is a table in which every record has just been changed by somebody else.
type contended struct{ records.Table }

func (c contended) Correct(ctx context.Context, id string, _ records.Stamp, _ records.Upload) (records.Record, error) {
	found, err := c.Get(ctx, []string{id})
	if err != nil {
		return records.Record{}, err
	}
	return records.Record{}, &records.TransitionError{ID: id, Reason: records.ErrChanged, Current: found[id]}
}

// One bad record does not break the answer for the others. It is shown, and what is wrong with it named.
func TestMalformedRecords(t *testing.T) {
	table := fixed{of: make(map[string]records.Record)}
	f := newFixture(t, table, emptyBucket())
	good := records.Record{ID: client.NewID(), Name: "good", Type: "text/plain", Size: 1, UploadedAt: f.stamp(0), StoredAt: f.stamp(0)}
	bad := good
	bad.ID, bad.Meta, bad.StoredAt, bad.Name = client.NewID(), "[1, \xff", "tomorrow", "bad\xff"
	odd := good
	odd.ID, odd.Meta = client.NewID(), "{\"a\": \"\xff\"}"
	for _, r := range []records.Record{good, bad, odd} {
		table.of[r.ID] = r
	}
	a := f.keyed("POST", "/files", array(bad.ID, good.ID, odd.ID))
	files, _ := parsed(t, a.body).([]any)
	if len(files) != 3 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	shown := files[0].(map[string]any)
	if fmt.Sprint(shown["malformed"]) != "[meta stored_at]" || shown["stored_at"] != "tomorrow" || shown["meta"] != "[1, \ufffd" {
		t.Errorf("%v", shown)
	}
	if shown := files[1].(map[string]any); shown["malformed"] != nil || shown["name"] != "good" {
		t.Errorf("%v", shown)
	}
}

// fixed is a table that has these records.
type fixed struct {
	records.Table
	of map[string]records.Record
}

func (f fixed) Get(_ context.Context, ids []string) (map[string]records.Record, error) {
	found := make(map[string]records.Record)
	for _, id := range ids {
		if r, ok := f.of[id]; ok {
			found[id] = r
		}
	}
	return found, nil
}
