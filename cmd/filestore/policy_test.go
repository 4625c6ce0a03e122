package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/policy"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/recordstest"
	"github.com/designfultech/filestore/internal/testserver"
)

// roleRun runs commands, with what makes them call all that they can call.
type roleRun struct {
	name string
	do   func(*testing.T, *site)
}

// roleRuns run the commands of each role. Administrators do what all others do, and more.
func roleRuns() map[policy.Role][]roleRun {
	uploads, reads, sweeps := roleRun{"upload", upload}, roleRun{"read", read}, roleRun{"sweep", sweep}
	return map[policy.Role][]roleRun{
		policy.Uploader:      {uploads},
		policy.Reader:        {reads},
		policy.Sweeper:       {sweeps},
		policy.API:           {{"API", serveAPI}, {"serve", serveOverHTTP}},
		policy.Notifications: {{"lambda", beNotified}},
		policy.Admin:         {uploads, reads, sweeps, {"administer", administer}},
	}
}

// TestPolicies records the requests that the commands of each role make. The policy of the role
// must allow them all, and nothing that none of them needs.
func TestPolicies(t *testing.T) {
	if testserver.Race {
		t.Skip("every command, twice: nothing that is shared by goroutines")
	}
	s3Server, table := testserver.Versitygw(t), testserver.Dynalite(t)
	calls := make(map[string][]call) // of the runs so far: they do the same for every role
	for _, role := range policy.Roles() {
		t.Run(string(role), func(t *testing.T) {
			var recorded []call
			for _, run := range roleRuns()[role] {
				if calls[run.name] == nil {
					s := newSite(t, s3Server, table)
					run.do(t, s)
					calls[run.name] = s.calls(t)
				}
				recorded = append(recorded, calls[run.name]...)
			}
			seen := checkAllowed(t, recorded, role)
			for _, op := range policy.Called(role) {
				if !seen[op] {
					t.Errorf("the policy of the role %q is also for %s, which no command calls here: have the runs of this test call it, or take the role away from its line in operations() in internal/policy/operations.go", role, op)
				}
			}
		})
	}
}

// A server that sweeps has two roles, and those are enough.
func TestPoliciesOfServe(t *testing.T) {
	s := newSite(t, testserver.Versitygw(t), testserver.Dynalite(t))
	serveAndSweep(t, s)
	checkAllowed(t, s.calls(t), policy.API, policy.Sweeper)
}

// checkAllowed checks that the policies of the roles, taken together, allow the calls. It returns the operations.
func checkAllowed(t *testing.T, recorded []call, roles ...policy.Role) (seen map[string]bool) {
	t.Helper()
	scope := policy.Scope{
		Partition: "aws", Region: "eu-central-1", Account: "123456789012", Bucket: "my-files", Table: "Files",
	}
	doc := printedPolicy(t, scope, roles...)
	seen = make(map[string]bool)
	for _, c := range recorded {
		op := c.service + " " + c.operation
		if seen[op] {
			continue
		}
		seen[op] = true
		var needs []policy.Need
		var known bool
		for _, role := range roles {
			if needs, known = policy.Needs(c.service, c.operation, role, scope); known {
				break
			}
		}
		if !known {
			t.Errorf("%s is called, and not in operations() in internal/policy/operations.go: add it there, with one of the roles %q", op, roles)
		}
		for _, need := range needs {
			resource := need.Resource
			if bucket, ok := strings.CutSuffix(resource, "/*"); ok {
				resource = bucket + "/" + c.key
			}
			if !doc.allows(need.Action, resource) {
				t.Errorf("commands of the roles %q call %s, which needs %s on %s, and their policy does not allow that: add one of the roles to the line of %s in operations() in internal/policy/operations.go",
					roles, op, need.Action, resource, c.operation)
			}
		}
	}
	return seen
}

