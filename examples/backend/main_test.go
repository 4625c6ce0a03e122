package main

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
)

// TestFailures is what is said where the filestore does not do what it is asked. What the example does otherwise, the test
// of internal/page shows, with a browser and a filestore.
func TestFailures(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	const partly = `{"message": "1 of 2 files were not stored", "done": ["good"], "failed": [{"id": "bad"}]}`
	for _, test := range []struct {
		method, path string
		form         url.Values
		answer       int // the filestore's
		body         string
		status       int
		want, logged string
	}{
		{http.MethodPost, "/", url.Values{"file": {"good", "bad", ""}}, http.StatusConflict, partly,
			http.StatusConflict, "The files could not be stored: 1 of 2 files were not stored", `PUT /files: not done for all, but for ["good"]`},
		{http.MethodPost, "/", url.Values{"file": {"bad"}}, http.StatusServiceUnavailable, "{}",
			http.StatusBadGateway, "The files could not be stored. Go back", "PUT /files: 503"},
		{http.MethodGet, "/", nil, http.StatusTooManyRequests, `{"message": "Limit Exceeded"}`,
			http.StatusConflict, "The files could not be shown: Limit Exceeded", ""},
		{http.MethodGet, "/load/kept", nil, http.StatusForbidden, `{"message": "Forbidden"}`,
			http.StatusBadGateway, "The files could not be loaded. Go back", "POST /files: 403"},
		{http.MethodGet, "/load/another", nil, http.StatusOK, "[]", http.StatusNotFound, "", ""},
	} {
		filestore := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(test.answer)
			_, _ = io.WriteString(w, test.body)
		}))
		b := &backend{filestore: filestore.URL, ids: []string{"kept"}}
		handler, err := b.handler()
		if err != nil {
			t.Fatal(err)
		}
		logged.Reset()
		r := httptest.NewRequestWithContext(t.Context(), test.method, test.path, strings.NewReader(test.form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		filestore.Close()
		if w.Code != test.status || !strings.Contains(w.Body.String(), test.want) || !strings.Contains(logged.String(), test.logged) {
			t.Errorf("%s %s, answer %d: %d %q, log %q", test.method, test.path, test.answer, w.Code, w.Body, logged.String())
		}
		if got := b.submitted(); len(got) != 1 || got[0] != "kept" {
			t.Errorf("%s %s, answer %d: the form has %q", test.method, test.path, test.answer, got)
		}
	}
}
