package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

const (
	// DefaultGrace is how long something must have been wrong, unless it is said otherwise, before
	// [Client.Verify] reports it: as long as placeholders live by default.
	DefaultGrace = 2 * time.Hour
	// DefaultSettle is the time between the two looks at what one look can't tell: longer than an upload
	// that ends needs to write its record, or to delete its object again.
	DefaultSettle = 30 * time.Second
	// DefaultListings is how many shards of the bucket are listed at the same time.
	DefaultListings = 8

	// lookChunk is how many files are looked at again together.
	lookChunk = 250
	// mostDoubts is how many files may wait for their second look.
	mostDoubts = 10_000
	// deepAtOnce is how many objects are read at the same time. The engine bounds their requests.
	deepAtOnce = 32
)

// Class is a kind of discrepancy between bucket and table. The classes are part of the output
// (docs/output.md).
type Class string

// The classes. What they mean exactly is in docs/architecture.md, "verify".
const (
	ClassOrphan        Class = "orphan"         // an object without a record
	ClassMissing       Class = "missing"        // a record that says uploaded, and no object
	ClassUndeleted     Class = "undeleted"      // a record that says deleted, and the object is there
	ClassDiffers       Class = "differs"        // the object has another size or type than the record says
	ClassUnrecorded    Class = "unrecorded"     // the object is there, and the record does not say that it was uploaded
	ClassNeverUploaded Class = "never-uploaded" // a placeholder that is past its time, without an object
	ClassStaleUpload   Class = "stale-upload"   // a multipart upload that nobody goes on with
	ClassMalformed     Class = "malformed"      // a record that breaks the contract
	ClassDamaged       Class = "damaged"        // an object that does not have the checksum that S3 holds of it
)

// Classes are all classes.
func Classes() []Class {
	return []Class{
		ClassOrphan, ClassMissing, ClassUndeleted, ClassDiffers, ClassUnrecorded, ClassNeverUploaded, ClassStaleUpload,
		ClassMalformed, ClassDamaged,
	}
}

// Repair is what is done about a finding.
type Repair string

// The repairs.
const (
	RepairDelete  Repair = "delete-object" // the object is deleted; of an orphan, after a deleted record was made
	RepairMark    Repair = "mark-deleted"  // the record is marked as deleted
	RepairCorrect Repair = "correct"       // type and size of the record become those of the object
	RepairSettle  Repair = "settle"        // the record becomes that of an uploaded file
	RepairAbandon Repair = "abandon"       // the placeholder is marked as deleted
	RepairAbort   Repair = "abort"         // the multipart upload is aborted
)

// Repair returns what can be done about findings of the class, "" where nothing can.
func (c Class) Repair() Repair {
	return map[Class]Repair{
		ClassOrphan: RepairDelete, ClassMissing: RepairMark, ClassUndeleted: RepairDelete, ClassDiffers: RepairCorrect,
		ClassUnrecorded: RepairSettle, ClassNeverUploaded: RepairAbandon, ClassStaleUpload: RepairAbort,
	}[c]
}

// FoundObject is an object as verify found it.
type FoundObject struct {
	Size     int64  // bytes
	Type     string // its base type; "" where the object was listed and not asked for
	Modified time.Time
	ETag     string
}

// Finding is a discrepancy; or, with a zero Class, a file that could not be looked at.
type Finding struct {
	ID     string
	Class  Class
	Record records.Record // the zero Record where there is none
	Object *FoundObject   // nil: there is none
	Upload *HalfDone      // of a stale upload
	// Damage is what reading the object has told.
	Damage error
	// Repair is what was asked to be done about it, "" for nothing. Done says that it is done.
	Repair Repair
	Done   bool
	// Err is why it could not be done, or the file not be looked at.
	Err error
}

