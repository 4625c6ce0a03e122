package testserver

import (
	"io"
	"net/http"
	"testing"
)

// Ask sends a request and returns the answer, of which body is all that it says.
func Ask(t testing.TB, r *http.Request) (resp *http.Response, body string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}
