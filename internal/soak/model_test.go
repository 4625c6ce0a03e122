//go:build linux || darwin || freebsd

package soak

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// model is what must be true of a filestore: each file that was ever reported, with what is known and what
// is possible of it. Facts only ever get more, as a record only moves forward (docs/contract.md, "States").
// It is safe for concurrent use.
type model struct {
	name  string
	lives lifetimes

	mu         sync.Mutex
	files      map[string]*file    // by id
	sources    map[string]*source  // by name, which is unique
	keys       map[string][]string // by idempotency key: the ids that were reported, in that order
	violations []string
	sweptSince time.Time       // when the latest sweep began that has ended well
	flipped    map[string]bool // names of what a URL that takes anything has taken with a byte changed on the way
	sweptWell  int
	sweeps     []string // what became of each sweep
}

// source is what was uploaded under one name: by one upload, by a chain of them that go on with each other,
// or by all those with one idempotency key.
type source struct {
	name string
	sum  [sha256.Size]byte
	size int64
	meta map[string]string
	// mayStay says that a file of it may be there that was never reported: its upload was killed, or has
	// said itself that something is left.
	mayStay bool
	// mayBeStored says that such a file may be stored.
	mayBeStored bool
	// keyed says that it has an idempotency key: there is one file of it that is not deleted, or none.
	keyed bool
	// unbound is the content of what was uploaded by a URL that takes anything: nothing compares it on the way.
	unbound []byte
	history []string
}

// file is a file whose id was reported.
type file struct {
	id     string
	source *source
	// The times as they were first reported; empty: not known.
	created, uploaded, stored, deleted string
	// What was begun and may have happened, or may happen yet.
	storeBegun, deleteBegun bool
	// What is sure.
	isStored, isDeleted bool
	// byURL says that others were to upload it, and isPut that they have: only then it is surely uploaded.
	byURL, isPut bool
	history      []string
}

// result is a line of JSON of the program: a file, or a failure.
type result struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Size       int64             `json:"size"`
	State      string            `json:"state"`
	Meta       map[string]string `json:"meta"`
	CreatedAt  string            `json:"created_at"`
	UploadedAt string            `json:"uploaded_at"`
	StoredAt   string            `json:"stored_at"`
	DeletedAt  string            `json:"deleted_at"`
	Path       string            `json:"path"`
	Verified   string            `json:"verified"`
	Existing   bool              `json:"existing"`
	Action     string            `json:"action"`
	Class      string            `json:"class"`
	URL        string            `json:"url"`
	Headers    map[string]string `json:"headers"`
	Malformed  []string          `json:"malformed"`
	Error      *struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
	} `json:"error"`
}

func newModel(name string, lives lifetimes) *model {
	return &model{name: name, lives: lives, files: make(map[string]*file), sources: make(map[string]*source), keys: make(map[string][]string), flipped: make(map[string]bool)}
}

// violated notes that something is wrong, with the history of the file.
func (m *model) violated(f *file, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if f != nil {
		text = fmt.Sprintf("file %q (%q): %s\n  %s", f.id, f.source.name, text, strings.Join(slices.Concat(f.source.history, f.history), "\n  "))
	}
	m.violations = append(m.violations, text)
}

// wrong is violated for what is about no file that is known.
func (m *model) wrong(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.violated(nil, format, args...)
}

func (m *model) broken() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.violations)
}

// add makes a source before its upload begins.
func (m *model) add(name string, content []byte, meta map[string]string) *source {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &source{name: name, sum: sha256.Sum256(content), size: int64(len(content)), meta: meta}
	m.sources[name] = s
	return s
}

// addKeyed makes the source of an idempotency key before an upload with it begins, or finds it.
func (m *model) addKeyed(key, name string, content []byte, storing, other bool) *source {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sources[name]
	if s == nil {
		s = &source{name: name, sum: sha256.Sum256(content), size: int64(len(content)), keyed: true}
		m.sources[name] = s
	}
	s.mayStay = true // a run that fails undoes nothing
	if storing && !other {
		s.mayBeStored = true
		for _, id := range m.keys[key] {
			m.files[id].storeBegun = true
		}
	}
	return s
}

