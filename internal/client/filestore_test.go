package client_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/recordstest"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

const mib = 1 << 20

// servers are one place where filestores can be: an S3 server, and a DynamoDB or this disk.
type servers struct {
	s3       testserver.S3
	dynamoDB string // endpoint; empty: records are in SQLite
	indexed  bool   // with the index of pending files
}

// withIndex is the same place, where filestores have the index of pending files.
func (on servers) withIndex() servers {
	on.indexed = true
	return on
}

// onEveryStore runs test on each kind of record store and on each S3 server, but not on each pair of them: the two know
// nothing of each other.
func onEveryStore(t *testing.T, test func(t *testing.T, on servers)) {
	if !testserver.Race { // the other one has more under way at the same time
		t.Run("sqlite and versitygw", func(t *testing.T) {
			test(t, servers{s3: testserver.Versitygw(t)})
		})
	}
	t.Run("dynalite and minio", func(t *testing.T) {
		test(t, servers{s3: testserver.MinIO(t), dynamoDB: testserver.Dynalite(t)})
	})
}

// filestore is an empty filestore of its own and the client under test, whose requests pass
// fault proxies. What a test looks at or sets up by itself goes past them.
type filestore struct {
	*client.Client
	servers
	clock *clock
	// s3Faults and dynamoFaults are what the client's requests pass. dynamoFaults is nil where
	// records are in SQLite.
	s3Faults     *faultproxy.Proxy
	dynamoFaults *faultproxy.Proxy

	api       *s3.Client
	table     records.Table
	tableName string
	dynamoAPI *dynamodb.Client
	database  string // path; empty for DynamoDB

	mu  sync.Mutex
	ids []string // those that were ever used
}

// clock is set by the test.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// open makes a filestore. Its clock stands at the present time, which S3 puts on objects too, in
// the middle of a second.
func (on servers) open(t testing.TB) *filestore {
	t.Helper()
	f := &filestore{
		servers: on, clock: &clock{at: time.Now().Truncate(time.Second).Add(500 * time.Millisecond)},
		s3Faults: faultproxy.New(on.s3.Endpoint),
	}
	bucket := "bucket-" + client.NewID()
	f.api = on.s3Client(on.s3.Endpoint)
	if _, err := f.api.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	api := on.s3Client(f.s3Faults.Start(t))
	f.Client = &client.Client{
		S3: api, Bucket: bucket,
		Transfer: &transfer.Engine{
			S3: api, Bucket: bucket, PartSize: 5 * mib, Concurrency: 3, Attempts: 3,
			Backoff: func(int) time.Duration { return time.Millisecond },
		},
		Signer: func(context.Context) (presign.Signer, error) {
			return presign.Signer{
				Endpoint: on.s3.Endpoint, Region: on.s3.Region, Bucket: bucket,
				Credentials: presign.Credentials{AccessKeyID: on.s3.AccessKey, SecretAccessKey: on.s3.SecretKey},
			}, nil
		},
		Settings: client.Settings{URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime},
		Now:      f.clock.now,
		NewID:    f.newID,
	}
	if on.dynamoDB == "" {
		f.openSQLite(t)
	} else {
		f.openDynamoDB(t)
	}
	if on.indexed {
		f.createIndex(t)
	}
	return f
}

func (on servers) s3Client(endpoint string) *s3.Client {
	return client.NewS3(aws.Config{
		Region: on.s3.Region,
		// Shorter than any server's own limits; as long as a busy machine may need to answer.
		HTTPClient:  client.HTTPClient(30*time.Second, nil),
		Credentials: credentials.NewStaticCredentialsProvider(on.s3.AccessKey, on.s3.SecretKey, ""),
	}, func(o *s3.Options) {
		o.BaseEndpoint, o.Retryer = &endpoint, quickRetries()
	})
}

// useS3 has the client use another way to S3.
func (f *filestore) useS3(api *s3.Client) { f.S3, f.Transfer.S3 = api, api }