// TestPoliciesAreEnough runs the commands of each role on a server that knows IAM, with
// credentials that are allowed what the policy says of S3 and nothing else.
func TestPoliciesAreEnough(t *testing.T) {
	if testserver.Race {
		t.Skip("what TestPolicies runs, on another server")
	}
	s3Server, table := testserver.MinIO(t), testserver.Dynalite(t)
	for _, role := range policy.Roles() {
		t.Run(string(role), func(t *testing.T) {
			for _, run := range roleRuns()[role] {
				s := newSite(t, s3Server, table)
				s.restrictTo(t, role)
				run.do(t, s)
			}
		})
	}
	t.Run("serve, which sweeps", func(t *testing.T) {
		s := newSite(t, s3Server, table)
		s.restrictTo(t, policy.API, policy.Sweeper)
		serveAndSweep(t, s)
	})
	t.Run("and no more", func(t *testing.T) {
		for _, role := range []policy.Role{policy.Reader, policy.Sweeper} {
			s := newSite(t, s3Server, table)
			s.restrictTo(t, role)
			s.run(t, exitPermission, "upload", s.file(t, "a.txt", 10))
		}
		s := newSite(t, s3Server, table)
		s.restrictTo(t, policy.Uploader)
		s.run(t, exitPermission, "init", "--bucket", s.bucket+"-2")
	})
}

