//go:build linux || darwin || freebsd

package page

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/api"
	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/transfer"
)

// pictures is for looking at the page: go test -run TestPictures ./internal/page -pictures DIR
var pictures = flag.String("pictures", "", "directory for screenshots")

// TestMain lets the local store run this test binary as its S3 server.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == local.ServerCommand {
		if err := local.RunServer(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestPage is what somebody does on the page, in a real browser, with the API, a local store and the example of
// a backend behind it.
func TestPage(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a browser half a minute, and nothing here has to do with the race detector")
	}
	b := startBrowser(t)
	s := newSite(t)

	t.Run("upload and submit", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		// Names as people have them, and one that would do harm if it were taken for HTML.
		files := []file{
			{Name: "report.pdf", Type: "application/pdf", Size: 70_000},
			{Name: `"Müller" & Söhne's.txt`, Type: "text/plain", Size: 12},
			{Name: "🦊 ファイル.png", Type: "image/png", Size: 3000},
			{Name: "<img src=x onerror=alert(1)>.txt", Type: "text/plain", Size: 5},
			{Name: "empty", Size: 0},
		}
		p.choose(files...)
		p.until(uploaded(files...)...)
		p.waitText("#status", "5 of 5 uploaded")
		ids := p.values(len(files))
		for _, r := range s.records(t, ids) {
			// No notification comes here, as after an upload to S3 that it is late for.
			if r.State() != records.Placeholder {
				t.Errorf("before the form is submitted: %+v", r)
			}
		}

		p.do("click", "button", "Submit")
		p.waitText("h1", "Report") // the backend's own page
		got := map[string]records.Record{}
		for _, r := range s.records(t, ids) {
			got[r.Name] = r
		}
		for _, f := range files {
			r, ok := got[f.Name]
			wantType := f.Type
			if wantType == "" {
				wantType = "application/octet-stream"
			}
			if !ok || r.State() != records.Stored || r.Size != f.Size || r.Type != wantType {
				t.Errorf("%q: %+v", f.Name, r)
			}
		}
		p.saidNothing()

		// What was handed over is no longer the page's, unless the user comes back to change it.
		p.do("go", "url", s.url+"/")
		p.until()
	})

	t.Run("progress and abort", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		p.do("watch")
		p.do("throttle", "rate", 25_000) // 5 MB take longer than any step here may
		p.choose(file{Name: "video.mp4", Type: "video/mp4", Size: 5_000_000})
		if progress, ok := p.do("progress", "name", "video.mp4").(float64); !ok || progress <= 0 || progress >= 1 {
			t.Errorf("progress %v", progress)
		}
		p.do("click", "button", "Submit")
		p.waitText(".filestore-messages p", "Not uploaded yet: video.mp4. Wait until it is, or remove it.")
		p.do("press", "name", "video.mp4", "button", "Cancel")
		p.until()
		p.do("quiet", "selector", ".filestore-messages")
		p.values(0)
		s.eventually(t, "video.mp4", records.Deleted)
		p.saidNothing("ERR_FAILED", "ERR_ABORTED")
	})

	t.Run("revert", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		keep, undo := file{Name: "keep.txt", Type: "text/plain", Size: 10}, file{Name: "undo.txt", Type: "text/plain", Size: 11}
		p.choose(keep, undo)
		p.until(uploaded(keep, undo)...)
		p.do("press", "name", "undo.txt", "button", "Remove")
		p.until(uploaded(keep)...)
		p.waitText("#status", "1 of 1 uploaded")
		s.eventually(t, "undo.txt", records.Deleted)
		s.wantObject(t, s.named(t, "undo.txt").ID, false)
		s.wantObject(t, s.named(t, "keep.txt").ID, true)
		if ids := p.values(1); !slices.Equal(ids, []string{s.named(t, "keep.txt").ID}) {
			t.Errorf("the form has %q", ids)
		}
		p.saidNothing()

		// It goes from the field also where the server does not answer; that it stays there is said, and remains so.
		s.away.Store(true)
		defer s.away.Store(false)
		p.do("press", "name", "keep.txt", "button", "Remove")
		p.until()
		p.waitText(".filestore-messages p", "keep.txt is only left out here: it could not be removed from the server. The server can't be reached.")
	})

	t.Run("load again", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		first, second := file{Name: "first \"1\".txt", Type: "text/plain", Size: 2048}, file{Name: "second.txt", Size: 20}
		p.choose(first, second)
		p.until(uploaded(first, second)...)
		ids := p.values(2)

		p.do("reload")
		for _, f := range p.until(uploaded(first, second)...) {
			if f.Name == first.Name && f.Size != "2 KiB" {
				t.Errorf("%q has come back with the size %q", f.Name, f.Size)
			}
		}
		if got := p.values(len(ids)); !sameElements(got, ids) {
			t.Errorf("the form has %q, had %q", got, ids)
		}
		// It can still be taken back, and then stays away.
		p.do("press", "name", "second.txt", "button", "Remove")
		p.until(uploaded(first)...)
		s.eventually(t, "second.txt", records.Deleted)
		p.do("reload")
		p.until(uploaded(first)...)
		p.do("click", "button", "Submit")
		p.waitText("h1", "Report")
		s.eventually(t, first.Name, records.Stored)

		p.do("back")
		p.until(uploaded(first)...)
		p.saidNothing()

		// So it is where the browser has kept the page as it was. This one does not, so here are the events of that.
		p.do("evaluate", "script", `document.querySelector("form").dispatchEvent(new Event("submit", {bubbles: true, cancelable: true}))`)
		p.do("evaluate", "script", `window.dispatchEvent(new PageTransitionEvent("pageshow", {persisted: true}))`)
		p.do("reload")
		p.until(uploaded(first)...)

		// Now it is the backend's.
		p.do("press", "name", first.Name, "button", "Remove")
		p.until()
		p.waitText(".filestore-messages p", first.Name+" is only left out here: it is stored already, and stays so.")
		s.eventually(t, first.Name, records.Stored)
	})

	t.Run("an abandoned upload expires", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		f := file{Name: "abandoned.txt", Type: "text/plain", Size: 40}
		p.choose(f)
		p.until(uploaded(f)...)
		id := s.named(t, f.Name).ID
		if _, _, err := s.client.ObjectCreated(t.Context(), id); err != nil { // the notification has come now
			t.Fatal(err)
		}
		s.ahead.Store(int64(client.DefaultTemporaryLifetime + time.Minute))
		defer s.ahead.Store(0)
		if _, err := s.client.Expire(t.Context(), client.ExpireOptions{}); err != nil {
			t.Fatal(err)
		}
		s.eventually(t, f.Name, records.Deleted)
		s.wantObject(t, id, false)

		// Who comes back to it after that is told.
		p.do("click", "button", "Submit")
		p.waitText("body", "The files could not be stored: 1 of 1 files were not stored")
		p.waitText("body", "expired on")
	})

	t.Run("the storage fails", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		t.Cleanup(s.faults.Heal)
		rule := s.faults.Inject(faultproxy.On(http.MethodPut), faultproxy.Always(), faultproxy.Reset(faultproxy.Before))
		f := file{Name: "later.txt", Type: "text/plain", Size: 30}
		p.choose(f)
		p.until(f.Name, "processing-error")
		p.waitText(".filestore-messages", "later.txt: The upload broke off: the storage can't be reached, or the file was changed or moved meanwhile. Try again.")
		if rule.Hits() == 0 {
			t.Error("nothing has failed")
		}
		p.do("click", "button", "Submit")
		p.waitText(".filestore-messages p", "Not uploaded: later.txt. Try again, or remove it.")

		s.faults.Heal()
		p.do("press", "name", f.Name, "button", "Retry")
		p.until(uploaded(f)...)
		p.do("quiet", "selector", ".filestore-messages")
		p.do("click", "button", "Submit")
		p.waitText("h1", "Report")
		if r := s.records(t, []string{s.stored(t, f.Name)}); r[0].Size != f.Size {
			t.Errorf("%+v", r)
		}
	})

	t.Run("the URL is too old", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		s.ahead.Store(-int64(3 * time.Hour))
		defer s.ahead.Store(0)
		f := file{Name: "slow.txt", Type: "text/plain", Size: 30}
		p.choose(f)
		p.until(f.Name, "processing-error")
		s.ahead.Store(0)
		p.waitText(".filestore-messages", "slow.txt: The time for this upload is over. Try again.")
		p.do("press", "name", f.Name, "button", "Retry")
		p.until(uploaded(f)...)
	})

	t.Run("the server is away", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		s.away.Store(true)
		defer s.away.Store(false)
		f := file{Name: "away.txt", Type: "text/plain", Size: 30}
		p.choose(f)
		p.until(f.Name, "processing-error")
		p.waitText(".filestore-messages", "away.txt: The server can't be reached. Check the connection, then try again.")
	})

	t.Run("what else can go wrong", func(t *testing.T) {
		limited := httptest.NewServer(api.New(api.Options{
			Client: s.client, Keys: []string{backendKey}, PerAddress: api.Limit{Rate: 0.01, Burst: 1},
		}))
		t.Cleanup(limited.Close)
		p := b.open(t, s.backend+"/", nil) // a page without a policy, that may connect to whatever it likes
		// process is what FilePond calls for a file; it says "uploaded", or the message.
		process := func(options, file string) any {
			return p.do("evaluate", "script", fmt.Sprintf(
				`new Promise((end) => filestorePond.server(%s).process("file", %s, {}, () => end("uploaded"), end, () => {}, () => {}))`, options, file))
		}
		options, file := fmt.Sprintf("{api: %q}", limited.URL), `new File(["x"], "one.txt")`
		if got := process(options, file); got != "uploaded" {
			t.Errorf("the first: %v", got)
		}
		if got := process(options, file); got != "Too many requests at once. Try again in 100 s." {
			t.Errorf("the second: %v", got)
		}
		// Where it is to be over soon, that is waited for, but not for ever.
		var refusals, asked atomic.Int64
		refusals.Store(2)
		busy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				if asked.Add(1) <= refusals.Load() {
					w.Header().Set("Access-Control-Allow-Origin", "*")
					w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(http.StatusTooManyRequests)
					return
				}
			}
			s.api.ServeHTTP(w, r)
		}))
		t.Cleanup(busy.Close)
		options = fmt.Sprintf("{api: %q}", busy.URL)
		if got := process(options, file); got != "uploaded" || asked.Load() != 3 {
			t.Errorf("refused twice: %v, asked %d times", got, asked.Load())
		}
		refusals.Store(1000)
		asked.Store(0)
		if got := process(options, file); got != "Too many requests at once. Try again in a moment." || asked.Load() != 20 {
			t.Errorf("refused again and again: %v, asked %d times", got, asked.Load())
		}

		options = fmt.Sprintf("{api: %q, stall: 300}", s.url)
		if got := process(options, `{name: "large", size: 5 * 2 ** 30 + 1}`); got != "The file is larger than 5 GiB, the most that can be uploaded here." {
			t.Errorf("too large: %v", got)
		}
		if got := process(options, `new File(["x"], "n".repeat(2000))`); !strings.HasPrefix(fmt.Sprint(got), "The server refused: ") {
			t.Errorf("a name of 2000 characters: %v", got)
		}

		// Not everything that answers is a filestore, and a storage may answer like this.
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Access-Control-Allow-Methods", "PUT")
			w.Header().Set("Access-Control-Allow-Headers", "Content-Type")
			switch {
			case r.Method == http.MethodPut:
				w.WriteHeader(http.StatusBadRequest)
				_, _ = io.WriteString(w, "<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>")
			case r.URL.Path == "/file":
				_, _ = fmt.Fprintf(w, `{"id": "0123456789abcdef", "url": "http://%s/"}`, r.Host)
			default:
				_, _ = io.WriteString(w, "<!DOCTYPE html><title>What a fine page</title>")
			}
		}))
		t.Cleanup(other.Close)
		if got := process(fmt.Sprintf("{api: %q}", other.URL), file); got != "The time for this upload is over. Try again." {
			t.Errorf("a URL whose credentials are over: %v", got)
		}
		if got := process(fmt.Sprintf("{api: %q}", other.URL+"/shop"), file); got != "The server's answer can't be read. Try again later." {
			t.Errorf("a page instead of an answer: %v", got)
		}

		// load is for a file that is stored, revert for one that was uploaded. FilePond has no room for what revert says.
		say := func(script string) any { return p.do("evaluate", "script", "new Promise((say) => "+script+")") }
		if got := say(`filestorePond.server({load: "/load/"}).load("0123456789abcdef", say, say, say, say)`); got != "This file is not stored, or not any more." {
			t.Errorf("load of a file that is not: %v", got)
		}
		got := say(fmt.Sprintf(`filestorePond.server({api: %q, note: say, memory: {
			files: new Map([["0123456789abcdef", {name: "old.txt", token: "0.AAAA"}]]), remove() {},
		}}).revert("0123456789abcdef", say, say)`, s.url))
		if got != "old.txt is only left out here: the server does not let this page remove it any more." {
			t.Errorf("a token that is over: %v", got)
		}

		t.Cleanup(s.faults.Heal)
		s.faults.Inject(faultproxy.On(http.MethodPut), faultproxy.Always(), faultproxy.Hang(faultproxy.Before, t.Context().Done()))
		if got := process(options, `new File(["x"], "stalled.txt")`); got != "The upload has come to a halt. Check the connection, then try again." {
			t.Errorf("a server that takes nothing: %v", got)
		}
		s.eventually(t, "stalled.txt", records.Deleted)
	})

	t.Run("too many files", func(t *testing.T) {
		p := b.open(t, s.url+"/", nil)
		var files []file
		for i := range 11 {
			files = append(files, file{Name: fmt.Sprintf("%d.txt", i), Size: 1})
		}
		p.choose(files...)
		p.waitText(".filestore-messages p", "Not added: at most 10 files can be chosen.")
		p.do("click", "button", "Submit")
		p.waitText("#status", "Choose a file first.")
	})

	t.Run("the backend's own page", func(t *testing.T) {
		p := b.open(t, startBackend(t, s.url, backendKey)+"/", nil)
		t.Cleanup(s.faults.Heal)
		loaded := make(chan struct{})
		s.faults.Inject(faultproxy.On(http.MethodGet), faultproxy.Always(), faultproxy.Hang(faultproxy.Before, loaded))
		f := file{Name: "attachment für später.txt", Type: "text/plain", Size: 1234}
		p.choose(f)
		p.until(uploaded(f)...)
		p.do("click", "button", "Save")
		p.waitText("h2 + ul", f.Name)
		s.eventually(t, f.Name, records.Stored)
		// Now it is one that is stored: it is loaded, through the backend. Until then the form would lose it.
		p.do("click", "button", "Save")
		p.waitText(".filestore-messages p", "Not loaded yet: "+f.Name+". Wait until it is.")
		close(loaded)
		if got := p.until(f.Name, "idle"); got[0].Size != "1 KiB" {
			t.Errorf("%+v", got)
		}
		// Saved again, beside another, it is the same file.
		id, second := s.named(t, f.Name).ID, file{Name: "second attachment.txt", Size: 1}
		p.choose(second)
		p.until(f.Name, "idle", second.Name, "processing-complete")
		p.do("click", "button", "Save")
		p.until(f.Name, "idle", second.Name, "idle")
		if got := p.values(2); !sameElements(got, []string{id, s.named(t, second.Name).ID}) {
			t.Errorf("the form has %q", got)
		}
		p.saidNothing()

		s.faults.Heal()
		s.faults.Inject(faultproxy.On(http.MethodGet), faultproxy.Always(), faultproxy.Reset(faultproxy.Before))
		p.do("reload")
		p.waitText(".filestore-messages", f.Name+": The storage can't be reached. Check the connection, then try again.")
		p.waitText(".filestore-messages", second.Name+": The storage can't be reached. Check the connection, then try again.")
		p.do("click", "button", "Save")
		p.waitText(".filestore-messages p", "Not loaded: "+second.Name+", "+f.Name+". Try again. If you remove it, it is no longer part of this form.")
	})

	t.Run("without a backend", func(t *testing.T) {
		p := b.open(t, s.plain+"/", nil)
		if p.do("visible", "selector", "#keep") == true {
			t.Error("a command is shown before anything is uploaded")
		}
		f := file{Name: "alone.txt", Type: "text/plain", Size: 7}
		p.do("paste", "files", []file{f})
		p.until(uploaded(f)...)
		p.waitText("#keep code", "filestore store "+s.named(t, f.Name).ID)
		p.saidNothing()
	})

	t.Run("on a page of one's own", func(t *testing.T) {
		given := file{Name: "given.txt", Size: 5}
		id, _, err := s.client.PresignPut(t.Context(), given.Name, nil, time.Minute, presign.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `<!DOCTYPE html><title>Two fields</title>
				<link rel="stylesheet" href="%[1]s%[2]s"><script src="%[1]s%[3]s" defer></script><script src="%[1]s%[4]s" defer></script>
				<form><input type="file" name="file" multiple data-max-files="2" data-filestore="%[1]s" data-filestore-lifetime="7200">
				<input type="file" name="file" multiple data-filestore="%[1]s" data-filestore-files='[{"id": %[5]q, "name": "given.txt", "size": 5}]'></form>`,
				s.url, filePondCSS, filePondJS, adapterJS, id)
		}))
		t.Cleanup(own.Close)
		p := b.open(t, own.URL+"/ticket?id=1", nil)
		first, second := file{Name: "field 1.txt", Size: 1}, file{Name: "field 2.txt", Size: 2}
		p.choose(first, second, given)
		p.waitText(".filestore-messages p", "Not added: at most 2 files can be chosen.")
		p.choose(first)
		p.do("choose", "files", []file{second}, "field", 1)
		both := func() {
			t.Helper()
			p.until(uploaded(first, second, given)...)
			got := p.do("evaluate", "script", `[...document.querySelectorAll(".filepond--root")].map((field) =>
				FilePond.find(field).getFiles().map((f) => f.filename).sort().join()).join("; ")`)
			if got != "field 1.txt; field 2.txt,given.txt" {
				t.Errorf("the fields have %q", got)
			}
		}
		both()
		p.do("reload")
		both()
		p.do("go", "url", own.URL+"/ticket?id=2")
		p.until(uploaded(given)...)
		p.do("go", "url", own.URL+"/ticket?id=1")
		both()

		// The first field keeps them for two hours, the other for one.
		later := func(minutes int) {
			t.Helper()
			p.do("evaluate", "script", fmt.Sprintf(`for (const [key, files] of Object.entries(sessionStorage))
				sessionStorage[key] = JSON.stringify(JSON.parse(files).map((f) => ({...f, at: f.at - %d * 60e3})))`, minutes))
			p.do("reload")
		}
		later(90)
		p.until(uploaded(first, given)...)
		later(60)
		p.until(uploaded(given)...)

		// The page has no token for what the form came with.
		p.do("press", "name", given.Name, "button", "Remove")
		p.until()
		if r := s.records(t, []string{id}); r[0].State() != records.Placeholder {
			t.Errorf("%+v", r)
		}
	})

	t.Run("without JavaScript", func(t *testing.T) {
		p := b.open(t, s.url+"/", map[string]any{"script": false})
		p.waitText("noscript p", "JavaScript is off in this browser")
		if p.do("visible", "selector", "form") == true {
			t.Error("a form is shown that can't work")
		}
	})

	t.Run("with the keyboard, on a phone", func(t *testing.T) {
		p := b.open(t, s.url+"/", phone)
		f := file{Name: "a name that is far too long for the screen of a phone and has no end in sight.txt", Type: "text/plain", Size: 10}
		p.choose(f)
		p.until(uploaded(f)...)
		if p.do("wide") == true {
			t.Error("the page is wider than the screen")
		}
		var focused []any
		for len(focused) < 6 && !slices.Contains(focused, any("Remove")) {
			p.do("keys", "keys", []string{"Tab"})
			focused = append(focused, p.do("focused"))
		}
		if !slices.Contains(focused, any("choose files")) {
			t.Errorf("Tab goes to %q", focused)
		}
		p.do("keys", "keys", []string{"Enter"})
		p.until()
		s.eventually(t, f.Name, records.Deleted)
	})

	t.Run("no barriers", func(t *testing.T) {
		t.Cleanup(s.faults.Heal)
		for _, how := range []map[string]any{nil, {"dark": true}} {
			p := b.open(t, s.url+"/", how)
			done, bad := file{Name: "done.txt", Type: "text/plain", Size: 10}, file{Name: "bad.txt", Type: "text/plain", Size: 10}
			p.choose(done)
			p.until(uploaded(done)...)
			s.faults.Inject(faultproxy.On(http.MethodPut), faultproxy.Always(), faultproxy.Reset(faultproxy.Before))
			p.choose(bad)
			p.until(done.Name, "processing-complete", bad.Name, "processing-error")
			s.faults.Heal()
			if found, ok := p.do("barriers").([]any); !ok || len(found) > 0 {
				for _, f := range found {
					t.Errorf("%v: %v", how, f)
				}
			}
		}
	})
}

