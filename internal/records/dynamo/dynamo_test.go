package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/recordstest"
	"github.com/designfultech/filestore/internal/testserver"
)

const (
	early records.Stamp = "2026-01-02T03:04:05"
	now   records.Stamp = "2026-01-02T05:00:00"
)

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// newTable makes the table of that name with the contract's key.
func newTable(t *testing.T, api dynamo.API, name string) *dynamo.Table {
	t.Helper()
	testserver.MakeTable(t, api, dynamo.Schema(name))
	return dynamo.New(api, name)
}

// newIndexedTable makes the table of that name with the index of pending files.
func newIndexedTable(t *testing.T, api dynamo.API, name string) *dynamo.Table {
	t.Helper()
	testserver.MakeTable(t, api, dynamo.IndexedSchema(name))
	return dynamo.New(api, name)
}

func TestContract(t *testing.T) {
	if testserver.Race {
		t.Skip("TestContractInBatches does the same, and more of it at once")
	}
	client := testserver.DynamoDB(testserver.Dynalite(t))
	var tables int
	recordstest.Run(t, func(t *testing.T) records.Table {
		tables++
		name := fmt.Sprintf("Files%d", tables)
		return suiteTable{newIndexedTable(t, &updatable{smallPages: smallPages{client}}, name), client, name}
	})
}

// smallPages is a DynamoDB that finds few items in a megabyte.
type smallPages struct{ *dynamodb.Client }

func (c smallPages) Scan(ctx context.Context, in *dynamodb.ScanInput, optFns ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error) {
	limited := *in
	if limited.Limit == nil || *limited.Limit > 7 {
		limited.Limit = aws.Int32(7)
	}
	return c.Client.Scan(ctx, &limited, optFns...)
}

func (c smallPages) Query(ctx context.Context, in *dynamodb.QueryInput, optFns ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	limited := *in
	limited.Limit = aws.Int32(7)
	return c.Client.Query(ctx, &limited, optFns...)
}

// suiteTable implements [recordstest.Attributes].
type suiteTable struct {
	records.Table
	client *dynamodb.Client
	name   string
}

func (s suiteTable) SetAttribute(t *testing.T, id, name, value string) {
	t.Helper()
	_, err := s.client.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 &s.name,
		Key:                       map[string]types.AttributeValue{"id": text(id)},
		UpdateExpression:          aws.String("SET #name = :value"),
		ExpressionAttributeNames:  map[string]string{"#name": name},
		ExpressionAttributeValues: map[string]types.AttributeValue{":value": text(value)},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (s suiteTable) Attribute(t *testing.T, id, name string) string {
	t.Helper()
	out, err := s.client.GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: &s.name, Key: map[string]types.AttributeValue{"id": text(id)}, ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := out.Item[name].(*types.AttributeValueMemberS); ok {
		return v.Value
	}
	return ""
}

func (s suiteTable) RemoveAttributes(t *testing.T, id string, names ...string) {
	t.Helper()
	_, err := s.client.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: &s.name, Key: map[string]types.AttributeValue{"id": text(id)},
		UpdateExpression: aws.String("REMOVE " + strings.Join(names, ", ")),
	})
	if err != nil {
		t.Fatal(err)
	}
}

// putRaw puts an item as another writer might have left it.
func putRaw(t *testing.T, client *dynamodb.Client, table string, item map[string]types.AttributeValue) {
	t.Helper()
	if _, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &table, Item: item}); err != nil {
		t.Fatal(err)
	}
}

