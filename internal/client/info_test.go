package client_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	types3 "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

// Stored files are always shown, and they alone have a URL. The others are shown to who asks for
// them; of what is not shown the error says what it is.
func testInfoVisibility(t *testing.T, on servers) {
	f := on.open(t)
	const then = 5 * time.Hour
	sixth := f.stamp(then)
	now := f.stamp(0)
	for _, test := range []struct {
		name   string
		record records.Record
		// shown to who asks for: nothing more, deleted ones, non-stored ones, both
		shown [4]bool
		// why not
		reason client.Reason
	}{
		{"a placeholder", records.Record{CreatedAt: sixth, Size: -1}, [4]bool{false, false, true, true}, client.NotUploaded},
		{"a temporary file", records.Record{UploadedAt: sixth}, [4]bool{false, false, true, true}, client.NotStored},
		{"a stored file", records.Record{UploadedAt: sixth, StoredAt: now}, [4]bool{true, true, true, true}, ""},
		{"stored, though never uploaded", records.Record{StoredAt: now}, [4]bool{true, true, true, true}, ""},
		{"a deleted placeholder", records.Record{CreatedAt: sixth, DeletedAt: now, Size: -1}, [4]bool{false, true, true, true}, client.Deleted},
		{"an expired file", records.Record{UploadedAt: sixth, DeletedAt: now}, [4]bool{false, true, true, true}, client.Expired},
		{"a deleted temporary file", records.Record{UploadedAt: sixth, DeletedAt: sixth}, [4]bool{false, true, true, true}, client.Deleted},
		{"a deleted file that was stored", records.Record{UploadedAt: sixth, StoredAt: sixth, DeletedAt: now}, [4]bool{false, true, false, true}, client.Deleted},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := f.raw(t, test.record)
			for i, opts := range []client.InfoOptions{{}, {Deleted: true}, {NonStored: true}, {Deleted: true, NonStored: true}} {
				r := one(t, f.Info(t.Context(), []string{id}, opts))
				if !test.shown[i] {
					wantReason(t, r.Err, test.reason)
					continue
				}
				if r.Err != nil {
					t.Errorf("%+v: %v", opts, r.Err)
					continue
				}
				if r.Value.ID != id || r.Value.State() != f.record(t, id).State() {
					t.Errorf("%+v: %+v", opts, r.Value)
				}
				if hasURL := r.Value.URL.URL != ""; hasURL != (r.Value.State() == records.Stored) {
					t.Errorf("%+v: a %s file and its URL %q", opts, r.Value.State(), r.Value.URL.URL)
				}
			}
		})
	}
}

