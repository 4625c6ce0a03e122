package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/api"
	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

const (
	key      = "key-of-the-backend"
	otherKey = "key-of-another"
)

// onEveryStore runs test on each kind of record store and each S3 server.
func onEveryStore(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Run("sqlite and versitygw", func(t *testing.T) {
		test(t, newFixture(t, openSQLite(t), onServer(t, testserver.Versitygw(t))))
	})
	t.Run("dynalite and minio", func(t *testing.T) {
		test(t, newFixture(t, openDynamoDB(t), onServer(t, testserver.MinIO(t))))
	})
}

// fixture is a filestore with its API, whose every answer is held against the OpenAPI document.
type fixture struct {
	t       testing.TB
	client  *client.Client
	options api.Options
	handler http.Handler
	clock   *clock
	log     *bytes.Buffer
	doc     *openapi3.T
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

// bucket is where a filestore has its objects.
type bucket struct {
	name     string
	api      *s3.Client
	endpoint string
	signing  presign.Credentials
}

func newFixture(t testing.TB, table records.Table, b bucket) *fixture {
	t.Helper()
	// Whole seconds: S3 puts the present time on objects, and records have no fractions.
	f := &fixture{t: t, clock: &clock{at: time.Now().Truncate(time.Second)}, log: &bytes.Buffer{}, doc: document(t)}
	f.client = &client.Client{
		S3: b.api, Bucket: b.name, Records: table,
		Transfer: &transfer.Engine{S3: b.api, Bucket: b.name, PartSize: 5 << 20, Concurrency: 2, Attempts: 1},
		Signer: func(context.Context) (presign.Signer, error) {
			return presign.Signer{Endpoint: b.endpoint, Region: "us-east-1", Bucket: b.name, Credentials: b.signing}, nil
		},
		Settings: client.Settings{URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime},
		Now:      f.clock.now, NewID: client.NewID,
	}
	f.serve(api.Options{
		Keys: []string{key, otherKey}, TokenKey: []byte("0123456789abcdef0123456789abcdef"),
		PerKey: api.Limit{Rate: -1}, Quota: -1, PerAddress: api.Limit{Rate: -1}, Anonymous: api.Limit{Rate: -1},
	})
	return f
}

// serve has the API begin anew with other options.
func (f *fixture) serve(opts api.Options) {
	opts.Client, opts.Log = f.client, slog.New(slog.NewTextHandler(f.log, nil))
	f.options, f.handler = opts, api.New(opts)
}

func openSQLite(t testing.TB) records.Table {
	t.Helper()
	table, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "records.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

func openDynamoDB(t testing.TB) records.Table {
	t.Helper()
	db, name := testserver.DynamoDB(testserver.Dynalite(t)), "files-"+client.NewID()
	if _, err := db.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: &name, BillingMode: dynamotypes.BillingModePayPerRequest,
		AttributeDefinitions: []dynamotypes.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: dynamotypes.ScalarAttributeTypeS}},
		KeySchema:            []dynamotypes.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: dynamotypes.KeyTypeHash}},
	}); err != nil {
		t.Fatal(err)
	}
	made := dynamodb.NewTableExistsWaiter(db, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	})
	if err := made.Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: &name}, time.Minute); err != nil {
		t.Fatal(err)
	}
	return dynamo.New(db, name)
}

// onServer is a new bucket on a server.
func onServer(t testing.TB, server testserver.S3) bucket {
	t.Helper()
	b := bucket{
		name: "bucket-" + client.NewID(), endpoint: server.Endpoint,
		signing: presign.Credentials{AccessKeyID: server.AccessKey, SecretAccessKey: server.SecretKey},
	}
	b.api = client.NewS3(aws.Config{
		Region: server.Region, HTTPClient: client.HTTPClient(30*time.Second, nil),
		Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
	}, func(o *s3.Options) { o.BaseEndpoint = &server.Endpoint })
	if _, err := b.api.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &b.name}); err != nil {
		t.Fatal(err)
	}
	return b
}

