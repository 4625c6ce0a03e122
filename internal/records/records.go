// Package records holds the metadata record of a file, the states it passes through and
// the transitions between them (docs/contract.md, "The record" and "The transitions").
//
// A [Table] keeps the records. Package dynamo implements it on DynamoDB, package sqlite on
// this disk; package recordstest is the one suite that both must pass.
package records

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// State is where a file stands in its life.
type State string

// The states, as docs/contract.md names them. Deleted is final.
const (
	Placeholder State = "placeholder" // the record is made, the object not yet uploaded
	Temporary   State = "temporary"   // uploaded, not stored: expires
	Stored      State = "stored"      // permanent
	Deleted     State = "deleted"     // the object is gone, the record stays
)

// Stamp is a time as a record holds it: "2006-01-02T15:04:05", UTC, truncated to the second,
// without a zone. The empty Stamp is an attribute that is not set. A Stamp that was read may
// hold any text: what counts for the state is that it is there; [Stamp.Time] says whether it
// is a time.
type Stamp string

const stampLayout = "2006-01-02T15:04:05"

// At returns t in the strict form in which stamps are written.
func At(t time.Time) Stamp {
	return Stamp(t.UTC().Truncate(time.Second).Format(stampLayout))
}

// IsSet reports whether the attribute is there at all.
func (s Stamp) IsSet() bool { return s != "" }

// Time reads s leniently: a fraction of a second and a trailing "Z" are allowed, since other
// writers may leave them. The time is UTC.
func (s Stamp) Time() (time.Time, error) {
	t, err := time.Parse(stampLayout, strings.TrimSuffix(string(s), "Z"))
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a time of the form %s", string(s), stampLayout)
	}
	return t, nil
}

// CheckWritten fails unless every stamp is in the strict form, the only one that is written.
func CheckWritten(stamps ...Stamp) error {
	for _, s := range stamps {
		t, err := s.Time()
		if err != nil {
			return err
		}
		if At(t) != s {
			return fmt.Errorf("%q is not in the form of %q, in which times are written", string(s), string(At(t)))
		}
	}
	return nil
}

// CheckSet is [CheckWritten] of those stamps of r that are set.
func (r Record) CheckSet() error {
	for _, s := range []Stamp{r.CreatedAt, r.UploadedAt, r.StoredAt, r.DeletedAt} {
		if s.IsSet() {
			if err := CheckWritten(s); err != nil {
				return err
			}
		}
	}
	return nil
}

// Before reports whether s is a readable time before limit. A stamp that is not set or not
// readable is before nothing, so that no sweep acts on a record it cannot date.
func (s Stamp) Before(limit time.Time) bool {
	t, err := s.Time()
	return err == nil && t.Before(limit)
}

// Moment names a time of a record, by which files are selected and sorted.
type Moment string

// The moments. The zero Moment is ByUpload.
const (
	ByUpload   Moment = ""         // uploaded_at; where that is not set, created_at
	ByCreated  Moment = "created"  // created_at
	ByUploaded Moment = "uploaded" // uploaded_at
	ByStored   Moment = "stored"   // stored_at
	ByDeleted  Moment = "deleted"  // deleted_at
)

// Record is one file's metadata, the item of docs/contract.md, "The record".
type Record struct {
	ID   string
	Name string
	Type string // MIME type without parameters; empty until uploaded
	Size int64  // bytes; -1 while not set
	Meta string // a JSON object, as text; empty when not set

	// Fingerprint tells the content that the file was made for from any other, for uploads with an
	// idempotency key; empty when not set. It is compared as text.
	Fingerprint string

	CreatedAt  Stamp
	UploadedAt Stamp
	StoredAt   Stamp
	DeletedAt  Stamp

	// Mistyped names the attributes that were there but not of the contract's DynamoDB type.
	// Their value is kept as text where that is possible.
	Mistyped []string
}

