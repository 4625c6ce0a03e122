package client_test

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/testserver"
)

// pendingFiles is how many files are pending in the tables of these tests: each second one is due.
const pendingFiles = 400

// fillPending makes a table of n records, of which pendingFiles are pending.
func fillPending(t testing.TB, f *filestore, n int) {
	t.Helper()
	due, young := f.stamp(2*time.Hour), f.stamp(time.Minute)
	const together = 10_000
	for first := 0; first < n; first += together {
		var rs []records.Record
		for i := first; i < min(first+together, n); i++ {
			r := records.Record{
				ID: scaleID(i), Name: "a file with a name of common length.pdf", Type: "application/pdf", Size: 1 << 20,
				CreatedAt: due, UploadedAt: due, StoredAt: due,
			}
			switch {
			case i < pendingFiles/2:
				r.StoredAt = ""
			case i < pendingFiles:
				r.CreatedAt, r.UploadedAt, r.StoredAt = young, young, ""
			}
			rs = append(rs, r)
		}
		f.fill(t, rs)
	}
}

// A sweep by the index costs the same however large the table is; one without it costs more. (In SQLite the
// statement itself says by which index it is, and fails without it.)
func TestIndexedSweepCostsTheSame(t *testing.T) {
	on := servers{s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}.withIndex()
	filled := func(n int) *filestore {
		f := on.open(t)
		f.Records = f.table
		fillPending(t, f, n)
		return f
	}
	cost := func(f *filestore, full bool) records.Cost {
		reads := records.NewMeter(0)
		s, err := f.Expire(t.Context(), client.ExpireOptions{DryRun: true, Full: full, Reads: reads})
		if err != nil || s.Expired != pendingFiles/2 {
			t.Fatalf("%+v, %v", s, err)
		}
		return reads.Total()
	}
	few, many := filled(1_000), filled(10_000)
	small, large, full := cost(few, false), cost(many, false), cost(many, true)
	if small != large {
		t.Errorf("1,000 records take %+v, and 10,000 take %+v", small, large)
	}
	if full.Units < 10*large.Units {
		t.Errorf("%+v by the index, %+v without", large, full)
	}
}

// BenchmarkIndexedSweep reads what is due by the index, and beside it out of the whole table, of tables that are
// ever larger and in which the same files are pending. It claims nothing, so that each round is the same.
// FILESTORE_SCALE sets the numbers of records: "10000 100000 1000000".
func BenchmarkIndexedSweep(b *testing.B) {
	sizes := []int{10_000, 100_000}
	if fields := bytes.Fields([]byte(os.Getenv("FILESTORE_SCALE"))); len(fields) > 0 {
		sizes = nil
		for _, field := range fields {
			n, err := strconv.Atoi(string(field))
			if err != nil {
				b.Fatal(err)
			}
			sizes = append(sizes, n)
		}
	}
	on := servers{s3: testserver.Versitygw(b)}
	for _, n := range sizes {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			f := on.withIndex().open(b)
			fillPending(b, f, n)
			for _, full := range []bool{false, true} {
				b.Run(fmt.Sprintf("full=%t", full), func(b *testing.B) {
					reads := records.NewMeter(0)
					for b.Loop() {
						s, err := f.Expire(b.Context(), client.ExpireOptions{DryRun: true, Full: full, Reads: reads})
						if err != nil || s.Expired != pendingFiles/2 {
							b.Fatalf("%+v, %v", s, err)
						}
					}
					b.ReportMetric(float64(reads.Total().Requests)/float64(b.N), "reads/op")
				})
			}
		})
	}
}
