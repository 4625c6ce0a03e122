package client_test

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

// openRecords makes a filestore without a bucket. Its clock stands at noon.
func openRecords(t testing.TB) *filestore {
	t.Helper()
	f := &filestore{clock: &clock{at: time.Date(2026, 11, 25, 12, 0, 0, 500_000_000, time.UTC)}}
	f.Client = &client.Client{
		Settings: client.Settings{URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime},
		Now:      f.clock.now,
	}
	f.openSQLite(t)
	return f
}

// list returns the ids of the selected files, sorted unless opts say how.
func list(t *testing.T, f *filestore, opts client.ListOptions) []string {
	t.Helper()
	var ids []string
	for r, err := range f.List(t.Context(), opts) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, r.ID)
	}
	if opts.Sort == nil {
		slices.Sort(ids)
	}
	return ids
}

func november(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }

func TestList(t *testing.T) {
	f := openRecords(t)
	at := func(n int) records.Stamp { return records.At(november(n)) }
	f.insert(t, []records.Record{
		{ID: "placeholder", Name: "holiday.png", Size: -1, CreatedAt: at(1)},
		{ID: "undated", Name: "holiday.png", Size: -1},
		{ID: "temporary", Name: "report.pdf", Size: 10, Type: "application/pdf", Meta: `{"branch":"main","build":17}`, CreatedAt: at(2), UploadedAt: at(3)},
		{ID: "stored", Name: "Report.pdf", Size: 20, Type: "application/pdf", Meta: `{"branch":"dev","build":"17"}`, CreatedAt: at(4), UploadedAt: at(5), StoredAt: at(6)},
		{ID: "deleted", Name: "a/b.txt", Size: 5, Type: "text/plain", Meta: `{"ok": true, "tags": ["x", 1]}`, CreatedAt: at(7), UploadedAt: at(7), DeletedAt: at(8)},
		// What other writers leave: a time with a fraction and a zone, texts that are no time and no object.
		{ID: "lenient", Name: "c.txt", Size: 1, UploadedAt: at(9) + ".75Z"},
		{ID: "malformed", Name: "d.txt", Size: 1, Meta: `{"branch":"main"`, UploadedAt: "yesterday"},
	})
	for _, test := range []struct {
		name string
		opts client.ListOptions
		want string
	}{
		{"everything", client.ListOptions{}, "deleted lenient malformed placeholder stored temporary undated"},
		{"a state", client.ListOptions{States: []records.State{records.Temporary}}, "lenient malformed temporary"},
		{"states", client.ListOptions{States: []records.State{records.Stored, records.Deleted}}, "deleted stored"},

		{"of the upload, or else creation", client.ListOptions{Until: november(5)}, "placeholder temporary"},
		{"since is included, until is not", client.ListOptions{Since: november(5), Until: november(7)}, "stored"},
		{"to the second", client.ListOptions{Since: november(9).Add(900 * time.Millisecond)}, "lenient"},
		{"a fraction is read", client.ListOptions{Since: november(9).Add(time.Second)}, ""},
		// "yesterday" is after any time, as text; it is none.
		{"what can't be read is in no time", client.ListOptions{Since: november(1)}, "deleted lenient placeholder stored temporary"},
		{"by creation", client.ListOptions{By: records.ByCreated, Since: november(2), Until: november(5)}, "stored temporary"},
		{"by upload", client.ListOptions{By: records.ByUploaded, Until: november(6)}, "stored temporary"},
		{"by storing", client.ListOptions{By: records.ByStored, Since: november(1)}, "stored"},
		{"by deletion", client.ListOptions{By: records.ByDeleted, Since: november(1)}, "deleted"},

		{"a name", client.ListOptions{Name: "report.pdf"}, "temporary"},
		{"a pattern", client.ListOptions{Name: "[rR]eport.*"}, "stored temporary"},
		{"a star is no slash", client.ListOptions{Name: "*.txt"}, "lenient malformed"},
		{"a directory", client.ListOptions{Name: "a/*"}, "deleted"},

		{"metadata", client.ListOptions{Meta: map[string]string{"branch": "main"}}, "temporary"},
		{"a number and a text", client.ListOptions{Meta: map[string]string{"build": "17"}}, "stored temporary"},
		{"all of it", client.ListOptions{Meta: map[string]string{"build": "17", "branch": "dev"}}, "stored"},
		{"a switch", client.ListOptions{Meta: map[string]string{"ok": "true"}}, "deleted"},
		{"a list, as it is written", client.ListOptions{Meta: map[string]string{"tags": `["x", 1]`}}, "deleted"},
		{"an empty text is not the lack of one", client.ListOptions{Meta: map[string]string{"other": ""}}, ""},

		{"all together", client.ListOptions{States: []records.State{records.Temporary}, Since: november(3), Name: "*.pdf", Meta: map[string]string{"branch": "main"}}, "temporary"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(list(t, f, test.opts), " "); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	t.Run("no pattern", func(t *testing.T) {
		for _, err := range f.List(t.Context(), client.ListOptions{Name: "[a"}) {
			if !errors.Is(err, path.ErrBadPattern) {
				t.Errorf("error %v", err)
			}
		}
	})
	t.Run("without metadata", func(t *testing.T) {
		for r, err := range f.List(t.Context(), client.ListOptions{WithoutMeta: true}) {
			if err != nil || r.Meta != "" {
				t.Errorf("metadata %q, error %v", r.Meta, err)
			}
		}
		if got := list(t, f, client.ListOptions{WithoutMeta: true, Meta: map[string]string{"branch": "dev"}}); len(got) != 1 {
			t.Errorf("by metadata: %q", got)
		}
	})
}

func TestListSorted(t *testing.T) {
	f := openRecords(t)
	f.insert(t, []records.Record{
		{ID: "a", Name: "zebra", Size: 3, Type: "b/b", UploadedAt: "2026-11-02T00:00:00", CreatedAt: "2026-11-02T00:00:00"},
		{ID: "b", Name: "yak", Size: 1, Type: "a/a", UploadedAt: "2026-11-03T00:00:00.5Z", StoredAt: "2026-11-04T00:00:00"},
		{ID: "c", Name: "zebra", Size: -1, CreatedAt: "2026-11-01T00:00:00"},
		{ID: "d", Name: "ant", Size: 3, Type: "a/a", UploadedAt: "soon", DeletedAt: "2026-11-05T00:00:00"},
		{ID: "e", Name: "bee", Size: 2, Type: "a/a", UploadedAt: "2026-11-03T00:00:00", CreatedAt: "2026-11-03T00:00:00"},
	})
	for _, test := range []struct{ order, want string }{
		{"id", "a b c d e"}, {"id desc", "e d c b a"},
		{"name", "d e b a c"}, {"name desc", "a c b e d"},
		{"size", "b e a d c"}, {"size desc", "a d e b c"}, // those without come last, in both
		{"type", "b d e a c"},
		{"state", "c a e b d"},
		{"created", "c a e b d"}, {"created desc", "e a c b d"},
		{"uploaded", "a e b c d"}, {"uploaded desc", "b e a c d"},
		{"stored", "b a c d e"},
		{"deleted", "d a b c e"},
	} {
		field, direction, _ := strings.Cut(test.order, " ")
		compare, err := client.SortBy(field, direction == "desc")
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields(test.want)
		// Whether all are sorted or only the first few are held: the same.
		for limit := range len(want) + 2 {
			first := want[:min(limit, len(want))]
			if limit == 0 {
				first = want
			}
			if diff := cmp.Diff(first, list(t, f, client.ListOptions{Sort: compare, Limit: limit})); diff != "" {
				t.Errorf("by %s, at most %d (-want +got):\n%s", test.order, limit, diff)
			}
		}
	}
	if _, err := client.SortBy("colour", false); err == nil {
		t.Error("there is an order by colour")
	}
}

// A limit ends the reading: of a large table only as much is read as was asked for. Where an order
// is asked for too, everything must be read.
func TestListLimit(t *testing.T) {
	f := openRecords(t)
	const n = 2000
	rs := make([]records.Record, n)
	for i := range rs {
		rs[i] = records.Record{ID: fmt.Sprintf("limit%04d", i), Name: "a", Size: int64(i), UploadedAt: records.At(november(1))}
	}
	f.insert(t, rs)
	bySize, err := client.SortBy("size", true)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		opts       client.ListOptions
		first      string
		want, read int64
	}{
		{client.ListOptions{}, "limit0000", n, n},
		{client.ListOptions{Limit: 3}, "limit0000", 3, 3},
		{client.ListOptions{Limit: n + 1}, "limit0000", n, n},
		{client.ListOptions{Limit: 3, Sort: bySize}, "limit1999", 3, n},
	} {
		test.opts.Reads = records.NewMeter(0)
		got := list(t, f, test.opts)
		if int64(len(got)) != test.want || got[0] != test.first || test.opts.Reads.Total().Records != test.read {
			t.Errorf("limit %d: %d files from %q on, %+v", test.opts.Limit, len(got), got[0], test.opts.Reads.Total())
		}
	}
}
