//go:build linux || darwin || freebsd

package soak

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

// end is what is done when nobody works any more: everything must be in order then.
type end struct {
	t     testing.TB
	model *model
	run   *runner
	place place
	home  string
	audit string
}

// command runs a command that nothing disturbs, and that must end well.
func (e *end) command(args ...string) outcome {
	o := e.run.run(e.t, e.home, plan{}, nil, append(args, "--json")...)
	if o.status != 0 {
		e.model.wrong("at the end: %s", o)
	}
	return o
}

// sweep has the sweeps do all that is due, until there is nothing more to do.
func (e *end) sweep() {
	for range 5 {
		full := e.swept("--full")
		indexed := e.swept()
		if left := leftToIndex(full.results, indexed.results); len(left) > 0 {
			e.model.wrong("a sweep of the whole table has left %+v to the index: %s%s", left, full, indexed)
		}
		if len(full.results)+len(indexed.results) == 0 {
			return
		}
	}
	e.model.wrong("sweeps find no end")
}

// leftToIndex returns what a sweep by the index should not have had to do after one of the whole table: all but expire
// what that one has recorded as uploaded.
func leftToIndex(full, indexed []result) (left []result) {
	settled := make(map[string]bool)
	for _, r := range full {
		settled[r.ID] = r.Action == "settle"
	}
	for _, r := range indexed {
		if r.Action != "expire" || !settled[r.ID] {
			left = append(left, r)
		}
	}
	return left
}

// swept is one sweep.
func (e *end) swept(args ...string) outcome {
	o := e.command(slices.Concat([]string{"expire", "--audit", e.audit}, args)...)
	for _, r := range o.results {
		if r.Error == nil {
			e.model.expired(r)
			e.run.count("swept: "+r.Action, 1)
		}
	}
	return o
}

// verify has the program say that bucket and table fit together, all checksums included.
func (e *end) verify() {
	e.command("verify", "--deep", "--grace=1s")
}

// records compares all records with the model, and returns them.
func (e *end) records(c *client.Client) map[string]records.Record {
	e.t.Helper()
	before := e.model.sure()
	listed := make(map[string]bool)
	for _, r := range e.command("list").results {
		listed[r.ID] = true
		if r.State != "placeholder" {
			e.model.seen(r, before, "list at the end")
		}
	}
	all := make(map[string]records.Record)
	for page, err := range c.Records.Scan(context.Background(), records.Filter{}, records.ScanOptions{Meta: true}) {
		if err != nil {
			e.t.Error(err)
			return all
		}
		for _, r := range page {
			all[r.ID] = r
		}
	}
	objects := e.objects(c)
	e.model.mu.Lock()
	defer e.model.mu.Unlock()
	for id, f := range e.model.files {
		r, ok := all[id]
		switch {
		case !ok:
			e.model.violated(f, "at the end: it has no record")
		case r.State() == records.Deleted:
			f.isDeleted = true
		case r.State() == records.Stored && f.isDeleted, r.State() != records.Stored:
			e.model.violated(f, "at the end: it is %s", r.State())
		}
	}
	unknown := make(map[string]int) // files that were never reported and are there, by name
	keyed := make(map[string]int)   // files that are there, by the name that stands for an idempotency key
	for id, r := range all {
		if !listed[id] {
			e.model.violated(e.model.files[id], "at the end: %q is not listed", id)
		}
		if gone := r.State() == records.Deleted; gone == objects[id] {
			e.model.violated(e.model.files[id], "at the end: %q is %s, and its object is there: %t", id, r.State(), objects[id])
		}
		delete(objects, id)
		s := e.model.sources[r.Name]
		if s != nil && s.keyed && r.State() != records.Deleted {
			if keyed[r.Name]++; keyed[r.Name] > 1 {
				e.model.violated(e.model.files[id], "at the end: its key has more than one file: %+v", r)
			}
		}
		switch {
		case s == nil:
			e.model.violated(nil, "at the end: nobody has uploaded %+v", r)
		case e.model.files[id] != nil || r.State() == records.Deleted:
		case !s.mayStay || r.State() != records.Stored || !s.mayBeStored:
			e.model.violated(nil, "at the end: %+v is there, and was never reported:\n  %s", r, strings.Join(s.history, "\n  "))
		default:
			if unknown[r.Name]++; unknown[r.Name] > 1 {
				e.model.violated(nil, "at the end: %q is there more than once, and was never reported:\n  %s", r.Name, strings.Join(s.history, "\n  "))
			}
			e.run.count("files that are there and were never reported", 1)
		}
	}
	for id := range objects {
		e.model.violated(e.model.files[id], "at the end: object %q has no record", id)
	}
	return all
}