// State derives the state from which stamps are set. A stamp that is set but unreadable
// counts as set: what somebody stored must not expire because its time is misspelt.
func (r Record) State() State {
	switch {
	case r.DeletedAt.IsSet():
		return Deleted
	case r.StoredAt.IsSet():
		return Stored
	case r.UploadedAt.IsSet():
		return Temporary
	default:
		return Placeholder
	}
}

// Stamp returns the time of r that m names.
func (r Record) Stamp(m Moment) Stamp {
	switch m {
	case ByCreated:
		return r.CreatedAt
	case ByUploaded:
		return r.UploadedAt
	case ByStored:
		return r.StoredAt
	case ByDeleted:
		return r.DeletedAt
	case ByUpload:
	}
	if r.UploadedAt.IsSet() {
		return r.UploadedAt
	}
	return r.CreatedAt
}

// MetaObject returns the metadata as a JSON object, nil when there is none. It fails when the
// attribute holds anything else.
func (r Record) MetaObject() (map[string]json.RawMessage, error) {
	if r.Meta == "" {
		return nil, nil
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(r.Meta), &object); err != nil || object == nil {
		return nil, errors.New("meta is not a JSON object")
	}
	return object, nil
}

// MetaJSON returns the metadata to be shown in JSON, nil when there is none. What is no JSON object, and maybe no JSON
// at all, is shown as the text it is.
func (r Record) MetaJSON() json.RawMessage {
	if r.Meta == "" {
		return nil
	}
	if _, err := r.MetaObject(); err != nil {
		quoted, _ := json.Marshal(r.Meta) // a string can always be marshalled
		return quoted
	}
	return json.RawMessage(r.Meta)
}

// Malformed names the attributes whose value breaks the contract, in the order of the
// contract's table; nil for a sound record.
func (r Record) Malformed() []string {
	var names []string
	look := func(name string, bad bool) {
		if bad || slices.Contains(r.Mistyped, name) {
			names = append(names, name)
		}
	}
	unreadable := func(s Stamp) bool {
		_, err := s.Time()
		return s.IsSet() && err != nil
	}
	_, err := r.MetaObject()
	look("name", false)
	look("type", false)
	look("size", false)
	look("meta", err != nil)
	look("fingerprint", false)
	look("created_at", unreadable(r.CreatedAt))
	look("uploaded_at", unreadable(r.UploadedAt))
	look("stored_at", unreadable(r.StoredAt))
	look("deleted_at", unreadable(r.DeletedAt))
	return names
}

// Why a transition was refused. A [TransitionError] wraps one of them.
var (
	ErrExists      = errors.New("the id is taken")
	ErrNotFound    = errors.New("no such file")
	ErrDeleted     = errors.New("deleted")
	ErrStored      = errors.New("stored")
	ErrUploaded    = errors.New("uploaded")
	ErrNotUploaded = errors.New("not uploaded yet")
	ErrNotDue      = errors.New("not due yet")
	ErrChanged     = errors.New("changed meanwhile")
)

// ErrBusy says that the table was in use by others for so long that nothing was written.
var ErrBusy = errors.New("the table of records is busy")

// TransitionError says that the condition of a write did not hold, so that nothing was
// written.
type TransitionError struct {
	ID      string
	Reason  error  // one of the Err variables of this package
	Current Record // what the table holds; the zero Record for ErrNotFound
}

func (e *TransitionError) Error() string { return fmt.Sprintf("file %q: %v", e.ID, e.Reason) }

// Unwrap returns the reason, for errors.Is.
func (e *TransitionError) Unwrap() error { return e.Reason }

// Upload is what is known of an object once it is in the bucket.
type Upload struct {
	At   Stamp  // when it was uploaded
	Type string // MIME type
	Size int64  // bytes
	// Store also sets stored_at, to the same time: the setting "store on load", or an upload
	// that is asked to store at once.
	Store bool
}