// losingAnswers returns a client for which the requests that match are carried out, and their
// answers lost.
func (f *filestore) losingAnswers(match faultproxy.Match) *s3.Client {
	through := f.S3.Options().HTTPClient
	return s3.New(f.S3.Options(), func(o *s3.Options) {
		o.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			resp, err := through.Do(r)
			if err != nil || !match(r) {
				return resp, err
			}
			return nil, errors.Join(io.ErrUnexpectedEOF, resp.Body.Close())
		})
	})
}

// doer is an HTTP client as a function.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// tries is how often quickRetries has a request sent.
const tries = 3

func quickRetries() aws.Retryer {
	return testserver.Retryer(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff = tries, time.Millisecond
	})
}

func (f *filestore) openSQLite(t testing.TB) {
	t.Helper()
	f.database = filepath.Join(t.TempDir(), "records.db")
	table, err := sqlite.Open(t.Context(), f.database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	f.table = table
	f.Records = table
}

func (f *filestore) openDynamoDB(t testing.TB) {
	t.Helper()
	f.tableName = "files-" + client.NewID()
	f.dynamoAPI = testserver.DynamoDB(f.dynamoDB)
	testserver.MakeTable(t, f.dynamoAPI, dynamo.Schema(f.tableName))
	f.table = dynamo.New(f.dynamoAPI, f.tableName)
	f.dynamoFaults = faultproxy.New(f.dynamoDB)
	f.Records = dynamo.New(testserver.DynamoDB(f.dynamoFaults.Start(t), func(o *dynamodb.Options) {
		o.Retryer = quickRetries()
	}), f.tableName)
}

// createIndex gives the filestore the index of pending files. dynalite knows it only of a table that is made
// with it.
func (f *filestore) createIndex(t testing.TB) {
	t.Helper()
	if f.database != "" {
		if created, err := f.table.CreateIndex(t.Context()); !created || err != nil {
			t.Fatalf("created %t, %v", created, err)
		}
		return
	}
	if _, err := f.dynamoAPI.DeleteTable(t.Context(), &dynamodb.DeleteTableInput{TableName: &f.tableName}); err != nil {
		t.Fatal(err)
	}
	gone := dynamodb.NewTableNotExistsWaiter(f.dynamoAPI, func(o *dynamodb.TableNotExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	})
	if err := gone.Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: &f.tableName}, time.Minute); err != nil {
		t.Fatal(err)
	}
	testserver.MakeTable(t, f.dynamoAPI, dynamo.IndexedSchema(f.tableName))
}

// newID remembers the ids: MinIO lists multipart uploads only by their exact key.
func (f *filestore) newID() string {
	id := client.NewID()
	f.used(id)
	return id
}

func (f *filestore) used(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids = append(f.ids, id)
}

func (f *filestore) stamp(ago time.Duration) records.Stamp {
	return records.At(f.clock.now().Add(-ago))
}

// transition is one of the writes on records, for [filestore.failRecords].
type transition struct{ name, operation string }

var (
	onCreate   = transition{"Create", "PutItem"}
	onUploaded = transition{"Uploaded", "UpdateItem"}
	onDelete   = transition{"Delete", "UpdateItem"}
	onDiscard  = transition{"Discard", "DeleteItem"}
)

// failRecords has transitions fail from now on: before they reach the table, or after it has
// carried them out, so that only the answer is lost. With DynamoDB the fault is on the wire.
// There Uploaded and Delete are one operation, and the first call is Uploaded.
func (f *filestore) failRecords(when faultproxy.When, failing ...transition) {
	if f.dynamoFaults == nil {
		f.Records = &failingTable{Table: f.table, when: when, failing: failing}
		return
	}
	fault := faultproxy.InternalError()
	if when == faultproxy.After {
		fault = faultproxy.CutDownload(0)
	}
	for _, tr := range failing {
		times := faultproxy.Always()
		if tr == onUploaded && !slices.Contains(failing, onDelete) {
			times = faultproxy.First(tries) // all of the one call
		}
		f.dynamoFaults.Inject(faultproxy.Operation(tr.operation), times, fault)
	}
}

