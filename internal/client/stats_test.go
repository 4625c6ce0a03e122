package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

func TestStats(t *testing.T) {
	f := openRecords(t) // at noon of November 25
	ago := func(d time.Duration) records.Stamp { return records.At(f.clock.now().Add(-d)) }
	const hour, days = time.Hour, 24 * time.Hour
	oldest := records.Record{ID: "oldest", Name: "b", Type: "image/png", Size: 7, CreatedAt: ago(3 * hour), UploadedAt: ago(2 * hour)}
	f.insert(t, []records.Record{
		{ID: "new placeholder", Name: "a", Size: -1, CreatedAt: ago(hour)},
		{ID: "overdue placeholder", Name: "a", Size: -1, CreatedAt: ago(2*hour + time.Second)},
		{ID: "placeholder of API", Name: "a", Size: -1},
		oldest,
		{ID: "new temporary", Name: "b", Type: "image/png", Size: 5, UploadedAt: ago(hour / 2)},
		{ID: "stored", Name: "c", Type: "text/plain", Size: 100, UploadedAt: ago(1 * days), StoredAt: ago(hour)},
		{ID: "stored too", Name: "c", Type: "text/plain", Size: 1, UploadedAt: ago(29 * days), StoredAt: ago(hour)},
		{ID: "stored long ago", Name: "c", Type: "image/png", Size: 1000, UploadedAt: ago(30 * days), StoredAt: ago(hour)},
		{ID: "deleted", Name: "c", Type: "video/mp4", Size: 1 << 40, UploadedAt: ago(1 * days), DeletedAt: ago(hour)},
		{ID: "tomorrow", Name: "c", Size: 3, UploadedAt: ago(-1 * days), StoredAt: ago(hour)},
		{ID: "malformed", Name: "c", Type: "text/plain", Size: 2, Meta: "[]", UploadedAt: "soon", StoredAt: ago(hour)},
	})
	meter := records.NewMeter(0)
	got, err := f.Stats(t.Context(), client.StatsOptions{Reads: meter})
	if err != nil {
		t.Fatal(err)
	}
	uploads := make(map[string]client.Count) // of the days that have any
	for i, d := range got.Days {
		if want := november(25).AddDate(0, 0, i-29); !d.Day.Equal(want) {
			t.Errorf("day %d is %s, want %s", i, d.Day, want)
		}
		if d.Count != (client.Count{}) {
			uploads[d.Day.Format(time.DateOnly)] = d.Count
		}
	}
	if len(got.Days) != client.StatsDays {
		t.Errorf("%d days", len(got.Days))
	}
	if diff := cmp.Diff(map[string]client.Count{
		"2026-10-27": {1, 1}, "2026-11-24": {2, 100 + 1<<40}, "2026-11-25": {2, 12},
	}, uploads); diff != "" {
		t.Errorf("days (-want +got):\n%s", diff)
	}
	got.Days = nil
	want := client.Stats{
		Records: 11,
		States: map[records.State]client.Count{
			records.Placeholder: {3, 0}, records.Temporary: {2, 12}, records.Stored: {5, 1106}, records.Deleted: {1, 1 << 40},
		},
		// Of what is there, that with the most bytes first.
		Types: []client.TypeCount{
			{"image/png", client.Count{Files: 3, Bytes: 1012}}, {"text/plain", client.Count{Files: 3, Bytes: 103}}, {"", client.Count{Files: 1, Bytes: 3}},
		},
		Earlier:            client.Count{Files: 1, Bytes: 1000},
		Later:              client.Count{Files: 1, Bytes: 3},
		OldestTemporary:    &oldest,
		OverdueTemporary:   client.Count{Files: 1, Bytes: 7},
		OverduePlaceholder: 1,
		Undated:            1,
		Malformed:          1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
	if cost := meter.Total(); cost.Records != 11 {
		t.Errorf("%+v", cost)
	}
}

// What stats calls overdue is what a sweep of that moment acts on.
func TestStatsAgreesWithSweep(t *testing.T) {
	f := openRecords(t)
	var rs []records.Record
	for i := range 50 {
		at := records.At(f.clock.now().Add(-time.Duration(i) * 5 * time.Minute))
		rs = append(rs,
			records.Record{ID: fmt.Sprintf("temporary0000%03d", i), Name: "a", Size: 1, CreatedAt: at, UploadedAt: at},
			records.Record{ID: fmt.Sprintf("placeholder00%03d", i), Name: "a", Size: -1, CreatedAt: at})
	}
	f.insert(t, rs)
	stats, err := f.Stats(t.Context(), client.StatsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	uploaded, created := f.stamp(client.DefaultTemporaryLifetime), f.stamp(client.DefaultTemporaryLifetime+client.DefaultURLLifetime)
	var due int64
	for page, err := range f.table.Scan(t.Context(), records.Filter{UploadedBefore: uploaded, CreatedBefore: created}, records.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		due += int64(len(page))
	}
	if got := stats.OverdueTemporary.Files + stats.OverduePlaceholder; got != due || due < 20 {
		t.Errorf("%d are overdue, the sweep finds %d", got, due)
	}
}

// generated is a table of so many records, made as they are read.
type generated struct {
	records.Table // nil: only Scan and Pending are called
	n             int
	record        func(i int) records.Record
	end           func() // after the last page
}

func (g generated) Scan(context.Context, records.Filter, records.ScanOptions) iter.Seq2[[]records.Record, error] {
	return func(yield func([]records.Record, error) bool) {
		const size = 1000
		for first := 0; first < g.n; first += size {
			page := make([]records.Record, min(size, g.n-first))
			for i := range page {
				page[i] = g.record(first + i)
			}
			if !yield(page, nil) {
				return
			}
		}
		g.end()
	}
}

// Pending says that there is no index.
func (generated) Pending(context.Context, records.Filter, records.ScanOptions) iter.Seq2[[]records.Record, error] {
	return func(yield func([]records.Record, error) bool) { yield(nil, records.ErrNoIndex) }
}

// A table in which every file has a type of its own, and a long one, takes no more memory for
// being large: what is too much is among the others.
func TestStatsOfManyTypes(t *testing.T) {
	f := openRecords(t)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n = 200_000
	before := heap()
	var after uint64
	f.Records = generated{n: n, end: func() { after = heap() }, record: func(i int) records.Record {
		size := int64(1)
		if i < 3 {
			size = math.MaxInt64 / 2 // what somebody wrote: no sum may overflow
		}
		return records.Record{
			ID: fmt.Sprintf("id%014d", i), Name: "a", Size: size, Type: fmt.Sprintf("%0200d/x", i), UploadedAt: "2026-11-25T11:00:00", StoredAt: "2026-11-25T11:00:00",
		}
	}}
	stats, err := f.Stats(t.Context(), client.StatsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	files := stats.OtherTypes.Files
	for _, c := range stats.Types {
		files += c.Files
	}
	if len(stats.Types) != client.StatsTypes || files != n {
		t.Errorf("%d types of %d files", len(stats.Types), files)
	}
	if c := stats.States[records.Stored]; c != (client.Count{Files: n, Bytes: math.MaxInt64}) {
		t.Errorf("stored: %+v", c)
	}
	// 200,000 types of 200 bytes alone would be 40 MiB.
	if grown := int64(after) - int64(before); grown > 10<<20 {
		t.Errorf("the heap has grown by %d KiB", grown>>10)
	}
}

// A list of a large table holds a page at a time, and sorted with a limit as many files as that says.
func TestListIsFlat(t *testing.T) {
	f := openRecords(t)
	bySize, err := client.SortBy("size", true)
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]client.ListOptions{
		"as it comes":    {},
		"the first ones": {Sort: bySize, Limit: 100},
	} {
		const n = 100_000
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		f.Records = generated{n: n, end: func() { runtime.GC(); runtime.ReadMemStats(&after) }, record: func(i int) records.Record {
			return records.Record{ID: fmt.Sprintf("id%014d", i), Name: strings.Repeat("n", 200), Size: int64(i)}
		}}
		seen, last := 0, int64(0)
		for r, err := range f.List(t.Context(), opts) {
			if err != nil {
				t.Fatal(err)
			}
			seen++
			last = r.Size
		}
		switch {
		case opts.Sort == nil && (seen != n || last != n-1), opts.Sort != nil && (seen != 100 || last != n-100):
			t.Errorf("%s: %d files, the last of size %d", name, seen, last)
		}
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 2<<20 {
			t.Errorf("%s: the heap has grown by %d KiB", name, grown>>10)
		}
	}
}

// To sort without a limit ends where memory would.
func TestListTooManyToSort(t *testing.T) {
	f := openRecords(t)
	byID, err := client.SortBy("id", false)
	if err != nil {
		t.Fatal(err)
	}
	table := generated{n: 10_000, end: func() {}, record: func(i int) records.Record { return records.Record{ID: fmt.Sprintf("id%014d", i)} }}
	f.Records = table
	if got := list(t, f, client.ListOptions{Sort: byID, MaxSorted: table.n}); len(got) != table.n {
		t.Errorf("%d files of %d", len(got), table.n)
	}
	var errs []error
	for _, err := range f.List(t.Context(), client.ListOptions{Sort: byID, MaxSorted: table.n - 1}) {
		errs = append(errs, err)
	}
	if len(errs) != 1 || !errors.Is(errs[0], client.ErrTooManyToSort) {
		t.Errorf("%d results, the first with error %v", len(errs), errs[0])
	}
}

// BenchmarkStats counts a table on disk. The peak of the heap does not depend on its size.
func BenchmarkStats(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f := openRecords(b)
			fillStats(b, f, n)
			runtime.GC() // what filled the table is no part of the peak
			f.Records = &watched{Table: f.table}
			for b.Loop() {
				stats, err := f.Stats(b.Context(), client.StatsOptions{})
				if err != nil || stats.Records != int64(n) {
					b.Fatalf("%d records, error %v", stats.Records, err)
				}
			}
			b.ReportMetric(float64(f.Records.(*watched).peak)/(1<<20), "peak-MiB")
		})
	}
}

func fillStats(b *testing.B, f *filestore, n int) {
	b.Helper()
	rs := make([]records.Record, n)
	for i := range rs {
		rs[i] = records.Record{
			ID: fmt.Sprintf("stats%011d", i), Name: fmt.Sprintf("file number %d.pdf", i), Type: "application/pdf", Size: 1 << 20,
			Meta: `{"path":"some/where"}`, CreatedAt: "2026-11-24T00:00:00", UploadedAt: "2026-11-24T00:00:00",
		}
	}
	f.insert(b, rs)
}

// watched looks at the heap before every page.
type watched struct {
	records.Table
	peak uint64
}

func (w *watched) Scan(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	return func(yield func([]records.Record, error) bool) {
		pages := 0
		for page, err := range w.Table.Scan(ctx, f, opts) {
			if pages++; pages%10 == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				w.peak = max(w.peak, m.HeapAlloc)
			}
			if !yield(page, err) {
				return
			}
		}
	}
}