// Filter selects records for [Table.Scan]. The zero Filter selects every record. Limits are
// compared with the stored text, so a page may hold a record whose stamp is unreadable; the
// caller looks at it before it acts.
type Filter struct {
	// The limits of a sweep. Where any of them is set, at least one of those must hold.

	// UploadedBefore selects temporary files uploaded before the limit.
	UploadedBefore Stamp
	// CreatedBefore selects placeholders made before the limit. Placeholders without created_at
	// (made by the API) have no known age and are never selected by it.
	CreatedBefore Stamp
	// DeletedSince selects deleted files with deleted_at at or after the limit.
	DeletedSince Stamp
	// Mismarked selects files that should be in the index of pending files and are not, or are and should
	// not be, if those deleted since then should. Placeholders without created_at need not be: no
	// sweep has anything to do with them.
	Mismarked Stamp

	// What follows narrows the selection: all that is set must hold.

	// States selects files in one of these states; empty: in any.
	States []State
	// Since and Until select files whose time By is at or after Since, and before Until. Where one
	// of them is set, a file without that time is not selected.
	By           Moment
	Since, Until Stamp
}

// IsZero reports whether f selects every record.
func (f Filter) IsZero() bool {
	return f.UploadedBefore == "" && f.CreatedBefore == "" && f.DeletedSince == "" && f.Mismarked == "" &&
		len(f.States) == 0 && f.Since == "" && f.Until == ""
}

// ScanOptions choose how [Table.Scan] reads. With the zero value it asks for one page after the
// other, each when the caller comes for it, without meta.
type ScanOptions struct {
	// Segments is how many parts of the table are read at once, each of them one page ahead of the
	// caller. 0: no part is, and no page is read ahead. A table on this disk reads as with 0: its one
	// reader is as fast.
	Segments int
	// Parts is into how many parts the table is split. They are taken in a random order, Segments of
	// them at once: so scans that end early do not see the same records each time, and those that run
	// at the same time are mostly at different ones. 0: as many as Segments. A table on this disk
	// begins somewhere, where this is more than Segments, and goes round.
	Parts int
	// FirstPage is how many records the first request looks at; each further one looks at twice as
	// many as the one before. It is for callers that want a few records. 0: as many as the table gives.
	FirstPage int
	// Meta says that the records must have their meta and fingerprint. Else these may be left out.
	Meta bool
	// Meter counts what the requests cost, and may hold them back. May be nil.
	Meter *Meter
}

