package client_test

import (
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/records"
)

func testDelete(t *testing.T, on servers) {
	f := on.open(t)
	stored, temporary, placeholder := f.stored(t, "a.txt"), f.temporary(t, 0), f.placeholder(t, 0)
	unknown := client.NewID()
	first := f.stamp(0)
	ids := []string{temporary, unknown, stored, "no id", stored, placeholder}
	for _, later := range []time.Duration{0, time.Hour, 48 * time.Hour} {
		// Also the second and the third time: it succeeds, keeps the first time and deletes what
		// came through a URL that was still valid.
		f.clock.advance(later)
		if later > 0 {
			f.put(t, stored, "once more")
			f.put(t, placeholder, "late")
		}
		results := slices.Collect(f.Delete(t.Context(), ids))
		order, errs := errorsOf(results)
		if want := []string{temporary, unknown, stored, "no id", placeholder}; !slices.Equal(order, want) {
			t.Errorf("results for %q, want %q", order, want)
		}
		for _, id := range []string{unknown, "no id"} {
			wantReason(t, errs[id], client.NotFound)
		}
		for _, id := range []string{temporary, stored, placeholder} {
			if errs[id] != nil {
				t.Error(errs[id])
			}
			f.wantState(t, id, records.Deleted)
			if got := f.record(t, id).DeletedAt; got != first {
				t.Errorf("deleted at %s, want %s", got, first)
			}
		}
		if n := len(f.records(t)); n != 3 {
			t.Errorf("%d records: deleting an unknown id must not make one", n)
		}
	}

	t.Run("one", func(t *testing.T) {
		f := on.open(t)
		id, other := f.stored(t, "a.txt"), f.stored(t, "b.txt")
		for r := range f.Delete(t.Context(), []string{id}) {
			if r.Err != nil || r.Value.DeletedAt != f.stamp(0) {
				t.Errorf("%+v", r)
			}
		}
		f.wantState(t, id, records.Deleted)
		f.wantState(t, other, records.Stored)
	})

	t.Run("many", func(t *testing.T) {
		f := on.open(t)
		// Two requests and a rest.
		ids := f.many(t, 520, func(int) records.Record { return records.Record{CreatedAt: f.stamp(0), Size: -1} })
		for i := 0; i < len(ids); i += 100 {
			f.put(t, ids[i], content)
		}
		order, errs := errorsOf(slices.Collect(f.Delete(t.Context(), ids)))
		if !slices.Equal(order, ids) {
			t.Error("the results are not in the order of the ids")
		}
		for id, err := range errs {
			if err != nil {
				t.Errorf("%q: %v", id, err)
			}
		}
		f.wantNothing(t, true)
	})
}

// The record is marked first. Where the object stays, that is said of this file, and deleting it
// again or a sweep finishes it.
func testDeleteFails(t *testing.T, on servers) {
	t.Run("one of several", func(t *testing.T) {
		f := on.open(t)
		a, b, c := f.stored(t, "a"), f.stored(t, "b"), f.stored(t, "c")
		through := f.S3
		f.S3 = f.refusing(b)
		_, errs := errorsOf(slices.Collect(f.Delete(t.Context(), []string{a, b, c})))
		if errs[a] != nil || errs[c] != nil {
			t.Errorf("%v, %v", errs[a], errs[c])
		}
		wantReason(t, errs[b], client.Permission)
		f.wantState(t, a, records.Deleted)
		f.wantState(t, c, records.Deleted)
		if _, _, found := f.object(t, b); !found || f.record(t, b).State() != records.Deleted {
			t.Errorf("object there: %t, record %+v", found, f.record(t, b))
		}
		f.S3 = through
		for r := range f.Delete(t.Context(), []string{b}) {
			if r.Err != nil {
				t.Error(r.Err)
			}
		}
		f.wantNothing(t, true)
	})

	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprintf("all of %d", n), func(t *testing.T) {
			f := on.open(t)
			var ids []string
			for range n {
				ids = append(ids, f.stored(t, "a"))
			}
			match := deleteObjects
			if n == 1 {
				match = deleteObject
			}
			rule := f.s3Faults.Inject(match, faultproxy.Always(), faultproxy.SlowDown())
			for r := range f.Delete(t.Context(), ids) {
				wantReason(t, r.Err, client.Retry)
				if f.record(t, r.ID).State() != records.Deleted {
					t.Errorf("%q is %s", r.ID, f.record(t, r.ID).State())
				}
			}
			if rule.Hits() == 0 || len(f.objects(t)) != n {
				t.Errorf("%d faults, %d objects", rule.Hits(), len(f.objects(t)))
			}
			f.heal()
			if s, err := f.Expire(t.Context(), client.ExpireOptions{}); err != nil || s.Cleaned != n {
				t.Errorf("%+v, %v", s, err)
			}
			f.wantNothing(t, true)
		})
	}
}

// refusing returns an S3 client whose DeleteObjects deletes all but id, which it refuses.
func (f *filestore) refusing(id string) *s3.Client {
	return f.answering(deleteObjects, func(r *http.Request) (int, string, error) {
		var asked struct {
			Keys []string `xml:"Object>Key"`
		}
		if err := xml.NewDecoder(r.Body).Decode(&asked); err != nil {
			return 0, "", err
		}
		for _, key := range asked.Keys {
			if key == id {
				continue
			}
			if _, err := f.api.DeleteObject(r.Context(), &s3.DeleteObjectInput{Bucket: &f.Bucket, Key: &key}); err != nil {
				return 0, "", err
			}
		}
		return http.StatusOK, fmt.Sprintf(
			`<DeleteResult><Error><Key>%s</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>`, id), nil
	})
}

// answering returns a client whose requests that match get an answer made here, with a status and
// an XML body. All others go to the server.
func (f *filestore) answering(match faultproxy.Match, answer func(*http.Request) (int, string, error)) *s3.Client {
	return client.NewS3(aws.Config{Region: f.s3.Region, Credentials: f.api.Options().Credentials}, func(o *s3.Options) {
		o.BaseEndpoint = &f.s3.Endpoint
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			if !match(r) {
				return http.DefaultClient.Do(r)
			}
			status, body, err := answer(r)
			if err != nil {
				return nil, err
			}
			return &http.Response{
				StatusCode: status, Request: r, Header: http.Header{"Content-Type": {"application/xml"}},
				Body: io.NopCloser(strings.NewReader(`<?xml version="1.0" encoding="UTF-8"?>` + "\n" + body)),
			}, nil
		})
	})
}
