package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/designfultech/filestore/internal/records"
)

// How often an index that is being made or removed is looked at: an empty table takes seconds, a
// large one hours.
const (
	firstIndexLook = 500 * time.Millisecond
	maxIndexLook   = 10 * time.Second
)

// IndexOptions choose what [Client.CreateIndex] and [Client.DropIndex] do.
type IndexOptions struct {
	// Wait has the call return only when the index can be used, or is gone.
	Wait bool
	// Progress is told of the index whenever it was looked at. May be nil.
	Progress func(records.Index)
}

// CreateIndex makes the index of pending files ("The pending index", docs/contract.md), unless it is
// there. Everything goes on meanwhile; sweeps read the whole table until it is active. When ctx ends while it is
// waited for, the index is made all the same.
func (c *Client) CreateIndex(ctx context.Context, opts IndexOptions) (created bool, _ records.Index, _ error) {
	created, err := c.Records.CreateIndex(ctx)
	if err != nil {
		return false, records.Index{}, fmt.Errorf("create the index: %w", err)
	}
	index, err := c.awaitIndex(ctx, opts, func(i records.Index) bool {
		return i.State == records.IndexActive || i.State == records.IndexUpdating
	})
	if err == nil && index.State == records.IndexNone {
		err = errors.New("the index has gone again")
	}
	return created, index, err
}

// DropIndex removes the index of pending files, where there is one. Records keep their marks, so that
// it can be made again.
func (c *Client) DropIndex(ctx context.Context, opts IndexOptions) (dropped bool, _ records.Index, _ error) {
	dropped, err := c.Records.DropIndex(ctx)
	if err != nil {
		return false, records.Index{}, fmt.Errorf("drop the index: %w", err)
	}
	index, err := c.awaitIndex(ctx, opts, func(records.Index) bool { return false })
	return dropped, index, err
}

// awaitIndex looks at the index until it is done, or gone.
func (c *Client) awaitIndex(ctx context.Context, opts IndexOptions, done func(records.Index) bool) (records.Index, error) {
	for pause := firstIndexLook; ; pause = min(2*pause, maxIndexLook) {
		index, err := c.Records.Index(ctx)
		if err != nil {
			return index, fmt.Errorf("look at the index: %w", err)
		}
		if opts.Progress != nil {
			opts.Progress(index)
		}
		if !opts.Wait || index.State == records.IndexNone || done(index) {
			return index, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return index, ctx.Err()
		case <-timer.C:
		}
	}
}

// BackfillOptions choose what [Client.Backfill] does.
type BackfillOptions struct {
	// DryRun changes nothing, and reports what would be done.
	DryRun bool
	// Segments is how many parts of the table are read at once; 0: [DefaultSegments].
	Segments int
	// Reads and Writes count what reading and writing the table costs, and may limit its rate. May be nil.
	Reads, Writes *records.Meter
	// Report is told of each file that was put into the index (ActionMark) or taken out of it
	// (ActionUnmark), or was to be. May be nil.
	Report func(Swept)
}

// BackfillSummary counts what a backfill did, in files.
type BackfillSummary struct {
	Marked, Unmarked, Failed int
	// Unreadable is how many records were left alone because their times can't be read, or their id is none.
	Unreadable int
}

// Backfill reads the whole table, and gives every record the mark that it should have ("The pending
// index", docs/contract.md): what waits for something and was made by others is put into the index, what waits
// for nothing any more is taken out. It may run while users work, and before there is an index.
//
// The error is that of the pass itself; failures of single files are reported and counted.
func (c *Client) Backfill(ctx context.Context, opts BackfillOptions) (BackfillSummary, error) {
	b := &backfill{opts: opts, table: c.Records, since: records.At(c.CleanSince(c.Now()))}
	if table, ok := c.Records.(records.Metered); ok && opts.Writes != nil {
		b.table = table.Metered(opts.Writes)
	}
	scan := records.ScanOptions{Segments: cmp.Or(opts.Segments, DefaultSegments), Meter: opts.Reads}
	for page, err := range c.Records.Scan(ctx, records.Filter{Mismarked: b.since}, scan) {
		if err != nil {
			return b.summary, fmt.Errorf("read the records: %w", err)
		}
		for done := range InOrder(ctx, page, batch, b.correct) {
			b.report(done)
		}
		if err := ctx.Err(); err != nil {
			return b.summary, err
		}
	}
	return b.summary, nil
}

type backfill struct {
	opts    BackfillOptions
	table   records.Table
	since   records.Stamp // files deleted since are to be in the index
	summary BackfillSummary
}

// correct gives r the mark that it should have. A zero Action in the answer means that r has changed, and
// has it.
func (b *backfill) correct(ctx context.Context, r records.Record) Swept {
	done := Swept{ID: r.ID, Name: r.Name, Action: ActionMark}
	if records.IsSettled(b.since)(r) == nil {
		done.Action = ActionUnmark
	}
	at, err := waitsSince(r).Time()
	if !ValidID(r.ID) || err != nil && done.Action == ActionMark {
		done.Err = errUnreadable
		return done
	}
	if b.opts.DryRun {
		return done
	}
	if done.Action == ActionMark {
		_, err = b.table.MarkPending(ctx, r.ID, records.At(at), b.since)
	} else {
		_, err = b.table.UnmarkPending(ctx, r.ID, b.since)
	}
	if _, lost := errors.AsType[*records.TransitionError](err); lost {
		return Swept{}
	}
	done.Err = failed(r.ID, err)
	return done
}

// errUnreadable says that no sweep would have anything to do with a record.
var errUnreadable = errors.New("its id or time can't be read")

// waitsSince is the time as of which r is put into the index.
func waitsSince(r records.Record) records.Stamp {
	if r.DeletedAt.IsSet() {
		return r.DeletedAt
	}
	return r.Stamp(records.ByUpload)
}

func (b *backfill) report(done Swept) {
	switch {
	case done.Action == "":
		return
	case errors.Is(done.Err, errUnreadable):
		b.summary.Unreadable++
		return
	case done.Err != nil:
		b.summary.Failed++
	case done.Action == ActionMark:
		b.summary.Marked++
	default:
		b.summary.Unmarked++
	}
	if b.opts.Report != nil {
		b.opts.Report(done)
	}
}
