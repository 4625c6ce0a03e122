package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTemplateDescribesWhatInitCreates compares every property of the resources in the template
// with what init asks AWS for, where there is nothing yet.
func TestTemplateDescribesWhatInitCreates(t *testing.T) {
	t.Run("without index", func(t *testing.T) { testTemplateDescribesWhatInitCreates(t, 5) })
	t.Run("with index", func(t *testing.T) { testTemplateDescribesWhatInitCreates(t, 6, "--index") })
}

func testTemplateDescribesWhatInitCreates(t *testing.T, parts int, flags ...string) {
	aws := newAccount(t)
	flags = append(flags, "--bucket", "my-files", "--table", "Files-2", "--endpoint-url", aws.url, "--region", "eu-central-1")
	run := runInAccount(t.Context(), t, nil, append([]string{"init"}, flags...)...)
	if run.status != exitOK || strings.Count(run.stdout, "\tcreated\n") != parts {
		t.Fatalf("init: exit status %d\n%s%s", run.status, run.stdout, run.stderr)
	}

	run = runInAccount(t.Context(), t, nil, append([]string{"template", "cloudformation"}, flags...)...)
	if run.status != exitOK {
		t.Fatalf("template: exit status %d\n%s", run.status, run.stderr)
	}
	if diff := cmp.Diff(aws.resources(t), resourcesOf(t, run.stdout)); diff != "" {
		t.Errorf("- what init creates\n+ what the template describes\n%s", diff)
	}
}

// ran is what one run of the program has left.
type ran struct {
	status         int
	stdout, stderr string
}

// runInAccount runs the program in this process and returns what it said. Its environment is env alone,
// for the SDK too.
func runInAccount(ctx context.Context, t *testing.T, env map[string]string, args ...string) ran {
	t.Helper()
	setAccountEnv(t, env)
	var out, errs bytes.Buffer
	status := newAccountApp(env, &out, &errs).main(ctx, args)
	return ran{status, out.String(), errs.String()}
}

// newAccountApp returns the program with env alone.
func newAccountApp(env map[string]string, stdout, stderr io.Writer) *app {
	return &app{stdin: strings.NewReader(""), stdout: stdout, stderr: stderr, runBy: thisInvoker, release: func() {}, lookupEnv: func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}}
}

// setAccountEnv gives the SDK no other environment than env.
func setAccountEnv(t *testing.T, env map[string]string) {
	t.Helper()
	for _, name := range []string{"AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_REGION",
		"AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_DYNAMODB"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	for name, value := range env {
		t.Setenv(name, value)
	}
}

// account answers as an AWS account without any bucket or table, in which all that is asked for
// can be created, and keeps the requests that create something.
type account struct {
	url string

	mu      sync.Mutex
	created map[string][]byte // the body, by what it creates
	buckets []string
	index   map[string]any // of the table, added to it later
	looks   int            // at how many looks the index is not there yet
}

func newAccount(t *testing.T) *account {
	t.Helper()
	a := &account{created: make(map[string][]byte)}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	a.url = srv.URL
	return a
}

func (a *account) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, operation, ok := strings.Cut(r.Header.Get("X-Amz-Target"), "."); ok {
		a.dynamoDB(w, operation, body)
		return
	}
	part, _, _ := strings.Cut(r.URL.RawQuery, "&")
	part = strings.TrimSuffix(part, "=")
	switch {
	case r.Method == http.MethodPut:
		a.created[part] = body
		if part == "" {
			a.buckets = append(a.buckets, strings.Trim(r.URL.Path, "/"))
		}
	case a.created[part] != nil:
		_, _ = w.Write(a.created[part])
	default:
		w.WriteHeader(http.StatusNotFound)
		if code := map[string]string{
			"cors":              "NoSuchCORSConfiguration",
			"lifecycle":         "NoSuchLifecycleConfiguration",
			"publicAccessBlock": "NoSuchPublicAccessBlockConfiguration",
		}[part]; code != "" {
			_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
		}
	}
}

func (a *account) dynamoDB(w http.ResponseWriter, operation string, body []byte) {
	const table = "table"
	w.Header().Set("Content-Type", "application/x-amz-json-1.0")
	switch {
	case operation == "CreateTable":
		a.created[table] = body
		_, _ = fmt.Fprintf(w, `{"TableDescription": %s}`, body)
	case operation == "DescribeTable" && a.created[table] != nil:
		_ = json.NewEncoder(w).Encode(map[string]any{"Table": a.describe()})
	case operation == "UpdateTable" && a.created[table] != nil:
		var in struct {
			GlobalSecondaryIndexUpdates []struct{ Create, Delete map[string]any }
		}
		if err := json.Unmarshal(body, &in); err != nil || len(in.GlobalSecondaryIndexUpdates) != 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		a.index, a.looks = in.GlobalSecondaryIndexUpdates[0].Create, 2
		_ = json.NewEncoder(w).Encode(map[string]any{"TableDescription": a.describe()})
	default:
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type": "com.amazonaws.dynamodb.v20120810#ResourceNotFoundException", "message": "no such table"}`)
	}
}