// phone is a small screen.
var phone = map[string]any{"width": 375, "height": 667, "phone": true}

// TestPictures takes screenshots for somebody to look at.
func TestPictures(t *testing.T) {
	if *pictures == "" {
		t.Skip("for looking at the page: -pictures DIR")
	}
	b := startBrowser(t)
	s := newSite(t)
	for name, at := range map[string]struct {
		url string
		how map[string]any
	}{
		"desktop": {s.url, map[string]any{"width": 900, "height": 640}}, "dark": {s.url, map[string]any{"width": 900, "height": 640, "dark": true}},
		"phone": {s.url, phone}, "plain": {s.plain, map[string]any{"width": 900, "height": 640}},
		"backend": {s.backend, map[string]any{"width": 900, "height": 640}},
	} {
		p := b.open(t, at.url+"/", at.how)
		p.do("screenshot", "path", filepath.Join(*pictures, name+"-empty.png"))
		p.choose(file{Name: "Annual report.pdf", Type: "application/pdf", Size: 1_800_000}, file{Name: "Grüße aus Köln.jpg", Type: "image/jpeg", Size: 420_000})
		p.until("Annual report.pdf", "processing-complete", "Grüße aus Köln.jpg", "processing-complete")
		s.faults.Inject(faultproxy.On(http.MethodPut), faultproxy.Always(), faultproxy.Reset(faultproxy.Before))
		p.choose(file{Name: "notes.txt", Type: "text/plain", Size: 800})
		p.until("Annual report.pdf", "processing-complete", "Grüße aus Köln.jpg", "processing-complete", "notes.txt", "processing-error")
		s.faults.Heal()
		p.do("throttle", "rate", 400_000)
		p.do("watch")
		p.choose(file{Name: "holiday.mp4", Type: "video/mp4", Size: 4_000_000})
		p.do("progress", "name", "holiday.mp4")
		time.Sleep(3 * time.Second) // for the picture
		p.do("screenshot", "path", filepath.Join(*pictures, name+".png"))
	}
	p := b.open(t, s.url+"/", map[string]any{"script": false, "width": 900, "height": 640})
	p.do("screenshot", "path", filepath.Join(*pictures, "noscript.png"))
}