// VerifyOptions choose what [Client.Verify] does.
type VerifyOptions struct {
	// Fix are the classes whose findings are repaired; empty: nothing is changed.
	Fix []Class
	// DryRun changes nothing, and reports what would be done.
	DryRun bool
	// Grace is how long something must have been so to be reported; 0: [DefaultGrace]. It should be no
	// shorter than the time between two sweeps.
	Grace time.Duration
	// Deep also reads the objects of all files, and asks for the type of each.
	Deep bool
	// Segments is how many parts of the table are read at once; 0: [DefaultSegments].
	Segments int
	// Listings is how many shards of the bucket are listed at once; 0: [DefaultListings].
	Listings int
	// Reads counts what reading the table costs, and may limit its rate. May be nil.
	Reads *records.Meter
	// Settle is the time between two looks; 0: [DefaultSettle].
	Settle time.Duration
	// TempDir is where records are kept that memory does not hold; "": where the system wants it. The
	// files have no names there. SpoolRows is how many are held in memory; 0: as many as 16 MiB hold.
	TempDir   string
	SpoolRows int
	// Report is told of each finding, one at a time, in no order. May be nil.
	Report func(Finding)
	// Progress is counted up meanwhile. May be nil.
	Progress *VerifyProgress
}

// VerifyProgress is how far [Client.Verify] is, beside the records read, which the meter counts.
type VerifyProgress struct {
	Objects atomic.Int64 // listed
	Bytes   atomic.Int64 // read of objects
}

// VerifySummary counts what [Client.Verify] saw and did.
type VerifySummary struct {
	Records int64 // that were read
	Objects int64 // that were listed under keys that are ids
	// ForeignKeys and ForeignRecords are how many keys and records were left alone, since they are no ids.
	ForeignKeys    int64
	ForeignRecords int64
	Found          map[Class]int // all findings
	Repaired       map[Class]int // those of them that are no more
	Failed         int           // files that could not be looked at or repaired
	// Checked is how many objects were read and are right, Unverified how many of them S3 holds no
	// checksum of, so that only their size was compared.
	Checked    int64
	Unverified int64
	// Unlisted is why the multipart uploads could not be listed; nil where they were. The rest is
	// verified without; placeholders are then left alone for a day longer.
	Unlisted error
}

// Verify compares the bucket with the table, and repairs what it is asked to. It may run while the store
// is in use: what it finds it looks at again, in an order that makes sure of it, and every repair has the
// condition that nothing has changed (docs/architecture.md, "verify").
//
// The table is read once and the bucket listed once. What is kept of the records meanwhile is on disk,
// so that memory does not depend on their number.
//
// The error is that of the pass itself; files that could not be looked at or repaired are reported and
// counted.
func (c *Client) Verify(ctx context.Context, opts VerifyOptions) (VerifySummary, error) {
	opts.Grace = cmp.Or(opts.Grace, DefaultGrace)
	opts.Settle = cmp.Or(opts.Settle, DefaultSettle)
	opts.Listings = cmp.Or(opts.Listings, DefaultListings)
	if opts.Progress == nil {
		opts.Progress = new(VerifyProgress)
	}
	now := c.Now()
	v := &verifier{
		client: c, opts: opts, oldBefore: now.Add(-opts.Grace).Truncate(time.Second),
		spool: newSpool(opts.TempDir, opts.SpoolRows), candidates: make(chan string), contents: make(chan row),
		summary: VerifySummary{Found: make(map[Class]int), Repaired: make(map[Class]int)},
	}
	// What is due for a sweep is given the grace, too: until then one may come.
	_, v.lateBefore = c.dueBefore(now.Add(-opts.Grace), 0)
	err := errors.Join(v.run(ctx), v.spool.close())
	return v.summary, err
}

type verifier struct {
	client     *Client
	opts       VerifyOptions
	oldBefore  time.Time // what was written before it is old enough
	lateBefore time.Time // what was waiting for an upload since before it is past its time
	spool      *spool
	candidates chan string // ids to be looked at again
	contents   chan row    // files whose objects are to be read

	mu      sync.Mutex // guards what follows, and is held for Report
	summary VerifySummary
}

func (v *verifier) run(ctx context.Context) error {
	if err := v.readRecords(ctx); err != nil {
		return err
	}
	if err := v.compareAll(ctx); err != nil {
		return err
	}
	return v.staleUploads(ctx)
}

