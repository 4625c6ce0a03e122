package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/designfultech/filestore/internal/api"
	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

// counting is a table that counts what is written to it, whether it is carried out or refused.
type counting struct {
	records.Table
	writes atomic.Int64
}

func (c *counting) Create(ctx context.Context, r records.Record) error {
	c.writes.Add(1)
	return c.Table.Create(ctx, r)
}

func (c *counting) Uploaded(ctx context.Context, id string, u records.Upload) (records.Record, error) {
	c.writes.Add(1)
	return c.Table.Uploaded(ctx, id, u)
}

func (c *counting) Store(ctx context.Context, id string, at records.Stamp, missing *records.Upload) (records.Record, error) {
	c.writes.Add(1)
	return c.Table.Store(ctx, id, at, missing)
}

func (c *counting) Delete(ctx context.Context, id string, at records.Stamp) (records.Record, error) {
	c.writes.Add(1)
	return c.Table.Delete(ctx, id, at)
}

func (c *counting) Discard(ctx context.Context, id string) error {
	c.writes.Add(1)
	return c.Table.Discard(ctx, id)
}

func (c *counting) Expire(ctx context.Context, id string, at, before records.Stamp) (records.Record, error) {
	c.writes.Add(1)
	return c.Table.Expire(ctx, id, at, before)
}

func (c *counting) Abandon(ctx context.Context, id string, at, before records.Stamp) (records.Record, error) {
	c.writes.Add(1)
	return c.Table.Abandon(ctx, id, at, before)
}

// files are how many records the table has.
func (c *counting) files(t testing.TB) int {
	n := 0
	for page, err := range c.Scan(t.Context(), records.Filter{}, records.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		n += len(page)
	}
	return n
}