const backendKey = "key-for-the-backend"

// site is a filestore with API, page and backend.
type site struct {
	url     string // of the API, and the page whose form the backend gets
	plain   string // of the page without a backend
	backend string
	api     http.Handler
	client  *client.Client
	faults  *faultproxy.Proxy // before the S3 server
	ahead   atomic.Int64      // of the filestore's clock, in nanoseconds
	away    atomic.Bool       // the API does not answer
}

func newSite(t *testing.T) *site {
	t.Helper()
	store, err := local.Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := sqlite.Open(t.Context(), store.Records())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	endpoint, err := store.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &site{faults: faultproxy.New(endpoint.URL)}
	public := s.faults.Start(t)
	key := store.Credentials()
	s3Client := client.NewS3(aws.Config{
		Region: local.Region, HTTPClient: client.HTTPClient(time.Minute, store.Dial),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, ""),
	}, func(o *s3.Options) { o.BaseEndpoint = aws.String(endpoint.URL) })
	s.client = &client.Client{
		S3: s3Client, Bucket: local.Bucket, Records: table, Transfer: &transfer.Engine{S3: s3Client, Bucket: local.Bucket},
		Signer: func(context.Context) (presign.Signer, error) {
			return presign.Signer{Endpoint: public, Region: local.Region, Bucket: local.Bucket, Credentials: presign.Credentials{
				AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey,
			}}, nil
		},
		Settings: client.Settings{URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime},
		Now:      func() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) },
		NewID:    client.NewID,
	}

	s.api = api.New(api.Options{
		Client: s.client, Keys: []string{backendKey}, TokenKey: []byte("0123456789abcdef0123456789abcdef"),
		PerAddress: api.Limit{Rate: -1}, // everything here comes from one
	})
	// serve has API and page on one server, as "filestore serve".
	serve := func(opts func(self string) Options) string {
		server := httptest.NewUnstartedServer(nil)
		self := "http://" + server.Listener.Addr().String()
		page := Handler(opts(self))
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/assets/"):
				page.ServeHTTP(w, r)
			case s.away.Load():
				panic(http.ErrAbortHandler) // the connection ends
			default:
				s.api.ServeHTTP(w, r)
			}
		})
		server.Start()
		t.Cleanup(server.Close)
		return self
	}
	s.url = serve(func(self string) Options {
		s.backend = startBackend(t, self, backendKey)
		return Options{
			S3: public, Action: s.backend + "/",
			URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime,
		}
	})
	s.plain = serve(func(string) Options {
		return Options{S3: public, URLLifetime: client.DefaultURLLifetime, TemporaryLifetime: client.DefaultTemporaryLifetime}
	})
	return s
}