// heal ends all faults.
func (f *filestore) heal() {
	f.s3Faults.Heal()
	if f.dynamoFaults == nil {
		f.Records = f.table
	} else {
		f.dynamoFaults.Heal()
	}
}

var errTable = errors.New("the table does not answer")

// failingTable is a table with transitions that fail.
type failingTable struct {
	records.Table
	when    faultproxy.When
	failing []transition
}

func (f *failingTable) do(tr transition, write func() error) error {
	if !slices.Contains(f.failing, tr) {
		return write()
	}
	if f.when == faultproxy.After {
		if err := write(); err != nil {
			return err
		}
	}
	return errTable
}

func (f *failingTable) Create(ctx context.Context, r records.Record) error {
	return f.do(onCreate, func() error { return f.Table.Create(ctx, r) })
}

func (f *failingTable) Uploaded(ctx context.Context, id string, u records.Upload) (r records.Record, err error) {
	err = f.do(onUploaded, func() error { r, err = f.Table.Uploaded(ctx, id, u); return err })
	return r, err
}

// Correct is "uploaded" where nothing is known of an upload.
func (f *failingTable) Correct(ctx context.Context, id string, known records.Stamp, u records.Upload) (r records.Record, err error) {
	if known.IsSet() {
		return f.Table.Correct(ctx, id, known, u)
	}
	err = f.do(onUploaded, func() error { r, err = f.Table.Correct(ctx, id, known, u); return err })
	return r, err
}

func (f *failingTable) Delete(ctx context.Context, id string, at records.Stamp) (r records.Record, err error) {
	err = f.do(onDelete, func() error { r, err = f.Table.Delete(ctx, id, at); return err })
	return r, err
}

func (f *failingTable) Discard(ctx context.Context, id string) error {
	return f.do(onDiscard, func() error { return f.Table.Discard(ctx, id) })
}

// raw puts a record into the table as it is, in whatever state, and returns its id. An empty
// ID gets a new one.
func (f *filestore) raw(t testing.TB, r records.Record) string {
	t.Helper()
	r = filledIn(r)
	f.used(r.ID)
	if f.database == "" {
		item := recordstest.Item(r)
		if f.indexed {
			recordstest.Mark(item, r)
		}
		if _, err := f.dynamoAPI.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &f.tableName, Item: item}); err != nil {
			t.Fatal(err)
		}
		return r.ID
	}
	f.insert(t, []records.Record{r})
	return r.ID
}

// filledIn is r with what every record has.
func filledIn(r records.Record) records.Record {
	if r.ID == "" {
		r.ID = client.NewID()
	}
	if r.Name == "" {
		r.Name = "raw.txt"
	}
	if r.UploadedAt.IsSet() && r.Type == "" {
		r.Type = "text/plain"
	}
	return r
}

// many puts n records into the table, as raw does, but in few requests, and returns their ids. Multipart uploads of theirs
// are not looked for afterwards.
func (f *filestore) many(t testing.TB, n int, record func(i int) records.Record) []string {
	t.Helper()
	rs, ids := make([]records.Record, n), make([]string, n)
	for i := range rs {
		rs[i] = filledIn(record(i))
		ids[i] = rs[i].ID
	}
	f.fill(t, rs)
	return ids
}

// fill puts records into the table, past the client.
func (f *filestore) fill(t testing.TB, rs []records.Record) {
	t.Helper()
	if f.database != "" {
		f.insert(t, rs)
		return
	}
	recordstest.Fill(t, f.dynamoAPI, f.tableName, len(rs), func(i int) map[string]dynamotypes.AttributeValue {
		item := recordstest.Item(rs[i])
		if f.indexed {
			recordstest.Mark(item, rs[i])
		}
		return item
	})
}

