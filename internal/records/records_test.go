package records_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/records"
)

func TestAt(t *testing.T) {
	for _, test := range []struct {
		time time.Time
		want records.Stamp
	}{
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), "2026-01-02T03:04:05"},
		{time.Date(2026, 1, 2, 3, 4, 5, 999_999_999, time.UTC), "2026-01-02T03:04:05"},                    // truncated, not rounded
		{time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("CET", 3600)), "2026-01-02T02:04:05"},           // in UTC
		{time.Date(1969, 12, 31, 23, 59, 59, 500_000_000, time.UTC), "1969-12-31T23:59:59"},               // before the epoch
		{time.Date(2026, 1, 1, 0, 0, 0, 0, time.FixedZone("Nepal", 5*3600+45*60)), "2025-12-31T18:15:00"}, // another year
	} {
		if got := records.At(test.time); got != test.want {
			t.Errorf("At(%v) = %q, want %q", test.time, got, test.want)
		}
	}
}

func TestStampTime(t *testing.T) {
	for _, test := range []struct {
		stamp records.Stamp
		want  time.Time
	}{
		{"2026-01-02T03:04:05", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{"2026-01-02T03:04:05Z", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		{"2026-01-02T03:04:05.25", time.Date(2026, 1, 2, 3, 4, 5, 250_000_000, time.UTC)},
		{"2026-01-02T03:04:05.678901Z", time.Date(2026, 1, 2, 3, 4, 5, 678_901_000, time.UTC)},
		{"2028-02-29T00:00:00", time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC)},
	} {
		got, err := test.stamp.Time()
		if err != nil || !got.Equal(test.want) || got.Location() != time.UTC {
			t.Errorf("time of %q: %v, error %v, want %v", string(test.stamp), got, err, test.want)
		}
	}
	for _, bad := range []records.Stamp{
		"", "null", `""`, "Z", "yesterday", "2026-01-02", "2026-01-02 03:04:05", "2026-01-02T03:04", "2026-13-01T00:00:00",
		"2026-02-29T00:00:00", "2026-01-02T24:00:00", "2026-01-02T03:04:05ZZ", "2026-01-02T03:04:05+01:00",
		" 2026-01-02T03:04:05", "2026-01-02T03:04:05\n", "1767323045",
	} {
		if got, err := bad.Time(); err == nil {
			t.Errorf("%q is read as %v", string(bad), got)
		}
	}
}

func TestStampBefore(t *testing.T) {
	limit := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for stamp, want := range map[records.Stamp]bool{
		"2026-01-02T03:04:04":    true,
		"2026-01-02T03:04:04.9Z": true,
		"2026-01-02T03:04:05":    false,
		"2026-01-02T03:04:06":    false,
		// No sweep acts on a record that it cannot date.
		"":                    false,
		"2025":                false,
		"0000-00-00T00:00:00": false,
	} {
		if got := stamp.Before(limit); got != want {
			t.Errorf("%q before %v: %t", string(stamp), limit, got)
		}
	}
}

// FuzzStamp shows that what is read leniently is written strictly and then stays as it is.
func FuzzStamp(f *testing.F) {
	for _, seed := range []string{"2026-01-02T03:04:05", "2026-01-02T03:04:05.999Z", "0000-01-01T00:00:00", "9999-12-31T23:59:59", ""} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read, err := records.Stamp(text).Time()
		if err != nil {
			return
		}
		strict := records.At(read)
		again, err := strict.Time()
		if err != nil {
			t.Fatalf("%q is written as %q: %v", text, string(strict), err)
		}
		if !again.Equal(read.Truncate(time.Second)) {
			t.Errorf("%q is %v, written and read again %v", text, read, again)
		}
		if len(strict) != len("2006-01-02T15:04:05") || records.At(again) != strict {
			t.Errorf("%q is written as %q", text, string(strict))
		}
	})
}

func TestState(t *testing.T) {
	const at records.Stamp = "2026-01-02T03:04:05"
	for _, test := range []struct {
		record records.Record
		want   records.State
	}{
		{records.Record{}, records.Placeholder},
		{records.Record{CreatedAt: at}, records.Placeholder},
		{records.Record{CreatedAt: at, UploadedAt: at}, records.Temporary},
		{records.Record{UploadedAt: at, StoredAt: at}, records.Stored},
		{records.Record{StoredAt: at}, records.Stored}, // left by an API that stored an unknown id
		{records.Record{UploadedAt: at, StoredAt: at, DeletedAt: at}, records.Deleted},
		{records.Record{UploadedAt: at, DeletedAt: at}, records.Deleted},
		{records.Record{DeletedAt: at}, records.Deleted},
		{records.Record{UploadedAt: at, StoredAt: "null"}, records.Stored}, // misspelt counts as set
	} {
		if got := test.record.State(); got != test.want {
			t.Errorf("state of %+v: %s, want %s", test.record, got, test.want)
		}
	}
}