// upload does what an uploader does: uploads that succeed and others that must be undone, and
// storing, by a URL too.
func upload(t *testing.T, s *site) {
	small, large := s.file(t, "small.txt", 10), s.file(t, "large.bin", 17<<20)
	s.run(t, exitOK, "upload", large)
	s.run(t, exitOK, append([]string{"upload"}, s.files(t, 8)...)...)
	id := strings.TrimSpace(s.run(t, exitOK, "upload", "-q", small))
	s.run(t, exitOK, "store", id)
	s.run(t, exitOK, "info", "--checksum", id)
	for range 2 {
		s.run(t, exitOK, "upload", "--idempotency-key", "report", "--store", small)
	}

	// A file that changes while it is sent is removed from the bucket again.
	s.during(t, "PutObject", func() { grow(t, small) })
	s.run(t, exitConflict, "upload", small)
	s.during(t, "CreateMultipartUpload", func() { grow(t, large) })
	s.run(t, exitConflict, "upload", large)

	// So is a multipart upload whose id was never told.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.s3.Inject(faultproxy.On(http.MethodPost, "uploads"), faultproxy.Always(), faultproxy.Hang(faultproxy.After, nil))
	s.during(t, "CreateMultipartUpload", cancel)
	if r := runInAccount(ctx, t, s.env, "upload", large); r.status != exitInterrupted {
		t.Fatalf("exit status %d after an interrupt\n%s", r.status, r.stderr)
	}
	s.s3.Heal()

	// Others upload by a URL, of which the record says nothing yet.
	fields := strings.Split(s.run(t, exitOK, "presign", "put", "b.txt"), "\t")
	request(t, http.MethodPut, fields[1])
	s.run(t, exitOK, "store", fields[0])
	s.run(t, exitNotFound, "store", client.NewID())

	// What broke off is listed and gone on with; of a file that has changed it is removed, and so it is when it
	// is given up.
	s.env["HOME"] = t.TempDir() // where it is remembered
	s.interrupt(t, "UploadPart", "upload", "--resume", large)
	if begun := s.run(t, exitOK, "uploads"); !strings.Contains(begun, "large.bin") {
		t.Errorf("uploads does not list what broke off:\n%s", begun)
	}
	s.run(t, exitOK, "upload", "--resume", large)
	s.interrupt(t, "UploadPart", "upload", "--resume", large)
	grow(t, large)
	s.run(t, exitOK, "upload", "--resume", large)
	s.interrupt(t, "UploadPart", "upload", "--resume", large)
	s.run(t, exitOK, "uploads", "abort", "--older-than", "24h")
	s.run(t, exitOK, append([]string{"uploads", "abort"}, strings.Fields(s.run(t, exitOK, "uploads", "-q"))...)...)

	// To copy files here takes no more: new ones, those that have been stored or deleted since, and what a
	// copy that was killed has left.
	other := s.another(t)
	ids := strings.Fields(other.run(t, exitOK, append([]string{"upload", "-q", large}, s.files(t, 8)...)...))
	left := records.Record{ID: ids[0], Name: filepath.Base(large)}
	if err := dynamo.New(s.dynamoAPI, s.table).Create(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	s.begin(t, left.ID)
	args := []string{
		"--profile", "owner", "--endpoint-url", other.front, "--bucket", other.bucket, "--table", other.table,
		"copy", "--to-profile", "", "--to-bucket", s.bucket, "--to-table", s.table,
	}
	s.run(t, exitOK, args...)
	other.run(t, exitOK, append([]string{"store"}, ids...)...)
	other.run(t, exitOK, "delete", ids[1])
	s.run(t, exitOK, args...)
}

// read does what a reader does. Objects are checked by whatever checksum they have.
func read(t *testing.T, s *site) {
	small := s.stored(t, 10)
	request(t, http.MethodGet, strings.TrimSpace(s.run(t, exitOK, "presign", "get", "--url", small)))
	dir := t.TempDir()
	large := s.stored(t, 17<<20)
	files := []string{small, large, s.composite(t)}
	s.run(t, exitOK, append([]string{"info", "--checksum"}, files...)...)
	s.run(t, exitOK, append([]string{"download", "-d", dir}, files...)...)
	s.env["HOME"] = t.TempDir() // where it is remembered how far a download is
	resumed := t.TempDir()
	s.interrupt(t, "GetObject", "download", "--resume", "-d", resumed, large)
	s.run(t, exitOK, "download", "--resume", "-d", resumed, large)
	other := s.another(t)
	s.run(t, exitOK, append([]string{
		"copy", "--to-bucket", other.bucket, "--to-table", other.table, "--to-profile", "owner", "--to-endpoint-url", other.front,
	}, files...)...)

	// On AWS, who may not list the bucket is told 403 of it.
	missing := s.stored(t, 10)
	s.remove(t, missing)
	s.run(t, exitNotFound, "download", "-d", dir, missing)
}

// sweep has expire find something of every kind.
func sweep(t *testing.T, s *site) {
	s.temporary(t)
	s.run(t, exitOK, "expire")
	for range 40 {
		s.temporary(t)
	}
	s.begin(t, s.temporary(t))
	s.begin(t, s.placeholder(t))
	s.placeholder(t)
	s.run(t, exitOK, "expire")

	s.temporary(t)
	s.run(t, exitOK, "index", "backfill")
	s.run(t, exitOK, "expire", "--full")

	// Somebody is faster. Nothing else is due, so that the request is about this file.
	id := s.temporary(t)
	s.during(t, "UpdateItem", func() {
		if _, err := s.dynamoAPI.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{
			TableName: &s.table, Key: map[string]types.AttributeValue{"id": &types.AttributeValueMemberS{Value: id}},
		}); err != nil {
			t.Error(err)
		}
	})
	s.run(t, exitOK, "expire")

	s.run(t, exitOK, "list")
	s.run(t, exitOK, "list", "--sort", "size:desc", "--limit", "2")
	s.run(t, exitOK, "stats")

	// What is there is read, by whatever checksum it has.
	s.stored(t, 10)
	s.composite(t)
	s.run(t, exitOK, "verify", "--deep")

	// Of everything that is repaired, but orphans: those are for administrators. Uploads that are stale by a day
	// can't be made here; expire aborts uploads by the same requests.
	s.remove(t, s.temporary(t))
	s.placeholder(t)
	s.put(t, s.placeholder(t))
	s.put(t, s.record(t, records.Record{UploadedAt: s.ago(48 * time.Hour), DeletedAt: s.ago(24 * time.Hour)}))
	s.put(t, s.record(t, records.Record{UploadedAt: s.ago(48 * time.Hour), Size: 5}))
	classes := []client.Class{
		client.ClassMissing, client.ClassNeverUploaded, client.ClassUnrecorded, client.ClassUndeleted, client.ClassDiffers,
	}
	s.awaitFindings(t, classes...)
	// The object of the file that was removed above is an orphan, and stays.
	repaired := s.run(t, exitPartial, "verify", "--grace", "1s", "--fix", "all")
	for _, class := range classes {
		if !strings.Contains(repaired, "\t"+string(class)+"\t") {
			t.Errorf("verify has repaired nothing that is %s:\n%s", class, repaired)
		}
	}
}