// emptyBucket is a bucket that has no objects and needs no server: what is asked for is not there.
func emptyBucket() bucket {
	return answering(http.StatusNotFound)
}

// answering is a bucket whose server answers everything with one status; a DELETE succeeds where that is 404.
func answering(status int) bucket {
	const endpoint = "http://s3.test"
	b := bucket{name: "bucket", endpoint: endpoint, signing: presign.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret-of-s3"}}
	b.api = client.NewS3(aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret-of-s3", ""),
		HTTPClient: doer(func(r *http.Request) (*http.Response, error) {
			answer := &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}
			if status == http.StatusNotFound && r.Method == http.MethodDelete {
				answer.StatusCode = http.StatusNoContent
			}
			return answer, nil
		}),
	}, func(o *s3.Options) { o.BaseEndpoint, o.Retryer = aws.String(endpoint), aws.NopRetryer{} })
	return b
}

// doer is an HTTP client as a function.
type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// document is the OpenAPI document, as the API serves it.
func document(t testing.TB) *openapi3.T {
	t.Helper()
	w := httptest.NewRecorder()
	api.New(api.Options{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/openapi.json", nil))
	doc, err := openapi3.NewLoader().LoadFromData(w.Body.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestDocumentIsValid(t *testing.T) {
	if err := document(t).Validate(t.Context(), openapi3.EnableExamplesValidation()); err != nil {
		t.Error(err)
	}
}

// answer is what a request was answered with.
type answer struct {
	status int
	header http.Header
	body   string
}

// send makes a request of this method with these headers, each "Name: value", and checks that its answer has what all
// answers have and is one that the document names.
func (f *fixture) send(method, target, body string, headers ...string) answer {
	f.t.Helper()
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	path, query, _ := strings.Cut(target, "?")
	r.URL.Path, r.URL.RawQuery = path, query
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	a := answer{w.Code, w.Header(), w.Body.String()}
	f.conforms(r, body, a)
	return a
}

// quick is send of which nothing but the status is looked at.
func (f *fixture) quick(method, path, body string) int {
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code
}

// keyed is send with a key.
func (f *fixture) keyed(method, target, body string) answer {
	f.t.Helper()
	return f.send(method, target, body, "X-Api-Key: "+key)
}

func (f *fixture) conforms(r *http.Request, body string, a answer) {
	f.t.Helper()
	if origin := a.header.Get("Access-Control-Allow-Origin"); origin != "*" {
		f.t.Errorf("%s %.80q: %d allows the origin %q", r.Method, r.URL.Path, a.status, origin)
	}
	if a.status == http.StatusNoContent {
		if a.body != "" {
			f.t.Errorf("%s %.80q: a body with 204: %s", r.Method, r.URL.Path, a.body)
		}
	} else if kind := a.header.Get("Content-Type"); kind != "application/json" {
		f.t.Errorf("%s %.80q: %d is of type %q", r.Method, r.URL.Path, a.status, kind)
	}
	path := r.URL.Path
	if id, ok := strings.CutPrefix(path, "/file/"); ok && id != "" {
		path = "/file/{id}"
	}
	item := f.doc.Paths.Value(path)
	switch {
	case item == nil:
		f.isError(a, http.StatusNotFound)
		return
	case r.Method == http.MethodOptions:
		if a.status != http.StatusNoContent {
			f.t.Errorf("OPTIONS %s: %d", path, a.status)
		}
		return
	}
	operation := item.Operations()[strings.Replace(r.Method, http.MethodHead, http.MethodGet, 1)]
	if operation == nil {
		f.isError(a, http.StatusMethodNotAllowed)
		return
	}
	input := &openapi3filter.RequestValidationInput{
		Request: r.Clone(context.Background()), PathParams: map[string]string{"id": strings.TrimPrefix(r.URL.Path, "/file/")},
		Route:   &routers.Route{Spec: f.doc, Path: path, PathItem: item, Method: r.Method, Operation: operation},
		Options: &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: a.status, Header: a.header,
		Body: io.NopCloser(strings.NewReader(a.body)), Options: input.Options,
	}); err != nil {
		f.t.Errorf("%s %.80q: the document does not allow the answer %d %s: %v", r.Method, r.URL.Path, a.status, a.body, err)
	}
	// What is carried out, the document allows to ask for.
	if a.status < 300 {
		input.Request.Body = io.NopCloser(strings.NewReader(body))
		input.Request.Header.Set("Content-Type", "application/json")
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			f.t.Errorf("%s %.80q: answered with %d, and the document does not allow it: %v", r.Method, r.URL.Path, a.status, err)
		}
	}
}

// isError checks an answer to what the document does not name.
func (f *fixture) isError(a answer, status int) {
	f.t.Helper()
	var body any
	if err := json.Unmarshal([]byte(a.body), &body); err != nil {
		f.t.Errorf("%d: %q: %v", a.status, a.body, err)
		return
	}
	if err := f.doc.Components.Schemas["Error"].Value.VisitJSON(body); err != nil || a.status != status {
		f.t.Errorf("%d %s, where %d is expected: %v", a.status, a.body, status, err)
	}
}

// want compares an answer with a status and JSON.
func (a answer) want(t testing.TB, status int, body string) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d: %s", a.status, status, a.body)
	}
	if diff := cmp.Diff(parsed(t, body), parsed(t, a.body)); diff != "" {
		t.Errorf("the answer differs (-want +got):\n%s", diff)
	}
}

