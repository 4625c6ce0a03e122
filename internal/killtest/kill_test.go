//go:build unix

package killtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/recordstest"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

const (
	mib = 1 << 20
	// patience bounds what another process needs; a busy machine with two cores takes its time.
	patience = time.Minute
)

// servers are where the program works.
type servers struct {
	program  string
	s3       testserver.S3
	dynamoDB string
}

// scenario is one command on a filestore that has been prepared for it.
type scenario struct {
	name    string
	prepare func(t *testing.T, f *filestore) (args []string, stdin []byte)
	// finished looks at what the command has done when nobody stopped it.
	finished func(t *testing.T, f *filestore)
}

func scenarios() []scenario {
	return []scenario{
		{"upload", uploadSmall, wantUploaded},
		{"upload in parts", uploadParts, wantUploaded},
		{"delete", deleteFiles(1), wantDeleted},
		{"delete several", deleteFiles(3), wantDeleted},
		{"expire", prepareSweep, wantSwept},
	}
}

func uploadSmall(t *testing.T, _ *filestore) ([]string, []byte) {
	path := filepath.Join(t.TempDir(), "small.txt")
	if err := os.WriteFile(path, []byte("small"), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"upload", path}, nil
}

func uploadParts(*testing.T, *filestore) ([]string, []byte) {
	return []string{"upload", "--name", "large.bin", "-"}, bytes.Repeat([]byte("large..."), 9*mib/8)
}

func wantUploaded(t *testing.T, f *filestore) {
	t.Helper()
	if all := f.records(t); len(all) != 1 || all[0].State() != records.Temporary {
		t.Errorf("records: %+v", all)
	}
}

func deleteFiles(n int) func(t *testing.T, f *filestore) ([]string, []byte) {
	return func(t *testing.T, f *filestore) ([]string, []byte) {
		args := []string{"delete"}
		for range n {
			args = append(args, f.make(t, records.Record{UploadedAt: f.stamp(0), StoredAt: f.stamp(0)}, true))
		}
		return args, nil
	}
}

func wantDeleted(t *testing.T, f *filestore) {
	t.Helper()
	for _, r := range f.records(t) {
		if r.State() != records.Deleted {
			t.Errorf("%+v", r)
		}
	}
	if n := len(f.objects(t)); n > 0 {
		t.Errorf("%d objects are left", n)
	}
}

// prepareSweep makes everything that a sweep acts on, and what it must leave.
func prepareSweep(t *testing.T, f *filestore) ([]string, []byte) {
	const old = 5 * time.Hour
	for range 2 {
		f.make(t, records.Record{CreatedAt: f.stamp(old), UploadedAt: f.stamp(old)}, true)
		f.make(t, records.Record{CreatedAt: f.stamp(old), Size: -1}, false)
	}
	f.make(t, records.Record{CreatedAt: f.stamp(old), Size: -1}, true) // uploaded, and nobody wrote it down
	f.make(t, records.Record{UploadedAt: f.stamp(old), DeletedAt: f.stamp(time.Hour)}, true)
	f.make(t, records.Record{UploadedAt: f.stamp(old), StoredAt: f.stamp(old)}, true)
	f.make(t, records.Record{UploadedAt: f.stamp(0)}, true)
	active := f.make(t, records.Record{CreatedAt: f.stamp(old), Size: -1}, false)
	if _, err := f.api.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &f.Bucket, Key: &active}); err != nil {
		t.Fatal(err)
	}
	return []string{"expire"}, nil
}

func wantSwept(t *testing.T, f *filestore) {
	t.Helper()
	got := make(map[records.State]int)
	for _, r := range f.records(t) {
		got[r.State()]++
	}
	if got[records.Deleted] != 5 || got[records.Stored] != 1 || got[records.Temporary] != 2 || got[records.Placeholder] != 1 {
		t.Errorf("after a whole sweep: %v", got)
	}
	if n := len(f.objects(t)); n != 3 {
		t.Errorf("%d objects, want 3", n)
	}
}

// TestKill ends the program at each step of each command.
func TestKill(t *testing.T) {
	s := servers{program: testserver.Program(t), s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}
	for _, c := range scenarios() {
		t.Run(c.name, func(t *testing.T) {
			s.atEachStep(t, c, func(t *testing.T, f *filestore, p *process) {
				p.kill(t)
				f.wantAllowed(t)
				// Three hours later every lifetime is over, and every deletion less than a day old.
				f.offset = 3 * time.Hour
				if summary, err := f.Expire(t.Context(), client.ExpireOptions{}); err != nil || summary.Failed > 0 || summary.Unlisted != nil {
					t.Fatalf("%+v, %v", summary, err)
				}
				f.wantClean(t)
			})
		})
	}
}