// startBackend builds and starts examples/backend, and returns its URL.
func startBackend(t *testing.T, filestore, key string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "backend")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../examples/backend").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	cmd := exec.CommandContext(t.Context(), program) // killed when the test ends
	cmd.Env = append(os.Environ(), "FILESTORE_URL="+filestore, "FILESTORE_API_KEY="+key, "LISTEN=127.0.0.1:0")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(stderr)
	line, err := said.ReadString('\n')
	_, url, ok := strings.Cut(strings.TrimSpace(line), "the form is at ")
	if err != nil || !ok {
		t.Fatalf("the backend said %q, %v", line, err)
	}
	rest := make(chan struct{})
	go func() {
		defer close(rest)
		_, _ = io.Copy(t.Output(), said)
	}()
	t.Cleanup(func() {
		<-rest
		_ = cmd.Wait() // killed
	})
	return url
}

// records returns the records of ids.
func (s *site) records(t *testing.T, ids []string) []records.Record {
	t.Helper()
	var out []records.Record
	for r := range s.client.Get(t.Context(), ids) {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		out = append(out, r.Value)
	}
	return out
}

// all returns the records of files with a name, the latest last where the times tell.
func (s *site) all(t *testing.T, name string) []records.Record {
	t.Helper()
	var out []records.Record
	for r, err := range s.client.List(t.Context(), client.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Name == name {
			out = append(out, r)
		}
	}
	return out
}

