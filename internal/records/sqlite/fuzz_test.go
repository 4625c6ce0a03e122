package sqlite_test

import (
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/sqlite"
)

// FuzzRow: whatever another program has put into the database, there is a record of it, and the others are read.
func FuzzRow(f *testing.F) {
	for _, s := range []string{"", "a.txt", "\x00", "\xff\xfe", "\x1b[31m", `{"a":`, "2026-11-23T14:50:17", "NULL", "99999999999999999999"} {
		f.Add(s, s, int64(-1), s, s)
		f.Add("a.txt", "text/plain", int64(1)<<62, `{}`, s)
	}
	path := filepath.Join(f.TempDir(), "records.db")
	table, err := sqlite.Open(f.Context(), path)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = table.Close() })
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	f.Fuzz(func(t *testing.T, name, mimeType string, size int64, meta, stamp string) {
		if _, err := db.ExecContext(t.Context(), `INSERT OR REPLACE INTO files (id, name, type, size, meta, created_at, uploaded_at, stored_at)
			VALUES ('hostile000000000', ?, ?, ?, ?, ?, ?, ?), ('sound00000000000', 'a.txt', NULL, NULL, NULL, NULL, NULL, NULL)`,
			name, mimeType, size, meta, stamp, stamp, stamp); err != nil {
			t.Fatal(err)
		}
		found, err := table.Get(t.Context(), []string{"hostile000000000", "sound00000000000"})
		if err != nil || len(found) != 2 {
			t.Fatalf("found %v, %v", found, err)
		}
		r := found["hostile000000000"]
		if r.Name != name || r.Size != size && (size >= 0 || r.Size != -1) {
			t.Errorf("read %+v", r)
		}
		if malformed := r.Malformed(); size < 0 && len(malformed) == 0 {
			t.Errorf("size %d, and nothing is malformed", size)
		}
		seen := 0
		for page, err := range table.Scan(t.Context(), records.Filter{}, records.ScanOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			seen += len(page)
		}
		if seen != 2 {
			t.Errorf("a scan sees %d records", seen)
		}
	})
}
