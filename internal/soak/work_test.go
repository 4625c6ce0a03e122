//go:build linux || darwin || freebsd

package soak

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
)

const (
	kib = 1 << 10
	mib = 1 << 20

	mostViolations = 20
)

// worker runs one command after another, on files of all workers.
type worker struct {
	t      testing.TB
	name   string
	rng    *rand.Rand
	model  *model
	run    *runner
	place  place
	home   string
	audit  string // path
	grace  time.Duration
	made   int           // sources
	keys   *atomic.Int64 // idempotency keys, shared
	random *rand.ChaCha8 // of contents
}

// job is something that a worker does, and how often in proportion.
type job struct {
	weight int
	do     func()
}

func (w *worker) jobs() []job {
	jobs := []job{
		{20, w.uploadSmall}, {6, w.uploadStream}, {3, w.uploadParts}, {8, w.uploadIdempotent},
		{16, w.store}, {8, w.delete}, {8, w.info}, {12, w.download}, {3, w.list}, {2, w.stats},
		{7, w.expire}, {2, w.verify}, {3, w.copy}, {2, w.uploads},
	}
	if w.place.directory == "" { // a local store has URLs only while it is served
		jobs = append(jobs, job{5, w.presign})
	}
	return jobs
}

// work does jobs until the deadline, or until too much is wrong to go on.
func (w *worker) work(deadline time.Time) {
	jobs, all := w.jobs(), 0
	for _, j := range jobs {
		all += j.weight
	}
	for time.Now().Before(deadline) && len(w.model.broken()) < mostViolations && !w.t.Failed() {
		n := w.rng.IntN(all)
		for _, j := range jobs {
			if n -= j.weight; n < 0 {
				j.do()
				break
			}
		}
	}
}

// command runs a command that may be disturbed, and looks at how it ended.
func (w *worker) command(stdin []byte, args ...string) outcome {
	name := args[0]
	args = append(args, "--json", "--stall-timeout=5s")
	p := w.run.disturb(w.rng, name)
	if p.by == timedOut {
		args = append(args, "--timeout="+max(p.after, time.Millisecond).String())
	}
	o := w.run.run(w.t, w.home, p, stdin, args...)
	w.model.ended(o)
	retry := o.status == 7 || slices.ContainsFunc(o.results, func(r result) bool { return r.Error != nil && r.Error.Reason == "retry" })
	if retry && o.by == undisturbed && len(w.place.fronts) == 0 && !w.run.serverEnded(o) {
		w.model.wrong("it is to be tried again, and nothing has disturbed it: %s", o)
	}
	switch o.status {
	case -1, 0, 3, 4, 7, 130:
	case 6:
		if !slices.Contains(args, "--idempotency-key") {
			w.model.wrong("a conflict: %s", o)
		}
	case 1:
		if len(w.place.fronts) == 0 || !isDamage(o.stderr) {
			w.model.wrong("it failed for no reason that is known: %s", o)
		}
		w.run.count("damage on the way that was noticed", 1)
	default:
		w.model.wrong("it ended with a status that nothing here leads to: %s", o)
	}
	if o.status == 0 {
		for _, r := range o.results {
			if r.Error != nil {
				w.model.wrong("it ended well, and %q failed: %s", r.ID, o)
			}
		}
	}
	return o
}

// ended looks at what no command may do, however it ended.
func (m *model) ended(o outcome) {
	if o.crashed() {
		m.wrong("it crashed: %s", o)
	}
	told := o.by == interrupted || o.by == terminated
	switch {
	case o.status == -1 && o.by != killed && !told: // before the program listens to signals all of them end it at once
		m.wrong("it was killed, and not by us: %s", o)
	case o.status == 130 && !told:
		m.wrong("it says that it was interrupted: %s", o)
	}
}

// content makes a random content.
func (w *worker) content(size int) []byte {
	data := make([]byte, size)
	_, _ = w.random.Read(data) // never fails
	return data
}