// administer does what nobody else may do.
func administer(t *testing.T, s *site) {
	s.run(t, exitOK, "delete", s.stored(t, 10))
	s.run(t, exitOK, "delete", s.stored(t, 10), s.stored(t, 10))
	s.run(t, exitOK, "init")
	s.put(t, client.NewID())
	s.awaitFindings(t, client.ClassOrphan)
	s.run(t, exitOK, "verify", "--grace", "1s", "--fix", "orphan")
	other := s.another(t)
	s.stored(t, 10)
	s.run(t, exitOK, "copy", "--to-bucket", other.bucket, "--to-table", other.table, "--to-profile", "owner", "--to-endpoint-url", other.front)

	// Where nothing is there yet, and the server knows every part.
	account := newAccount(t)
	s.s3, s.dynamoDB = faultproxy.New(account.url), faultproxy.New(account.url)
	s.recorders = append(s.recorders, s.s3, s.dynamoDB)
	env := maps.Clone(s.env)
	env["AWS_ENDPOINT_URL_S3"], env["AWS_ENDPOINT_URL_DYNAMODB"] = s.s3.Start(t), s.dynamoDB.Start(t)
	for _, args := range [][]string{
		{"init"}, {"index", "create", "--wait=false"}, {"index", "status"}, {"index", "drop"}, {"init", "--index"},
	} {
		if r := runInAccount(t.Context(), t, env, args...); r.status != exitOK {
			t.Fatalf("%s: exit status %d\n%s", args, r.status, r.stderr)
		}
	}
}

// site is a filestore whose requests are recorded. What a test prepares goes past the recorders,
// with the rights of the server's owner.
type site struct {
	bucket, table string
	front         string            // the URL of both services, of another site
	env           map[string]string // of the program
	s3, dynamoDB  *faultproxy.Proxy
	recorders     []*faultproxy.Proxy
	server        testserver.S3
	api           *s3.Client
	dynamoAPI     *dynamodb.Client
}

func newSite(t *testing.T, server testserver.S3, dynamoDB string) *site {
	t.Helper()
	s := &site{
		bucket: "bucket-" + client.NewID(), table: "files-" + client.NewID(), server: server,
		s3: faultproxy.New(server.Endpoint), dynamoDB: faultproxy.New(dynamoDB),
		dynamoAPI: testserver.DynamoDB(dynamoDB),
		api: client.NewS3(aws.Config{
			Region:      server.Region,
			Credentials: credentials.NewStaticCredentialsProvider(server.AccessKey, server.SecretKey, ""),
		}, func(o *s3.Options) { o.BaseEndpoint = &server.Endpoint }),
	}
	s.recorders = []*faultproxy.Proxy{s.s3, s.dynamoDB}
	if _, err := s.api.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &s.bucket}); err != nil {
		t.Fatal(err)
	}
	testserver.MakeTable(t, s.dynamoAPI, dynamo.Schema(s.table))
	s.env = map[string]string{
		"AWS_ENDPOINT_URL_S3": s.s3.Start(t), "AWS_ENDPOINT_URL_DYNAMODB": s.dynamoDB.Start(t),
		"AWS_ACCESS_KEY_ID": server.AccessKey, "AWS_SECRET_ACCESS_KEY": server.SecretKey, "AWS_REGION": server.Region,
		"FILESTORE_BUCKET": s.bucket, "FILESTORE_TABLE": s.table,
	}
	return s
}

// another returns a second filestore on the same servers, whose requests are not recorded: both
// services answer at its front. Programs of s, too, have the rights of the owner there, with the profile "owner".
func (s *site) another(t *testing.T) *site {
	t.Helper()
	other := newSite(t, s.server, aws.ToString(s.dynamoAPI.Options().BaseEndpoint))
	s3Proxy, dynamoProxy := other.s3, other.dynamoDB
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") != "" {
			dynamoProxy.ServeHTTP(w, r)
			return
		}
		s3Proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	other.front = front.URL
	config := filepath.Join(t.TempDir(), "config")
	profile := fmt.Sprintf("[profile owner]\naws_access_key_id = %s\naws_secret_access_key = %s\n", s.server.AccessKey, s.server.SecretKey)
	if err := os.WriteFile(config, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	s.env["AWS_CONFIG_FILE"] = config
	return other
}

