// Command backend is an example of what stands behind a form with files. The browser uploads to the filestore by
// itself; what comes here is a form with ids, and one call with the key stores them:
//
//	FILESTORE_URL=http://127.0.0.1:9481 FILESTORE_API_KEY=... go run ./examples/backend
//
// It has one form, which it remembers as long as it runs. docs/browser.md tells more.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

func main() {
	b := &backend{filestore: os.Getenv("FILESTORE_URL"), key: os.Getenv("FILESTORE_API_KEY")}
	listen := os.Getenv("LISTEN")
	if listen == "" {
		listen = "127.0.0.1:9490"
	}
	handler, err := b.handler()
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("the form is at http://%s", listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.Serve(listener))
}

// file is what the filestore says of one.
type file struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Type     string `json:"type"`
	Size     int64  `json:"size"`
	StoredAt string `json:"stored_at,omitempty"`
	URL      string `json:"url,omitempty"`
}

type backend struct {
	filestore string // base URL of the API
	key       string // never leaves this program but for the filestore
	form      *template.Template

	mu  sync.Mutex
	ids []string // what was submitted, where a real program has a database
}

func (b *backend) handler() (http.Handler, error) {
	var err error
	if b.form, err = template.New("form").Parse(form); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", b.show)
	mux.HandleFunc("POST /{$}", b.submit)
	mux.HandleFunc("GET /load/{id}", b.load)
	// A form of this page, or of the page of the filestore, and no other.
	protection := http.NewCrossOriginProtection()
	if err := protection.AddTrustedOrigin(b.filestore); err != nil {
		return nil, fmt.Errorf("FILESTORE_URL: %w", err)
	}
	return protection.Handler(mux), nil
}

// submit stores the files of the form, with one call. With store on load they are stored already, and the call would be
// refused: leave it away then.
func (b *backend) submit(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
	if err := r.ParseForm(); err != nil {
		http.Error(w, "That is no form.", http.StatusBadRequest)
		return
	}
	// One that is not uploaded has no id yet.
	ids := slices.DeleteFunc(slices.Clone(r.PostForm["file"]), func(id string) bool { return id == "" })
	var stored []string
	if len(ids) > 0 {
		if err := b.call(r.Context(), http.MethodPut, "/files", ids, &stored); err != nil {
			// Others of the form may be stored, and nothing removes them by itself. Mostly the form comes again. A real
			// program notes the ids before the call, and whose form they are of, and deletes in the end those that no
			// form has. To delete any id that somebody submits would be wrong: it may be another's.
			fail(w, "stored", err)
			return
		}
	}
	b.mu.Lock()
	b.ids = stored
	b.mu.Unlock()
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// load tells filestore.js where a file of the form can be downloaded. Only a file of the form: who knows an id
// gets nothing for that.
func (b *backend) load(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	if !slices.Contains(b.submitted(), id) {
		http.NotFound(w, r)
		return
	}
	files, err := b.info(r.Context(), []string{id})
	if err != nil {
		fail(w, "loaded", err)
		return
	}
	if len(files) == 0 {
		http.NotFound(w, r) // deleted meanwhile
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(files[0]); err != nil {
		log.Print(err)
	}
}

func (b *backend) show(w http.ResponseWriter, r *http.Request) {
	files, err := b.info(r.Context(), b.submitted())
	if err != nil {
		fail(w, "shown", err)
		return
	}
	type entry struct { // as filestore.js wants it
		file
		Stored bool `json:"stored"`
	}
	entries := []entry{}
	for _, f := range files {
		f.URL = "" // made anew when it is asked for
		entries = append(entries, entry{f, f.StoredAt != ""})
	}
	list, err := json.Marshal(entries)
	if err != nil {
		fail(w, "shown", err)
		return
	}
	var page bytes.Buffer
	if err := b.form.Execute(&page, map[string]any{"Filestore": b.filestore, "Files": files, "List": string(list)}); err != nil {
		fail(w, "shown", err)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page.Bytes()) // fails where the browser is gone
}

func (b *backend) submitted() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ids
}

func (b *backend) info(ctx context.Context, ids []string) ([]file, error) {
	var files []file
	if len(ids) == 0 {
		return files, nil
	}
	return files, b.call(ctx, http.MethodPost, "/files", ids, &files)
}

// refusal is an answer of the filestore that is for whoever has asked.
type refusal struct{ message string }

func (r *refusal) Error() string { return r.message }

// call asks the filestore's API, with the key.
func (b *backend) call(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, b.filestore+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Api-Key", b.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return json.NewDecoder(res.Body).Decode(answer)
	}
	var said struct {
		Message string
		Done    []string
	}
	_ = json.NewDecoder(res.Body).Decode(&said) // the status says enough
	if len(said.Done) > 0 {
		log.Printf("%s %s: not done for all, but for %q", method, path, said.Done)
	}
	if res.StatusCode == http.StatusForbidden || res.StatusCode >= 500 {
		// Not the fault of whoever has submitted the form.
		return fmt.Errorf("%s %s: %s: %s", method, path, res.Status, said.Message)
	}
	return &refusal{said.Message}
}

// fail says why the files could not be stored, loaded or shown. What is wrong between here and the filestore is for the
// log only.
func fail(w http.ResponseWriter, done string, err error) {
	if r, ok := errors.AsType[*refusal](err); ok {
		http.Error(w, "The files could not be "+done+": "+r.message, http.StatusConflict)
		return
	}
	log.Print(err)
	http.Error(w, "The files could not be "+done+". Go back and try again later.", http.StatusBadGateway)
}

// form is the page. The integrity of what is loaded from another server is checked by the browser; docs/browser.md has the values.
const form = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Report</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{{.Filestore}}/assets/filepond-4.32.12.min.css" crossorigin
  integrity="sha384-gxLExpM0wc/52+tqYX05OVfUvJXjaoogjTwqzWHp9B+IIYHeZ2vtLpfmLx1zxBYT">
<script src="{{.Filestore}}/assets/filepond-4.32.12.min.js" defer crossorigin
  integrity="sha384-wi65cAhvKInCgXVXHu8gRypmmserZ5RUkTVUGRqVSNCui4W/3YkTR94Hjud3Yuoq"></script>
<script src="{{.Filestore}}/assets/filestore.js" defer crossorigin
  integrity="sha384-SsVLIxwXdtxzSqJPv4iw3KxGrYWpmMRqDyYtsgjoYZBB7hyfBu5koiskdiHuAGSE"></script>
<h1>Report</h1>
<form method="post" action="/">
<p><input type="file" name="file" multiple aria-label="Attachments" data-max-files="10"
  data-filestore="{{.Filestore}}" data-filestore-load="/load/" data-filestore-files="{{.List}}"></p>
<p><button>Save</button></p>
</form>
{{with .Files}}<h2>Saved</h2>
<ul>{{range .}}
<li><a href="{{.URL}}">{{.Name}}</a>, {{.Size}} bytes</li>{{end}}
</ul>
{{end}}</html>
`