func TestLenientReading(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	table := newTable(t, client, "Files")

	sound := records.Record{
		ID: "sound", Name: "a.txt", Type: "text/plain", Size: 5, Meta: `{"a":1}`,
		Fingerprint: "crc64nvme:AAAAAAAAAAA=:5", CreatedAt: early, UploadedAt: early, StoredAt: early,
	}
	null := &types.AttributeValueMemberNULL{Value: true}
	number := func(s string) types.AttributeValue { return &types.AttributeValueMemberN{Value: s} }
	object := &types.AttributeValueMemberM{Value: map[string]types.AttributeValue{
		"a": &types.AttributeValueMemberL{Value: []types.AttributeValue{number("1.5"), text("x"), null}},
		"b": &types.AttributeValueMemberBOOL{Value: true},
		"c": &types.AttributeValueMemberB{Value: []byte("bytes")},
	}}
	tests := []struct {
		name   string
		item   map[string]types.AttributeValue // what differs from sound; nil: absent
		change func(*records.Record)
	}{
		{"sound", nil, func(*records.Record) {}},
		{"name a number", map[string]types.AttributeValue{"name": number("42")},
			func(r *records.Record) { r.Name, r.Mistyped = "42", []string{"name"} }},
		{"name null", map[string]types.AttributeValue{"name": null},
			func(r *records.Record) { r.Name, r.Mistyped = "", []string{"name"} }},
		{"name absent", map[string]types.AttributeValue{"name": nil},
			func(r *records.Record) { r.Name = "" }},
		{"type a list", map[string]types.AttributeValue{"type": &types.AttributeValueMemberSS{Value: []string{"a/b"}}},
			func(r *records.Record) { r.Type, r.Mistyped = `["a/b"]`, []string{"type"} }},
		{"size absent", map[string]types.AttributeValue{"size": nil},
			func(r *records.Record) { r.Size = -1 }},
		{"size null", map[string]types.AttributeValue{"size": null},
			func(r *records.Record) { r.Size, r.Mistyped = -1, []string{"size"} }},
		{"size a text", map[string]types.AttributeValue{"size": text("7")},
			func(r *records.Record) { r.Size, r.Mistyped = 7, []string{"size"} }},
		{"size a word", map[string]types.AttributeValue{"size": text("big")},
			func(r *records.Record) { r.Size, r.Mistyped = -1, []string{"size"} }},
		{"size a fraction", map[string]types.AttributeValue{"size": number("7.5")},
			func(r *records.Record) { r.Size, r.Mistyped = -1, []string{"size"} }},
		{"size negative", map[string]types.AttributeValue{"size": number("-7")},
			func(r *records.Record) { r.Size, r.Mistyped = -1, []string{"size"} }},
		{"size with exponent", map[string]types.AttributeValue{"size": number("7e3")},
			func(r *records.Record) { r.Size = 7000 }},
		{"meta an object", map[string]types.AttributeValue{"meta": object},
			func(r *records.Record) {
				r.Meta, r.Mistyped = `{"a":[1.5,"x",null],"b":true,"c":"Ynl0ZXM="}`, []string{"meta"}
			}},
		{"meta null", map[string]types.AttributeValue{"meta": null},
			func(r *records.Record) { r.Meta, r.Mistyped = "", []string{"meta"} }},
		{"meta no JSON", map[string]types.AttributeValue{"meta": text("{")},
			func(r *records.Record) { r.Meta = "{" }},
		{"fingerprint a number", map[string]types.AttributeValue{"fingerprint": number("7")},
			func(r *records.Record) { r.Fingerprint, r.Mistyped = "7", []string{"fingerprint"} }},
		{"fingerprint absent", map[string]types.AttributeValue{"fingerprint": nil},
			func(r *records.Record) { r.Fingerprint = "" }},
		{"stored_at null", map[string]types.AttributeValue{"stored_at": null},
			func(r *records.Record) { r.StoredAt, r.Mistyped = "null", []string{"stored_at"} }},
		{"stored_at empty", map[string]types.AttributeValue{"stored_at": text("")},
			func(r *records.Record) { r.StoredAt, r.Mistyped = `""`, []string{"stored_at"} }},
		{"stored_at a number", map[string]types.AttributeValue{"stored_at": number("1767323045")},
			func(r *records.Record) { r.StoredAt, r.Mistyped = "1767323045", []string{"stored_at"} }},
		{"stored_at false", map[string]types.AttributeValue{"stored_at": &types.AttributeValueMemberBOOL{}},
			func(r *records.Record) { r.StoredAt, r.Mistyped = "false", []string{"stored_at"} }},
		{"stored_at with fraction", map[string]types.AttributeValue{"stored_at": text("2026-01-02T03:04:05.678Z")},
			func(r *records.Record) { r.StoredAt = "2026-01-02T03:04:05.678Z" }},
		{"all wrong", map[string]types.AttributeValue{
			"name": null, "type": null, "size": null, "meta": null, "fingerprint": null,
			"created_at": null, "uploaded_at": null, "stored_at": null, "deleted_at": null,
		}, func(r *records.Record) {
			*r = records.Record{
				ID: r.ID, Size: -1, CreatedAt: "null", UploadedAt: "null", StoredAt: "null", DeletedAt: "null",
				Mistyped: []string{"name", "type", "size", "meta", "fingerprint", "created_at", "uploaded_at", "stored_at", "deleted_at"},
			}
		}},
		{"nothing but the id", map[string]types.AttributeValue{
			"name": nil, "type": nil, "size": nil, "meta": nil, "fingerprint": nil, "created_at": nil, "uploaded_at": nil, "stored_at": nil,
		}, func(r *records.Record) { *r = records.Record{ID: r.ID, Size: -1} }},
	}
	want := make(map[string]records.Record)
	var ids []string
	for _, test := range tests {
		item := recordstest.Item(sound)
		for name, value := range test.item {
			if item[name] = value; value == nil {
				delete(item, name)
			}
		}
		item["id"] = text(test.name)
		putRaw(t, client, "Files", item)

		r := sound
		r.ID = test.name
		test.change(&r)
		want[r.ID] = r
		ids = append(ids, r.ID)
	}

	t.Run("get", func(t *testing.T) {
		got, err := table.Get(t.Context(), ids)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Get (-want +got):\n%s", diff)
		}
	})
	t.Run("scan", func(t *testing.T) {
		got := make(map[string]bool)
		for page, err := range table.Scan(t.Context(), records.Filter{}, records.ScanOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range page {
				got[r.ID] = true
			}
		}
		if len(got) != len(tests) {
			t.Errorf("%d records, want %d", len(got), len(tests))
		}
	})
	t.Run("transitions", func(t *testing.T) {
		// A stored_at that cannot be read protects the file all the same, and one that is NULL.
		for _, id := range []string{"stored_at null", "stored_at empty", "stored_at a number"} {
			if _, err := table.Expire(t.Context(), id, now, now); !errors.Is(err, records.ErrStored) {
				t.Errorf("Expire of %q: error %v", id, err)
			}
			if r, err := table.Store(t.Context(), id, now, nil); err != nil || r.StoredAt != want[id].StoredAt {
				t.Errorf("Store of %q: stored_at %q, error %v", id, r.StoredAt, err)
			}
		}
		// An uploaded_at of another type is before nothing, though it would be as text.
		item := map[string]types.AttributeValue{"id": text("dated by number"), "uploaded_at": number("1")}
		putRaw(t, client, "Files", item)
		if _, err := table.Expire(t.Context(), "dated by number", now, now); !errors.Is(err, records.ErrNotDue) {
			t.Errorf("Expire: error %v", err)
		}
		for page, err := range table.Scan(t.Context(), records.Filter{UploadedBefore: now}, records.ScanOptions{}) {
			if err != nil || len(page) > 0 {
				t.Errorf("Scan: %v, error %v", page, err)
			}
		}
	})
}