// restrictTo gives the program credentials that are allowed what the policies of the roles say of
// S3. MinIO refuses actions of which it does not know the calls either: all of DynamoDB, and two
// of S3. Of the others it wants the spelling of the call, where IAM ignores the case.
func (s *site) restrictTo(t *testing.T, roles ...policy.Role) {
	t.Helper()
	doc := printedPolicy(t, policy.Scope{Partition: "aws", Region: "us-east-1", Bucket: s.bucket, Table: s.table}, roles...)
	for i, st := range doc.Statement {
		doc.Statement[i].Action = nil
		for _, action := range st.Action {
			if !strings.HasPrefix(action, "dynamodb:") && !strings.HasSuffix(action, "BucketPublicAccessBlock") {
				doc.Statement[i].Action = append(doc.Statement[i].Action, strings.Replace(action, "CORS", "Cors", 1))
			}
		}
	}
	doc.Statement = slices.DeleteFunc(doc.Statement, func(s policy.Statement) bool { return len(s.Action) == 0 })
	s.restrict(t, string(roles[0]), doc)
}

// restrict gives the program credentials that are allowed what the policy says of S3.
func (s *site) restrict(t *testing.T, session string, doc printed) {
	t.Helper()
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	issuer := sts.New(sts.Options{
		BaseEndpoint: &s.server.Endpoint, Region: s.server.Region,
		Credentials: credentials.NewStaticCredentialsProvider(s.server.AccessKey, s.server.SecretKey, ""),
	})
	out, err := issuer.AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam:::role/filestore"), RoleSessionName: aws.String(session), Policy: aws.String(string(text)),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.env["AWS_ACCESS_KEY_ID"] = aws.ToString(out.Credentials.AccessKeyId)
	s.env["AWS_SECRET_ACCESS_KEY"] = aws.ToString(out.Credentials.SecretAccessKey)
	s.env["AWS_SESSION_TOKEN"] = aws.ToString(out.Credentials.SessionToken)
}

// run runs the program, which must end with that exit status, and returns its output.
func (s *site) run(t *testing.T, status int, args ...string) string {
	t.Helper()
	r := runInAccount(t.Context(), t, s.env, args...)
	if r.status != status {
		t.Fatalf("filestore %s: exit status %d, want %d\n%s%s", strings.Join(args, " "), r.status, status, r.stdout, r.stderr)
	}
	return r.stdout
}

// interrupt interrupts the program during the first request of that operation.
func (s *site) interrupt(t *testing.T, operation string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.during(t, operation, cancel)
	if r := runInAccount(ctx, t, s.env, args...); r.status != exitInterrupted {
		t.Fatalf("filestore %s: exit status %d after an interrupt\n%s", strings.Join(args, " "), r.status, r.stderr)
	}
}

// awaitFindings runs verify until it finds something of all these classes: what has just been made is too
// young for it.
func (s *site) awaitFindings(t *testing.T, classes ...client.Class) {
	t.Helper()
	var r ran
	for begun := time.Now(); time.Since(begun) < time.Minute; {
		r = runInAccount(t.Context(), t, s.env, "verify", "--grace", "1s")
		if !slices.ContainsFunc(classes, func(c client.Class) bool { return !strings.Contains(r.stdout, "\t"+string(c)+"\t") }) {
			return
		}
	}
	t.Fatalf("verify does not find all of %q: exit status %d\n%s%s", classes, r.status, r.stdout, r.stderr)
}

// during has f called once, while the next request of that operation is under way.
func (s *site) during(t *testing.T, operation string, f func()) {
	t.Helper()
	var done atomic.Bool
	t.Cleanup(func() {
		if !done.Load() {
			t.Errorf("there was no %s", operation)
		}
	})
	for _, p := range []*faultproxy.Proxy{s.s3, s.dynamoDB} {
		p.OnRequest(func(r faultproxy.Request) {
			if _, op, _, err := operationOf(r); err == nil && op == operation && done.CompareAndSwap(false, true) {
				f()
			}
		})
	}
}

// call is one request, as an operation. key is that of the object, "" where there is none.
type call struct{ service, operation, key string }

func (s *site) calls(t *testing.T) []call {
	t.Helper()
	var out []call
	for _, p := range s.recorders {
		for _, r := range p.Log() {
			service, operation, key, err := operationOf(r)
			if err != nil {
				t.Error(err)
			}
			out = append(out, call{service, operation, key})
		}
	}
	return out
}