func testInfoOrder(t *testing.T, on servers) {
	f := on.open(t)
	now := f.stamp(0)
	ids := f.many(t, 250, func(i int) records.Record {
		return records.Record{Name: fmt.Sprint(i), UploadedAt: now, StoredAt: now, Size: int64(i)}
	})
	unknown := make(map[string]bool)
	for i := 3; i < len(ids); i += 7 {
		ids[i] = client.NewID()
		unknown[ids[i]] = true
	}
	asked := slices.Concat(ids[:100], []string{"no id", "no id"}, ids[50:], ids)
	want := slices.Concat(ids[:100], []string{"no id"}, ids[100:])
	var got []string
	for r := range f.Info(t.Context(), asked, client.InfoOptions{}) {
		got = append(got, r.ID)
		switch {
		case unknown[r.ID] || r.ID == "no id":
			wantReason(t, r.Err, client.NotFound)
		case r.Err != nil:
			t.Errorf("%q: %v", r.ID, r.Err)
		case r.Value.Name != fmt.Sprint(slices.Index(ids, r.ID)):
			t.Errorf("%q got the record of file %q", r.ID, r.Value.Name)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d answers in another order than the %d ids", len(got), len(want))
	}

	// Who needs no more answers stops.
	for r := range f.Info(t.Context(), asked, client.InfoOptions{}) {
		if r.ID != ids[0] {
			t.Errorf("the first answer is for %q", r.ID)
		}
		break
	}
}

// One bad record never breaks the answer for the others, and it is shown itself.
func testInfoMalformed(t *testing.T, on servers) {
	f := on.open(t)
	good := f.stored(t, "good.txt")
	now := string(f.stamp(0))
	bad := map[string]string{ // id to what is malformed
		f.raw(t, records.Record{Size: 1, UploadedAt: "2024-01-02T03:04:05.678Z", StoredAt: records.Stamp(now)}):         "",
		f.raw(t, records.Record{Size: 1, UploadedAt: records.Stamp(now), StoredAt: "tomorrow"}):                         "stored_at",
		f.raw(t, records.Record{Size: 1, UploadedAt: records.Stamp(now), StoredAt: records.Stamp(now), Meta: "[1, 2"}):  "meta",
		f.raw(t, records.Record{Size: 1, UploadedAt: records.Stamp(now), StoredAt: records.Stamp(now), Meta: `"text"`}): "meta",
	}
	if on.dynamoDB != "" {
		for malformed, item := range map[string]map[string]types.AttributeValue{
			"size":            {"size": &types.AttributeValueMemberS{Value: "many"}},
			"name":            {"name": &types.AttributeValueMemberN{Value: "42"}},
			"type":            {"type": &types.AttributeValueMemberBOOL{Value: true}},
			"meta":            {"meta": &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{"a": &types.AttributeValueMemberS{Value: "b"}}}},
			"name,size,meta":  {"name": &types.AttributeValueMemberL{}, "size": &types.AttributeValueMemberNULL{Value: true}, "meta": &types.AttributeValueMemberB{Value: []byte{0}}},
			"":                {"x": &types.AttributeValueMemberSS{Value: []string{"of", "others"}}},
			"type,created_at": {"created_at": &types.AttributeValueMemberN{Value: "1700000000"}, "type": &types.AttributeValueMemberN{Value: "1"}},
		} {
			id := client.NewID()
			whole := map[string]types.AttributeValue{
				"id": &types.AttributeValueMemberS{Value: id}, "name": &types.AttributeValueMemberS{Value: "x"},
				"type": &types.AttributeValueMemberS{Value: "text/plain"}, "size": &types.AttributeValueMemberN{Value: "1"},
				"uploaded_at": &types.AttributeValueMemberS{Value: now}, "stored_at": &types.AttributeValueMemberS{Value: now},
			}
			maps.Copy(whole, item)
			if _, err := f.dynamoAPI.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: aws.String(f.tableName), Item: whole}); err != nil {
				t.Fatal(err)
			}
			bad[id] = malformed
		}
	}
	ids := []string{good}
	for id := range bad {
		ids = append(ids, id)
	}
	seen := 0
	for r := range f.Info(t.Context(), ids, client.InfoOptions{}) {
		seen++
		if r.Err != nil {
			t.Errorf("%q: %v", r.ID, r.Err)
			continue
		}
		if got := strings.Join(r.Value.Malformed(), ","); got != bad[r.ID] {
			t.Errorf("%+v: malformed are %q, want %q", r.Value.Record, got, bad[r.ID])
		}
		if r.Value.State() != records.Stored || r.Value.URL.URL == "" {
			t.Errorf("%+v", r.Value)
		}
	}
	if seen != len(ids) {
		t.Errorf("%d answers for %d ids", seen, len(ids))
	}
}

func testInfoURLs(t *testing.T, on servers) {
	f := on.open(t)
	id := f.stored(t, "report.txt")
	urlOf := func(opts client.InfoOptions) (presign.URL, error) {
		r := one(t, f.Info(t.Context(), []string{id}, opts))
		return r.Value.URL, r.Err
	}
	now := f.clock.now().UTC().Truncate(time.Second)

	url, err := urlOf(client.InfoOptions{})
	if err != nil || !url.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("%+v, %v", url, err)
	}
	resp, err := http.Get(url.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil || string(body) != content {
		t.Errorf("%s: %q, %v", resp.Status, body, err)
	}
	if got := resp.Header.Get("Content-Disposition"); got != `attachment; filename="report.txt"` {
		t.Errorf("Content-Disposition is %q", got)
	}
	if got := resp.Header.Get("Content-Type"); got != "text/plain" {
		t.Errorf("Content-Type is %q", got)
	}

	url, err = urlOf(client.InfoOptions{Expires: 10 * time.Minute})
	if err != nil || !url.Expires.Equal(now.Add(10*time.Minute)) {
		t.Errorf("%+v, %v", url, err)
	}
	for _, lifetime := range []time.Duration{presign.MaxLifetime + time.Second, time.Millisecond, -time.Hour} {
		_, err := urlOf(client.InfoOptions{Expires: lifetime})
		wantReason(t, err, client.Usage)
	}

	// A URL dies with the temporary credentials that signed it.
	signer := f.Signer
	f.Signer = func(ctx context.Context) (presign.Signer, error) {
		s, err := signer(ctx)
		s.Credentials.SessionToken, s.Credentials.Expires = "token", now.Add(10*time.Minute)
		return s, err
	}
	url, err = urlOf(client.InfoOptions{Expires: time.Hour})
	if err != nil || !url.Expires.Equal(now.Add(10*time.Minute)) {
		t.Errorf("%+v, %v", url, err)
	}
	url, err = urlOf(client.InfoOptions{Expires: time.Minute})
	if err != nil || !url.Expires.Equal(now.Add(time.Minute)) {
		t.Errorf("%+v, %v", url, err)
	}
	f.clock.advance(10 * time.Minute)
	_, err = urlOf(client.InfoOptions{})
	wantReason(t, err, client.Permission)

	// Without credentials no file has a URL, and files that get none are still shown.
	f.Signer = func(context.Context) (presign.Signer, error) {
		return presign.Signer{}, client.ErrNoCredentials
	}
	temporary := f.upload(t).ID
	for r := range f.Info(t.Context(), []string{id, temporary}, client.InfoOptions{NonStored: true}) {
		if r.ID == id {
			wantReason(t, r.Err, client.Permission)
		} else if r.Err != nil {
			t.Error(r.Err)
		}
	}
}