// lossyTransport loses answers: the server has carried the request out, and the client sees
// the connection break.
type lossyTransport struct {
	operation string // of DynamoDB, "UpdateItem"
	lose      atomic.Int32
}

func (l *lossyTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.Header.Get("X-Amz-Target"), "."+l.operation) && l.lose.Add(-1) >= 0 {
		response.Body.Close()
		return nil, errors.New("connection reset by peer")
	}
	return response, err
}

// TestLostAnswers has the SDK repeat a write that was carried out, because its answer was
// lost: every transition must say what is true of the first one.
func TestLostAnswers(t *testing.T) {
	endpoint := testserver.Dynalite(t)
	newTable(t, testserver.DynamoDB(endpoint), "Files")
	quiet := dynamo.New(testserver.DynamoDB(endpoint), "Files") // loses nothing
	ctx := t.Context()
	upload := records.Upload{At: early, Type: "text/plain", Size: 5}

	placeholder := records.Record{ID: "x", Name: "a.txt", Meta: `{"a":1}`, Size: -1, CreatedAt: early}
	temporary := placeholder
	temporary.UploadedAt, temporary.Type, temporary.Size = upload.At, upload.Type, upload.Size
	stored := temporary
	stored.StoredAt = now
	announced := temporary
	announced.CreatedAt, announced.UploadedAt = "", now
	expired := temporary
	expired.DeletedAt = now
	abandoned := placeholder
	abandoned.DeletedAt = now

	create := func(table *dynamo.Table, id string) error {
		r := placeholder
		r.ID = id
		return table.Create(ctx, r)
	}
	for _, test := range []struct {
		name, operation string
		begin           *records.Record
		do              func(table *dynamo.Table, id string) error
		want            *records.Record
		err             error // of the transition
	}{
		{"create", "PutItem", nil, create, &placeholder, nil},
		{"create, the id is taken", "PutItem", &temporary, create, &temporary, records.ErrExists},
		{"create, taken for another content", "PutItem", &placeholder, func(table *dynamo.Table, id string) error {
			r := placeholder
			r.ID, r.Fingerprint = id, "crc64nvme:AAAAAAAAAAA=:0"
			return table.Create(ctx, r)
		}, &placeholder, records.ErrExists},
		{"create, taken by another placeholder", "PutItem", &placeholder, func(table *dynamo.Table, id string) error {
			return table.Create(ctx, records.Record{ID: id, Name: "b.txt", CreatedAt: early})
		}, &placeholder, records.ErrExists},
		{"uploaded", "UpdateItem", &placeholder, func(table *dynamo.Table, id string) error {
			_, err := table.Uploaded(ctx, id, upload)
			return err
		}, &temporary, nil},
		{"store", "UpdateItem", &temporary, func(table *dynamo.Table, id string) error {
			_, err := table.Store(ctx, id, now, nil)
			return err
		}, &stored, nil},
		{"store, filled in", "UpdateItem", &placeholder, func(table *dynamo.Table, id string) error {
			_, err := table.Store(ctx, id, now, &upload)
			return err
		}, &stored, nil},
		{"delete", "UpdateItem", &temporary, func(table *dynamo.Table, id string) error {
			_, err := table.Delete(ctx, id, now)
			return err
		}, &expired, nil},
		{"expire", "UpdateItem", &temporary, func(table *dynamo.Table, id string) error {
			r, err := table.Expire(ctx, id, now, now)
			if err == nil && r.DeletedAt != now {
				err = fmt.Errorf("the record returned has deleted_at %q", r.DeletedAt)
			}
			return err
		}, &expired, nil},
		{"expire, deleted at another time", "UpdateItem", &expired, func(table *dynamo.Table, id string) error {
			_, err := table.Expire(ctx, id, "2026-01-02T05:00:01", now)
			return err
		}, &expired, records.ErrDeleted},
		{"abandon", "UpdateItem", &placeholder, func(table *dynamo.Table, id string) error {
			_, err := table.Abandon(ctx, id, now, now)
			return err
		}, &abandoned, nil},
		{"correct", "UpdateItem", &placeholder, func(table *dynamo.Table, id string) error {
			_, err := table.Correct(ctx, id, "", upload)
			return err
		}, &temporary, nil},
		{"correct, uploaded at another time", "UpdateItem", &temporary, func(table *dynamo.Table, id string) error {
			_, err := table.Correct(ctx, id, "", records.Upload{At: now, Type: upload.Type, Size: upload.Size})
			return err
		}, &temporary, records.ErrChanged},
		{"import", "UpdateItem", nil, func(table *dynamo.Table, id string) error {
			r := stored
			r.ID = id
			return table.Import(ctx, r)
		}, &stored, nil},
		{"import, the id is taken", "UpdateItem", &temporary, func(table *dynamo.Table, id string) error {
			r := stored
			r.ID = id
			return table.Import(ctx, r)
		}, &temporary, records.ErrUploaded},
		{"import of what was announced", "UpdateItem", &announced, func(table *dynamo.Table, id string) error {
			r := stored
			r.ID = id
			return table.ImportAnnounced(ctx, r, announced.UploadedAt)
		}, &stored, nil},
		{"import of what was announced at another time", "UpdateItem", &announced, func(table *dynamo.Table, id string) error {
			r := stored
			r.ID = id
			return table.ImportAnnounced(ctx, r, early)
		}, &announced, records.ErrChanged},
		{"discard", "DeleteItem", &placeholder, func(table *dynamo.Table, id string) error {
			return table.Discard(ctx, id)
		}, nil, nil},
		{"discard, uploaded", "DeleteItem", &temporary, func(table *dynamo.Table, id string) error {
			return table.Discard(ctx, id)
		}, &temporary, records.ErrUploaded},
	} {
		t.Run(test.name, func(t *testing.T) {
			id := test.name
			if test.begin != nil {
				r := *test.begin
				r.ID = id
				putRaw(t, testserver.DynamoDB(endpoint), "Files", recordstest.Item(r))
			}
			lossy := &lossyTransport{operation: test.operation}
			lossy.lose.Store(1)
			table := dynamo.New(testserver.DynamoDB(endpoint, func(o *dynamodb.Options) {
				o.HTTPClient = &http.Client{Transport: lossy}
				o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
					o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
				})
			}), "Files")

			if err := test.do(table, id); !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if lossy.lose.Load() >= 0 {
				t.Error("the request was not sent again")
			}
			found, err := quiet.Get(ctx, []string{id})
			if err != nil {
				t.Fatal(err)
			}
			want := make(map[string]records.Record)
			if test.want != nil {
				r := *test.want
				r.ID = id
				want[id] = r
			}
			if diff := cmp.Diff(want, found); diff != "" {
				t.Errorf("record (-want +got):\n%s", diff)
			}
		})
	}

	// Nothing was lost: then the same write by somebody else is his, down to the second.
	t.Run("nothing lost", func(t *testing.T) {
		if err := create(quiet, "twice"); err != nil {
			t.Fatal(err)
		}
		if err := create(quiet, "twice"); !errors.Is(err, records.ErrExists) {
			t.Errorf("Create: error %v", err)
		}
		if _, err := quiet.Abandon(ctx, "twice", now, now); err != nil {
			t.Fatal(err)
		}
		if _, err := quiet.Abandon(ctx, "twice", now, now); !errors.Is(err, records.ErrDeleted) {
			t.Errorf("Abandon: error %v", err)
		}
		if err := quiet.Discard(ctx, "never made"); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("Discard: error %v", err)
		}
	})
}