// insert puts records into the SQLite database past the table, in one transaction.
func (f *filestore) insert(t testing.TB, rs []records.Record) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+f.database+"?_busy_timeout=10000")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // fails after the commit
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	for _, r := range rs {
		if _, err := tx.ExecContext(t.Context(), `INSERT INTO files
			(id, name, type, size, meta, fingerprint, created_at, uploaded_at, stored_at, deleted_at) VALUES (?,?,?,?,?,?,?,?,?,?)`,
			r.ID, r.Name, null(r.Type), sql.NullInt64{Int64: r.Size, Valid: r.Size >= 0}, null(r.Meta), null(r.Fingerprint),
			null(string(r.CreatedAt)), null(string(r.UploadedAt)), null(string(r.StoredAt)), null(string(r.DeletedAt))); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

const content = "What every test file says.\n"

// temporary makes a temporary file with an object that was uploaded so long ago.
func (f *filestore) temporary(t testing.TB, ago time.Duration) string {
	t.Helper()
	id := f.raw(t, records.Record{
		CreatedAt: f.stamp(ago), UploadedAt: f.stamp(ago), Size: int64(len(content)),
	})
	f.put(t, id, content)
	return id
}

// stored makes a stored file with an object.
func (f *filestore) stored(t testing.TB, name string) string {
	t.Helper()
	now := f.stamp(0)
	id := f.raw(t, records.Record{
		Name: name, CreatedAt: now, UploadedAt: now, StoredAt: now, Size: int64(len(content)),
	})
	f.put(t, id, content)
	return id
}

// placeholder makes a placeholder so old, without an object.
func (f *filestore) placeholder(t testing.TB, age time.Duration) string {
	t.Helper()
	return f.raw(t, records.Record{CreatedAt: f.stamp(age), Size: -1})
}

// put writes an object, as somebody with a presigned URL does: the record knows nothing of it.
func (f *filestore) put(t testing.TB, id, text string) {
	t.Helper()
	if err := f.tryPut(t.Context(), id, text); err != nil {
		t.Fatal(err)
	}
}

// tryPut is put for goroutines other than the test's.
func (f *filestore) tryPut(ctx context.Context, id, text string) error {
	_, err := f.api.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &f.Bucket, Key: &id, Body: strings.NewReader(text), ContentType: aws.String("text/plain; charset=utf-8"),
	})
	return err
}

// remove deletes an object and leaves its record.
func (f *filestore) remove(t testing.TB, id string) {
	t.Helper()
	if _, err := f.api.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &f.Bucket, Key: &id}); err != nil {
		t.Fatal(err)
	}
}

// begin begins a multipart upload and sends one part of it.
func (f *filestore) begin(t testing.TB, id string) {
	t.Helper()
	out, err := f.api.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &f.Bucket, Key: &id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.api.UploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: &f.Bucket, Key: &id, UploadId: out.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader(content),
	}); err != nil {
		t.Fatal(err)
	}
}

// object returns the object of id and its type; found is false where there is none.
func (f *filestore) object(t testing.TB, id string) (text, mime string, found bool) {
	t.Helper()
	out, err := f.api.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &f.Bucket, Key: &id})
	if _, missing := errors.AsType[*types.NoSuchKey](err); missing {
		return "", "", false
	}
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data), aws.ToString(out.ContentType), true
}

// objects returns the keys of all objects.
func (f *filestore) objects(t testing.TB) map[string]bool {
	t.Helper()
	keys := make(map[string]bool)
	pages := s3.NewListObjectsV2Paginator(f.api, &s3.ListObjectsV2Input{Bucket: &f.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys[aws.ToString(o.Key)] = true
		}
	}
	return keys
}

// uploads returns how many multipart uploads there are for id.
func (f *filestore) uploads(t testing.TB, id string) int {
	t.Helper()
	out, err := f.api.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &f.Bucket, Prefix: &id})
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Uploads)
}

// records returns all records, by id.
func (f *filestore) records(t testing.TB) map[string]records.Record {
	t.Helper()
	all := make(map[string]records.Record)
	for page, err := range f.table.Scan(t.Context(), records.Filter{}, records.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			all[r.ID] = r
		}
	}
	return all
}

// record returns the record of id. It fails the test where there is none.
func (f *filestore) record(t testing.TB, id string) records.Record {
	t.Helper()
	found, err := f.table.Get(t.Context(), []string{id})
	if err != nil {
		t.Fatal(err)
	}
	r, ok := found[id]
	if !ok {
		t.Fatalf("file %q has no record", id)
	}
	return r
}