// compareAll compares all shards, while what is suspected is looked at again and, with Deep, read.
func (v *verifier) compareAll(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return v.lookAgain(ctx) })
	group.Go(func() error {
		defer close(v.candidates)
		sources, ctx := errgroup.WithContext(ctx)
		for range deepAtOnce {
			sources.Go(func() error { return v.readObjects(ctx) })
		}
		sources.Go(func() error {
			defer close(v.contents)
			listings, ctx := errgroup.WithContext(ctx)
			listings.SetLimit(v.opts.Listings)
			for n := range shards {
				listings.Go(func() error { return v.compareShard(ctx, n) })
			}
			return listings.Wait()
		})
		return sources.Wait()
	})
	return group.Wait()
}

// readRecords puts all records into the spool.
func (v *verifier) readRecords(ctx context.Context) error {
	// With meta, so that a malformed one is found too. It costs time, and no more units.
	scan := records.ScanOptions{Segments: cmp.Or(v.opts.Segments, DefaultSegments), Meta: true, Meter: v.opts.Reads}
	for page, err := range v.client.Records.Scan(ctx, records.Filter{}, scan) {
		if err != nil {
			return fmt.Errorf("read the records: %w", err)
		}
		for _, r := range page {
			v.summary.Records++
			if !ValidID(r.ID) {
				v.summary.ForeignRecords++
				continue
			}
			if err := v.spool.add(v.rowOf(r)); err != nil {
				return err
			}
		}
	}
	return v.spool.seal()
}

// rowOf is what matters of a record.
func (v *verifier) rowOf(r records.Record) row {
	out := row{size: r.Size, kind: kindOf(r.Type)}
	copy(out.id[:], r.ID)
	// Since when it is in its state, and since when it must be to be looked at.
	since, limit := r.UploadedAt, v.oldBefore
	waits := false // for an upload, which may never come
	switch r.State() {
	case records.Deleted:
		out.bits, since = rowDeleted, r.DeletedAt
	case records.Placeholder:
		waits, since = true, r.CreatedAt
	case records.Temporary:
		out.bits = rowUploaded
	case records.Stored:
		if out.bits = rowStored | rowUploaded; !r.UploadedAt.IsSet() {
			waits, since, out.bits = true, r.StoredAt, rowStored
		}
	}
	if waits {
		limit = v.lateBefore
	}
	switch t, err := since.Time(); {
	case err != nil && waits:
		out.bits |= rowAgeless
	case err != nil || t.Before(limit):
		out.bits |= rowOld // what can't be read was long ago: it is so, whenever that was
	}
	if r.Malformed() != nil {
		out.bits |= rowMalformed
	}
	return out
}

// kindOf is a number for a MIME type: types with the same number are taken for one. S3 says
// binary/octet-stream where nobody has named a type, the contract application/octet-stream.
func kindOf(mime string) uint32 {
	mime = strings.ToLower(baseType(mime))
	if mime == "binary/octet-stream" {
		mime = baseType("")
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(mime)) // a hash never fails
	return h.Sum32()
}

// SameType reports whether two MIME types are one for verify: parameters and case do not count, nor how it
// is said that there is none.
func SameType(a, b string) bool { return kindOf(a) == kindOf(b) }

// judge tells what is wrong with a file, "" for nothing. r is nil where there is no record, o where
// there is no object.
func (v *verifier) judge(r *row, o *FoundObject) Class {
	isOld := o != nil && o.Modified.Before(v.oldBefore)
	switch {
	case r == nil:
		if isOld {
			return ClassOrphan
		}
	case !r.is(rowOld) && !r.is(rowAgeless):
		// Within the grace nothing is wrong.
	case r.is(rowDeleted):
		if isOld {
			return ClassUndeleted
		}
	case !r.is(rowUploaded):
		switch {
		case o == nil && r.is(rowAgeless):
			// A placeholder of the API may wait for ever.
		case o == nil && r.is(rowStored):
			return ClassMissing
		case o == nil:
			return ClassNeverUploaded
		case isOld && (!r.is(rowAgeless) || o.Modified.Before(v.lateBefore)):
			return ClassUnrecorded
		}
	case o == nil:
		return ClassMissing
	case isOld && differs(r, o):
		return ClassDiffers
	}
	return ""
}