// named returns the record of the one file with a name.
func (s *site) named(t *testing.T, name string) records.Record {
	t.Helper()
	all := s.all(t, name)
	if len(all) != 1 {
		t.Fatalf("files named %q: %+v", name, all)
	}
	return all[0]
}

// stored returns the id of the one file with a name that is stored, once the others are deleted: they were tries that
// failed, and the browser does not wait for the answer when it takes them back.
func (s *site) stored(t *testing.T, name string) string {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		all, left := s.all(t, name), false
		var ids []string
		for _, r := range all {
			switch r.State() {
			case records.Stored:
				ids = append(ids, r.ID)
			case records.Deleted:
			case records.Placeholder, records.Temporary:
				left = true
			}
		}
		if len(ids) == 1 && !left {
			return ids[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("want one that is stored, and the others deleted: %+v", all)
		}
	}
}

// eventually waits until the one file with a name has a state: what the browser says last it does not wait for.
func (s *site) eventually(t *testing.T, name string, want records.State) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); s.named(t, name).State() != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("want %s: %+v", want, s.named(t, name))
		}
	}
}

func (s *site) wantObject(t *testing.T, id string, want bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		object, err := s.client.Transfer.Head(t.Context(), id)
		if want == (err == nil) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("object of %q: %+v, %v", id, object, err)
		}
	}
}