// wantState fails the test unless the record of id is in that state, and its object is there as
// it must be in it.
func (f *filestore) wantState(t testing.TB, id string, want records.State) {
	t.Helper()
	if got := f.record(t, id).State(); got != want {
		t.Errorf("file %q is %s, want %s", id, got, want)
	}
	_, _, found := f.object(t, id)
	if wantObject := want == records.Temporary || want == records.Stored; found != wantObject {
		t.Errorf("file %q should be %s, and its object is there: %t", id, want, found)
	}
}

// wantConsistent fails the test unless every object has a live record, every live record that
// says uploaded an object, and no multipart upload is left.
func (f *filestore) wantConsistent(t testing.TB) {
	t.Helper()
	objects, all := f.objects(t), f.records(t)
	for id := range objects {
		if r, ok := all[id]; !ok || r.State() == records.Deleted {
			t.Errorf("object %q has no live record: %+v", id, r)
		}
	}
	for id, r := range all {
		if state := r.State(); (state == records.Temporary || state == records.Stored) && !objects[id] {
			t.Errorf("the %s file %q has no object", state, id)
		}
	}
	for _, id := range f.ids {
		if n := f.uploads(t, id); n > 0 {
			t.Errorf("%d multipart uploads of %q are left", n, id)
		}
	}
}

// wantNothing fails the test where anything is left: a record (deleted ones aside, where they
// are allowed), an object or a multipart upload.
func (f *filestore) wantNothing(t testing.TB, deletedAllowed bool) {
	t.Helper()
	for id, r := range f.records(t) {
		if !deletedAllowed || r.State() != records.Deleted {
			t.Errorf("the record of the %s file %q is left", r.State(), id)
		}
	}
	for id := range f.objects(t) {
		t.Errorf("object %q is left", id)
	}
	f.wantConsistent(t)
}

func randomBytes(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(size)}).Read(data)
	return data
}

