package client

import (
	"context"
	"errors"

	"github.com/designfultech/filestore/internal/records"
)

// endOfTime is after every time that a record has: a claim up to it asks for no age.
const endOfTime records.Stamp = "9999-12-31T23:59:59"

// Revert takes back a file that is not stored, for whoever has uploaded it (docs/contract.md, "Taking an upload
// back"). It is a delete under one more condition, that of a sweep without its age: a store that came first wins,
// and the file then belongs to who has stored it. That is a [*FileError] with the reason Conflict. A file
// that is deleted already is a success, and its object is deleted again.
func (c *Client) Revert(ctx context.Context, id string) (records.Record, error) {
	if !ValidID(id) {
		return records.Record{}, notAnID(id)
	}
	r, err := c.claim(ctx, id)
	if refusal, ok := errors.AsType[*records.TransitionError](err); ok && errors.Is(err, records.ErrDeleted) {
		r, err = refusal.Current, nil
	}
	if errors.Is(err, records.ErrNotDue) {
		// Without a time that can be read, a sweep leaves it alone too.
		return r, fileError(id, Conflict, "the record is malformed: %w", err)
	}
	if err != nil {
		return r, failed(id, c.explain(id, err))
	}
	results := []Result[records.Record]{{ID: id, Value: r}}
	_ = c.deleteMarked(ctx, results) // says the same of the one file
	return r, results[0].Err
}

// claim marks a file as deleted unless it is stored. What it was when it was looked at, it may not be any more when
// it is written: it is uploaded once.
func (c *Client) claim(ctx context.Context, id string) (records.Record, error) {
	r, err := c.Records.Abandon(ctx, id, c.stamp(), endOfTime)
	if errors.Is(err, records.ErrUploaded) {
		r, err = c.Records.Expire(ctx, id, c.stamp(), endOfTime)
	}
	return r, err
}
