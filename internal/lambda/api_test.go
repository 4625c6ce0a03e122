package lambda_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/designfultech/filestore/internal/testserver"
)

// newFile is the answer of POST /file.
type newFile struct{ ID, URL, Token string }

// quoted is a body that names files.
func quoted(ids ...string) string {
	text, _ := json.Marshal(ids) // strings can always be marshalled
	return string(text)
}

// create makes a placeholder, as a browser does: without a key.
func create(t testing.TB, f *function) (file newFile) {
	t.Helper()
	f.ask(t, restRequest(t, "POST", "/file", false, `{"name": "Übersicht.txt"}`), http.StatusOK, &file)
	if file.ID == "" || !strings.Contains(file.URL, "/"+file.ID+"?") || file.Token == "" {
		t.Fatalf("%+v", file)
	}
	return file
}

// A file's life, each step an event.
func testAPI(t *testing.T, program string, s3 testserver.S3, table string) {
	bucket, env := newFilestore(t, program, s3, table)
	f := start(t, program, env...)
	file := create(t, f)
	put(t, file.URL, "What it says.\n")
	f.succeed(t, objectCreated(t, bucket, file.ID).text(t))
	f.ask(t, restRequest(t, "PUT", "/files", true, quoted(file.ID)), http.StatusOK, nil)

	var shown []struct{ ID, Name, URL, Type string }
	f.ask(t, restRequest(t, "POST", "/files", true, quoted(file.ID)), http.StatusOK, &shown)
	if len(shown) != 1 || shown[0].ID != file.ID || shown[0].Name != "Übersicht.txt" {
		t.Fatalf("%+v", shown)
	}
	if content := get(t, shown[0].URL); content != "What it says.\n" {
		t.Errorf("%q", content)
	}

	// The two forms of the path are the same, and a file that is deleted is shown to who asks for it.
	f.ask(t, restRequest(t, "DELETE", "/files/", true, quoted(file.ID)), http.StatusOK, nil)
	f.ask(t, restRequest(t, "POST", "/files", true, quoted(file.ID)), http.StatusOK, &shown)
	if len(shown) != 0 {
		t.Errorf("%+v", shown)
	}
	f.ask(t, restRequest(t, "POST", "/files?deleted=yes&nonstored=yes", true, quoted(file.ID)), http.StatusOK, &shown)
	if len(shown) != 1 || shown[0].URL != "" {
		t.Errorf("%+v", shown)
	}

	// Nobody has stored it: who has uploaded it may take it back.
	file = create(t, f)
	put(t, file.URL, "Never mind.\n")
	f.ask(t, restRequest(t, "DELETE", "/file/"+file.ID, false, ""), http.StatusForbidden, nil)
	revert := restRequest(t, "DELETE", "/file/"+file.ID, false, "")
	revert["multiValueHeaders"].(map[string]any)["Authorization"] = []any{"Bearer " + file.Token}
	f.ask(t, revert, http.StatusNoContent, nil)
	if got := state(t, program, env, file.ID); got != "deleted" {
		t.Errorf("%s is %s", file.ID, got)
	}

	preflight := f.ask(t, restRequest(t, "OPTIONS", "/files", false, ""), http.StatusNoContent, nil)
	if methods := preflight.MultiValueHeaders.Get("Access-Control-Allow-Methods"); !strings.Contains(methods, "PUT") {
		t.Errorf("methods %q", methods)
	}
	f.ask(t, restRequest(t, "POST", "/file", false, `{"name": 1}`), http.StatusBadRequest, nil)
	f.ask(t, restRequest(t, "PUT", "/files", true, `["`), http.StatusBadRequest, nil)
	f.ask(t, restRequest(t, "PUT", "/elsewhere", true, `[]`), http.StatusNotFound, nil)

	// There is a line for each request, and no signature in any.
	requests := 0
	for _, line := range f.log.lines(t) {
		if line["msg"] == "request" {
			requests++
		}
	}
	if want := f.n - 1; requests != want { // one was a notification
		t.Errorf("%d lines for %d requests", requests, want)
	}
	for _, secret := range []string{"X-Amz", "Signature", file.Token, "0123456789abcdef"} {
		if strings.Contains(f.log.text(t), secret) {
			t.Errorf("the log has %q in it", secret)
		}
	}
}

// Only a REST API that says which key it has checked is trusted.
func testKeys(t *testing.T, program string, s3 testserver.S3, table string) {
	_, env := newFilestore(t, program, s3, table)
	const key = "a-key-of-our-own"
	for name, test := range map[string]struct {
		keys    string // that the function knows
		request event
		sends   string // "": none
		want    int
	}{
		"REST API, checked":                {"", restRequest(t, "PUT", "/files", true, "[]"), "anything", http.StatusOK},
		"REST API, not checked":            {"", restRequest(t, "PUT", "/files", false, "[]"), "anything", http.StatusForbidden},
		"REST API, not checked, our own":   {key, restRequest(t, "PUT", "/files", false, "[]"), key, http.StatusOK},
		"HTTP API, payload 1.0":            {"", newEvent(t, "http-api-1"), "", http.StatusForbidden},
		"HTTP API, payload 1.0, our own":   {"another-key-of-ours," + key, newEvent(t, "http-api-1"), key, http.StatusOK},
		"HTTP API, payload 2.0":            {"", newEvent(t, "http-api-2"), "anything", http.StatusForbidden},
		"HTTP API, payload 2.0, wrong key": {key, newEvent(t, "http-api-2"), key + "2", http.StatusForbidden},
		"HTTP API, payload 2.0, our own":   {key, newEvent(t, "http-api-2"), key, http.StatusOK},
		"function URL, without need":       {"", newEvent(t, "function-url"), "", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, program, append(slices.Clone(env), "FILESTORE_API_KEYS="+test.keys)...)
			for _, headers := range []string{"headers", "multiValueHeaders"} {
				values, ok := test.request[headers].(map[string]any)
				if !ok || test.sends == "" {
					continue
				}
				delete(values, "x-api-key")
				values["X-Api-Key"] = any(test.sends)
				if headers == "multiValueHeaders" {
					values["X-Api-Key"] = []any{test.sends}
				}
			}
			f.ask(t, test.request, test.want, nil)
		})
	}
}

// With store on load an upload is stored by the notification, and by nothing else.
func testStoreOnLoad(t *testing.T, program string, s3 testserver.S3, table string) {
	bucket, env := newFilestore(t, program, s3, table)
	f := start(t, program, append(slices.Clone(env), "FILESTORE_STORE_ON_LOAD=true")...)
	file := create(t, f)
	put(t, file.URL, "What it says.\n")
	var refused struct{ Message string }
	f.ask(t, restRequest(t, "PUT", "/files", true, quoted(file.ID)), http.StatusBadRequest, &refused)
	if refused.Message != "Configured to store files at the time of upload." {
		t.Errorf("%q", refused.Message)
	}
	f.succeed(t, objectCreated(t, bucket, file.ID).text(t))
	if got := state(t, program, env, file.ID); got != "stored" {
		t.Errorf("%s is %s", file.ID, got)
	}
}

func get(t testing.TB, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, content := testserver.Ask(t, r)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, content)
	}
	return content
}
