package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/designfultech/filestore/internal/records"
)

// lookAgain looks at every candidate once more: what the table said when it was read, and the bucket when
// it was listed, may have been true at different times.
func (v *verifier) lookAgain(ctx context.Context) error {
	var ids, doubts []string
	var asked time.Time // when the last of doubts was looked at
	look := func() error {
		more, err := v.look(ctx, ids, false)
		ids = ids[:0]
		if err != nil || len(more) == 0 {
			return err
		}
		doubts, asked = append(doubts, more...), time.Now()
		if len(doubts) < mostDoubts {
			return nil
		}
		err = v.lookTwice(ctx, doubts, asked)
		doubts = doubts[:0]
		return err
	}
	for id := range v.candidates {
		if ids = append(ids, id); len(ids) < lookChunk {
			continue
		}
		if err := look(); err != nil {
			return err
		}
	}
	if err := look(); err != nil {
		return err
	}
	return v.lookTwice(ctx, doubts, asked)
}

// lookTwice looks at files again a while after the first look.
func (v *verifier) lookTwice(ctx context.Context, ids []string, asked time.Time) error {
	if len(ids) == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(v.opts.Settle - time.Since(asked))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	for chunk := range slices.Chunk(ids, lookChunk) {
		if _, err := v.look(ctx, chunk, true); err != nil {
			return err
		}
	}
	return nil
}

// suspect is a file that is looked at.
type suspect struct {
	Finding
	row *row // nil: there is no record
	err error
}