// newServer is a DynamoDB that knows ReturnValuesOnConditionCheckFailure. It counts the reads
// of single items.
type newServer struct {
	*dynamodb.Client
	reads atomic.Int32
}

func (s *newServer) GetItem(ctx context.Context, in *dynamodb.GetItemInput, optFns ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	s.reads.Add(1)
	return s.Client.GetItem(ctx, in, optFns...)
}

func (s *newServer) UpdateItem(ctx context.Context, in *dynamodb.UpdateItemInput, optFns ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error) {
	out, err := s.Client.UpdateItem(ctx, in, optFns...)
	failed, ok := errors.AsType[*types.ConditionalCheckFailedException](err)
	if ok && in.ReturnValuesOnConditionCheckFailure == types.ReturnValuesOnConditionCheckFailureAllOld {
		item, err := s.Client.GetItem(ctx, &dynamodb.GetItemInput{TableName: in.TableName, Key: in.Key, ConsistentRead: aws.Bool(true)})
		if err != nil {
			return nil, err
		}
		failed.Item = item.Item
	}
	return out, err
}

// TestRefusalWithItem shows that a refusal which brings the item is explained by it.
func TestRefusalWithItem(t *testing.T) {
	server := &newServer{Client: testserver.DynamoDB(testserver.Dynalite(t))}
	table := newTable(t, server, "Files")
	if err := table.Create(t.Context(), records.Record{ID: "a", Name: "a.txt"}); err != nil {
		t.Fatal(err)
	}
	_, err := table.Store(t.Context(), "a", now, nil)
	refusal, ok := errors.AsType[*records.TransitionError](err)
	if !ok || !errors.Is(err, records.ErrNotUploaded) || refusal.Current.Name != "a.txt" {
		t.Errorf("error %+v", err)
	}
	if n := server.reads.Load(); n != 0 {
		t.Errorf("%d reads to explain it", n)
	}
}