// browser is a headless Chromium, driven by testdata/drive.mjs.
type browser struct {
	in    io.Writer
	out   *bufio.Reader
	pages int
}

// startBrowser starts one that ends with the test. Without one the test is skipped, but in CI it fails: there a skipped
// test would pass unseen.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	missing := func(what string) {
		if os.Getenv("CI") != "" {
			t.Fatal(what)
		}
		t.Skip(what)
	}
	var chromium string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	if chromium == "" {
		missing("Chromium is not installed")
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing(err.Error())
	}
	tools, err := filepath.Abs("../../.tools")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(tools, "node_modules", "playwright-core")); err != nil {
		missing("run 'make tools': " + err.Error())
	}
	cmd := exec.Command("node", filepath.Join("testdata", "drive.mjs"))
	cmd.Env = append(os.Environ(), "TOOLS="+tools, "CHROMIUM="+chromium, "HOME="+t.TempDir())
	cmd.Stderr = t.Output()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // it then ends the browser, and itself
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the browser's driver: %v", err)
		}
	})
	return &browser{in: in, out: bufio.NewReader(out)}
}

// page is one page in a browser, with a profile of its own.
type page struct {
	t    *testing.T
	b    *browser
	name string
}

// file is one that is chosen.
type file struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Size int64  `json:"size"`
}