// TestInterrupt does the same with Ctrl-C to uploads: they end by themselves and leave nothing.
// Only where nobody can know whether the object will appear the record stays, as deleted.
func TestInterrupt(t *testing.T) {
	s := servers{program: testserver.Program(t), s3: testserver.Versitygw(t), dynamoDB: testserver.Dynalite(t)}
	for _, c := range scenarios() {
		if !strings.HasPrefix(c.name, "upload") {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s.atEachRequest(t, c, func(t *testing.T, f *filestore, p *process) {
				held := p.held
				if status := p.interrupt(t); status != 130 {
					t.Errorf("exit status %d: %s", status, p.stderr.String())
				}
				unknown := held.Operation == "UpdateItem" || // and so is whether it says uploaded
					held.Method == http.MethodPut && !slices.Contains(held.Query, "partNumber") ||
					held.Method == http.MethodPost && slices.Contains(held.Query, "uploadId")
				for _, r := range f.records(t) {
					if !unknown || r.State() != records.Deleted {
						t.Errorf("%s: a record is left: %+v", held, r)
					}
				}
				if n := len(f.objects(t)); n > 0 {
					t.Errorf("%s: %d objects are left", held, n)
				}
				f.wantClean(t)
			})
		})
	}
}

// atEachStep is atEachRequest for commands that are killed and keep nothing on this machine: once a request
// has been carried out, it is all the same whether the answer has arrived and the next one was on its way.
// Only the first one is stopped before, too.
func (s servers) atEachStep(t *testing.T, c scenario, stopped func(t *testing.T, f *filestore, p *process)) {
	t.Helper()
	s.at(t, c, map[faultproxy.When]int{faultproxy.Before: 1, faultproxy.After: most}, stopped)
}

// most is far more than any command here makes requests.
const most = 500

// atEachRequest runs the command again and again and stops its request number 1, 2, 3 and so on,
// to S3 and to DynamoDB, before it is carried out and after. Each time it calls stopped, until
// the command ends before it has made so many requests. Some of them may be left out, by -run.
func (s servers) atEachRequest(t *testing.T, c scenario, stopped func(t *testing.T, f *filestore, p *process)) {
	t.Helper()
	s.at(t, c, map[faultproxy.When]int{faultproxy.Before: most, faultproxy.After: most}, stopped)
}

// at stops as many requests before and after as limits says.
func (s servers) at(t *testing.T, c scenario, limits map[faultproxy.When]int, stopped func(t *testing.T, f *filestore, p *process)) {
	t.Helper()
	rounds, all := 0, true
	for _, service := range []string{"s3", "dynamodb"} {
		for when, whenName := range map[faultproxy.When]string{faultproxy.Before: "before", faultproxy.After: "after"} {
			for n := 1; n <= limits[when]; n++ {
				ran, reached := false, false
				t.Run(fmt.Sprintf("%s/%s/%d", service, whenName, n), func(t *testing.T) {
					ran = true
					f := s.open(t)
					args, stdin := c.prepare(t, f)
					p := s.start(t, f, service, n, when, args, stdin)
					if reached = p.isHeld; reached {
						rounds++
						stopped(t, f, p)
					} else {
						f.wantAllowed(t)
						c.finished(t, f)
					}
				})
				if t.Failed() {
					return
				}
				all = all && ran
				if ran && !reached {
					break
				}
			}
		}
	}
	if all && rounds < 4 {
		t.Errorf("it was stopped only %d times", rounds)
	}
	t.Logf("stopped %d times", rounds)
}

// process is a running program with a request that is held, or one that has ended.
type process struct {
	cmd     *exec.Cmd
	stdout  *bytes.Buffer
	stderr  *bytes.Buffer
	done    chan struct{} // closed when it has ended
	doors   []*door
	proxies []*faultproxy.Proxy

	isHeld bool
	held   faultproxy.Request
}