// keyIsKnown reports whether a file of the key was reported.
func (m *model) keyIsKnown(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.keys[key]) > 0
}

// keyed notes the id that was reported for a key: it is that of the others, unless these may be gone.
func (m *model) keyed(key, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Contains(m.keys[key], id) {
		return
	}
	for _, other := range m.keys[key] {
		if f := m.files[other]; !m.mayBeDeleted(f) {
			m.violated(f, "its key has got another file, %q", id)
		}
	}
	m.keys[key] = append(m.keys[key], id)
}

// due is when a temporary file may expire at the earliest.
func (m *model) due(f *file) time.Time {
	t, err := time.Parse(time.RFC3339, f.uploaded)
	if err != nil {
		return time.Time{}
	}
	return t.Add(m.lives.temporary)
}

// dueUnrecorded is when a sweep may look for the object of a file of which no upload is recorded, at the earliest.
func (m *model) dueUnrecorded(f *file) (due time.Time, known bool) {
	t, err := time.Parse(time.RFC3339, f.created)
	return t.Add(m.lives.url + m.lives.temporary), err == nil
}

// expiredEarly reports whether a sweep that deleted the file then had no right to: all times are of the same clock,
// and due is only what was uploaded before the second that lies a lifetime back (docs/contract.md, "The transitions").
func (m *model) expiredEarly(f *file, deleted string) bool {
	due := m.due(f)
	if f.uploaded == "" { // never, as far as the record says
		var known bool
		if due, known = m.dueUnrecorded(f); !known {
			return true
		}
	}
	t, err := time.Parse(time.RFC3339, deleted)
	return err != nil || !t.After(due)
}

// mayBeDeleted reports whether the file may be gone now.
func (m *model) mayBeDeleted(f *file) bool {
	return f.isDeleted || f.deleteBegun || !f.isStored && time.Now().After(m.due(f))
}

// view is what was sure when a command began.
type view struct{ isStored, isDeleted bool }

// sure returns what is sure of the files now; of those that are not known, nothing.
func (m *model) sure() map[string]view {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make(map[string]view, len(m.files))
	for id, f := range m.files {
		all[id] = view{f.isStored, f.isDeleted}
	}
	return all
}

// note adds to the history of files.
func (m *model) note(ids []string, format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if f := m.files[id]; f != nil {
			f.note(format, args...)
		}
	}
}