// item is what the field shows of a file.
type item struct{ Name, Size, State string }

// open opens a page. how is what is special about it: see drive.mjs.
func (b *browser) open(t *testing.T, url string, how map[string]any) *page {
	t.Helper()
	b.pages++
	p := &page{t: t, b: b, name: fmt.Sprint(b.pages)}
	args := []any{"url", url}
	for k, v := range how {
		args = append(args, k, v)
	}
	p.do("open", args...)
	t.Cleanup(func() { p.do("close") })
	return p
}

// do carries out a step of drive.mjs, with arguments by name.
func (p *page) do(step string, args ...any) any {
	p.t.Helper()
	line := map[string]any{"do": step, "page": p.name}
	for i := 0; i < len(args); i += 2 {
		line[args[i].(string)] = args[i+1]
	}
	if err := json.NewEncoder(p.b.in).Encode(line); err != nil {
		p.t.Fatal(err)
	}
	text, err := p.b.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("%s: the driver is gone: %v", step, err)
	}
	var answer struct {
		Result any
		Error  string
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		p.t.Fatalf("%s: %v", text, err)
	}
	if answer.Error != "" {
		p.t.Fatal(answer.Error)
	}
	return answer.Result
}

func (p *page) choose(files ...file) {
	p.t.Helper()
	p.do("choose", "files", files)
}