func differs(r *row, o *FoundObject) bool {
	return r.size != o.Size || o.Type != "" && r.kind != kindOf(o.Type)
}

// compareShard lists one shard of the bucket beside its records.
func (v *verifier) compareShard(ctx context.Context, n int) error {
	next, stop := iter.Pull2(v.spool.shard(n, v.opts.Listings))
	defer stop()
	r, err, more := next()
	var last string
	for o, err2 := range v.list(ctx, n) {
		if err2 != nil {
			return err2
		}
		if o.key <= last {
			return fmt.Errorf("list the objects: the server does not list them in order: %q comes after %q", o.key, last)
		}
		last = o.key
		for more && err == nil && string(r.id[:]) < o.key {
			if err := v.compare(ctx, &r, nil); err != nil {
				return err
			}
			r, err, more = next()
		}
		if err != nil {
			return err
		}
		if !more || string(r.id[:]) != o.key {
			if err := v.compare(ctx, nil, &o); err != nil {
				return err
			}
			continue
		}
		if err := v.compare(ctx, &r, &o); err != nil {
			return err
		}
		r, err, more = next()
	}
	for ; more && err == nil; r, err, more = next() {
		if err := v.compare(ctx, &r, nil); err != nil {
			return err
		}
	}
	return cmp.Or(err, ctx.Err())
}

// compare sends a file on to where it is looked at again, if there is reason to. r is nil where there is no
// record, l where no object is listed.
func (v *verifier) compare(ctx context.Context, r *row, l *listed) error {
	var id string
	var o *FoundObject
	if r != nil {
		id = string(r.id[:])
	}
	if l != nil {
		id, o = l.key, &l.FoundObject
	}
	if v.judge(r, o) != "" || r != nil && r.is(rowMalformed) {
		if err := v.suspect(ctx, id); err != nil {
			return err
		}
	}
	if !v.opts.Deep || r == nil || o == nil || !r.is(rowUploaded) || r.is(rowDeleted) || r.size != o.Size {
		return nil
	}
	select {
	case v.contents <- *r:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (v *verifier) suspect(ctx context.Context, id string) error {
	select {
	case v.candidates <- id:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listed is an object of a listing.
type listed struct {
	key string
	FoundObject
}

// list lists the objects of a shard whose keys are ids, in the order of the keys (Amazon S3 API Reference,
// "ListObjectsV2": lexicographical, in UTF-8 bytes). Others are counted.
func (v *verifier) list(ctx context.Context, n int) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &v.client.Bucket}
		if n > 0 {
			in.StartAfter = aws.String(shardBounds[n-1 : n])
		}
		pages := s3.NewListObjectsV2Paginator(v.client.S3, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(listed{}, fmt.Errorf("list the objects: %w", err))
				return
			}
			var objects, foreign int64
			ended, stopped := false, false
			for _, o := range page.Contents {
				key := aws.ToString(o.Key)
				if ended = n < len(shardBounds) && key > shardBounds[n:n+1]; ended {
					break
				}
				if !ValidID(key) {
					foreign++
					continue
				}
				objects++
				if stopped = !yield(listed{key, FoundObject{
					Size: aws.ToInt64(o.Size), Modified: aws.ToTime(o.LastModified), ETag: aws.ToString(o.ETag),
				}}, nil); stopped {
					break
				}
			}
			v.opts.Progress.Objects.Add(objects + foreign)
			v.count(func(s *VerifySummary) { s.Objects += objects; s.ForeignKeys += foreign })
			if ended || stopped {
				return
			}
		}
	}
}

func (v *verifier) count(f func(*VerifySummary)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f(&v.summary)
}

// report counts a finding and tells of it.
func (v *verifier) report(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if f.Class != "" {
		v.summary.Found[f.Class]++
	}
	if f.Done {
		v.summary.Repaired[f.Class]++
	}
	if f.Err != nil {
		v.summary.Failed++
	}
	if v.opts.Report != nil {
		v.opts.Report(f)
	}
}

