package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

// CopyOptions choose what [Client.CopyTo] copies, and how.
type CopyOptions struct {
	// IDs are the files; nil: all those in one of States.
	IDs []string
	// States selects files by what they are at the source; empty: temporary, stored and deleted
	// ones. Placeholders are never copied: their objects are on their way.
	States []records.State
	// DryRun changes nothing, and tells what would be done.
	DryRun bool
	// Segments is how many parts of the source's table are read at once; 0: [DefaultSegments].
	Segments int
	// Reads counts what reading the source's table costs, and may limit its rate. May be nil.
	Reads *records.Meter
	// Progress is told of the bytes that are written. May be nil.
	Progress transfer.Progress
	// Ended is told whenever a file is done with, from several goroutines. May be nil.
	Ended func()
}

// CopyAction is what a copy did with a file.
type CopyAction string

// The actions.
const (
	CopyMade    CopyAction = "copy"    // its record and object were made, or the object that was missing
	CopyForward CopyAction = "forward" // it was stored or deleted at the source since it was copied, and now there too
	CopyDiffers CopyAction = "differs" // it is the same file, but was stored or deleted at the destination: left alone
	CopySame    CopyAction = "same"    // it was there already: nothing was done
)

// Copied is a file, and what became of it.
type Copied struct {
	ID     string
	Action CopyAction
	Source records.Record
	// Record is the file at the destination afterwards; in a dry run, as it would be.
	Record records.Record
	// Unverified says that the object was copied, and there was no checksum to compare it with.
	Unverified bool
	Err        error // a [*FileError]; the Action is empty then
}

// copyLookup is how many records of the destination are asked for at a time.
const copyLookup = 500