// start runs the program until its nth request to service is held, or until it has ended, which
// must be a success.
func (s servers) start(t *testing.T, f *filestore, service string, n int, when faultproxy.When, args []string, stdin []byte) *process {
	t.Helper()
	proxies := map[string]*faultproxy.Proxy{"s3": faultproxy.New(s.s3.Endpoint), "dynamodb": faultproxy.New(s.dynamoDB)}
	p := &process{stdout: new(bytes.Buffer), stderr: new(bytes.Buffer), done: make(chan struct{})}
	run := client.NewID()
	urls := make(map[string]string)
	var parts sync.Mutex
	for name, proxy := range proxies {
		door := f.doors[name]
		door.open(run, carriedOut(proxy, &parts))
		p.doors, p.proxies = append(p.doors, door), append(p.proxies, proxy)
		urls[name] = door.url
	}
	reached, _ := proxies[service].HoldAt(n, when)

	p.cmd = exec.CommandContext(t.Context(), s.program, args...)
	p.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + f.home, "AWS_EC2_METADATA_DISABLED=true", "AWS_SDK_UA_APP_ID=" + run,
		"AWS_ACCESS_KEY_ID=" + s.s3.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s.s3.SecretKey, "AWS_REGION=" + s.s3.Region,
		"AWS_ENDPOINT_URL_S3=" + urls["s3"], "AWS_ENDPOINT_URL_DYNAMODB=" + urls["dynamodb"],
		"FILESTORE_BUCKET=" + f.Bucket, "FILESTORE_TABLE=" + f.tableName,
	}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if stdin != nil {
		p.cmd.Stdin = bytes.NewReader(stdin)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit status is looked at
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // fails when it has ended, which is as good
		p.settle()
	})
	select {
	case <-reached:
		p.isHeld, p.held = true, proxies[service].Log()[n-1]
	case <-p.done:
		if !p.cmd.ProcessState.Success() {
			t.Fatalf("%s: %s", p.cmd.ProcessState, p.stderr)
		}
	case <-time.After(patience):
		t.Fatalf("it neither ends nor makes request %d", n)
	}
	return p
}

// carriedOut has a request that arrives whole be carried out although the program is killed
// meanwhile, and one that does not arrive whole not begin: so all has settled when the server is
// closed. (A connection that breaks in the middle of a request ends dynalite.)
//
// Parts go one by one: where one is still being written while its multipart upload is aborted,
// the server may keep it (Amazon S3 API Reference, "AbortMultipartUpload").
func carriedOut(proxy http.Handler, parts *sync.Mutex) http.Handler {
	isPart := faultproxy.On(http.MethodPut, "partNumber")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r = r.WithContext(context.WithoutCancel(r.Context()))
		r.Body = io.NopCloser(bytes.NewReader(body))
		if isPart(r) {
			parts.Lock()
			defer parts.Unlock()
		}
		proxy.ServeHTTP(w, r)
	})
}

// settle waits until the program is gone and its requests have ended. The one that is held ends
// as it is: not carried out, or not answered.
func (p *process) settle() {
	<-p.done
	for _, proxy := range p.proxies {
		proxy.Close()
	}
	for _, door := range p.doors {
		door.close()
	}
}

// door is the address at which programs find a service, the same for one after the other. It lets in
// the requests of one at a time: what a program that was killed has sent may come late.
type door struct {
	url string

	mu      sync.Mutex
	run     string // who is let in, by the id that the SDK puts into the User-Agent
	handler http.Handler
	inside  int
	allGone *sync.Cond
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{}
	d.allGone = sync.NewCond(&d.mu)
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	d.url = server.URL
	return d
}

func (d *door) open(run string, handler http.Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run, d.handler = run, handler
}

// close lets nobody in any more, and waits until the last request has ended.
func (d *door) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run = ""
	for d.inside > 0 {
		d.allGone.Wait()
	}
}

func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	if d.run == "" || !strings.Contains(r.UserAgent(), "app/"+d.run) {
		d.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	handler := d.handler
	d.inside++
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.inside--
		d.allGone.Broadcast()
	}()
	handler.ServeHTTP(w, r)
}

func (p *process) kill(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.settle()
}

// interrupt sends Ctrl-C and returns the exit status.
func (p *process) interrupt(t *testing.T) int {
	t.Helper()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("it does not end")
	}
	p.settle()
	return p.cmd.ProcessState.ExitCode()
}

// filestore is one of its own for a round, seen past the proxies.
type filestore struct {
	*client.Client
	offset    time.Duration // of the client's clock
	home      string        // of the user who runs the program
	doors     map[string]*door
	api       *s3.Client
	dynamoAPI *dynamodb.Client
	tableName string
}

