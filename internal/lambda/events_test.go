package lambda_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// event is one of testdata, to which a test gives other values.
type event map[string]any

func newEvent(t testing.TB, name string) event {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var e event
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// with sets a value that is there already, deep in the event: what AWS does not send can't be set.
func (e event) with(t testing.TB, path string, value any) event {
	t.Helper()
	at := map[string]any(e)
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := at[name].(map[string]any)
		if !ok {
			t.Fatalf("the event has no %q", path)
		}
		at = inner
	}
	last := names[len(names)-1]
	if _, ok := at[last]; !ok {
		t.Fatalf("the event has no %q", path)
	}
	at[last] = value
	return e
}

func (e event) text(t testing.TB) []byte {
	t.Helper()
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// restRequest is a request at a REST API. key says whether its method wants a key, which has been checked then.
func restRequest(t testing.TB, method, path string, key bool, body string) event {
	t.Helper()
	path, query, _ := strings.Cut(path, "?")
	e := newEvent(t, "rest-api").with(t, "httpMethod", method).with(t, "body", body)
	e.with(t, "path", path).with(t, "requestContext.path", "/prod"+path)
	resource := path
	if id, ok := strings.CutPrefix(path, "/file/"); ok {
		resource = "/file/{id}"
		e.with(t, "pathParameters", map[string]any{"id": id})
	}
	e.with(t, "resource", resource).with(t, "requestContext.resourcePath", resource)
	if query != "" {
		one, several := make(map[string]any), make(map[string]any)
		for pair := range strings.SplitSeq(query, "&") {
			name, value, _ := strings.Cut(pair, "=")
			before, _ := several[name].([]any)
			one[name], several[name] = value, append(before, value)
		}
		e.with(t, "queryStringParameters", one).with(t, "multiValueQueryStringParameters", several)
	}
	if !key {
		e.with(t, "requestContext.identity.apiKey", nil).with(t, "requestContext.identity.apiKeyId", nil)
	}
	return e
}

// objectCreated is the event of objects that were written.
func objectCreated(t testing.TB, bucket string, keys ...string) event {
	t.Helper()
	var all []any
	for _, key := range keys {
		e := newEvent(t, "s3-object-created")
		n := event(e["Records"].([]any)[0].(map[string]any))
		n.with(t, "s3.bucket.name", bucket).with(t, "s3.bucket.arn", "arn:aws:s3:::"+bucket).with(t, "s3.object.key", key)
		all = append(all, map[string]any(n))
	}
	return event{"Records": all}
}