// file writes a content to a new file.
func (w *worker) file(name string, content []byte) string {
	path := filepath.Join(w.home, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		w.t.Error(err)
	}
	return path
}

func (w *worker) newName(kind, ext string) string {
	w.made++
	return fmt.Sprintf("%s-%s-%05d.%s", kind, w.name, w.made, ext)
}

func (w *worker) ext() string { return []string{"txt", "pdf", "bin", "json"}[w.rng.IntN(4)] }

// options are flags of an upload.
func (w *worker) options() (args []string, store bool, meta map[string]string) {
	if store = w.rng.IntN(3) == 0; store {
		args = append(args, "--store")
	}
	for i := range w.rng.IntN(3) {
		if meta == nil {
			meta = make(map[string]string)
		}
		key, value := fmt.Sprintf("key%d", i), fmt.Sprintf("%d ü \"", w.rng.IntN(100))
		meta[key] = value
		args = append(args, "--meta", key+"="+value)
	}
	return args, store, meta
}

func (w *worker) size() int {
	switch n := w.rng.IntN(10); {
	case n == 0:
		return 0
	case n < 7:
		return w.rng.IntN(64 * kib)
	case n < 9:
		return w.rng.IntN(mib)
	default:
		return w.rng.IntN(4 * mib)
	}
}

// uploaded takes in what an upload of these sources has reported, by the paths under which it knows them.
func (w *worker) uploaded(o outcome, sources map[string]*source, storing bool) (reported int) {
	rest := maps.Clone(sources)
	for _, r := range o.results {
		s := sources[r.Path]
		if s == nil && len(sources) == 1 {
			for _, s = range sources {
			}
		}
		switch {
		case s == nil:
			w.model.wrong("an upload reports %+v: %s", r, o)
		case r.Error == nil:
			w.model.uploaded(s, r, storing)
			reported++
			delete(rest, r.Path)
			if r.Path == "" {
				clear(rest)
			}
		}
	}
	if o.status == 0 && len(rest) > 0 {
		w.model.wrong("it ended well, and has not reported all: %s", o)
	}
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	for _, s := range rest {
		s.note("%s: status %d %s %s", strings.Join(o.args, " "), o.status, o.by, strings.TrimSpace(o.stderr))
		// What fails by itself leaves nothing, or says so.
		if o.status == -1 || strings.Contains(o.stderr, "left for a sweep") {
			s.mayStay = true
			s.mayBeStored = s.mayBeStored || storing
			w.run.count("uploads of which nobody knows", 1)
		}
	}
	return reported
}

func (w *worker) uploadSmall() {
	args, store, meta := w.options()
	sources := make(map[string]*source)
	var paths []string
	for range 1 + w.rng.IntN(4) {
		content := w.content(w.size())
		name := w.newName("small", w.ext())
		path := w.file(name, content)
		defer os.Remove(path)
		sources[path] = w.model.add(name, content, meta)
		paths = append(paths, path)
	}
	w.uploaded(w.command(nil, slices.Concat([]string{"upload"}, args, paths)...), sources, store)
}

func (w *worker) uploadStream() {
	args, store, meta := w.options()
	size := w.size()
	if w.rng.IntN(4) == 0 {
		size = 6*mib + w.rng.IntN(8*mib)
	}
	content, name := w.content(size), w.newName("stream", w.ext())
	s := w.model.add(name, content, meta)
	w.uploaded(w.command(content, slices.Concat([]string{"upload", "--part-size=5M", "--name", name}, args, []string{"-"})...), map[string]*source{"-": s}, store)
}

