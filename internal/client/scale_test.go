package client_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/testserver"
)

// Every part of the table is read: all of many expired files are found and removed. (A part of DynamoDB is a page here; those
// of several pages are in TestManyRecords of package dynamo.)
func TestManyExpired(t *testing.T) {
	t.Run("2,000 in DynamoDB", func(t *testing.T) {
		f := servers{s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}.open(t)
		expireMany(t, f, 2_000, 300)
	})
	t.Run("5,000 in SQLite", func(t *testing.T) {
		f := servers{s3: testserver.Versitygw(t)}.open(t)
		expireMany(t, f, 5_000, 200)
	})
}

func expireMany(t *testing.T, f *filestore, n, objects int) {
	t.Helper()
	f.Records = f.table // no proxy between: what is measured is the sweep
	id := func(i int) string { return fmt.Sprintf("many%012d", i) }
	uploaded := f.stamp(2 * time.Hour)
	f.many(t, n, func(i int) records.Record {
		return records.Record{
			ID: id(i), Name: fmt.Sprintf("file number %d, with a name of common length.pdf", i), Type: "application/pdf", Size: 1 << 20,
			Meta: `{"path":"some/where"}`, CreatedAt: uploaded, UploadedAt: uploaded,
		}
	})
	kept := f.stored(t, "kept.txt")
	var group errgroup.Group
	group.SetLimit(8)
	for i := range objects {
		group.Go(func() error { return f.tryPut(t.Context(), id(i*(n/objects)), content) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}

	begin := time.Now()
	s, err := f.Expire(t.Context(), client.ExpireOptions{})
	took := time.Since(begin)
	if err != nil || s != (client.Summary{Expired: n}) {
		t.Fatalf("%+v, %v", s, err)
	}
	t.Logf("%d files expired in %s: %.0f/s", n, took.Round(time.Millisecond), float64(n)/took.Seconds())

	var left int
	all := f.records(t)
	for _, r := range all {
		if r.ID != kept && r.DeletedAt != f.stamp(0) {
			left++
		}
	}
	if left > 0 || len(all) != n+1 {
		t.Errorf("%d of %d records are not marked as deleted", left, len(all)-1)
	}
	if keys := f.objects(t); len(keys) != 1 || !keys[kept] {
		t.Errorf("%d objects are left, want that of the stored file alone", len(keys))
	}
}