// operationOf tells of which operation a request is: a request of DynamoDB says it, one of S3 is
// known by its method, its path, and the names in its query (Amazon S3 API Reference, "Actions").
func operationOf(r faultproxy.Request) (service, operation, key string, err error) {
	if r.Operation != "" {
		return policy.DynamoDB, r.Operation, "", nil
	}
	form := r.Method + " bucket"
	if _, key, _ = strings.Cut(strings.Trim(r.Path, "/"), "/"); key != "" {
		form = r.Method + " object"
	}
	for _, name := range r.Query {
		switch name {
		case "x-id", "prefix", "encoding-type", "continuation-token", "start-after", "max-keys", "key-marker", "upload-id-marker",
			"max-uploads", "max-parts", "part-number-marker", "response-content-disposition", "response-content-type":
			// They say what of it, and not of which operation it is.
		case "uploadId", "partNumber":
			if r.Method != http.MethodHead && !strings.HasSuffix(form, " upload") { // HEAD and GET have one part of an object
				form += " upload"
			}
		default:
			form += " " + name
		}
	}
	operation, ok := map[string]string{
		"HEAD bucket": "HeadBucket", "PUT bucket": "CreateBucket",
		"GET bucket cors": "GetBucketCors", "PUT bucket cors": "PutBucketCors",
		"GET bucket lifecycle": "GetBucketLifecycleConfiguration", "PUT bucket lifecycle": "PutBucketLifecycleConfiguration",
		"GET bucket publicAccessBlock": "GetPublicAccessBlock", "PUT bucket publicAccessBlock": "PutPublicAccessBlock",
		"GET bucket list-type": "ListObjectsV2", "GET bucket uploads": "ListMultipartUploads", "POST bucket delete": "DeleteObjects",
		"PUT object": "PutObject", "GET object": "GetObject", "HEAD object": "HeadObject", "DELETE object": "DeleteObject",
		"GET object attributes": "GetObjectAttributes",
		"POST object uploads":   "CreateMultipartUpload", "PUT object upload": "UploadPart", "POST object upload": "CompleteMultipartUpload",
		"DELETE object upload": "AbortMultipartUpload", "GET object upload": "ListParts",
	}[form]
	if !ok {
		return "", "", "", fmt.Errorf("operationOf does not know the operation of the request %s: add %q", r, form)
	}
	return policy.S3, operation, key, nil
}

// printed is a policy as the program prints it.
type printed policy.Document

// printedPolicy is what is printed for the roles, in one policy.
func printedPolicy(t *testing.T, scope policy.Scope, roles ...policy.Role) (all printed) {
	t.Helper()
	for _, role := range roles {
		doc := printedPolicyOf(t, role, scope)
		all.Version, all.Statement = doc.Version, append(all.Statement, doc.Statement...)
	}
	return all
}

func printedPolicyOf(t *testing.T, role policy.Role, scope policy.Scope) printed {
	t.Helper()
	args := []string{"policy", "--role", string(role), "--bucket", scope.Bucket, "--table", scope.Table, "--region", scope.Region}
	if scope.Account != "" {
		args = append(args, "--account", scope.Account)
	}
	r := runInAccount(t.Context(), t, nil, args...)
	if r.status != exitOK {
		t.Fatalf("policy: exit status %d\n%s", r.status, r.stderr)
	}
	// IAM takes 6,144 characters, white space not counted ("IAM and AWS STS quotas").
	if size := len(strings.Join(strings.Fields(r.stdout), "")); size > 6144 {
		t.Errorf("the policy of the role %q has %d characters: too many for a managed policy", role, size)
	}
	var doc printed
	dec := json.NewDecoder(strings.NewReader(r.stdout))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// allows reports whether one of the statements allows the action on the resource.
func (p printed) allows(action, resource string) bool {
	return slices.ContainsFunc(p.Statement, func(s policy.Statement) bool {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(s.Resource), `\*`, ".*")
		return s.Effect == "Allow" && slices.Contains(s.Action, action) &&
			regexp.MustCompile(`\A`+pattern+`\z`).MatchString(resource)
	})
}