// look asks for the records, then for the objects, then for the records again, and reports what both times
// was the same. Why this order makes sure of it is told in docs/architecture.md, "verify". It returns the
// files that need a second look later, unless this is one.
func (v *verifier) look(ctx context.Context, ids []string, again bool) (doubts []string, err error) {
	before, err := v.get(ctx, ids)
	if err != nil {
		return nil, err
	}
	var found []suspect
	for s := range InOrder(ctx, ids, batch, func(ctx context.Context, id string) suspect { return v.ask(ctx, id, before) }) {
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case s.err != nil:
			v.report(Finding{ID: s.ID, Err: failed(s.ID, s.err)})
			continue
		}
		if !again && s.row != nil && s.row.is(rowMalformed) {
			v.report(Finding{ID: s.ID, Class: ClassMalformed, Record: s.Record})
		}
		if s.Class != "" {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	ids = make([]string, len(found))
	for i, s := range found {
		ids[i] = s.ID
	}
	after, err := v.get(ctx, ids)
	if err != nil {
		return nil, err
	}
	var sure []Finding
	for _, s := range found {
		f := s.Finding
		r, ok := after[f.ID]
		if f.Record = r; v.judge(v.rowIf(r, ok), f.Object) != f.Class {
			continue
		}
		if !again && isDoubtful(f) {
			doubts = append(doubts, f.ID)
			continue
		}
		f.Repair = v.repairFor(f.Class)
		sure = append(sure, f)
	}
	if err := v.settle(ctx, sure); err != nil {
		return nil, err
	}
	return doubts, ctx.Err()
}

func (v *verifier) get(ctx context.Context, ids []string) (map[string]records.Record, error) {
	found, err := v.client.Records.Get(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read the records again: %w", err)
	}
	return found, nil
}

func (v *verifier) rowIf(r records.Record, found bool) *row {
	if !found {
		return nil
	}
	return new(v.rowOf(r))
}

// ask asks for the object of a file, and judges.
func (v *verifier) ask(ctx context.Context, id string, found map[string]records.Record) suspect {
	r, ok := found[id]
	s := suspect{Finding: Finding{ID: id, Record: r}, row: v.rowIf(r, ok)}
	if s.row != nil && !s.row.is(rowOld) && !s.row.is(rowAgeless) {
		return s // whatever there is of an object
	}
	if s.Object, s.err = v.client.object(ctx, id); s.err != nil {
		return s
	}
	s.Class = v.judge(s.row, s.Object)
	waits := s.row != nil && !s.row.is(rowUploaded) && s.Object == nil
	if s.Class == "" || !waits {
		return s
	}
	active, err := v.isActive(ctx, r)
	if active || err != nil {
		s.Class, s.err = "", err
	}
	return s
}

// isActive reports whether an upload to a record that waits for one may still be going on: a part of it
// came of late. Where that can't be asked, a day more says that it is not.
func (v *verifier) isActive(ctx context.Context, r records.Record) (bool, error) {
	for page, err := range v.client.uploadPages(ctx, r.ID) {
		if err != nil && v.isUnlisted(err) {
			since := r.CreatedAt
			if r.StoredAt.IsSet() {
				since = r.StoredAt
			}
			return !since.Before(v.lateBefore.Add(-staleUpload)), nil
		}
		if err != nil {
			return false, err
		}
		for u, err := range v.client.halfDone(ctx, page) {
			if err != nil {
				return false, err
			}
			if !u.Latest.Before(v.lateBefore) {
				return true, nil
			}
		}
	}
	return false, nil
}

// isDoubtful reports whether one look may have come between the end of an upload in parts and what its
// uploader does next: S3 dates such an object from the beginning of its upload (Amazon S3 User Guide,
// "Working with object metadata"), which may be long ago. Its ETag has the number of parts behind a dash.
func isDoubtful(f Finding) bool {
	return f.Object != nil && f.Class != ClassOrphan && strings.Contains(f.Object.ETag, "-")
}

// settle repairs what is to be repaired of the findings, and reports them: the records first, in
// parallel, then the objects together. Its error is that of the audit, which ends the pass.
func (v *verifier) settle(ctx context.Context, findings []Finding) error {
	var outcomes []Finding
	var objects []string
	var files []Deletion
	for f := range InOrder(ctx, findings, batch, v.repairRecord) {
		if refusal, refused := errors.AsType[*records.TransitionError](f.Err); refused {
			r := v.rowIf(refusal.Current, !errors.Is(refusal, records.ErrNotFound))
			if v.judge(r, f.Object) != f.Class {
				continue // somebody has changed the file: it is not what was found any more
			}
			f.Err = failed(f.ID, f.Err)
		}
		outcomes = append(outcomes, f)
		if f.Done && f.Repair != RepairCorrect && f.Repair != RepairSettle {
			objects = append(objects, f.ID)
			files = append(files, f.deletion())
		}
	}
	failures, unaudited := v.client.audited(ctx, files, func() map[string]error { return v.client.deleteObjects(ctx, objects) })
	if unaudited != nil {
		failures = make(map[string]error)
		for _, f := range files {
			failures[f.ID] = unaudited.Err
			if f.Action != Action(ClassUndeleted) {
				unaudited.Left++
			}
		}
	}
	for f := range InOrder(ctx, outcomes, batch, func(ctx context.Context, f Finding) Finding {
		return v.endRepair(ctx, f, failures[f.ID])
	}) {
		v.report(f)
	}
	if unaudited != nil {
		return unaudited
	}
	return nil
}

// deletion is the finding for the audit: as action it has the class.
func (f Finding) deletion() Deletion {
	d := newDeletion(f.Record, Action(f.Class))
	d.ID = f.ID
	switch {
	case f.Object != nil:
		d.Type, d.Size = f.Object.Type, f.Object.Size
	case f.Upload != nil:
		d.Type, d.Size = "", f.Upload.Size
	case f.Record.ID == "":
		d.Size = -1
	}
	return d
}

// endRepair tells whether the repair of a finding has succeeded, and aborts what would bring the
// object back.
func (v *verifier) endRepair(ctx context.Context, f Finding, err error) Finding {
	if !f.Done {
		return f
	}
	if err == nil && (f.Class == ClassUndeleted || f.Class == ClassNeverUploaded) {
		if err = cmp.Or(ctx.Err(), v.client.abortUploads(ctx, f.ID)); err != nil && v.isUnlisted(err) {
			err = nil
		}
	}
	f.Err, f.Done = failed(f.ID, err), err == nil
	return f
}

// repairRecord makes the write that the repair of a finding begins with. Done says that it was made, or
// that there is none to make.
func (v *verifier) repairRecord(ctx context.Context, f Finding) Finding {
	if f.Repair == "" || v.opts.DryRun {
		return f
	}
	c := v.client
	var err error
	switch f.Class {
	case ClassOrphan:
		// The record comes first, here too: nobody else can take the id from then on, and a sweep finds
		// what is not finished.
		if err = c.Records.Create(ctx, records.Record{ID: f.ID, Name: f.ID, CreatedAt: c.stamp(), Size: -1}); err == nil {
			_, err = c.Records.Delete(ctx, f.ID, c.stamp())
		}
	case ClassMissing:
		_, err = c.Records.Delete(ctx, f.ID, c.stamp())
	case ClassDiffers:
		_, err = c.Records.Correct(ctx, f.ID, f.Record.UploadedAt, records.Upload{Type: f.Object.Type, Size: f.Object.Size})
	case ClassUnrecorded:
		_, err = c.Records.Correct(ctx, f.ID, "", records.Upload{
			At: records.At(f.Object.Modified), Type: f.Object.Type, Size: f.Object.Size, Store: c.Settings.StoreOnLoad,
		})
	case ClassNeverUploaded:
		_, err = c.Records.Abandon(ctx, f.ID, c.stamp(), records.At(v.lateBefore))
	case ClassUndeleted, ClassStaleUpload, ClassMalformed, ClassDamaged:
	}
	if _, refused := errors.AsType[*records.TransitionError](err); !refused {
		err = failed(f.ID, err)
	}
	f.Err, f.Done = err, err == nil
	return f
}