func tempFile(t testing.TB, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// upload uploads a small text as a temporary file.
func (f *filestore) upload(t testing.TB) records.Record {
	t.Helper()
	r, err := f.Upload(t.Context(), client.UploadRequest{Name: "a.txt", Type: "text/plain", Stream: strings.NewReader(content)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantReason fails the test unless err is a failure of that kind.
func wantReason(t testing.TB, err error, want client.Reason) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %s", want)
	} else if got := client.ReasonOf(err); got != want {
		t.Errorf("%s (%v), want %s", got, err, want)
	}
}

// one returns the result of an operation on one file; it fails the test where there is none, or another one.
func one[T any](t testing.TB, results iter.Seq[client.Result[T]]) client.Result[T] {
	t.Helper()
	all := slices.Collect(results)
	if len(all) != 1 {
		t.Fatalf("%d results of one file: %+v", len(all), all)
	}
	return all[0]
}

// errorsOf returns the results' ids and, by id, their errors.
func errorsOf[T any](results []client.Result[T]) (ids []string, errs map[string]error) {
	errs = make(map[string]error)
	for _, r := range results {
		ids = append(ids, r.ID)
		errs[r.ID] = r.Err
	}
	return ids, errs
}

// The operations, each on every kind of store.
func TestOperations(t *testing.T) {
	onEveryStore(t, func(t *testing.T, on servers) {
		for _, test := range []struct {
			name string
			run  func(*testing.T, servers)
		}{
			{"upload", testUpload},
			{"upload that fails", testUploadFails},
			{"upload that leaves something", testUploadLeaves},
			{"upload that leaves a stored file", testUploadLeavesStored},
			{"upload of a file deleted meanwhile", testUploadDeleted},
			{"upload interrupted", testUploadInterrupted},
			{"upload interrupted at a slow server", testUploadInterruptedSlowServer},
			{"idempotent upload", testIdempotent},
			{"idempotent upload of other content", testIdempotentOtherContent},
			{"idempotent upload: what a failed one left", testIdempotentTakesUp},
			{"idempotent upload: several at once", testIdempotentTogether},
			{"idempotent upload: renewed", testIdempotentRenew},
			{"idempotent upload: objects that are wrong", testIdempotentDamaged},
			{"idempotent upload of a changing file", testIdempotentChangedFile},
			{"upload that goes on", testResume},
			{"upload with a journal and without resume", testJournalWithoutResume},
			{"uploads that are half done", testUploads},
			{"store", testStore},
			{"store before the record knows of the upload", testStoreFillsIn},
			{"store of what is gone", testStoreGone},
			{"info: who sees what", testInfoVisibility},
			{"info: order", testInfoOrder},
			{"info: malformed records", testInfoMalformed},
			{"info: URLs", testInfoURLs},
			{"info: checksums", testInfoChecksums},
			{"info: uploads without a notification", testInfoSettles},
			{"download", testDownload},
			{"download of what is wrong", testDownloadWrong},
			{"server restarted", testServerRestarted},
			{"uploads that others download", testOthersDownload},
			{"downloads of what others upload", testOthersUpload},
			{"object created", testObjectCreated},
			{"object created: by a copy", testCreatedByCopy},
			{"object created: recorded already", testObjectCreatedRecorded},
			{"object created: no file's", testObjectCreatedUnknown},
			{"object created: deleted meanwhile", testObjectCreatedDeleted},
			{"object created: what fails", testObjectCreatedFails},
			{"delete", testDelete},
			{"audit", testAudit},
			{"audit fails", testAuditFails},
			{"delete that fails in part", testDeleteFails},
			{"revert", testRevert},
			{"expire: temporary files", testExpireTemporary},
			{"expire: placeholders", testExpirePlaceholders},
			{"expire: deleted files again", testExpireCleansAgain},
			{"expire: multipart uploads", testExpireMultipart},
			{"expire: times that can't be read", testExpireUnreadable},
			{"expire: at most so many", testExpireMax},
			{"expire: dry run", testExpireDryRun},
			{"expire: what S3 does not do", testExpireFailures},
			{"expire: the claim comes first", testExpireClaimsFirst},
			{"expire: the uploader is first", testExpireSettlesLate},
			{"expire by index: temporary files", indexed(testExpireTemporary)},
			{"expire by index: placeholders", indexed(testExpirePlaceholders)},
			{"expire by index: multipart uploads", indexed(testExpireMultipart)},
			{"expire by index: at most so many", indexed(testExpireMax)},
			{"expire by index: dry run", indexed(testExpireDryRun)},
			{"expire by index: the claim comes first", indexed(testExpireClaimsFirst)},
			{"expire by index: what a killed sweep left", indexed(testIndexHalfDone)},
			{"expire by index: files that wait for nothing any more", indexed(testIndexSettled)},
			{"expire by index: files of others", indexed(testIndexOfOthers)},
			{"expire by index: not allowed", indexed(testIndexNotAllowed)},
			{"expire by index: as soon as there is one", testIndexComes},
			{"backfill", indexed(testBackfill)},
			{"backfill of what can't be read", indexed(testBackfillUnreadable)},
			{"verify", testVerify},
			{"verify: what is named is repaired", testVerifyFixesWhatIsNamed},
			{"verify: store on load", testVerifyStoresOnLoad},
			{"verify: deep", testVerifyDeep},
			{"verify: what fails", testVerifyFailures},
			{"verify: somebody is faster", testVerifyRaces},
			{"verify: uploads in parts", testVerifyMultipart},
		} {
			switch test.name {
			case "idempotent upload: what a failed one left", "server restarted":
				if testserver.Race { // one failure after the other, of uploads that others of these tests make
					continue
				}
			}
			t.Run(test.name, func(t *testing.T) { test.run(t, on) })
		}
	})
}

// progress adds up what a transfer reports.
type progress struct{ n atomic.Int64 }

func (p *progress) add(n int64)  { p.n.Add(n) }
func (p *progress) bytes() int64 { return p.n.Load() }

// brokenReader returns a reader of data that then fails with err.
func brokenReader(data []byte, err error) io.Reader {
	return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(err))
}
