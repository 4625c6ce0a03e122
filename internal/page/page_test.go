package page

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the integrity of the parts into what tells others of them")

// get returns the answer to a request of the handler.
func get(t *testing.T, h http.Handler, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
	return w
}

// TestPolicy says to which servers the page may connect, and where its form may go.
func TestPolicy(t *testing.T) {
	const rest = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
	for _, test := range []struct{ s3, action, want string }{
		{"", "", "connect-src 'self'; form-action 'self'"},
		{"https://s3.eu-central-1.amazonaws.com", "", "connect-src 'self' https://s3.eu-central-1.amazonaws.com; form-action 'self'"},
		{"http://127.0.0.1:9480/filestore/id?X-Amz-Signature=0", "https://www.example.com/report?a=b", "connect-src 'self' http://127.0.0.1:9480; form-action 'self' https://www.example.com"},
		{"http://[::1]:9480", "/submit", "connect-src 'self' http:; form-action 'self'"},
		{"http://a; script-src *", "javascript:alert(1)", "connect-src 'self'; form-action 'self'"},
	} {
		got := get(t, Handler(Options{S3: test.s3, Action: test.action}), http.MethodGet, "/").Header().Get("Content-Security-Policy")
		if want := rest + test.want + "; base-uri 'none'; frame-ancestors 'none'"; got != want {
			t.Errorf("S3 %q, action %q:\n got %s\nwant %s", test.s3, test.action, got, want)
		}
	}
}

// TestNothingInline has the page hold no script and no style of its own, which the policy forbids, and take every part from
// the server that it is from, with its integrity.
func TestNothingInline(t *testing.T) {
	h := Handler(Options{Action: `https://www.example.com/?a="><script>alert(1)</script>`, TemporaryLifetime: time.Hour})
	html := get(t, h, http.MethodGet, "/").Body.String()
	for _, forbidden := range []string{"<script>", "<style", " style=", "javascript:", "//cdn"} {
		if strings.Contains(html, forbidden) {
			t.Errorf("%q in %s", forbidden, html)
		}
	}
	parts := regexp.MustCompile(`<(?:script|link)[^>]* (?:src|href)="(/[^"]+)" integrity="(sha384-[^"]+)"`).FindAllStringSubmatch(html, -1)
	if len(parts) != 5 {
		t.Errorf("parts: %q", parts)
	}
	for _, p := range parts {
		w := get(t, h, http.MethodGet, p[1])
		if w.Code != http.StatusOK || w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", p[1], w.Code, w.Header())
		}
		// HTML writes a + as &#43;.
		if got := strings.ReplaceAll(p[2], "&#43;", "+"); got != "sha384-"+digest(w.Body.Bytes()) {
			t.Errorf("%s has not the integrity %s", p[1], got)
		}
	}
}

// TestWhatPeopleAreTold is what the page says of how long files are kept, and may take.
func TestWhatPeopleAreTold(t *testing.T) {
	for _, test := range []struct {
		opts Options
		want string
	}{
		{Options{TemporaryLifetime: time.Hour, Action: "/"}, "What is uploaded and not submitted within 1 hour is removed."},
		{Options{TemporaryLifetime: 90 * time.Minute}, "They are removed after 90 minutes, unless they are stored."},
		{Options{TemporaryLifetime: 48 * time.Hour}, "They are removed after 2 days, unless they are stored."},
		{Options{TemporaryLifetime: 90 * time.Second}, "They are removed after 1m30s, unless they are stored."},
		{Options{TemporaryLifetime: time.Hour, StoreOnLoad: true}, "They are kept as soon as they are uploaded."},
		{Options{URLLifetime: 30 * time.Minute, TemporaryLifetime: 90 * time.Minute}, "The upload of one may take up to 2 hours."},
	} {
		if html := get(t, Handler(test.opts), http.MethodGet, "/").Body.String(); !strings.Contains(html, test.want) {
			t.Errorf("%+v: %q is not in %s", test.opts, test.want, html)
		}
	}
}

// TestRequests are those beside the page.
func TestRequests(t *testing.T) {
	h := Handler(Options{})
	for _, test := range []struct {
		method, path string
		status       int
	}{
		{http.MethodHead, "/", http.StatusOK},
		{http.MethodPost, "/", http.StatusMethodNotAllowed},
		{http.MethodGet, "/index.html", http.StatusNotFound},
		{http.MethodGet, "/assets/", http.StatusNotFound},
		{http.MethodGet, "/assets/..%2fpage.html", http.StatusNotFound},
		{http.MethodGet, filePondLicence, http.StatusOK},
	} {
		if w := get(t, h, test.method, test.path); w.Code != test.status {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, w.Code, test.status)
		}
	}
	first := get(t, h, http.MethodGet, adapterJS)
	again := httptest.NewRequestWithContext(t.Context(), http.MethodGet, adapterJS, nil)
	again.Header.Set("If-None-Match", first.Header().Get("ETag"))
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, again); w.Code != http.StatusNotModified {
		t.Errorf("what the browser has is sent again: %d", w.Code)
	}
}

// TestFilePond has the files be those of the version that their names say.
func TestFilePond(t *testing.T) {
	for _, name := range []string{"filepond/filepond.min.js", "filepond/filepond.min.css"} {
		if content := string(assets()[name].content); !strings.HasPrefix(content, "/*!\n * FilePond "+FilePondVersion+"\n * Licensed under MIT") {
			t.Errorf("%s begins with %.80q", name, content)
		}
	}
}

// TestIntegrity has what other pages are told to load be what is served. After a change of filestore.js:
// go test -run TestIntegrity ./internal/page -update
func TestIntegrity(t *testing.T) {
	byPath := map[string]string{}
	for _, a := range assets() {
		byPath[a.Path] = a.Integrity
	}
	said := regexp.MustCompile(`(?s)("[^"]*)(/assets/[^"]+)("[^>]*integrity=")([^"]*)`)
	for _, name := range []string{"../../docs/browser.md", "../../examples/backend/main.go"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, m := range said.FindAllStringSubmatch(string(text), -1) {
			found++
			if want := byPath[m[2]]; m[4] != want && !*update {
				t.Errorf("%s: %s has the integrity %q, not %q: run with -update", name, m[2], want, m[4])
			}
		}
		if found != 3 {
			t.Errorf("%s loads %d parts", name, found)
		}
		if *update {
			current := said.ReplaceAllStringFunc(string(text), func(s string) string {
				m := said.FindStringSubmatch(s)
				return fmt.Sprint(m[1], m[2], m[3], byPath[m[2]])
			})
			if err := os.WriteFile(name, []byte(current), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}
