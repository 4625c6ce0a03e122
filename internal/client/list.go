package client

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/designfultech/filestore/internal/records"
)

// MaxSorted is how many files [Client.List] holds in memory to sort them, unless it is told otherwise.
const MaxSorted = 1_000_000

// ErrTooManyToSort says that more files are selected than may be held, and no limit is given.
var ErrTooManyToSort = errors.New("too many files to sort")

// ListOptions choose what [Client.List] shows. The zero value is every file, in whatever state.
type ListOptions struct {
	// States selects files in one of these states; empty: in any.
	States []records.State
	// Since and Until select files whose time By is at or after Since, and before Until, to the
	// second. Where one of them is set, a file without that time, or whose time can't be read, is not
	// selected.
	By           records.Moment
	Since, Until time.Time
	// Name is a pattern as of [path.Match]; empty: any name.
	Name string
	// Meta selects files whose metadata has all of these: a text that is the same, or any other value
	// whose JSON is.
	Meta map[string]string

	// Sort orders the files, each compared with the next; nil: as the table has them. The files are
	// then held in memory: at most Limit, or MaxSorted (0: [MaxSorted]).
	Sort      func(a, b records.Record) int
	MaxSorted int
	// Limit is how many files are shown at most; 0: all. Without Sort the reading ends there.
	Limit int

	// WithoutMeta says that the caller has no use for the metadata.
	WithoutMeta bool
	// Segments is how many parts of the table are read at once; 0: [DefaultSegments], or one page after
	// the other where that is enough for Limit.
	Segments int
	// Reads counts what reading the table costs, and may limit its rate. May be nil.
	Reads *records.Meter
}

// List returns the records of the selected files, as they come. State and time are compared
// where the table is, name and metadata here: that does not change what the reading costs, since
// every record is looked at ("Every page of a Scan is read", docs/contract.md, "The transitions").
//
// It ends after the first error. An invalid Name is [path.ErrBadPattern].
func (c *Client) List(ctx context.Context, opts ListOptions) iter.Seq2[records.Record, error] {
	return func(yield func(records.Record, error) bool) {
		if opts.Sort != nil {
			c.listSorted(ctx, opts, yield)
			return
		}
		shown := 0
		for r, err := range c.selected(ctx, opts) {
			if !yield(r, err) || err != nil {
				return
			}
			if shown++; shown == opts.Limit {
				return
			}
		}
	}
}

// selected is List without order and limit.
func (c *Client) selected(ctx context.Context, opts ListOptions) iter.Seq2[records.Record, error] {
	return func(yield func(records.Record, error) bool) {
		if _, err := path.Match(opts.Name, ""); err != nil {
			yield(records.Record{}, fmt.Errorf("pattern of names %q: %w", opts.Name, err))
			return
		}
		filter := records.Filter{States: opts.States, By: opts.By}
		if !opts.Since.IsZero() {
			filter.Since = records.At(opts.Since)
		}
		if !opts.Until.IsZero() {
			filter.Until = records.At(opts.Until)
		}
		for page, err := range c.Records.Scan(ctx, filter, opts.scan()) {
			if err != nil {
				yield(records.Record{}, fmt.Errorf("read the records: %w", err))
				return
			}
			for _, r := range page {
				if opts.selects(r) && !yield(r, nil) {
					return
				}
			}
		}
	}
}

func (o ListOptions) scan() records.ScanOptions {
	scan := records.ScanOptions{
		Segments: cmp.Or(o.Segments, DefaultSegments),
		Meta:     !o.WithoutMeta || len(o.Meta) > 0,
		Meter:    o.Reads,
	}
	if o.Limit > 0 && o.Sort == nil && o.Segments == 0 {
		// A few files: not more is read than they take.
		scan.Segments, scan.FirstPage = 0, o.Limit
	}
	return scan
}

// selects looks at what the table could not, or not strictly: it compares times as text.
func (o ListOptions) selects(r records.Record) bool {
	if !o.Since.IsZero() || !o.Until.IsZero() {
		t, err := r.Stamp(o.By).Time()
		if err != nil || !o.Since.IsZero() && t.Before(o.Since.Truncate(time.Second)) ||
			!o.Until.IsZero() && !t.Before(o.Until.Truncate(time.Second)) {
			return false
		}
	}
	if o.Name != "" {
		// The pattern was looked at before; of a name nothing is asked.
		if ok, err := path.Match(o.Name, r.Name); err != nil || !ok {
			return false
		}
	}
	return hasMeta(r, o.Meta)
}