// changing is a table whose record changes just before it is read: the upload that a store
// has missed is there when the store asks why it was refused.
type changing struct {
	*dynamodb.Client
	before func()
}

func (c *changing) GetItem(ctx context.Context, in *dynamodb.GetItemInput, optFns ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error) {
	c.before()
	return c.Client.GetItem(ctx, in, optFns...)
}

func TestChangedBeforeExplained(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	quiet := newTable(t, client, "Files")
	if err := quiet.Create(t.Context(), records.Record{ID: "a", Name: "a.txt"}); err != nil {
		t.Fatal(err)
	}
	table := dynamo.New(&changing{client, func() {
		if _, err := quiet.Uploaded(t.Context(), "a", records.Upload{At: early, Type: "text/plain", Size: 1}); err != nil {
			t.Error(err)
		}
	}}, "Files")
	r, err := table.Store(t.Context(), "a", now, nil)
	if err != nil || r.State() != records.Stored {
		t.Errorf("%s, error %v: the file was uploaded", r.State(), err)
	}
}

func TestEnsureTable(t *testing.T) {
	endpoint := testserver.Dynalite(t)
	client := testserver.DynamoDB(endpoint)
	ctx := t.Context()

	t.Run("missing", func(t *testing.T) {
		table := dynamo.New(client, "Files")
		for _, step := range []struct {
			dryRun, created bool
		}{{true, true}, {true, true}, {false, true}, {false, false}, {true, false}} {
			created, err := table.EnsureTable(ctx, step.dryRun)
			if err != nil || created != step.created {
				t.Errorf("dry run %t: created %t, want %t; error %v", step.dryRun, created, step.created, err)
			}
		}
		if err := table.Create(ctx, records.Record{ID: "a", Name: "a"}); err != nil {
			t.Error(err)
		}
		out, err := client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: aws.String("Files")})
		if err != nil {
			t.Fatal(err)
		}
		if b := out.Table.BillingModeSummary; b == nil || b.BillingMode != types.BillingModePayPerRequest {
			t.Errorf("billing mode %+v", b)
		}
	})

	t.Run("by many at once", func(t *testing.T) {
		var created atomic.Int32
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				ok, err := dynamo.New(client, "Raced").EnsureTable(ctx, false)
				if err != nil {
					t.Error(err)
				}
				if ok {
					created.Add(1)
				}
			})
		}
		wg.Wait()
		if n := created.Load(); n != 1 {
			t.Errorf("made %d times", n)
		}
	})

	for name, in := range map[string]dynamodb.CreateTableInput{
		"OtherName": {
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("key"), AttributeType: types.ScalarAttributeTypeS}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("key"), KeyType: types.KeyTypeHash}},
		},
		"OtherType": {
			AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeN}},
			KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
		},
		"SortKey": {
			AttributeDefinitions: []types.AttributeDefinition{
				{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
				{AttributeName: aws.String("at"), AttributeType: types.ScalarAttributeTypeS},
			},
			KeySchema: []types.KeySchemaElement{
				{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash},
				{AttributeName: aws.String("at"), KeyType: types.KeyTypeRange},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in.TableName, in.BillingMode = &name, types.BillingModePayPerRequest
			if _, err := client.CreateTable(ctx, &in); err != nil {
				t.Fatal(err)
			}
			for _, dryRun := range []bool{true, false} {
				if _, err := dynamo.New(client, name).EnsureTable(ctx, dryRun); err == nil || !strings.Contains(err.Error(), strconv.Quote(name)) {
					t.Errorf("dry run %t: error %v", dryRun, err)
				}
			}
		})
	}
}