// uploadParts uploads a file in parts, and goes on with it where it broke off.
func (w *worker) uploadParts() {
	args, store, meta := w.options()
	content, name := w.content(10*mib+w.rng.IntN(6*mib)), w.newName("parts", w.ext())
	path := w.file(name, content)
	defer os.Remove(path)
	s := w.model.add(name, content, meta)
	resume := w.rng.IntN(2) == 0
	for range 1 + w.rng.IntN(5) {
		command := slices.Concat([]string{"upload", "--part-size=5M"}, args)
		if resume {
			command = append(command, "--resume")
		}
		resume = true
		if w.uploaded(w.command(nil, append(command, path)...), map[string]*source{path: s}, store) > 0 {
			// Whoever goes on has found what was there: nothing else of it stays.
			w.model.mu.Lock()
			s.mayStay = false
			w.model.mu.Unlock()
			return
		}
		w.run.count("uploads gone on with", 1)
	}
	// What --resume keeps may be an object whose record has just been written.
	w.model.mu.Lock()
	defer w.model.mu.Unlock()
	s.mayStay, s.mayBeStored = true, store
}

// uploadIdempotent says an upload, mostly one that was said before, perhaps by several at the same time.
func (w *worker) uploadIdempotent() {
	n := w.keys.Load()
	if w.rng.IntN(3) == 0 || n == 0 {
		n = w.keys.Add(1)
	} else {
		n -= w.rng.Int64N(min(n, 4))
	}
	key, name := fmt.Sprintf("key %d of %s", n, w.model.name), fmt.Sprintf("idempotent-%05d.bin", n)
	rng := rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), 1})
	size := int(rng.Uint64() % (40 * kib))
	if n%10 == 0 {
		size += 11 * mib
	}
	content := make([]byte, size)
	_, _ = rng.Read(content) // never fails
	args := []string{"upload", "--part-size=5M", "--name", name, "--idempotency-key", key}
	store := w.rng.IntN(3) == 0
	if store {
		args = append(args, "--store")
	}
	if w.rng.IntN(4) == 0 {
		args = append(args, "--renew")
	}
	other := w.model.keyIsKnown(key) && w.rng.IntN(8) == 0
	if other {
		content = slices.Concat(content, []byte("x"))
		args = slices.DeleteFunc(args, func(a string) bool { return a == "--renew" })
	}
	path := w.file(name, content)
	defer os.Remove(path)
	before := w.model.sure()
	s := w.model.addKeyed(key, name, content, store, other)
	o := w.command(nil, append(args, path)...)
	for _, r := range o.results {
		switch {
		case r.Error != nil:
			if other && r.Error.Reason == "conflict" {
				w.run.count("other contents refused", 1)
				continue
			}
			w.model.refused(r, before, "upload --idempotency-key")
		case other:
			w.model.wrong("the key has other content: %s", o)
		default:
			if w.model.uploaded(s, r, store) != nil {
				w.model.keyed(key, r.ID)
			}
			if r.Existing {
				w.run.count("uploads that were there already", 1)
			}
		}
	}
	if o.status == 0 && len(o.results) != 1 {
		w.model.wrong("it ended well, and has not reported the file: %s", o)
	}
}

// presign makes a URL, and mostly uploads with it.
func (w *worker) presign() {
	content, name := w.content(w.size()), w.newName("presigned", w.ext())
	s := w.model.add(name, content, nil)
	args := []string{"presign", "put", name}
	if w.rng.IntN(2) == 0 {
		// What is changed on the way is then refused.
		sum := sha256.Sum256(content)
		args = append(args, "--checksum", "SHA256:"+base64.StdEncoding.EncodeToString(sum[:]))
	} else {
		s.unbound = content
	}
	o := w.command(nil, args...)
	if len(o.results) == 0 || o.results[0].Error != nil {
		return
	}
	f := w.model.presigned(s, o.results[0].ID)
	if w.rng.IntN(4) == 0 {
		w.run.count("URLs that nobody used", 1)
		return
	}
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPut, o.results[0].URL, bytes.NewReader(content))
	if err != nil {
		w.model.wrong("%v: %s", err, o)
		return
	}
	for name, value := range o.results[0].Headers {
		request.Header.Set(name, value)
	}
	answer, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		return // of a fault
	}
	_ = answer.Body.Close()
	w.model.begin([]string{f.id}, func(f *file) {
		f.isPut = f.isPut || answer.StatusCode == http.StatusOK
		f.note("PUT by the URL: %s", answer.Status)
	})
	if answer.StatusCode == http.StatusOK {
		w.run.count("uploads by a URL", 1)
	} else {
		w.run.count("uploads by a URL, refused", 1)
	}
}