func (e *end) objects(c *client.Client) map[string]bool {
	keys := make(map[string]bool)
	pages := s3.NewListObjectsV2Paginator(c.S3, &s3.ListObjectsV2Input{Bucket: &c.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			e.t.Error(err)
			return keys
		}
		for _, o := range page.Contents {
			keys[aws.ToString(o.Key)] = true
		}
	}
	return keys
}

// contents downloads every stored file, and compares it with what was uploaded.
func (e *end) contents(all map[string]records.Record) {
	dir := filepath.Join(e.home, "all")
	var ids []string
	for id, r := range all {
		if r.State() == records.Stored {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for chunk := range slices.Chunk(ids, 100) {
		o := e.command(append([]string{"download", "-d", dir}, chunk...)...)
		for _, r := range o.results {
			if r.Error == nil {
				if r.Verified == "" {
					e.model.wrong("at the end: nothing was compared: %+v", r)
				}
				e.model.downloaded(r, r.Path)
				e.run.count("files compared at the end", 1)
			}
		}
		if downloaded := slices.Sorted(slices.Values(o.ids())); !slices.Equal(downloaded, chunk) {
			e.model.wrong("at the end: of %q were downloaded %q", chunk, downloaded)
		}
		if err := os.RemoveAll(dir); err != nil {
			e.t.Error(err)
		}
	}
}

// sees harms a store on purpose: what all these looks are worth that have found nothing. The model is of no
// use afterwards.
func (e *end) sees(c *client.Client) {
	path := filepath.Join(e.home, "harmed.txt")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		e.t.Fatal(err)
	}
	s := e.model.add("harmed.txt", []byte("content"), nil)
	stored := func() string {
		o := e.command("upload", "--store", path)
		if len(o.ids()) != 1 {
			e.t.Fatal(o)
		}
		e.model.uploaded(s, o.results[0], true)
		return o.results[0].ID
	}
	put := func(id, content string) {
		if _, err := c.S3.PutObject(context.Background(), &s3.PutObjectInput{Bucket: &c.Bucket, Key: &id, Body: strings.NewReader(content)}); err != nil {
			e.t.Error(err)
		}
	}
	remove := func(id string) {
		if _, err := c.S3.DeleteObject(context.Background(), &s3.DeleteObjectInput{Bucket: &c.Bucket, Key: &id}); err != nil {
			e.t.Error(err)
		}
	}
	// What is said of each, on the line that names it: other looks name it too, among others.
	harms := []struct{ id, said string }{
		{stored(), "is stored, and its object is there: false"},
		{stored(), "has 7 other bytes"},
		{stored(), "is deleted, and nobody has said so"},
		{client.NewID(), "has no record"},
		{client.NewID(), "at the end: it has no record"},
	}
	gone, changed, deleted, unrecorded, lost := harms[0].id, harms[1].id, harms[2].id, harms[3].id, harms[4].id
	remove(gone)
	put(changed, "CONTENT")
	if _, err := c.Records.Delete(context.Background(), deleted, records.At(time.Now())); err != nil {
		e.t.Error(err)
	}
	remove(deleted)
	put(unrecorded, "content")
	e.model.uploaded(s, result{ID: lost, Name: s.name, Size: s.size, State: "stored", StoredAt: "2026-01-01T00:00:00Z"}, true)

	e.contents(e.records(c))
	for _, harm := range harms {
		seen := slices.ContainsFunc(e.model.broken(), func(text string) bool {
			line, _, _ := strings.Cut(text, "\n")
			return strings.Contains(line, harm.id) && strings.Contains(line, harm.said)
		})
		if !seen {
			e.t.Errorf("of %q nobody has said that it %s", harm.id, harm.said)
		}
	}
	e.model.violations = nil
}

// leftUploads counts the multipart uploads that are left, and has a sweep of the day after tomorrow abort them.
func (e *end) leftUploads(open func(testing.TB, func() time.Time) *client.Client, name string) {
	c := open(e.t, func() time.Time { return time.Now().Add(48 * time.Hour) })
	left := e.uploadKeys(c)
	e.run.count("multipart uploads left to a sweep of the next day, "+name, len(left))
	summary, err := c.Expire(context.Background(), client.ExpireOptions{})
	if err != nil || summary.Failed > 0 || summary.Expired > 0 || summary.Abandoned > 0 || summary.Settled > 0 {
		e.model.wrong("the sweep of a later day: %+v, %v", summary, err)
	}
	if left := e.uploadKeys(c); len(left) > 0 {
		e.model.wrong("multipart uploads of %q are left in the %s", left, name)
	}
}

func (e *end) uploadKeys(c *client.Client) (keys []string) {
	pages := s3.NewListMultipartUploadsPaginator(c.S3, &s3.ListMultipartUploadsInput{Bucket: &c.Bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		if err != nil {
			e.t.Error(err)
			return keys
		}
		for _, u := range page.Uploads {
			keys = append(keys, aws.ToString(u.Key))
		}
	}
	return keys
}

// audited fails for files that are gone without a line in the audit file.
func (e *end) audited() {
	file, err := os.Open(e.audit)
	if err != nil {
		e.t.Error(err)
		return
	}
	defer file.Close()
	lines := make(map[string]bool)
	scan := bufio.NewScanner(file)
	for scan.Scan() {
		var line struct{ ID string }
		if err := json.Unmarshal(scan.Bytes(), &line); err != nil {
			e.model.wrong("the audit file has the line %q: %v", scan.Text(), err)
		}
		lines[line.ID] = true
	}
	if err := scan.Err(); err != nil {
		e.t.Error(err)
	}
	e.model.mu.Lock()
	defer e.model.mu.Unlock()
	for id, f := range e.model.files {
		if f.isDeleted && !lines[id] {
			e.model.violated(f, "it is gone, and the audit file does not say so")
		}
	}
	e.run.count("lines of the audit file", len(lines))
}

// copied has the copy brought up to date, and compares it.
func (e *end) copied(all map[string]records.Record) {
	args := slices.Concat([]string{"copy", "--state=stored,deleted"}, e.place.copyTo)
	for _, r := range e.command(args...).results {
		if r.Action == "differs" {
			e.model.wrong("the copy differs: %+v", r)
		}
	}
	if o := e.command(args...); len(o.results) > 0 {
		e.model.wrong("a second copy does something: %s", o)
	}
	c := e.place.openOther(e.t, time.Now)
	there := make(map[string]records.Record)
	for page, err := range c.Records.Scan(context.Background(), records.Filter{}, records.ScanOptions{Meta: true}) {
		if err != nil {
			e.t.Error(err)
			return
		}
		for _, r := range page {
			there[r.ID] = r
		}
	}
	objects := e.objects(c)
	for id, r := range all {
		if other := there[id]; !records.Same(r, other) {
			e.model.wrong("the copy of %+v is %+v", r, other)
		}
		if objects[id] == (r.State() == records.Deleted) {
			e.model.wrong("the copy of %+v has an object: %t", r, objects[id])
		}
		delete(there, id)
		delete(objects, id)
	}
	for _, id := range slices.Collect(maps.Keys(there)) {
		e.model.wrong("the copy has %+v too", there[id])
	}
	for id := range objects {
		e.model.wrong("the copy has an object %q too", id)
	}
	straight := e.run.env
	defer func() { e.run.env = straight }()
	e.run.env = append(slices.Clone(straight), e.place.other...)
	e.verify()
	e.contents(all)
}

// sound has SQLite check the database of a local store, and counts the files that killed S3 servers have left.
func (e *end) sound() {
	if e.place.directory == "" {
		return
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(e.place.directory, "records.db"))
	if err != nil {
		e.t.Error(err)
		return
	}
	defer db.Close()
	var answer string
	if err := db.QueryRowContext(context.Background(), "PRAGMA integrity_check").Scan(&answer); err != nil || answer != "ok" {
		e.model.wrong("the database is %q, %v", answer, err)
	}
	err = filepath.WalkDir(filepath.Join(e.place.directory, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.Contains(path, "sgwtmp") {
			e.run.count("files that killed S3 servers have left for a week", 1)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.t.Error(err)
	}
}