func (s servers) open(t *testing.T) *filestore {
	t.Helper()
	f := &filestore{dynamoAPI: testserver.DynamoDB(s.dynamoDB), tableName: "files-" + client.NewID(), home: t.TempDir()}
	f.doors = map[string]*door{"s3": newDoor(t), "dynamodb": newDoor(t)}
	bucket := "bucket-" + client.NewID()
	f.api = client.NewS3(aws.Config{
		Region:      s.s3.Region,
		Credentials: credentials.NewStaticCredentialsProvider(s.s3.AccessKey, s.s3.SecretKey, ""),
	}, func(o *s3.Options) { o.BaseEndpoint = &s.s3.Endpoint })
	if _, err := f.api.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.dynamoAPI.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: &f.tableName, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
	}); err != nil {
		t.Fatal(err)
	}
	waiter := dynamodb.NewTableExistsWaiter(f.dynamoAPI, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	})
	if err := waiter.Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: &f.tableName}, patience); err != nil {
		t.Fatal(err)
	}
	f.Client = &client.Client{
		S3: f.api, Bucket: bucket, Records: dynamo.New(f.dynamoAPI, f.tableName),
		Transfer: &transfer.Engine{S3: f.api, Bucket: bucket},
		Signer:   func(context.Context) (presign.Signer, error) { return presign.Signer{}, presign.ErrNoCredentials },
		Settings: client.Settings{URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime},
		Now:      func() time.Time { return time.Now().Add(f.offset) },
		NewID:    client.NewID,
	}
	return f
}

func (f *filestore) stamp(ago time.Duration) records.Stamp { return records.At(time.Now().Add(-ago)) }

// make puts a record into the table, in whatever state, with or without an object.
func (f *filestore) make(t *testing.T, r records.Record, withObject bool) string {
	t.Helper()
	r.ID, r.Name, r.Type = client.NewID(), "a.txt", "text/plain"
	if _, err := f.dynamoAPI.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &f.tableName, Item: recordstest.Item(r)}); err != nil {
		t.Fatal(err)
	}
	if withObject {
		if _, err := f.api.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &f.Bucket, Key: &r.ID, Body: strings.NewReader("content")}); err != nil {
			t.Fatal(err)
		}
	}
	return r.ID
}

func (f *filestore) records(t *testing.T) []records.Record { return allRecords(t, f.Records) }

func allRecords(t *testing.T, table records.Table) (all []records.Record) {
	t.Helper()
	for page, err := range table.Scan(t.Context(), records.Filter{}, records.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page...)
	}
	return all
}

func (f *filestore) objects(t *testing.T) map[string]bool { return allObjects(t, f.Client) }

func allObjects(t *testing.T, c *client.Client) map[string]bool {
	t.Helper()
	keys := make(map[string]bool)
	pages := s3.NewListObjectsV2Paginator(c.S3, &s3.ListObjectsV2Input{Bucket: &c.Bucket})
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

// allUploads returns the keys of the multipart uploads.
func allUploads(t *testing.T, c *client.Client) (keys []string) {
	t.Helper()
	out, err := c.S3.ListMultipartUploads(t.Context(), &s3.ListMultipartUploadsInput{Bucket: &c.Bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range out.Uploads {
		keys = append(keys, aws.ToString(u.Key))
	}
	return keys
}

func (f *filestore) wantAllowed(t *testing.T) { t.Helper(); wantAllowed(t, f.Client) }

// wantAllowed fails the test unless what is left is a state that the contract's order of writes
// allows at every moment: no object and no multipart upload without a record that leads a sweep
// to it, and a record says uploaded or stored only while its object is there.
func wantAllowed(t *testing.T, c *client.Client) {
	t.Helper()
	objects, states := allObjects(t, c), make(map[string]records.State)
	for _, r := range allRecords(t, c.Records) {
		states[r.ID] = r.State()
		if (r.State() == records.Temporary || r.State() == records.Stored) && !objects[r.ID] {
			t.Errorf("the %s file %q has no object", r.State(), r.ID)
		}
	}
	for id := range objects {
		if states[id] == "" {
			t.Errorf("object %q has no record", id)
		}
	}
	for _, id := range allUploads(t, c) {
		if states[id] == "" {
			t.Errorf("a multipart upload of %q has no record", id)
		}
	}
}

func (f *filestore) wantClean(t *testing.T) { t.Helper(); wantClean(t, f.Client) }

// wantClean fails the test unless every object has a live record, every live record an object,
// and no multipart upload is left.
func wantClean(t *testing.T, c *client.Client) {
	t.Helper()
	objects := allObjects(t, c)
	for _, r := range allRecords(t, c.Records) {
		if live := r.State() != records.Deleted; live != objects[r.ID] {
			t.Errorf("the %s file %q, and its object is there: %t", r.State(), r.ID, objects[r.ID])
		}
		delete(objects, r.ID)
	}
	for id := range objects {
		t.Errorf("object %q has no record", id)
	}
	for _, id := range allUploads(t, c) {
		t.Errorf("a multipart upload of %q is left", id)
	}
}