// randomID is a place among the ids.
func (w *worker) randomID() string { return client.DerivedID(fmt.Sprint(w.rng.Uint64()), 0) }

// named runs a command on ids, which it reads from its standard input or has as arguments, and takes in what it reports.
func (w *worker) named(ids []string, args ...string) outcome {
	before := w.model.sure()
	var stdin []byte
	if w.rng.IntN(4) == 0 {
		stdin = []byte(strings.Join(ids, "\n") + "\n")
		args = append(args, "-")
	} else {
		args = append(args, ids...)
	}
	o := w.command(stdin, args...)
	rest := slices.Clone(ids)
	for _, r := range o.results {
		rest = slices.DeleteFunc(rest, func(id string) bool { return id == r.ID })
		if r.Error != nil {
			w.model.refused(r, before, args[0])
			if r.Error.Reason == "retry" || r.Error.Reason == "interrupted" {
				w.run.unsure(args[0], 1)
			}
		} else {
			w.model.seen(r, before, args[0])
		}
	}
	w.run.unsure(args[0], len(rest))
	w.model.note(rest, "%s: status %d %s, and nothing is said of it", args[0], o.status, o.by)
	if o.finished() && len(rest) > 0 && o.status != 7 {
		w.model.wrong("nothing is said of %q: %s", rest, o)
	}
	return o
}

func (w *worker) store() {
	ids := w.model.pick(1+w.rng.IntN(4), w.randomID(), func(f *file) bool { return !f.isDeleted && (!f.isStored || w.rng.IntN(10) == 0) })
	if len(ids) == 0 {
		return
	}
	w.model.begin(ids, func(f *file) { f.storeBegun = true; f.note("store: begun") })
	for _, r := range w.named(ids, "store").results {
		if r.Error == nil && r.StoredAt == "" {
			w.model.wrong("store reports %+v", r)
		}
	}
}

func (w *worker) delete() {
	ids := w.model.pick(1+w.rng.IntN(3), w.randomID(), func(f *file) bool { return !f.isDeleted || w.rng.IntN(20) == 0 })
	if len(ids) == 0 {
		return
	}
	w.model.begin(ids, func(f *file) { f.deleteBegun = true; f.note("delete: begun") })
	for _, r := range w.named(ids, "delete", "--audit", w.audit).results {
		if r.Error == nil && r.State != "deleted" {
			w.model.wrong("delete reports %+v", r)
		}
	}
}

func (w *worker) info() {
	if ids := w.model.pick(1+w.rng.IntN(10), w.randomID(), func(*file) bool { return true }); len(ids) > 0 {
		w.named(ids, "info", "--deleted", "--nonstored")
	}
}

func (w *worker) download() {
	ids := w.model.pick(1+w.rng.IntN(3), w.randomID(), func(f *file) bool { return !f.isDeleted || w.rng.IntN(30) == 0 })
	if len(ids) == 0 {
		return
	}
	dir := filepath.Join(w.home, "downloads")
	defer os.RemoveAll(dir)
	args := []string{"download", "--nonstored", "--part-size=5M", "-d", dir}
	if w.rng.IntN(2) == 0 {
		args = append(args, "--resume")
	}
	o := w.named(ids, args...)
	rest := make(map[string]bool) // what is in the directory, and was not reported
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		w.t.Error(err)
	}
	for _, e := range entries {
		rest[e.Name()] = true
	}
	for _, r := range o.results {
		if r.Error != nil {
			continue
		}
		w.model.downloaded(r, r.Path)
		w.run.count("files downloaded and compared", 1)
		delete(rest, filepath.Base(r.Path))
	}
	for name := range rest {
		switch {
		case strings.HasPrefix(name, ".filestore-") && strings.HasSuffix(name, ".part"):
			if o.status != -1 && !slices.Contains(args, "--resume") {
				w.model.wrong("a temporary file is left: %q: %s", name, o)
			}
		case o.status != -1:
			w.model.wrong("%q was downloaded, and not reported: %s", name, o)
		default:
			w.model.downloaded(result{Name: name}, filepath.Join(dir, name))
		}
	}
}

