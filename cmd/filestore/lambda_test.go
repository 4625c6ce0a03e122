package main

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/api"
	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/lambda"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
)

// The runs of the roles that functions have, see roleRuns. The function that sweeps does what expire does.

// function is the program as a function, in this process.
func (s *site) function(t *testing.T) *lambda.Function {
	t.Helper()
	setAccountEnv(t, s.env)
	a := &app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, lookupEnv: func(name string) (string, bool) {
		value, ok := s.env[name]
		return value, ok
	}}
	a.newRootCmd() // which sets the defaults of its flags
	a.flags.changed = func(string) bool { return false }
	store, err := a.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return newFunction(api.Options{
		Client: store.Client, TokenKey: []byte(strings.Repeat("k", minTokenKey)), Log: slog.New(slog.DiscardHandler),
	})
}

// serveAPI does what the clients of the API ask for, as requests of a REST API that has checked a key.
func serveAPI(t *testing.T, s *site) {
	f := s.function(t)
	useAPI(t, s, func(method, path, body, token string) (status int, answer string) {
		path, query, _ := strings.Cut(path, "?")
		values := make(map[string]string)
		if query != "" {
			values[query] = "yes"
		}
		event, err := json.Marshal(map[string]any{
			"httpMethod": method, "path": path, "body": body, "queryStringParameters": values,
			"headers":        map[string]string{"Content-Type": "application/json", "Authorization": "Bearer " + token},
			"requestContext": map[string]any{"apiId": "a1b2c3d4e5", "identity": map[string]any{"apiKeyId": "k3y1d2c3b4"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		out, err := f.Invoke(t.Context(), event)
		if err != nil {
			t.Fatal(err)
		}
		var response struct {
			StatusCode int
			Body       string
		}
		if err := json.Unmarshal(out, &response); err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Body
	})
}

// useAPI asks for all that clients of the API ask for, by send.
func useAPI(t *testing.T, s *site, send func(method, path, body, token string) (status int, answer string)) {
	t.Helper()
	ask := func(want int, method, path, body, token string) string {
		t.Helper()
		status, answer := send(method, path, body, token)
		if status != want {
			t.Fatalf("%s %s %s: %d %s, want %d", method, path, body, status, answer, want)
		}
		return answer
	}
	create := func() (file struct{ ID, URL, Token string }) {
		if err := json.Unmarshal([]byte(ask(http.StatusOK, "POST", "/file", `{"name": "a.txt"}`, "")), &file); err != nil {
			t.Fatal(err)
		}
		return file
	}
	// What may have made a record is undone.
	s.dynamoDB.Inject(faultproxy.Operation("PutItem"), faultproxy.First(1), faultproxy.Refusal(http.StatusBadRequest, "ItemCollectionSizeLimitExceededException"))
	ask(http.StatusServiceUnavailable, "POST", "/file", `{"name": "a.txt"}`, "")

	// It is not told of uploads, and asks.
	file, other := create(), create()
	request(t, http.MethodPut, file.URL)
	request(t, http.MethodPut, other.URL)
	ask(http.StatusOK, "PUT", "/files", quote(file.ID), "")
	ask(http.StatusOK, "POST", "/files?nonstored", quote(other.ID, create().ID, client.NewID()), "")
	var shown []struct{ URL string }
	if err := json.Unmarshal([]byte(ask(http.StatusOK, "POST", "/files", quote(file.ID), "")), &shown); err != nil || len(shown) != 1 {
		t.Fatal(shown, err)
	}
	request(t, http.MethodGet, shown[0].URL)
	ask(http.StatusNoContent, "DELETE", "/file/"+other.ID, "", other.Token)
	ask(http.StatusNotFound, "PUT", "/files", quote(client.NewID()), "")

	var many []string
	for range 10 {
		file := create()
		request(t, http.MethodPut, file.URL)
		many = append(many, file.ID)
	}
	ask(http.StatusOK, "PUT", "/files", quote(many...), "")
	ask(http.StatusOK, "DELETE", "/files", quote(append(many, file.ID)...), "")
	ask(http.StatusGone, "PUT", "/files", quote(file.ID), "")
}

// beNotified is told of objects of every kind.
func beNotified(t *testing.T, s *site) {
	f := s.function(t)
	uploaded := s.record(t, records.Record{CreatedAt: s.ago(0), Size: -1})
	s.put(t, uploaded)
	missing := s.record(t, records.Record{CreatedAt: s.ago(0), Size: -1})
	deleted := s.record(t, records.Record{UploadedAt: s.ago(time.Minute), DeletedAt: s.ago(0)})
	s.put(t, deleted)
	tell := func(key string) {
		event := `{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
			"s3": {"bucket": {"name": "` + s.bucket + `"}, "object": {"key": "` + key + `"}}}]}`
		if _, err := f.Invoke(t.Context(), []byte(event)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{uploaded, uploaded, missing, deleted, client.NewID(), "a+b.pdf"} {
		tell(key)
	}

	// Of one that is deleted at the last moment the object is deleted again.
	late := s.record(t, records.Record{CreatedAt: s.ago(0), Size: -1})
	s.put(t, late)
	s.during(t, "UpdateItem", func() {
		if _, err := dynamo.New(s.dynamoAPI, s.table).Delete(t.Context(), late, s.ago(0)); err != nil {
			t.Error(err)
		}
	})
	tell(late)
}

func quote(ids ...string) string {
	text, _ := json.Marshal(ids) // strings can always be marshalled
	return string(text)
}