// Table keeps the records. Every transition is one conditional write on one record: two
// callers may try it at the same time, one of them wins, and the other gets a
// [*TransitionError] that says what it lost to. No transition but Create and Import ever makes a
// record. Attributes that a transition does not name are left as they are.
//
// Every transition keeps the mark that has a file in the index of pending files (docs/contract.md, "The pending
// index"), whether there is an index or not.
//
// Errors other than *TransitionError are those of the service behind the table.
type Table interface {
	// Create makes the placeholder r: ID, Name, CreatedAt and, where set, Meta and Fingerprint; no
	// other field is written. ErrExists when the id is taken, in whatever state.
	Create(ctx context.Context, r Record) error

	// Uploaded sets uploaded_at, type and size, and with u.Store stored_at unless that is set
	// already. ErrNotFound, ErrDeleted.
	Uploaded(ctx context.Context, id string, u Upload) (Record, error)

	// Store sets stored_at to at unless it is set already. Where uploaded_at is missing and
	// missing is not nil, the same write fills in uploaded_at, type and size from it; u.Store is
	// ignored. ErrNotFound, ErrDeleted; ErrNotUploaded where uploaded_at is missing and missing is nil.
	Store(ctx context.Context, id string, at Stamp, missing *Upload) (Record, error)

	// Delete sets deleted_at to at unless it is set already. ErrNotFound.
	Delete(ctx context.Context, id string, at Stamp) (Record, error)

	// Discard removes the record of a placeholder altogether: the upload it was made for has
	// failed and nobody was told its id. ErrNotFound; ErrUploaded, ErrStored or ErrDeleted when
	// it is no placeholder any more.
	Discard(ctx context.Context, id string) error

	// Expire claims a temporary file: it sets deleted_at to at when uploaded_at is before
	// uploadedBefore and the file is neither stored nor deleted. ErrNotFound, ErrNotUploaded,
	// ErrStored, ErrDeleted, ErrNotDue.
	Expire(ctx context.Context, id string, at, uploadedBefore Stamp) (Record, error)

	// Abandon claims a placeholder: it sets deleted_at to at when created_at is before
	// createdBefore and the file is neither uploaded nor stored nor deleted. ErrNotFound,
	// ErrUploaded, ErrStored, ErrDeleted, ErrNotDue.
	Abandon(ctx context.Context, id string, at, createdBefore Stamp) (Record, error)

	// Correct has the record say what its object is. known is the uploaded_at that the caller has
	// seen, and must still be there as it is: then type and size are set, and u.At and u.Store are
	// ignored. Where known is not set, uploaded_at must not be either: it is set with them, and with
	// u.Store stored_at unless that is set already. ErrNotFound, ErrDeleted, ErrChanged.
	Correct(ctx context.Context, id string, known Stamp, u Upload) (Record, error)
	// Import makes the record r of a file that comes from another filestore, with all that r has,
	// its times included. The id is new, or has the placeholder without created_at that was made for
	// the copy and keeps it from sweeps: r.ID, r.Name, r.Meta and r.Fingerprint must be those. Where
	// the record is r already, that is success. ErrDeleted, ErrStored, ErrUploaded; ErrExists for a
	// placeholder with a created_at.
	Import(ctx context.Context, r Record) error
	// ImportAnnounced is Import where the object of the copy was announced before its record was made: the placeholder
	// that was made for the copy has got type, size and uploaded_at of it, and where files are stored on load
	// stored_at, which is the same time. known is the uploaded_at that the caller has seen. ErrNotFound, ErrDeleted,
	// ErrExists, ErrChanged, ErrStored.
	ImportAnnounced(ctx context.Context, r Record, known Stamp) error

	// Get returns the records of ids, by id. Ids may be many, and given twice. An id without a
	// record has no entry. The read is consistent: it sees every write that ended before it.
	Get(ctx context.Context, ids []string) (map[string]Record, error)

	// Scan returns the selected records, a page at a time and every page. The order is the
	// table's own. It ends after the first error. A write made while it runs may or may not
	// show. Pages may be empty. Whichever way the caller's loop ends, and when ctx ends, nothing of
	// the scan is left running.
	Scan(ctx context.Context, f Filter, opts ScanOptions) iter.Seq2[[]Record, error]

	// Pending is Scan by the index of pending files: it reads those alone, however large the table is.
	// f has limits of a sweep and nothing else. Beside what they select come files that are in the
	// index and should not be: those that are stored, and those deleted before f.DeletedSince. Files that
	// were never marked, since another program has made them, do not come. opts.Segments is how many parts of the
	// index are read at once. The error is ErrNoIndex where there is no index that can be read.
	Pending(ctx context.Context, f Filter, opts ScanOptions) iter.Seq2[[]Record, error]

	// MarkPending puts a file into the index of pending files, as of at, unless it is there. The
	// transitions do so by themselves; this is for records that others have made. ErrNotFound; ErrStored,
	// and ErrDeleted for a file that was deleted before deletedSince.
	MarkPending(ctx context.Context, id string, at, deletedSince Stamp) (Record, error)

	// UnmarkPending takes a file out of the index of pending files that has no business there any more:
	// one that is stored, or was deleted before deletedBefore. ErrNotFound; ErrNotDue for all others.
	UnmarkPending(ctx context.Context, id string, deletedBefore Stamp) (Record, error)

	// Index describes the index of pending files.
	Index(ctx context.Context) (Index, error)

	// CreateIndex begins to make the index of pending files; created is false where it is there. It can
	// be read once [Table.Index] says that it is active.
	CreateIndex(ctx context.Context) (created bool, err error)

	// DropIndex begins to remove the index; dropped is false where there is none. Records keep their marks.
	DropIndex(ctx context.Context) (dropped bool, err error)
}