// readObjects reads objects and verifies them, with --deep.
func (v *verifier) readObjects(ctx context.Context) error {
	for r := range v.contents {
		id := string(r.id[:])
		suspect, err := v.readObject(ctx, id, r)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			v.report(Finding{ID: id, Err: failed(id, err)})
		case suspect:
			if err := v.suspect(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// readObject reads one object. suspect says that it is not there as its record says.
func (v *verifier) readObject(ctx context.Context, id string, r row) (suspect bool, err error) {
	o, err := v.client.object(ctx, id)
	if err != nil || o == nil || o.Size != r.size {
		return err == nil, err
	}
	var object transfer.Object
	// What was damaged on its way is read right the second time.
	for range 2 {
		object, err = v.client.Transfer.Check(ctx, id, r.size, func(n int64) { v.opts.Progress.Bytes.Add(n) })
		if !errors.Is(err, transfer.ErrChecksum) {
			break
		}
	}
	switch {
	case errors.Is(err, transfer.ErrChecksum):
		return false, v.damaged(ctx, id, o, err)
	case isMissing(err), errors.Is(err, transfer.ErrSize), errors.Is(err, transfer.ErrChanged):
		return true, nil
	case err != nil:
		return false, err
	}
	v.count(func(s *VerifySummary) {
		s.Checked++
		if object.Verified == "" {
			s.Unverified++
		}
	})
	// A malformed record is looked at anyway.
	return differs(&r, o) && !r.is(rowMalformed), nil
}

// damaged reports an object that is not what S3 holds the checksum of, unless its file is deleted.
func (v *verifier) damaged(ctx context.Context, id string, o *FoundObject, damage error) error {
	found, err := v.client.Records.Get(ctx, []string{id})
	if err != nil {
		return err
	}
	r, ok := found[id]
	if !ok || r.State() == records.Deleted {
		return nil
	}
	v.report(Finding{ID: id, Class: ClassDamaged, Record: r, Object: o, Damage: damage})
	return nil
}

// staleUploads reports multipart uploads that nobody has gone on with for so long that a sweep should
// have aborted them.
func (v *verifier) staleUploads(ctx context.Context) error {
	before := v.oldBefore.Add(-staleUpload)
	for page, err := range v.client.uploadPages(ctx, "") {
		if err != nil {
			if v.isUnlisted(err) {
				return nil
			}
			return err
		}
		page = slices.DeleteFunc(page, func(u types.MultipartUpload) bool { return !aws.ToTime(u.Initiated).Before(before) })
		for u, err := range v.client.halfDone(ctx, page) {
			if err != nil {
				if u.ID == "" || ctx.Err() != nil {
					return err
				}
				v.report(Finding{ID: u.ID, Err: failed(u.ID, err)})
				continue
			}
			if !u.Latest.Before(before) {
				continue
			}
			f := Finding{ID: u.ID, Class: ClassStaleUpload, Record: u.Record, Upload: &u, Repair: v.repairFor(ClassStaleUpload)}
			if f.Repair != "" && !v.opts.DryRun {
				failures, unaudited := v.client.audited(ctx, []Deletion{f.deletion()}, func() map[string]error {
					return map[string]error{u.ID: v.client.Transfer.AbortUpload(ctx, u.ID, u.UploadID)}
				})
				if unaudited != nil {
					v.report(f)
					return unaudited
				}
				f.Err = failed(u.ID, failures[u.ID])
				f.Done = f.Err == nil
			}
			v.report(f)
		}
	}
	return nil
}

// isUnlisted remembers that the server does not list multipart uploads, or not for us.
func (v *verifier) isUnlisted(err error) bool {
	if !isUnlisted(err) {
		return false
	}
	v.count(func(s *VerifySummary) { s.Unlisted = cmp.Or(s.Unlisted, err) })
	return true
}

// repairFor is what is to be done about a finding of the class.
func (v *verifier) repairFor(class Class) Repair {
	if !slices.Contains(v.opts.Fix, class) {
		return ""
	}
	return class.Repair()
}