// creating is a DynamoDB that takes its time to make a table.
type creating struct {
	dynamo.API // nil: only these calls are made
	made       bool
	looks      int
}

func (c *creating) CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error) {
	c.made = true
	return &dynamodb.CreateTableOutput{}, nil
}

func (c *creating) DescribeTable(_ context.Context, in *dynamodb.DescribeTableInput, _ ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	// It is told of late, too (Amazon DynamoDB API Reference, "DescribeTable").
	if c.looks++; !c.made || c.looks < 3 {
		return nil, &types.ResourceNotFoundException{}
	}
	table := types.TableDescription{
		TableName:            in.TableName,
		TableStatus:          types.TableStatusCreating,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
	}
	if c.looks >= 6 {
		table.TableStatus = types.TableStatusActive
	}
	return &dynamodb.DescribeTableOutput{Table: &table}, nil
}

func TestEnsureTableWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &creating{}
		created, err := dynamo.New(server, "Files").EnsureTable(t.Context(), false)
		if err != nil || !created || server.looks != 6 {
			t.Errorf("created %t after %d looks, error %v", created, server.looks, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		// Somebody else makes it: wait for that as well.
		server := &creating{made: true, looks: 2}
		created, err := dynamo.New(server, "Files").EnsureTable(t.Context(), false)
		if err != nil || created || server.looks != 6 {
			t.Errorf("created %t after %d looks, error %v", created, server.looks, err)
		}
	})
}