// describe is the table as it is.
func (a *account) describe() map[string]any {
	var table map[string]any
	if err := json.Unmarshal(a.created["table"], &table); err != nil {
		panic(err) // the SDK has written it
	}
	table["TableStatus"] = "ACTIVE"
	table["BillingModeSummary"] = map[string]any{"BillingMode": table["BillingMode"]}
	if a.index != nil {
		a.index["IndexStatus"], a.index["Backfilling"] = "ACTIVE", false
		if a.looks > 0 {
			a.index["IndexStatus"], a.index["Backfilling"] = "CREATING", true
			a.looks--
		}
		a.index["ItemCount"], a.index["IndexSizeBytes"] = 12, 3456
		table["GlobalSecondaryIndexes"] = []any{a.index}
	}
	return table
}

// resources returns what was created, in the words of CloudFormation.
func (a *account) resources(t *testing.T) map[string]any {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.buckets) != 1 {
		t.Fatalf("init creates the buckets %q", a.buckets)
	}
	bucket := map[string]any{"BucketName": a.buckets[0]}
	var table map[string]any
	for part, body := range a.created {
		switch part {
		case "": // CreateBucket: where the bucket is, which is where the stack is
		case "publicAccessBlock":
			bucket["PublicAccessBlockConfiguration"] = fromXML(t, body)
		case "cors":
			bucket["CorsConfiguration"] = fromXML(t, body)
		case "lifecycle":
			rules := fromXML(t, body)
			for _, r := range rules.(map[string]any)["Rules"].([]any) {
				// CloudFormation has the filter's prefix in the rule, and for all keys none.
				if rule, all := r.(map[string]any), map[string]any{"Prefix": ""}; cmp.Equal(rule["Filter"], any(all)) {
					delete(rule, "Filter")
				}
			}
			bucket["LifecycleConfiguration"] = rules
		case "table": // DynamoDB's words are CloudFormation's
			if err := json.Unmarshal(body, &table); err != nil {
				t.Fatal(err)
			}
			// What a new table has unless one asks for it.
			table["PointInTimeRecoverySpecification"] = map[string]any{"PointInTimeRecoveryEnabled": "false"}
		default:
			t.Fatalf("init creates %q of the bucket, and this test does not know what the template calls it", part)
		}
	}
	return map[string]any{"AWS::S3::Bucket": bucket, "AWS::DynamoDB::Table": table}
}

// fromXML returns a document of S3 in the words of CloudFormation.
func fromXML(t *testing.T, document []byte) any {
	t.Helper()
	type element struct {
		XMLName  xml.Name
		Text     string    `xml:",chardata"`
		Children []element `xml:",any"`
	}
	lists := map[string]string{
		"CORSRule": "CorsRules", "AllowedOrigin": "AllowedOrigins", "AllowedMethod": "AllowedMethods",
		"AllowedHeader": "AllowedHeaders", "ExposeHeader": "ExposedHeaders", "Rule": "Rules",
	}
	names := map[string]string{"ID": "Id", "MaxAgeSeconds": "MaxAge"}
	var convert func(element) any
	convert = func(e element) any {
		if len(e.Children) == 0 {
			var value any
			if json.Unmarshal([]byte(e.Text), &value) != nil { // a number or a boolean
				value = e.Text
			}
			return value
		}
		out := make(map[string]any)
		for _, child := range e.Children {
			name := child.XMLName.Local
			if list := lists[name]; list != "" {
				soFar, _ := out[list].([]any)
				out[list] = append(soFar, convert(child))
				continue
			}
			if other := names[name]; other != "" {
				name = other
			}
			out[name] = convert(child)
		}
		return out
	}
	var root element
	if err := xml.Unmarshal(document, &root); err != nil {
		t.Fatalf("%q: %v", document, err)
	}
	return convert(root)
}

// resourcesOf returns the properties of the resources in a template, by type, with its parameters
// at their defaults.
func resourcesOf(t *testing.T, text string) map[string]any {
	t.Helper()
	var doc struct {
		Parameters map[string]struct{ Default string }
		Resources  map[string]struct {
			Type       string
			Properties map[string]any
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	var resolve func(any) any
	resolve = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			if name, ok := v["Ref"].(string); ok && len(v) == 1 {
				parameter, ok := doc.Parameters[name]
				if !ok {
					t.Fatalf("there is no parameter %q", name)
				}
				return parameter.Default
			}
			for key, inner := range v {
				v[key] = resolve(inner)
			}
		case []any:
			for i, inner := range v {
				v[i] = resolve(inner)
			}
		}
		return v
	}
	out := make(map[string]any)
	for _, r := range doc.Resources {
		out[r.Type] = resolve(r.Properties)
	}
	return out
}