func (f *file) note(format string, args ...any) {
	f.history = append(f.history, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (s *source) note(format string, args ...any) {
	s.history = append(s.history, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// begin notes that a command that may change the files has begun.
func (m *model) begin(ids []string, change func(f *file)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		if f := m.files[id]; f != nil {
			change(f)
		}
	}
}

// uploaded notes the file that an upload of s has reported. It returns nil for what can't be true.
func (m *model) uploaded(s *source, r result, storing bool) *file {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[r.ID]
	if f == nil {
		f = &file{id: r.ID, source: s, storeBegun: storing || s.mayBeStored}
		m.files[r.ID] = f
	}
	if f.source != s {
		m.violated(f, "reported as the upload of %q too", s.name)
		return nil
	}
	f.storeBegun = f.storeBegun || storing
	m.look(f, r, view{}, "upload")
	if storing && r.StoredAt == "" {
		m.violated(f, "was to be stored, and is reported as done without: %+v", r)
	}
	return f
}

// presigned notes a placeholder of which a URL was made.
func (m *model) presigned(s *source, id string) *file {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := &file{id: id, source: s, byURL: true}
	f.note("presign put")
	m.files[id] = f
	return f
}

// isPlaceholder says that nobody has written down an upload yet.
func (f *file) isPlaceholder() bool { return f.byURL && f.uploaded == "" }

// seen takes in what a command that began at before has reported of a file.
func (m *model) seen(r result, before map[string]view, who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[r.ID]
	if f == nil {
		if s := m.sources[r.Name]; s == nil {
			m.violated(nil, "%s reports %+v, which nobody has uploaded", who, r)
		}
		return
	}
	since, known := before[r.ID]
	if !known && r.UploadedAt != "" {
		// It was read before its upload was reported, perhaps while it had the time of the notification of its
		// object (of "serve"), which that of the uploader replaces.
		r.UploadedAt = f.uploaded
	}
	m.look(f, r, since, who)
}

// look compares a record with what is known, and takes it in.
func (m *model) look(f *file, r result, before view, who string) {
	f.note("%s: %s, uploaded %s, stored %s, deleted %s", who, r.State, r.UploadedAt, r.StoredAt, r.DeletedAt)
	same := func(what string, known *string, now string) {
		if *known == "" {
			*known = now
		} else if now != *known {
			m.violated(f, "%s: %s was %q, and is %q", who, what, *known, now)
			*known = now // it is told once
		}
	}
	if len(r.Malformed) > 0 {
		m.violated(f, "%s: malformed: %q", who, r.Malformed)
	}
	same("created_at", &f.created, r.CreatedAt)
	same("uploaded_at", &f.uploaded, r.UploadedAt)
	if r.Name != f.source.name || r.Size != f.source.size && !f.isPlaceholder() || !maps.Equal(r.Meta, f.source.meta) {
		m.violated(f, "%s: is %q of %d bytes with %v, and was uploaded as %d bytes with %v", who, r.Name, r.Size, r.Meta, f.source.size, f.source.meta)
	}
	if r.StoredAt != "" {
		if !f.storeBegun {
			m.violated(f, "%s: is stored, and nobody has said so", who)
		}
		same("stored_at", &f.stored, r.StoredAt)
		f.isStored = true
	} else if before.isStored {
		m.violated(f, "%s: was stored, and is not", who)
	}
	switch r.State {
	case "temporary", "stored":
		if before.isDeleted {
			m.violated(f, "%s: was deleted, and is %s", who, r.State)
		}
	case "deleted":
		if !m.mayBeDeleted(f) {
			m.violated(f, "%s: is deleted, and nobody has said so; it could not have expired", who)
		} else if !f.deleteBegun && f.deleted == "" && m.expiredEarly(f, r.DeletedAt) {
			m.violated(f, "%s: it has expired at %s, before its time", who, r.DeletedAt)
		}
		same("deleted_at", &f.deleted, r.DeletedAt)
		f.isDeleted = true
	default:
		if !f.isPlaceholder() {
			m.violated(f, "%s: was uploaded, and is %q", who, r.State)
		}
	}
}

// refused takes in why something could not be done with a file that was not reported as done.
func (m *model) refused(r result, before map[string]view, who string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[r.ID]
	if f == nil {
		return
	}
	f.note("%s: %s: %s", who, r.Error.Reason, r.Error.Message)
	switch r.Error.Reason {
	case "retry", "interrupted":
	case "expired", "deleted":
		if !m.mayBeDeleted(f) {
			m.violated(f, "%s: is %s, and nobody has deleted it, nor could it have expired", who, r.Error.Reason)
		}
		f.isDeleted = true
	case "not_uploaded":
		// Only "store" asks for an object of which the record does not know.
		if !f.byURL || f.isPut && who == "store" {
			m.violated(f, "%s: was uploaded, and is said not to be", who)
		}
	case "not_stored":
		if before[f.id].isStored {
			m.violated(f, "%s: was stored, and is said not to be", who)
		}
	case "not_found":
		// The record says uploaded, and the object is gone: only while the deletion is being read about.
		if !m.mayBeDeleted(f) || !strings.Contains(r.Error.Message, "object") {
			m.violated(f, "%s: %s: %s", who, r.Error.Reason, r.Error.Message)
		}
	default:
		if !isDamage(r.Error.Message) {
			m.violated(f, "%s: %s: %s", who, r.Error.Reason, r.Error.Message)
		}
	}
}

// isFlipped says that what was uploaded by a URL is what a fault makes of it on the way, one byte inverted.
func (s *source) isFlipped(data []byte) bool {
	if len(data) != len(s.unbound) {
		return false
	}
	flipped := 0
	for i, b := range s.unbound {
		switch data[i] {
		case b:
		case ^b:
			flipped++
		default:
			return false
		}
	}
	return flipped == 1
}

// isDamage says that bytes were changed on the way, and that it was noticed. Where that was can't be
// known, so that it is not tried again.
func isDamage(message string) bool { return strings.Contains(message, "checksum mismatch") }

// expired takes in what a sweep has reported of a file.
func (m *model) expired(r result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[r.ID]
	if f == nil {
		return // never reported: an upload that was killed
	}
	f.note("expire: %s", r.Action)
	switch {
	case r.Action == "settle":
		// The record of an upload that takes as long as that may be written by a sweep, before the upload writes it.
		if due, known := m.dueUnrecorded(f); !f.byURL && (!known || !time.Now().After(due)) {
			m.violated(f, "a sweep has settled it, and it was not due")
		}
		return // it is there
	case r.Action == "abandon" && f.byURL && !f.isPut:
	case r.Action != "expire":
		m.violated(f, "a sweep has done %q with it", r.Action)
	case f.isStored || time.Now().Before(m.due(f)):
		m.violated(f, "a sweep has expired it, and it was stored, or not due")
	}
	f.isDeleted = true
}

// sweep keeps what became of a sweep.
func (m *model) sweep(o outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweeps = append(m.sweeps, fmt.Sprintf("%s to %s: status %d %s", o.began.UTC().Format("15:04:05.000"), o.ended.UTC().Format("15:04:05.000"), o.status, o.by))
}

// found takes in what verify has found while others work. What a sweep mends has waited for one for as long as
// the grace; so it is wrong only if one that has ended well has begun since.
func (m *model) found(r result, swept time.Time, grace time.Duration, o outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r.Class {
	case "never-uploaded", "unrecorded", "undeleted", "stale-upload":
		// When verify has looked at its clock nobody knows: at the latest when it ended. Times are whole seconds.
		if swept.Before(o.ended.Add(time.Second - grace)) {
			return
		}
	}
	m.violated(m.files[r.ID], "verify finds that it is %s, and a sweep that began at %s has ended well:\n%s\nsweeps:\n  %s",
		r.Class, swept.UTC().Format("15:04:05"), o, strings.Join(m.sweeps[max(0, len(m.sweeps)-20):], "\n  "))
}

// lastSweep is when the latest sweep began that has ended well.
func (m *model) lastSweep() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sweptSince
}

// swept notes that a sweep which began at a time has ended well: what was due then is gone.
func (m *model) swept(due []string, began time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweptWell++
	if began.After(m.sweptSince) {
		m.sweptSince = began
	}
	for _, id := range due {
		if f := m.files[id]; !f.isStored {
			if f.storeBegun {
				continue // the store may have come first, and nobody has heard of it
			}
			f.note("expire: was due, and the sweep has ended well")
			f.isDeleted = true
		}
	}
}

// overdue are the files that are due, with a second more than the second in which times are counted.
func (m *model) overdue() (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, f := range m.files {
		if !f.isPlaceholder() && !f.isStored && !f.storeBegun && time.Now().After(m.due(f).Add(2*time.Second)) {
			ids = append(ids, id)
		}
	}
	return ids
}

// pick returns up to n files that the condition holds for, in the order of their ids: as random as these.
func (m *model) pick(n int, from string, ok func(f *file) bool) (ids []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	sorted := slices.Sorted(maps.Keys(m.files))
	at, _ := slices.BinarySearch(sorted, from)
	for i := range sorted {
		id := sorted[(at+i)%len(sorted)]
		if f := m.files[id]; ok(f) {
			if ids = append(ids, id); len(ids) == n {
				break
			}
		}
	}
	return ids
}

// What the model must object to, and what not.
func TestModel(t *testing.T) {
	const id = "aaaaaaaaaaaaaaaa"
	lives := lifetimes{url: 5 * time.Second, temporary: 15 * time.Second}
	gone := func(created, uploaded, deleted string) func(*model, *file) {
		return func(m *model, _ *file) {
			m.seen(result{ID: id, Name: "a.txt", State: "deleted", CreatedAt: created, UploadedAt: uploaded, DeletedAt: deleted}, map[string]view{id: {}}, "list")
		}
	}
	at := func(seconds int) time.Time { return time.Date(2020, 1, 1, 0, 1, seconds, 0, time.UTC) }
	stale := func(swept time.Time) func(*model, *file) {
		return func(m *model, _ *file) {
			m.found(result{ID: id, Class: "undeleted"}, swept, 10*time.Second, outcome{began: at(0), ended: at(4)})
		}
	}
	settled := func(created string) func(*model, *file) {
		return func(m *model, f *file) {
			f.byURL, f.created = false, created
			m.expired(result{ID: id, Action: "settle"})
			if f.isDeleted {
				m.wrong("what was settled is taken for deleted")
			}
		}
	}
	for _, test := range []struct {
		name string
		do   func(m *model, f *file)
		ok   bool
	}{
		{"expired in its time", gone("2020-01-01T00:00:00Z", "2020-01-01T00:00:02Z", "2020-01-01T00:00:18Z"), true},
		{"expired a second too early", gone("2020-01-01T00:00:00Z", "2020-01-01T00:00:02Z", "2020-01-01T00:00:17Z"), false},
		{"never uploaded, abandoned in its time", gone("2020-01-01T00:00:00Z", "", "2020-01-01T00:00:21Z"), true},
		{"never uploaded, abandoned too early", gone("2020-01-01T00:00:00Z", "", "2020-01-01T00:00:20Z"), false},
		{"deleted at no time that can be read", gone("2020-01-01T00:00:00Z", "2020-01-01T00:00:02Z", "soon"), false},
		{"deleted by somebody", func(m *model, f *file) {
			f.deleteBegun = true
			gone("2020-01-01T00:00:00Z", "2020-01-01T00:00:02Z", "2020-01-01T00:00:03Z")(m, f)
		}, true},
		{"left by a sweep", stale(at(-5)), false},
		{"come due after a sweep, for all that is known", stale(at(-6)), true},
		{"settled, since its upload took long", settled("2020-01-01T00:00:00Z"), true},
		{"settled too early", settled(time.Now().UTC().Format(time.RFC3339)), false},
		{"settled, and made nobody knows when", settled(""), false},
		{"a crash in a request", func(m *model, _ *file) {
			m.ended(outcome{stderr: "http: panic serving 127.0.0.1:1: runtime error\ngoroutine 5 [running]:\n"})
		}, false},
		{"killed by somebody else", func(m *model, _ *file) { m.ended(outcome{status: -1, by: stopped}) }, false},
	} {
		m := newModel("test", lives)
		f := m.presigned(m.add("a.txt", nil, nil), id)
		test.do(m, f)
		if broken := m.broken(); (len(broken) == 0) != test.ok {
			t.Errorf("%s: %q", test.name, broken)
		}
	}

	full := []result{{ID: "a", Action: "expire"}, {ID: "b", Action: "settle"}}
	for _, test := range []struct {
		indexed result
		ok      bool
	}{
		{result{ID: "b", Action: "expire"}, true},
		{result{ID: "c", Action: "expire"}, false},
		{result{ID: "b", Action: "abandon"}, false},
	} {
		if left := leftToIndex(full, []result{test.indexed}); (len(left) == 0) != test.ok {
			t.Errorf("after a whole sweep, by the index: %+v, left: %+v", test.indexed, left)
		}
	}
}