// TestManyRecords scans far more than a page of DynamoDB holds.
func TestManyRecords(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	table := newTable(t, client, "Files")
	const n = 2_000 // of 2 KB
	begin := time.Now()
	recordstest.Fill(t, client, "Files", n, func(i int) map[string]types.AttributeValue {
		return recordstest.Item(records.Record{
			ID: fmt.Sprintf("file%012d", i), Name: "photo.jpg", Type: "image/jpeg", Size: int64(i),
			Meta: `{"path":"` + strings.Repeat("x", 2000) + `"}`, CreatedAt: early, UploadedAt: early,
		})
	})
	t.Logf("filled in %s", time.Since(begin).Round(time.Millisecond))

	begin = time.Now()
	seen := make(map[string]bool, n)
	pages := 0
	for page, err := range table.Scan(t.Context(), records.Filter{UploadedBefore: now, CreatedBefore: now, DeletedSince: early}, records.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		pages++
		for _, r := range page {
			if seen[r.ID] {
				t.Errorf("Scan returns %q twice", r.ID)
			}
			seen[r.ID] = true
		}
	}
	t.Logf("scanned %d pages in %s", pages, time.Since(begin).Round(time.Millisecond))
	if len(seen) != n || pages < 3 {
		t.Errorf("%d records in %d pages", len(seen), pages)
	}
}

// Writes are counted where there is a meter, those that were refused too, and cost what the items they
// meet are large.
func TestMetered(t *testing.T) {
	api := testserver.DynamoDB(testserver.Dynalite(t))
	table := newTable(t, &newServer{Client: api}, "Metered")
	meter := records.NewMeter(0)
	metered := table.Metered(meter)
	item := func(id string, size int) {
		putRaw(t, api, "Metered", map[string]types.AttributeValue{
			"id": text(id), "name": text("a"), "uploaded_at": text("2026-01-02T03:04:05"), "other": text(strings.Repeat("x", size)),
		})
	}
	item("small", 10)
	item("large", 2500)
	for _, step := range []struct {
		id      string
		refused error
		units   float64
	}{
		{"small", nil, 1},
		{"small", records.ErrDeleted, 1},
		{"large", nil, 3},
		{"large", records.ErrDeleted, 3},
		{"none", records.ErrNotFound, 1},
	} {
		before := meter.Total()
		if _, err := metered.Expire(t.Context(), step.id, now, now); !errors.Is(err, step.refused) {
			t.Errorf("%s: error %v, want %v", step.id, err, step.refused)
		}
		after := meter.Total()
		if after.Units-before.Units != step.units || after.Requests-before.Requests != 1 || after.Records-before.Records != 1 {
			t.Errorf("%s, refused %v: %+v, then %+v", step.id, step.refused, before, after)
		}
	}
	before := meter.Total()
	if err := metered.Create(t.Context(), records.Record{ID: "made", Name: "a", CreatedAt: now}); err != nil {
		t.Error(err)
	}
	if err := metered.Discard(t.Context(), "made"); err != nil {
		t.Error(err)
	}
	if after := meter.Total(); after.Units-before.Units != 2 || after.Requests-before.Requests != 2 {
		t.Errorf("%+v, then %+v", before, after)
	}

	// The table itself is as it was; and a meter that is stopped lets no write go.
	before = meter.Total()
	if _, err := table.Delete(t.Context(), "small", now); err != nil || meter.Total() != before {
		t.Errorf("%+v, error %v", meter.Total(), err)
	}
	item("later", 10)
	meter.Stop()
	if _, err := metered.Expire(t.Context(), "later", now, now); !errors.Is(err, records.ErrStopped) {
		t.Errorf("error %v, want %v", err, records.ErrStopped)
	}
	if r, err := table.Expire(t.Context(), "later", now, now); err != nil {
		t.Errorf("%+v, error %v: it was written already", r, err)
	}
}