// downloaded compares a file that was downloaded.
func (m *model) downloaded(r result, path string) {
	data, err := os.ReadFile(path)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sources[r.Name]
	switch {
	case err != nil:
		m.violated(m.files[r.ID], "download: %v", err)
	case s == nil:
		m.violated(nil, "download: %q has a name that nobody has uploaded", r.Name)
	case s.unbound != nil && s.isFlipped(data):
		m.flipped[s.name] = true
	case int64(len(data)) != s.size || sha256.Sum256(data) != s.sum:
		m.violated(m.files[r.ID], "download: %q has %d other bytes, and had %d", r.Name, len(data), s.size)
	}
}

// list must show every file that was ever reported.
func (w *worker) list() {
	before := w.model.sure()
	o := w.command(nil, "list")
	shown := make(map[string]bool, len(o.results))
	for _, r := range o.results {
		if r.Error == nil {
			shown[r.ID] = true
			if r.State != "placeholder" {
				w.model.seen(r, before, "list")
			}
		}
	}
	if o.status != 0 {
		return
	}
	for id := range before {
		if !shown[id] {
			w.model.mu.Lock()
			w.model.violated(w.model.files[id], "list: it is not there")
			w.model.mu.Unlock()
		}
	}
}

func (w *worker) stats() {
	before := w.model.sure()
	o := w.command(nil, "stats")
	if o.status != 0 {
		return
	}
	var got struct {
		Records int
		States  map[string]struct{ Files int }
	}
	if err := json.Unmarshal([]byte(o.raw), &got); err != nil {
		w.model.wrong("stats: %v: %s", err, o)
	}
	gone := 0
	for _, v := range before {
		if v.isDeleted {
			gone++
		}
	}
	if got.Records < len(before) || got.States["deleted"].Files < gone {
		w.model.wrong("stats: %d records, and there were %d; %d deleted, and there were %d", got.Records, len(before), got.States["deleted"].Files, gone)
	}
}

func (w *worker) expire() {
	due := w.model.overdue()
	args := []string{"expire", "--audit", w.audit}
	if w.rng.IntN(4) == 0 {
		args = append(args, "--full")
	}
	o := w.command(nil, args...)
	for _, r := range o.results {
		if r.Error != nil {
			if r.Error.Reason != "retry" && r.Error.Reason != "interrupted" {
				w.model.wrong("a sweep failed at a file: %s", o)
			}
			continue
		}
		w.model.expired(r)
		w.run.count("swept: "+r.Action, 1)
	}
	w.model.sweep(o)
	if o.status == 0 {
		w.model.swept(due, o.began)
	}
}

func (w *worker) verify() {
	swept := w.model.lastSweep()
	o := w.command(nil, "verify", "--grace", w.grace.String())
	for _, r := range o.results {
		if r.Class != "" {
			w.model.found(r, swept, w.grace, o)
			w.run.count("found by verify, and waiting for a sweep", 1)
		}
	}
}

func (w *worker) copy() {
	o := w.command(nil, slices.Concat([]string{"copy", "--state=stored,deleted", "--part-size=5M"}, w.place.copyTo)...)
	w.run.count("files copied", len(o.ids()))
}

func (w *worker) uploads() { w.command(nil, "uploads") }