// On demand S3 is asked what it holds of each file, and whether it holds it at all.
func testInfoChecksums(t *testing.T, on servers) {
	f := on.open(t)
	var heads atomic.Int64
	f.s3Faults.OnRequest(func(faultproxy.Request) { heads.Add(1) })
	put := func(id string, algorithm types3.ChecksumAlgorithm) string {
		if _, err := f.api.PutObject(t.Context(), &s3.PutObjectInput{
			Bucket: &f.Bucket, Key: &id, Body: strings.NewReader(content), ChecksumAlgorithm: algorithm,
		}); err != nil {
			t.Fatal(err)
		}
		return id
	}
	ours := f.upload(t).ID
	heads.Store(0)
	sha := put(f.stored(t, "sha.txt"), types3.ChecksumAlgorithmSha256)
	missing := f.stored(t, "missing.txt")
	f.remove(t, missing)
	longer := f.stored(t, "longer.txt")
	f.put(t, longer, content+content)
	placeholder, unknown := f.placeholder(t, 0), client.NewID()
	gone := f.raw(t, records.Record{UploadedAt: f.stamp(0), StoredAt: f.stamp(0), DeletedAt: f.stamp(0), Size: 1})

	ids := []string{ours, missing, sha, placeholder, unknown, longer, gone}
	everything := client.InfoOptions{Deleted: true, NonStored: true}
	for r := range f.Info(t.Context(), ids, everything) {
		if r.Err != nil && r.ID != unknown || r.Value.Checksum != (transfer.Checksum{}) {
			t.Errorf("without being asked: %+v, %v", r.Value, r.Err)
		}
	}
	if n := heads.Load(); n != 0 {
		t.Errorf("without being asked: %d requests to S3", n)
	}

	everything.Checksum = true
	results := slices.Collect(f.Info(t.Context(), ids, everything))
	order, errs := errorsOf(results)
	if !slices.Equal(order, ids) {
		t.Errorf("results for %q, want %q", order, ids)
	}
	if n := heads.Load(); n != 4 {
		t.Errorf("%d requests to S3 for 4 files that should have an object", n)
	}
	wantReason(t, errs[unknown], client.NotFound)
	wantReason(t, errs[missing], client.NotFound)
	wantReason(t, errs[longer], client.Failed)
	if !errors.Is(errs[missing], client.ErrObjectMissing) || !errors.Is(errs[longer], transfer.ErrSize) {
		t.Errorf("%v, %v", errs[missing], errs[longer])
	}
	want := map[string]transfer.Checksum{
		ours: {Algorithm: "CRC64NVME", Value: strings.Split(f.fingerprint(t, content), ":")[1], Type: "FULL_OBJECT"},
		sha:  {Algorithm: "SHA256", Value: sha256Of(content), Type: "FULL_OBJECT"},
	}
	for _, r := range results {
		if slices.Contains([]string{unknown, missing, longer}, r.ID) {
			continue
		}
		if r.Err != nil || r.Value.Checksum != want[r.ID] {
			t.Errorf("%+v, %v; want %+v", r.Value, r.Err, want[r.ID])
		}
	}

	// Of more files than are looked at together, the order is still that of the ids.
	t.Run("many", func(t *testing.T) {
		const n = 1100
		f := on.open(t)
		all := make([]records.Record, n)
		ids := make([]string, n)
		for i := range all {
			ids[i] = client.NewID()
			all[i] = records.Record{ID: ids[i], Name: fmt.Sprint(i), UploadedAt: f.stamp(0), StoredAt: f.stamp(0), Size: 1}
		}
		f.fill(t, all)
		var got []string
		for r := range f.Info(t.Context(), ids, client.InfoOptions{Checksum: true}) {
			wantReason(t, r.Err, client.NotFound)
			got = append(got, r.ID)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("%d answers in another order than the %d ids", len(got), n)
		}
	})
}

func sha256Of(text string) string {
	sum := sha256.Sum256([]byte(text))
	return base64.StdEncoding.EncodeToString(sum[:])
}