// file makes a file of so many bytes.
func (s *site) file(t *testing.T, name string, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// files makes n small files.
func (s *site) files(t *testing.T, n int) []string {
	t.Helper()
	paths := make([]string, n)
	for i := range paths {
		paths[i] = s.file(t, fmt.Sprintf("%d.txt", i), int64(i))
	}
	return paths
}

// grow has a file change.
func grow(t *testing.T, path string) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.WriteString("more")
	}
	if err != nil {
		t.Error(err)
		return
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// request sends a request to a presigned URL.
func request(t *testing.T, method, url string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, answer := testserver.Ask(t, r); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s by URL: %s: %s", method, resp.Status, answer)
	}
}

// stored uploads and stores a file of so many bytes, with the rights of the server's owner.
func (s *site) stored(t *testing.T, size int64) string {
	t.Helper()
	env := maps.Clone(s.env)
	delete(env, "AWS_SESSION_TOKEN")
	env["AWS_ENDPOINT_URL_S3"], env["AWS_ENDPOINT_URL_DYNAMODB"] = s.server.Endpoint, aws.ToString(s.dynamoAPI.Options().BaseEndpoint)
	env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = s.server.AccessKey, s.server.SecretKey
	r := runInAccount(t.Context(), t, env, "upload", "-q", "--store", s.file(t, client.NewID(), size))
	if r.status != exitOK {
		t.Fatalf("upload: exit status %d\n%s", r.status, r.stderr)
	}
	return strings.TrimSpace(r.stdout)
}

// composite makes a stored file whose object has a checksum of the checksums of its parts.
func (s *site) composite(t *testing.T) string {
	t.Helper()
	const size = 5 << 20
	id := s.record(t, records.Record{UploadedAt: s.ago(0), StoredAt: s.ago(0), Size: size})
	created, err := s.api.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{
		Bucket: &s.bucket, Key: &id, ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		t.Fatal(err)
	}
	part, err := s.api.UploadPart(t.Context(), &s3.UploadPartInput{
		Bucket: &s.bucket, Key: &id, UploadId: created.UploadId, PartNumber: aws.Int32(1),
		Body: strings.NewReader(strings.Repeat("x", size)), ChecksumAlgorithm: s3types.ChecksumAlgorithmSha256,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.api.CompleteMultipartUpload(t.Context(), &s3.CompleteMultipartUploadInput{
		Bucket: &s.bucket, Key: &id, UploadId: created.UploadId,
		MultipartUpload: &s3types.CompletedMultipartUpload{Parts: []s3types.CompletedPart{
			{PartNumber: aws.Int32(1), ETag: part.ETag, ChecksumSHA256: part.ChecksumSHA256},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	return id
}

// temporary makes a temporary file with an object, long due.
func (s *site) temporary(t *testing.T) string {
	t.Helper()
	id := s.record(t, records.Record{UploadedAt: s.ago(48 * time.Hour)})
	s.put(t, id)
	return id
}

// put makes an empty object.
func (s *site) put(t *testing.T, id string) {
	t.Helper()
	if _, err := s.api.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &s.bucket, Key: &id}); err != nil {
		t.Fatal(err)
	}
}

// placeholder makes a placeholder, long due.
func (s *site) placeholder(t *testing.T) string {
	t.Helper()
	return s.record(t, records.Record{CreatedAt: s.ago(48 * time.Hour), Size: -1})
}

// begin begins a multipart upload.
func (s *site) begin(t *testing.T, id string) {
	t.Helper()
	if _, err := s.api.CreateMultipartUpload(t.Context(), &s3.CreateMultipartUploadInput{Bucket: &s.bucket, Key: &id}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) remove(t *testing.T, id string) {
	t.Helper()
	if _, err := s.api.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &s.bucket, Key: &id}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) record(t *testing.T, r records.Record) string {
	t.Helper()
	r.ID = client.NewID()
	r.Name = r.ID + ".txt"
	if _, err := s.dynamoAPI.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: &s.table, Item: recordstest.Item(r)}); err != nil {
		t.Fatal(err)
	}
	return r.ID
}

func (s *site) ago(d time.Duration) records.Stamp { return records.At(time.Now().Add(-d)) }