// BulkExpirer is a [Table] in which many claims together are far cheaper than one by one.
type BulkExpirer interface {
	// ExpireMany is [Table.Expire] for each of ids, which are all different. It returns the ids that were
	// claimed, in no order; why the others were not, it does not say. With an error come those
	// that were claimed before it.
	ExpireMany(ctx context.Context, ids []string, at, uploadedBefore Stamp) (claimed []string, err error)
}

// Metered is a [Table] whose writes cost capacity units.
type Metered interface {
	// Metered returns the same table with its writes counted by m, and held back by it. A write that
	// was refused costs as much as one that was carried out (Amazon DynamoDB Developer Guide, "Capacity
	// unit consumption for write operations").
	Metered(m *Meter) Table
}

// Refusal returns why a write was refused: the first of checks that current fails. found is
// false where there is no record. Both implementations call it after a refused write, so that
// they name the same reason for the same record.
func Refusal(id string, found bool, current Record, checks ...func(Record) error) *TransitionError {
	e := &TransitionError{ID: id, Current: current, Reason: ErrNotFound}
	if !found {
		return e
	}
	for _, check := range checks {
		if err := check(current); err != nil {
			e.Reason = err
			return e
		}
	}
	// The record changed between the refused write and the read that came to explain it.
	e.Reason = ErrNotDue
	return e
}

// RefusalOfImport is Refusal for [Table.Import]; nil where the write is allowed.
func RefusalOfImport(id string, found bool, current Record) *TransitionError {
	if !found {
		return nil
	}
	for _, check := range []func(Record) error{NotDeleted, NotStored, NotUploaded, NotDated} {
		if err := check(current); err != nil {
			return &TransitionError{ID: id, Current: current, Reason: err}
		}
	}
	return nil
}

// ImportAnnouncedChecks are the conditions of [Table.ImportAnnounced].
func ImportAnnouncedChecks(known Stamp) []func(Record) error {
	return []func(Record) error{NotDeleted, NotDated, UploadedAt(known), notStoredSince}
}

// notStoredSince fails with ErrStored where a file was stored at another time than it was uploaded: somebody has
// stored it.
func notStoredSince(r Record) error {
	return unless(!r.StoredAt.IsSet() || r.StoredAt == r.UploadedAt, ErrStored)
}

// NotDeleted fails with ErrDeleted.
func NotDeleted(r Record) error { return unless(!r.DeletedAt.IsSet(), ErrDeleted) }

// NotStored fails with ErrStored.
func NotStored(r Record) error { return unless(!r.StoredAt.IsSet(), ErrStored) }

// NotUploaded fails with ErrUploaded.
func NotUploaded(r Record) error { return unless(!r.UploadedAt.IsSet(), ErrUploaded) }

// NotDated fails with ErrExists where there is a created_at: the record is not one that was made for
// a copy.
func NotDated(r Record) error { return unless(!r.CreatedAt.IsSet(), ErrExists) }

// Same reports whether a and b are one record, attribute by attribute.
func Same(a, b Record) bool {
	return len(a.Mistyped) == 0 && len(b.Mistyped) == 0 &&
		a.ID == b.ID && a.Name == b.Name && a.Type == b.Type && a.Size == b.Size && a.Meta == b.Meta && a.Fingerprint == b.Fingerprint &&
		a.CreatedAt == b.CreatedAt && a.UploadedAt == b.UploadedAt && a.StoredAt == b.StoredAt && a.DeletedAt == b.DeletedAt
}

// IsUploaded fails with ErrNotUploaded.
func IsUploaded(r Record) error { return unless(r.UploadedAt.IsSet(), ErrNotUploaded) }

// UploadedAt returns a check that fails with ErrChanged where uploaded_at is not known, as text.
func UploadedAt(known Stamp) func(Record) error {
	return func(r Record) error {
		return unless(r.UploadedAt == known && (!known.IsSet() || !slices.Contains(r.Mistyped, "uploaded_at")), ErrChanged)
	}
}

func unless(holds bool, reason error) error {
	if holds {
		return nil
	}
	return reason
}
