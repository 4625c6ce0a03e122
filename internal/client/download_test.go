package client_test

import (
	"bytes"
	"errors"
	"net/http"
	"testing"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

var getObject = faultproxy.On(http.MethodGet)

func testDownload(t *testing.T, on servers) {
	for _, data := range [][]byte{nil, []byte(content), randomBytes(11 * mib)} {
		f := on.open(t)
		r, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.bin", Store: true, File: tempFile(t, data)})
		if err != nil {
			t.Fatal(err)
		}
		// Where it is long enough to break off, it breaks off in the middle once.
		f.s3Faults.Inject(getObject, faultproxy.First(1), faultproxy.CutDownload(int64(len(data)/2)))
		var got bytes.Buffer
		var moved progress
		object, err := f.Download(t.Context(), r, &got, moved.add)
		if err != nil || !bytes.Equal(got.Bytes(), data) {
			t.Errorf("%d bytes came back as %d: %v", len(data), got.Len(), err)
		}
		if object.Size != int64(len(data)) || object.Verified != "CRC64NVME" || moved.bytes() != object.Size {
			t.Errorf("%+v, progress says %d bytes", object, moved.bytes())
		}
	}

	t.Run("who may", func(t *testing.T) {
		f := on.open(t)
		stored, temporary := f.stored(t, "a.txt"), f.temporary(t, 0)
		placeholder, deleted := f.placeholder(t, 0), f.stored(t, "b.txt")
		for r := range f.Delete(t.Context(), []string{deleted}) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		expired := f.raw(t, records.Record{UploadedAt: f.stamp(7200e9), DeletedAt: f.stamp(0)})
		unknown := client.NewID()
		want := map[string]client.Reason{
			stored: "", temporary: client.NotStored, placeholder: client.NotUploaded, deleted: client.Deleted,
			expired: client.Expired, unknown: client.NotFound, "no id": client.NotFound,
		}
		ids := []string{unknown, stored, temporary, placeholder, stored, deleted, expired, "no id"}
		for _, nonStored := range []bool{false, true} {
			if nonStored {
				want[temporary] = ""
			}
			results := f.Downloadable(t.Context(), ids, nonStored)
			if len(results) != len(want) {
				t.Errorf("%d answers for %d ids", len(results), len(want))
			}
			for _, r := range results {
				if want[r.ID] != "" {
					wantReason(t, r.Err, want[r.ID])
				} else if r.Err != nil {
					t.Errorf("%q: %v", r.ID, r.Err)
				}
			}
		}
	})
}

func testDownloadWrong(t *testing.T, on servers) {
	f := on.open(t)
	id := f.stored(t, "a.txt")
	r := f.record(t, id)
	download := func() error {
		var got bytes.Buffer
		_, err := f.Download(t.Context(), r, &got, nil)
		return err
	}

	rule := f.s3Faults.Inject(getObject, faultproxy.Always(), faultproxy.FlipDownload(3))
	if err := download(); !errors.Is(err, transfer.ErrChecksum) {
		t.Errorf("a byte is wrong: %v", err)
	}
	if rule.Hits() == 0 {
		t.Error("no byte was flipped")
	}
	f.heal()
	f.s3Faults.Inject(getObject, faultproxy.Always(), faultproxy.TruncateDownload(5))
	if err := download(); !errors.Is(err, transfer.ErrSize) {
		t.Errorf("the end is missing: %v", err)
	}
	f.heal()
	f.s3Faults.Inject(getObject, faultproxy.Always(), faultproxy.SlowDown())
	wantReason(t, download(), client.Retry)
	f.heal()

	// Somebody uploaded another content through a URL that was still valid.
	f.put(t, id, content+"and more")
	if err := download(); !errors.Is(err, transfer.ErrSize) {
		t.Errorf("another content: %v", err)
	}

	// The object is gone although the record says otherwise.
	f.remove(t, id)
	err := download()
	wantReason(t, err, client.NotFound)
	if !errors.Is(err, client.ErrObjectMissing) {
		t.Errorf("it says %q", err)
	}
}
