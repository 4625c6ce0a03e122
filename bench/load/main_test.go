package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// answering returns a load on a server that gives these answers to POST /files, and makes no files.
func answering(t *testing.T, answer string) *load {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/files" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(s.Close)
	return &load{
		rate: 8000, size: 7, server: &server{api: s.URL}, http: s.Client(),
		created: make(chan file, 1), uploaded: make(chan file, 1), stored: make(chan file, 1), located: make(chan file, 1), downloaded: make(chan file, 1),
		samples: make(map[string][]time.Duration), errors: make(map[string]int),
	}
}

func TestLook(t *testing.T) {
	const right = `{"id":"b","size":7,"url":"http://b"}`
	for _, test := range []struct {
		answer string
		ok     bool
	}{
		{`[{"id":"a","size":7,"url":"http://a"},` + right + `]`, true},
		{`[` + right + `]`, false},
		{`[{"id":"a","size":7},` + right + `]`, false},
		{`[{"id":"a","size":8,"url":"http://a"},` + right + `]`, false},
		{`[{"id":"c","size":7,"url":"http://a"},` + right + `]`, false},
		{`{}`, false},
	} {
		found, status, err := answering(t, test.answer).look(t.Context(), []string{"a", "b"})
		if (err == nil) != test.ok || status != http.StatusOK || test.ok && found[0].URL != "http://a" {
			t.Errorf("%s: %+v, %d, %v", test.answer, found, status, err)
		}
	}
}

// Where nothing is made, information is asked for instead of all that would be done with files.
func TestNoFile(t *testing.T) {
	l := answering(t, `[]`)
	if err := l.prepare(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "status 503") {
		t.Errorf("prepare: %v", err)
	}
	sent := l.send(t.Context(), time.Millisecond)
	if sent != 10 || l.idle != 5 || len(l.samples) != 3 || len(l.samples["new file"]) != 1 || len(l.samples[infoOfOne]) != 8 || len(l.samples["info of 10"]) != 1 {
		t.Errorf("sent %d, without a file %d: %v", sent, l.idle, l.samples)
	}
	if l.errors["new file: status 503"] != 1 || l.errors["info of 1: 0 files were shown, not 1"] != 8 {
		t.Errorf("%v", l.errors)
	}
}