// hasMeta reports whether the metadata of r has all that is wanted. Metadata that is no JSON object
// has nothing.
func hasMeta(r records.Record, wanted map[string]string) bool {
	if len(wanted) == 0 {
		return true
	}
	object, err := r.MetaObject()
	if err != nil {
		return false
	}
	for key, want := range wanted {
		value, ok := object[key]
		if !ok {
			return false
		}
		got := string(value)
		var text string
		if value[0] == '"' && json.Unmarshal(value, &text) == nil {
			got = text
		}
		if got != want {
			return false
		}
	}
	return true
}

// listSorted holds the files that will be shown. Once they are as many as the limit, they are a heap
// with the last of them on top: the one that goes when a better one comes.
func (c *Client) listSorted(ctx context.Context, opts ListOptions, yield func(records.Record, error) bool) {
	most := cmp.Or(opts.MaxSorted, MaxSorted)
	isLimit := opts.Limit > 0 && opts.Limit <= most
	if isLimit {
		most = opts.Limit
	}
	held := &lastOnTop{compare: opts.Sort}
	for r, err := range c.selected(ctx, opts) {
		switch {
		case err != nil:
			yield(records.Record{}, err)
			return
		case len(held.records) < most:
			held.records = append(held.records, r)
			if len(held.records) == most && isLimit {
				heap.Init(held)
			}
		case !isLimit:
			yield(records.Record{}, fmt.Errorf("%w: more than %d", ErrTooManyToSort, most))
			return
		case opts.Sort(r, held.records[0]) < 0:
			held.records[0] = r
			heap.Fix(held, 0)
		}
	}
	slices.SortFunc(held.records, opts.Sort)
	for _, r := range held.records {
		if !yield(r, nil) {
			return
		}
	}
}

// lastOnTop is a heap that neither grows nor shrinks.
type lastOnTop struct {
	records []records.Record
	compare func(a, b records.Record) int
}

func (h *lastOnTop) Len() int           { return len(h.records) }
func (h *lastOnTop) Less(i, j int) bool { return h.compare(h.records[i], h.records[j]) > 0 }
func (h *lastOnTop) Swap(i, j int)      { h.records[i], h.records[j] = h.records[j], h.records[i] }

// Push is never called.
func (h *lastOnTop) Push(any) {}

// Pop is never called.
func (h *lastOnTop) Pop() any { return nil }

// SortFields are the names that [SortBy] knows.
func SortFields() []string {
	return []string{"id", "name", "size", "type", "state", "created", "uploaded", "stored", "deleted"}
}

// SortBy returns the order by a field, one of [SortFields]. Files that do not have it, or whose
// time can't be read, come last, whether descending or not; where it is the same, the id decides.
func SortBy(field string, descending bool) (func(a, b records.Record) int, error) {
	var compare func(a, b records.Record) int
	has := func(records.Record) bool { return true }
	text := func(get func(records.Record) string) {
		compare = func(a, b records.Record) int { return strings.Compare(get(a), get(b)) }
		has = func(r records.Record) bool { return get(r) != "" }
	}
	switch field {
	case "id":
		text(func(r records.Record) string { return r.ID })
	case "name":
		text(func(r records.Record) string { return r.Name })
	case "type":
		text(func(r records.Record) string { return r.Type })
	case "size":
		compare = func(a, b records.Record) int { return cmp.Compare(a.Size, b.Size) }
		has = func(r records.Record) bool { return r.Size >= 0 }
	case "state":
		states := []records.State{records.Placeholder, records.Temporary, records.Stored, records.Deleted}
		compare = func(a, b records.Record) int {
			return cmp.Compare(slices.Index(states, a.State()), slices.Index(states, b.State()))
		}
	case "created", "uploaded", "stored", "deleted":
		at := func(r records.Record) records.Stamp { return r.Stamp(records.Moment(field)) }
		has = func(r records.Record) bool { _, err := at(r).Time(); return err == nil }
		// Stamps that can be read are in the order of their text, up to a fraction of a second.
		compare = func(a, b records.Record) int {
			return strings.Compare(strings.TrimSuffix(string(at(a)), "Z"), strings.TrimSuffix(string(at(b)), "Z"))
		}
	default:
		return nil, fmt.Errorf("%q is none of %s", field, strings.Join(SortFields(), ", "))
	}
	return func(a, b records.Record) int {
		order := 0
		switch hasA, hasB := has(a), has(b); {
		case hasA && hasB:
			if order = compare(a, b); descending {
				order = -order
			}
		case hasA:
			order = -1
		case hasB:
			order = 1
		}
		return cmp.Or(order, strings.Compare(a.ID, b.ID))
	}, nil
}