// until waits until the field has these files in these states (name, state, name, state), and no others.
func (p *page) until(namesAndStates ...string) []item {
	p.t.Helper()
	states := slices.Collect(slices.Chunk(namesAndStates, 2))
	if states == nil {
		states = [][]string{}
	}
	text, err := json.Marshal(p.do("until", "states", states))
	if err != nil {
		p.t.Fatal(err)
	}
	var items []item
	if err := json.Unmarshal(text, &items); err != nil {
		p.t.Fatal(err)
	}
	return items
}

// uploaded is for until.
func uploaded(files ...file) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.Name, "processing-complete")
	}
	return out
}

func (p *page) waitText(selector, text string) {
	p.t.Helper()
	p.do("waitText", "selector", selector, "text", text)
}

// values waits until the form hands over so many ids, and returns them.
func (p *page) values(count int) []string {
	p.t.Helper()
	var out []string
	for _, v := range p.do("values", "count", count).([]any) {
		out = append(out, v.(string))
	}
	return out
}

// saidNothing fails where the browser has an error in its console, such as what the page's policy forbids, but for
// those with one of the texts.
func (p *page) saidNothing(but ...string) {
	p.t.Helper()
	for _, v := range p.do("said").([]any) {
		if !slices.ContainsFunc(but, func(text string) bool { return strings.Contains(v.(string), text) }) {
			p.t.Errorf("the browser says: %s", v)
		}
	}
}

func sameElements(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