// wantMessage compares an answer with a status and a part of its message.
func (a answer) wantMessage(t testing.TB, status int, part string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.message(t), part) {
		t.Errorf("%d %s, want %d with %q", a.status, a.body, status, part)
	}
}

func (a answer) message(t testing.TB) string {
	t.Helper()
	message, _ := parsed(t, a.body).(map[string]any)["message"].(string)
	return message
}

func parsed(t testing.TB, text string) any {
	t.Helper()
	if text == "" {
		return nil
	}
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// array is ids as a body.
func array(ids ...string) string {
	if ids == nil {
		return "[]"
	}
	text, err := json.Marshal(ids)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// file makes a record in whatever state; its times are in the strict form.
func (f *fixture) file(r records.Record) string {
	f.t.Helper()
	r.ID = client.NewID()
	if r.Name == "" {
		r.Name = "a.txt"
	}
	if r.Type == "" && r.UploadedAt.IsSet() {
		r.Type = "text/plain"
	}
	if err := f.client.Records.Import(f.t.Context(), r); err != nil {
		f.t.Fatal(err)
	}
	return r.ID
}

func (f *fixture) stamp(ago time.Duration) records.Stamp { return records.At(f.clock.now().Add(-ago)) }

// uploaded is POST /file of the name a.txt.
type uploaded struct{ ID, URL, Token string }

func (f *fixture) newFile() uploaded {
	f.t.Helper()
	a := f.send(http.MethodPost, "/file", `{"name": "a.txt"}`)
	var u uploaded
	if err := json.Unmarshal([]byte(a.body), &u); err != nil || a.status != http.StatusOK {
		f.t.Fatalf("%d %s: %v", a.status, a.body, err)
	}
	return u
}

// record is what the table has of a file.
func (f *fixture) record(id string) records.Record {
	f.t.Helper()
	found, err := f.client.Records.Get(f.t.Context(), []string{id})
	if err != nil {
		f.t.Fatal(err)
	}
	return found[id]
}

// do sends a request to S3, as somebody with a presigned URL does.
func do(t *testing.T, method, url, body string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPut {
		r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	resp, text := testserver.Ask(t, r)
	return answer{resp.StatusCode, resp.Header, text}
}