// What can't be meant gets a 4xx that says why, and writes nothing.
func TestHostileInput(t *testing.T) {
	table := &counting{Table: openSQLite(t)}
	f := newFixture(t, table, emptyBucket())
	id := f.file(records.Record{UploadedAt: f.stamp(0), Size: 1})
	quoted := `"` + id + `"`
	ids := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(quoted+",", n), ",") + "]" }

	type request struct {
		name, method, target, body string
		want                       int
		message                    string
	}
	var requests []request
	// What is wrong with a body is wrong wherever it is sent.
	for name, body := range map[string]string{
		"nothing":           "",
		"spaces":            "  \n",
		"no JSON":           "id=0123456789abcdef",
		"half of it":        `["`,
		"a comma too much":  `[` + quoted + `,]`,
		"trailing garbage":  `[` + quoted + `] x`,
		"two documents":     `[` + quoted + `][` + quoted + `]`,
		"two objects":       `{"name": "a"} {"name": "b"}`,
		"a byte order mark": "\ufeff[" + quoted + `]`,
		"NUL":               "\x00",
		"not UTF-8":         "[\"\xff\"]",
		"a name not UTF-8":  "{\"name\": \"a\xffb\"}",
		"UTF-16":            "\xff\xfe[\x00]\x00",
		"a number":          "1",
		"a huge number":     "1e999999",
		"a string":          quoted,
		"null":              "null",
		"true":              "true",
		"deep":              strings.Repeat("[", 17) + strings.Repeat("]", 17),
		"very deep":         strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000),
		"deep and open":     strings.Repeat("[", 60_000),
		"deep objects":      `{"name":` + strings.Repeat(`{"a":`, 8000) + "1" + strings.Repeat("}", 8001),
		"duplicate names":   `{"name": "a", "name": "b"}`,
		"duplicate inside":  `{"name": "a", "meta": {"k": "1", "k": "2"}}`,
		"duplicate escaped": `{"name": "a", "n\u0061me": "b"}`,
		"numbers":           `[1, 2]`,
		"arrays":            `[[` + quoted + `]]`,
		"objects":           `[{"id": ` + quoted + `}]`,
		"null as id":        `[null]`,
		"one null of two":   `[` + quoted + `, null]`,
		"an empty id":       `[""]`,
		"a path":            `["../../../etc/passwd"]`,
		"dots":              `[".."]`,
		"a slash":           `["01234567/9abcdef"]`,
		"an escaped slash":  `["01234567%2f9abcd"]`,
		"capitals":          `["0123456789ABCDEF"]`,
		"fifteen":           `["0123456789abcde"]`,
		"seventeen":         `["0123456789abcdefg"]`,
		"sixteen bytes":     `["0123456789abcdé"]`,
		"full width":        `["０１２３４５６７８９ａｂｃｄｅｆ"]`,
		"with a line feed":  `["0123456789abcdef\n"]`,
		"with NUL":          `["0123456789abcde\u0000"]`,
		"one bad of two":    `[` + quoted + `, "x"]`,
		"another member":    `{"NAME": "a"}`,
		"no name":           `{}`,
		"an empty name":     `{"name": ""}`,
		"name null":         `{"name": null}`,
		"name a number":     `{"name": 5}`,
		"name an array":     `{"name": ["a"]}`,
		"name an object":    `{"name": {"name": "a"}}`,
		"a long name":       `{"name": "` + strings.Repeat("n", api.MaxName+1) + `"}`,
		"meta text":         `{"name": "a", "meta": "x"}`,
		"meta null":         `{"name": "a", "meta": null}`,
		"meta an array":     `{"name": "a", "meta": []}`,
		"meta of numbers":   `{"name": "a", "meta": {"k": 1}}`,
		"meta of nulls":     `{"name": "a", "meta": {"k": null}}`,
		"meta of objects":   `{"name": "a", "meta": {"k": {}}}`,
		"much meta":         `{"name": "a", "meta": {"k": "` + strings.Repeat("v", api.MaxMeta) + `"}}`,
	} {
		for _, to := range []string{"POST /file", "PUT /files", "POST /files", "DELETE /files/"} {
			method, target, _ := strings.Cut(to, " ")
			requests = append(requests, request{name: name, method: method, target: target, body: body, want: 400})
		}
	}
	requests = append(requests, []request{
		{"a name of a megabyte", "POST", "/file", `{"name": "` + strings.Repeat("n", 1<<20) + `"}`, 413, "65536 bytes"},
		{"a hundred megabytes", "PUT", "/files", strings.Repeat(" ", 100<<20), 413, "65536 bytes"},
		{"one byte too much", "DELETE", "/files", "[]" + strings.Repeat(" ", api.MaxBody-1), 413, "65536 bytes"},
		{"11 ids", "PUT", "/files", ids(11), 400, "11 ids are given"},
		{"11 ids", "POST", "/files", ids(11), 400, "11 ids are given"},
		{"1001 ids", "DELETE", "/files", ids(1001), 400, "1001 ids are given"},
		{"a query that is none", "POST", "/files?deleted=%zz", ids(1), 400, "query"},
		{"a query with semicolons", "POST", "/files?a;b", ids(1), 400, "query"},
		{"no path", "GET", "/", "", 404, "Not Found"},
		{"a path of others", "GET", "/.git/config", "", 404, "Not Found"},
		{"two slashes", "PUT", "//files", ids(1), 404, "Not Found"},
		{"two slashes at the end", "PUT", "/files//", ids(1), 404, "Not Found"},
		{"capitals", "PUT", "/FILES", ids(1), 404, "Not Found"},
		{"dots", "PUT", "/x/../files", ids(1), 404, "Not Found"},
		{"a slash at the end", "POST", "/file/", `{"name": "a"}`, 404, "Not Found"},
		{"an asterisk", "GET", "*", "", 404, "Not Found"},
		{"a long path", "GET", "/" + strings.Repeat("x", 100_000), "", 404, "Not Found"},
		{"a path that is not UTF-8", "GET", "/\xff\x00\n", "", 404, "Not Found"},
		{"an id", "GET", "/files/" + id, "", 404, "Not Found"},
		{"the file of an id", "GET", "/file/" + id, "", 405, "Method Not Allowed"},
		{"no token", "DELETE", "/file/" + id, "", 403, "Forbidden"},
		{"an id that is none", "DELETE", "/file/../files", "", 404, "Not Found"},
		{"an id that is a path", "DELETE", "/file/../../etc/passwd", "", 404, "Not Found"},
		{"an id and a slash", "DELETE", "/file/" + id + "/", "", 404, "Not Found"},
	}...)
	for _, method := range []string{"GET", "HEAD", "PATCH", "TRACE", "CONNECT", "PROPFIND", "put", "delete", "X"} {
		for _, path := range []string{"/file", "/files", "/files/"} {
			requests = append(requests, request{"a wrong method", method, path, ids(1), 405, ""})
		}
	}
	for _, method := range []string{"PUT", "DELETE", "POST"} {
		requests = append(requests, request{"a wrong method", method, "/healthz", "", 405, ""}, request{"a wrong method", method, "/openapi.json", "", 405, ""})
	}

	before, files := table.writes.Load(), table.files(t)
	for _, r := range requests {
		a := f.keyed(r.method, r.target, r.body)
		if a.status != r.want || len(a.body) > 2000 {
			t.Errorf("%s: %s %.80s: %d, want %d: %.2000s", r.name, r.method, r.target, a.status, r.want, a.body)
		} else if r.method != "HEAD" && (!strings.Contains(a.message(t), r.message) || a.message(t) == "") {
			t.Errorf("%s: %s %.80s: %s, want %q", r.name, r.method, r.target, a.body, r.message)
		}
		if n := table.writes.Load(); n != before {
			t.Errorf("%s: %s %.80s: %d writes", r.name, r.method, r.target, n-before)
			before = n
		}
	}
	if n := table.files(t); n != files {
		t.Errorf("%d files, where %d were", n, files)
	}
	t.Logf("%d requests", len(requests))
}