// CopyTo copies files to another filestore with all that they have: id, name, type, size,
// metadata, times, and the object where there is one ("import", docs/contract.md, "The
// transitions"; "copy", docs/architecture.md, "The order of writes"). It can be repeated: what is
// there already is left as it is, what has been stored or deleted at the source meanwhile is
// brought forward, and what a killed copy has left is taken up.
//
// Files come in the order of opts.IDs, or else as the source's table has them. The error is that of
// reading the records, and ends it; failures of single files are in their Copied. Nothing of another
// file under the same id is ever overwritten: that is a Conflict.
func (c *Client) CopyTo(ctx context.Context, to *Client, opts CopyOptions) iter.Seq2[Copied, error] {
	return func(yield func(Copied, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		cp := &copying{
			from: c, to: to, opts: opts,
			objects: transfer.NewCopier(c.Transfer, to.Transfer), asking: make(chan struct{}, batch),
		}
		var readErr error // is set before the items end
		items := func(yield func(copyItem) bool) {
			for item, err := range cp.items(ctx) {
				if err != nil {
					readErr = err
					return
				}
				if !yield(item) {
					return
				}
			}
		}
		for done := range inOrder(ctx, items, to.Transfer.FilesAtOnce(), nil, cp.file) {
			if !yield(done, nil) {
				cancel() // nothing more is read
				return
			}
		}
		if readErr != nil {
			yield(Copied{}, readErr)
		}
	}
}

// copying is one run of CopyTo.
type copying struct {
	from, to *Client
	opts     CopyOptions
	objects  *transfer.Copier
	asking   chan struct{} // has room for those who ask for an object
}

// copyItem is a file with what is known of it on both sides.
type copyItem struct {
	id     string
	source records.Record
	there  records.Record
	found  bool // whether there is a record at the destination
	err    error
}

// items reads the records of the source, and of each what the destination has.
func (cp *copying) items(ctx context.Context) iter.Seq2[copyItem, error] {
	return func(yield func(copyItem, error) bool) {
		for results, err := range cp.sources(ctx) {
			if err != nil {
				yield(copyItem{}, err)
				return
			}
			var ids []string
			for _, r := range results {
				if r.Err == nil {
					ids = append(ids, r.ID)
				}
			}
			known, err := cp.to.Records.Get(ctx, ids)
			if err != nil {
				yield(copyItem{}, fmt.Errorf("read the records of the destination: %w", err))
				return
			}
			for _, r := range results {
				there, found := known[r.ID]
				if !yield(copyItem{id: r.ID, source: r.Value, there: there, found: found, err: r.Err}, nil) {
					return
				}
			}
		}
	}
}

// sources yields the records of the source, some at a time.
func (cp *copying) sources(ctx context.Context) iter.Seq2[[]Result[records.Record], error] {
	return func(yield func([]Result[records.Record], error) bool) {
		if cp.opts.IDs != nil {
			for chunk := range inChunks(cp.from.Get(ctx, cp.opts.IDs), copyLookup) {
				if !yield(chunk, nil) {
					return
				}
			}
			return
		}
		states := cp.opts.States
		if len(states) == 0 {
			states = []records.State{records.Temporary, records.Stored, records.Deleted}
		}
		scan := records.ScanOptions{Segments: cmp.Or(cp.opts.Segments, DefaultSegments), Meta: true, Meter: cp.opts.Reads}
		for page, err := range cp.from.Records.Scan(ctx, records.Filter{States: states}, scan) {
			if err != nil {
				yield(nil, fmt.Errorf("read the records of the source: %w", err))
				return
			}
			for chunk := range slices.Chunk(page, copyLookup) {
				results := make([]Result[records.Record], len(chunk))
				for i, r := range chunk {
					results[i] = Result[records.Record]{ID: r.ID, Value: r}
				}
				if !yield(results, nil) {
					return
				}
			}
		}
	}
}

// file copies one file. Where somebody changes it meanwhile on one of the sides, it is looked at
// again.
func (cp *copying) file(ctx context.Context, item copyItem) Copied {
	if cp.opts.Ended != nil {
		defer cp.opts.Ended()
	}
	done, err := Copied{}, cmp.Or(item.err, ctx.Err())
	for tries := 0; err == nil; tries++ {
		if done, err = cp.settle(ctx, item); err == nil {
			break
		}
		if tries+1 == lookAgain || ctx.Err() != nil || !mayHaveChanged(err) || !cp.refresh(ctx, &item) {
			break
		}
		err = nil
	}
	done.ID, done.Source = item.id, item.source
	if err != nil {
		done.Action, done.Err = "", failed(item.id, err)
	}
	return done
}

// mayHaveChanged reports whether an error can come of somebody else's work on the file.
func mayHaveChanged(err error) bool {
	_, refused := errors.AsType[*records.TransitionError](err)
	return refused || errors.Is(err, ErrObjectMissing) || errors.Is(err, transfer.ErrChanged) || errors.Is(err, transfer.ErrSize) ||
		transfer.IsNoSuchUpload(err)
}

// refresh reads both records again and reports whether that has brought anything new.
func (cp *copying) refresh(ctx context.Context, item *copyItem) bool {
	source, err := cp.from.Records.Get(ctx, []string{item.id})
	if err != nil || len(source) == 0 {
		return false
	}
	there, err := cp.to.Records.Get(ctx, []string{item.id})
	if err != nil {
		return false
	}
	r, found := there[item.id]
	changed := found != item.found || !records.Same(r, item.there) || !records.Same(source[item.id], item.source)
	item.source, item.there, item.found = source[item.id], r, found
	return changed
}

// settle does what is to be done with one file as it is known.
func (cp *copying) settle(ctx context.Context, item copyItem) (Copied, error) {
	want, err := written(item.source)
	switch {
	case err != nil:
		return Copied{}, fmt.Errorf("the record at the source is malformed: %w", err)
	case want.State() == records.Placeholder:
		return Copied{}, fileError(item.id, NotUploaded, "%w", records.ErrNotUploaded)
	case want.State() != records.Deleted && !ValidID(item.id):
		return Copied{}, notAnID(item.id)
	case !item.found:
		return cp.make(ctx, want, nil)
	}
	there, err := written(item.there)
	if err != nil {
		return Copied{}, fileError(item.id, Conflict, "the record at the destination is malformed: %w", err)
	}
	if isLeftover(there, want) && (!there.UploadedAt.IsSet() || cp.isCopied(ctx, want, there)) {
		return cp.make(ctx, want, &item.there)
	}
	if want.State() == records.Deleted && there.State() == records.Deleted && want.Name == there.Name {
		// Deleted is final; both sides have their sweeps, and do not wait for each other.
		return Copied{Action: CopySame, Record: there}, nil
	}
	if names := differences(want, there); names != nil {
		return Copied{}, fileError(item.id, Conflict, "the destination has another file under this id: it differs in %s", strings.Join(names, ", "))
	}
	switch {
	case want.StoredAt == there.StoredAt && want.DeletedAt == there.DeletedAt:
		done, err := cp.confirm(ctx, want)
		done.Record = there
		return done, err
	case !there.DeletedAt.IsSet() && (!there.StoredAt.IsSet() || there.StoredAt == want.StoredAt):
		return cp.forward(ctx, want, there)
	}
	return Copied{Action: CopyDiffers, Record: there}, nil
}

// written returns r as it can be written, which is stricter than what is read: times that
// others wrote with a fraction or a zone get the form of the contract. It fails where that would
// change what the record says.
func written(r records.Record) (records.Record, error) {
	if r.Mistyped != nil {
		return r, fmt.Errorf("%s: not of its type", strings.Join(r.Mistyped, ", "))
	}
	for _, s := range []*records.Stamp{&r.CreatedAt, &r.UploadedAt, &r.StoredAt, &r.DeletedAt} {
		if !s.IsSet() {
			continue
		}
		t, err := s.Time()
		if err != nil {
			return r, err
		}
		*s = records.At(t)
	}
	return r, nil
}

// leftover is the placeholder of a copy of r. It has no created_at: no sweep at the destination claims it,
// however old the file is and however long it takes until a copy that was killed is repeated.
func leftover(r records.Record) records.Record {
	return records.Record{ID: r.ID, Name: r.Name, Meta: r.Meta, Fingerprint: r.Fingerprint, Size: -1}
}

// isLeftover reports whether a record is the placeholder of a copy of want, of this one or of one that
// was killed.
//
// Where notifications tell the destination of new objects, it may have got what they tell of the copy's: type, size,
// uploaded_at, and where files are stored on load the same stored_at. If want has no created_at either, a copy that was
// made looks like that too, but for uploaded_at.
func isLeftover(there, want records.Record) bool {
	there.Type = "" // as a server may keep an empty one
	if (want.CreatedAt.IsSet() || there.UploadedAt > want.UploadedAt) && (!there.StoredAt.IsSet() || there.StoredAt == there.UploadedAt) {
		there.Size, there.UploadedAt, there.StoredAt = -1, "", ""
	}
	return records.Same(there, leftover(want))
}

// differences names the attributes that two records of one file must have in common, and have not.
// What came of the file after its upload is not among them. b is the one at the destination: it may have been uploaded
// later, by a notification that has told of the copy's object.
func differences(a, b records.Record) []string {
	var names []string
	for _, attribute := range []struct {
		name string
		same bool
	}{
		{"name", a.Name == b.Name},
		{"type", a.Type == b.Type},
		{"size", a.Size == b.Size},
		{"meta", a.Meta == b.Meta},
		{"fingerprint", a.Fingerprint == b.Fingerprint},
		{"created_at", a.CreatedAt == b.CreatedAt},
		{"uploaded_at", a.UploadedAt == b.UploadedAt || a.UploadedAt.IsSet() && a.UploadedAt < b.UploadedAt},
	} {
		if !attribute.same {
			names = append(names, attribute.name)
		}
	}
	return names
}

// make makes a file of which the destination has nothing, or what a copy has left: left, as it is there.
func (cp *copying) make(ctx context.Context, want records.Record, left *records.Record) (Copied, error) {
	done := Copied{Action: CopyMade, Record: want}
	if cp.opts.DryRun {
		return done, nil
	}
	var err error
	if want.State() == records.Deleted {
		err = cp.makeDeleted(ctx, want, left)
	} else {
		done.Unverified, err = cp.makeLive(ctx, want, left)
	}
	return done, err
}

// makeDeleted makes the record of a file that is deleted. What a copy has sent before it was goes
// first: no sweep would look for it, since the file was deleted longer ago.
func (cp *copying) makeDeleted(ctx context.Context, want records.Record, left *records.Record) error {
	if left != nil {
		if err := errors.Join(cp.to.abortUploads(ctx, want.ID), cp.to.deleteObject(ctx, want.ID)); err != nil {
			return err
		}
	}
	return cp.record(ctx, want, left)
}

// record has the destination say of a file what the source does. Of the object that was sent it may be told before:
// then the record takes the place of what that has made of the placeholder.
func (cp *copying) record(ctx context.Context, want records.Record, left *records.Record) error {
	for tries := 1; ; tries++ {
		var err error
		if left != nil && left.UploadedAt.IsSet() {
			err = cp.to.Records.ImportAnnounced(ctx, want, left.UploadedAt)
		} else {
			err = cp.to.Records.Import(ctx, want)
		}
		refusal, refused := errors.AsType[*records.TransitionError](err)
		if !refused || tries == lookAgain {
			return err
		}
		there, malformed := written(refusal.Current)
		if malformed != nil || !isLeftover(there, want) {
			return err
		}
		left = &refusal.Current
	}
}

// makeLive makes a placeholder, the object, and then the record with all that it has in one write.
// While the object may be there, so is a record of its id.
func (cp *copying) makeLive(ctx context.Context, want records.Record, left *records.Record) (unverified bool, err error) {
	if left == nil {
		createCtx, cancel := transfer.Outlive(ctx)
		err := cp.to.Records.Create(createCtx, leftover(want))
		cancel()
		if errors.Is(err, records.ErrExists) || err != nil && isUnsent(err) {
			return false, err
		}
		if err != nil {
			cp.discard(ctx, want.ID)
			return false, err
		}
	}
	if left == nil || !cp.isThere(ctx, want) {
		if unverified, err = cp.send(ctx, want); err != nil {
			if upload, ok := errors.AsType[*transfer.UploadError](err); !ok || upload.Outcome == transfer.NotWritten {
				cp.discard(ctx, want.ID)
			}
			return false, err
		}
	}
	importCtx, cancel := transfer.Outlive(ctx)
	defer cancel()
	err = cp.record(importCtx, want, left)
	switch {
	case errors.Is(err, records.ErrDeleted):
		// The contract: "if it was deleted meanwhile: delete the object again".
		ctx, cancel := transfer.Cleanup(ctx)
		defer cancel()
		return false, errors.Join(err, cp.to.deleteObject(ctx, want.ID))
	case err != nil:
		return false, err
	}
	if left != nil {
		// What the killed copy has begun; where that fails, the sweep of old multipart uploads does it.
		_ = cp.to.abortUploads(ctx, want.ID)
	}
	return unverified, nil
}

// discard removes the placeholder of a copy that has failed, if nothing was written. Where that
// can't be known, or another copy has come to fill it, it stays: the next copy takes it up.
func (cp *copying) discard(ctx context.Context, id string) {
	ctx, cancel := transfer.Cleanup(ctx)
	defer cancel()
	if _, err := cp.to.Transfer.Head(ctx, id); isMissing(err) {
		_ = cp.to.Records.Discard(ctx, id)
	}
}

// send copies the object.
func (cp *copying) send(ctx context.Context, want records.Record) (unverified bool, err error) {
	object, err := cp.objects.Copy(ctx, want.ID, want.Size, cp.opts.Progress)
	if isMissing(err) {
		err = fmt.Errorf("%w: %w", ErrObjectMissing, err)
	}
	return err == nil && object.Verified == "", err
}

// ofOneSize asks both sides for the object of a file. ok is false where one of them does not answer with one, and where
// they have not the same size.
func (cp *copying) ofOneSize(ctx context.Context, id string) (source, there transfer.Held, ok bool) {
	there, err := cp.to.Transfer.Head(ctx, id)
	if err == nil {
		source, err = cp.from.Transfer.Head(ctx, id)
	}
	return source, there, err == nil && source.Size == there.Size
}

// isThere reports whether the object at the destination is that of the source, by a checksum. Where
// there is any doubt it is not, and sent again.
func (cp *copying) isThere(ctx context.Context, want records.Record) bool {
	source, there, ok := cp.ofOneSize(ctx, want.ID)
	return ok && slices.ContainsFunc(there.Checksums, func(c transfer.Checksum) bool {
		return slices.Contains(source.Checksums, c)
	})
}

// isCopied reports whether what looks like the placeholder of a copy whose object was announced can be one: then its
// object is that of the source, by size and by the checksums that both hold. Of a file that is deleted there its size
// must do.
func (cp *copying) isCopied(ctx context.Context, want, there records.Record) bool {
	if want.State() == records.Deleted {
		return want.Size == there.Size
	}
	source, copied, ok := cp.ofOneSize(ctx, want.ID)
	return ok && !slices.ContainsFunc(copied.Checksums, func(c transfer.Checksum) bool {
		return slices.ContainsFunc(source.Checksums, func(s transfer.Checksum) bool {
			return s.Algorithm == c.Algorithm && s.Type == c.Type && s.Type == fullObject && s.Value != c.Value
		})
	})
}

// confirm looks whether the object of a file is there that has the same record on both sides. One that is
// missing is sent again.
func (cp *copying) confirm(ctx context.Context, want records.Record) (Copied, error) {
	done := Copied{Action: CopySame, Record: want}
	cp.asking <- struct{}{}
	held, err := cp.to.Transfer.Head(ctx, want.ID)
	<-cp.asking
	switch {
	case isMissing(err):
	case err != nil:
		return done, err
	case want.Size >= 0 && held.Size != want.Size:
		return done, fileError(want.ID, Conflict, "the object at the destination has %d bytes, its record says %d", held.Size, want.Size)
	case !fits(held, want.Fingerprint):
		return done, fileError(want.ID, Conflict, "the object at the destination is not what the fingerprint of its record says")
	default:
		return done, nil
	}
	if done.Action = CopyMade; cp.opts.DryRun {
		return done, nil
	}
	if done.Unverified, err = cp.send(ctx, want); err != nil {
		return done, err
	}
	// Its record may have been deleted since it was read.
	after, err := cp.to.Records.Get(ctx, []string{want.ID})
	if r, ok := after[want.ID]; err == nil && (!ok || r.State() == records.Deleted) {
		err = errors.Join(&records.TransitionError{ID: want.ID, Reason: records.ErrDeleted, Current: r}, cp.to.deleteObject(ctx, want.ID))
	}
	return done, err
}

// fits reports whether an object can be the content of which a record has the fingerprint, if any
// (docs/contract.md, "The record").
func fits(held transfer.Held, fingerprint string) bool {
	kind, rest, _ := strings.Cut(fingerprint, ":")
	sum, _, _ := strings.Cut(rest, ":")
	return !slices.ContainsFunc(held.Checksums, func(c transfer.Checksum) bool {
		return strings.EqualFold(c.Algorithm, kind) && c.Type == fullObject && c.Value != sum
	})
}

// fullObject is the type of a checksum of a whole object.
const fullObject = "FULL_OBJECT"

// forward does at the destination what was done at the source since the file was copied.
//
// Of a deleted file the object goes first, other than with "delete": its record gets the time of
// the source, which may be too old for a sweep to clean up after it. A copy that is killed in between
// leaves a record without an object, of a file that is deleted at the source, and the next one goes
// on.
func (cp *copying) forward(ctx context.Context, want, there records.Record) (Copied, error) {
	done := Copied{Action: CopyForward, Record: want}
	if cp.opts.DryRun {
		return done, nil
	}
	var err error
	if want.StoredAt != there.StoredAt {
		if done.Record, err = cp.to.Records.Store(ctx, want.ID, want.StoredAt, nil); err != nil {
			return done, err
		}
	}
	if want.DeletedAt.IsSet() {
		failures, unaudited := cp.to.audited(ctx, []Deletion{newDeletion(there, ActionDelete)}, func() map[string]error {
			return cp.to.deleteObjects(ctx, []string{want.ID})
		})
		if unaudited != nil {
			return done, unaudited
		}
		if err := failures[want.ID]; err != nil {
			return done, err
		}
		if done.Record, err = cp.to.Records.Delete(ctx, want.ID, want.DeletedAt); err != nil {
			return done, err
		}
	}
	return done, nil
}