// Whatever is there can be shown in JSON.
func TestMetaJSON(t *testing.T) {
	for meta, want := range map[string]string{
		"": "", `{"a": 1}`: `{"a": 1}`, "{}": "{}", "[]": `"[]"`, "null": `"null"`, `{"a":`: `"{\"a\":"`, "no\x01json": `"no\u0001json"`,
	} {
		if got := (records.Record{Meta: meta}).MetaJSON(); string(got) != want {
			t.Errorf("%q is shown as %s, want %s", meta, got, want)
		}
	}
}

func TestMetaObject(t *testing.T) {
	for meta, want := range map[string]map[string]string{
		"":                              nil,
		`{}`:                            {},
		` {"a": 1} `:                    {"a": "1"},
		`{"a":"b","c":{"d":[null]}}`:    {"a": `"b"`, "c": `{"d":[null]}`},
		`{"n":12345678901234567890123}`: {"n": "12345678901234567890123"}, // digits are kept
	} {
		object, err := records.Record{Meta: meta}.MetaObject()
		if err != nil {
			t.Errorf("meta %q: %v", meta, err)
			continue
		}
		var got map[string]string
		if object != nil {
			got = make(map[string]string)
		}
		for name, value := range object {
			got[name] = string(value)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("meta %q (-want +got):\n%s", meta, diff)
		}
	}
	for _, bad := range []string{"null", "[]", `"{}"`, "1", "{", "}", `{"a":1}{"b":2}`, `{"a":1} x`, `{"a":1}}`, `{"a":1}]`, `{a:1}`, " "} {
		if object, err := (records.Record{Meta: bad}).MetaObject(); err == nil {
			t.Errorf("meta %q is read as %v", bad, object)
		}
	}
}

func TestMalformed(t *testing.T) {
	const at records.Stamp = "2026-01-02T03:04:05"
	sound := records.Record{
		ID: "a", Name: "a.txt", Type: "text/plain", Size: 1, Meta: `{"a":1}`,
		CreatedAt: at, UploadedAt: at + "Z", StoredAt: at + ".5", DeletedAt: at,
	}
	for _, test := range []struct {
		name   string
		change func(*records.Record)
		want   []string
	}{
		{"sound", func(*records.Record) {}, nil},
		{"only a placeholder", func(r *records.Record) { *r = records.Record{ID: "a", Size: -1} }, nil},
		{"meta", func(r *records.Record) { r.Meta = "[]" }, []string{"meta"}},
		{"a stamp", func(r *records.Record) { r.StoredAt = "null" }, []string{"stored_at"}},
		{"mistyped", func(r *records.Record) { r.Mistyped = []string{"size", "name"} }, []string{"name", "size"}},
		{"mistyped and malformed is one", func(r *records.Record) { r.Meta, r.Mistyped = "[]", []string{"meta"} }, []string{"meta"}},
		{"all", func(r *records.Record) {
			r.CreatedAt, r.UploadedAt, r.StoredAt, r.DeletedAt, r.Meta = "x", "x", "x", "x", "x"
			r.Mistyped = []string{"size", "type", "name"}
		}, []string{"name", "type", "size", "meta", "created_at", "uploaded_at", "stored_at", "deleted_at"}},
	} {
		r := sound
		test.change(&r)
		if diff := cmp.Diff(test.want, r.Malformed()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func TestRefusal(t *testing.T) {
	const at records.Stamp = "2026-01-02T03:04:05"
	stored := records.Record{ID: "a", UploadedAt: at, StoredAt: at}
	for _, test := range []struct {
		name    string
		refusal *records.TransitionError
		want    error
	}{
		{"no record", records.Refusal("a", false, records.Record{}, records.NotDeleted), records.ErrNotFound},
		{"the first that fails", records.Refusal("a", true, stored, records.NotDeleted, records.NotStored, records.NotUploaded), records.ErrStored},
		{"none fails", records.Refusal("a", true, stored, records.NotDeleted, records.IsUploaded), records.ErrNotDue},
	} {
		if !errors.Is(test.refusal, test.want) {
			t.Errorf("%s: %v, want %v", test.name, test.refusal, test.want)
		}
	}
	if got, want := records.Refusal("a", true, stored, records.NotStored).Error(), `file "a": stored`; got != want {
		t.Errorf("error text %q, want %q", got, want)
	}
}