// A body without an announced length is read up to the limit, and not further.
func TestEndlessBody(t *testing.T) {
	f := withoutStore(t, api.Options{})
	for _, announced := range []int64{-1, 10 << 30} {
		body := &endless{}
		r := httptest.NewRequest(http.MethodPut, "/files", io.NopCloser(body))
		r.ContentLength = announced
		w := httptest.NewRecorder()
		f.handler.ServeHTTP(w, r)
		if w.Code != 413 || body.read > 2*api.MaxBody || w.Header().Get("Connection") != "close" {
			t.Errorf("announced %d: %d after %d bytes, %v", announced, w.Code, body.read, w.Header())
		}
	}
}

type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	e.read += len(p)
	return copy(p, bytes.Repeat([]byte(" "), len(p))), nil
}

// FuzzBodies sends any body to any call. None is a 5xx, the document allows every answer, and what is refused has
// written nothing.
func FuzzBodies(f *testing.F) {
	const id = "0123456789abcdef"
	calls := []string{"POST /file", "PUT /files", "POST /files?deleted=yes&nonstored=yes", "DELETE /files/", "DELETE /file/" + id}
	for i := range calls {
		for _, body := range []string{
			`{"name": "a.txt"}`, `{"name": "a.txt", "meta": {"k": "v"}, "x": [1, 2.5e3, null]}`, `{"name": "\ud800\u0000\"\\"}`, `["` + id + `"]`,
			`["` + id + `", "` + id + `"]`, `[]`, `{}`, ``, `null`, `[null]`, `{"name": "a", "name": "b"}`, `{"name":{"a":{"b":[[[]]]}}}`, "[\"\xff\"]", `["../x"]`, `[[[[[[`,
			fmt.Sprintf(`["%s"]`, strings.Repeat(id+`","`, 11)+id),
		} {
			f.Add(i, body)
		}
	}
	table := &counting{Table: openSQLite(f)}
	fixture := newFixture(f, table, emptyBucket())
	f.Fuzz(func(t *testing.T, i int, body string) {
		g := *fixture
		g.t = t
		g.log.Reset()
		method, target, _ := strings.Cut(calls[uint(i)%uint(len(calls))], " ")
		before := table.writes.Load()
		a := g.keyed(method, target, body)
		if a.status >= http.StatusInternalServerError {
			t.Fatalf("%d %s\n%s", a.status, a.body, g.log)
		}
		// A well-formed id that is not there is looked for with a write that is refused.
		if n := table.writes.Load() - before; n != 0 && a.status >= 400 && a.status != http.StatusNotFound {
			t.Errorf("%d, and %d writes", a.status, n)
		}
		if method == "POST" && target == "/file" && a.status == http.StatusOK {
			var id string
			if id, _ = parsed(t, a.body).(map[string]any)["id"].(string); !client.ValidID(id) || g.record(id).ID != id {
				t.Errorf("%s: no such record", a.body)
			}
		} else if found := g.record(id); found.ID != "" {
			t.Errorf("an item was made: %+v", found)
		}
	})
}
