package client

import (
	"context"
	"fmt"

	"github.com/designfultech/filestore/internal/records"
)

// Deletion is a file whose object is about to be deleted, or could not be.
type Deletion struct {
	ID     string
	Name   string
	Type   string // MIME type; empty where it is not known
	Size   int64  // bytes; -1 where it is not known
	Action Action
	Err    error // why it could not be deleted; nil before
}

func newDeletion(r records.Record, action Action) Deletion {
	return Deletion{ID: r.ID, Name: r.Name, Type: r.Type, Size: r.Size, Action: action}
}

// AuditError says that objects were not deleted, since the audit could not be written.
type AuditError struct {
	// Left is how many files of a sweep are marked as deleted, and their objects are still there: for
	// "expire, clean again" of the next sweep.
	Left int
	Err  error
}

func (e *AuditError) Error() string {
	if e.Left == 0 {
		return e.Err.Error()
	}
	return fmt.Sprintf("%v (files that are marked as deleted, and whose objects are still there: %d)", e.Err, e.Left)
}

// Unwrap returns the cause.
func (e *AuditError) Unwrap() error { return e.Err }

// audited has remove delete the objects of files, in this order: the audit says that it is to be
// done, the objects are deleted, the audit says which could not be. remove returns why not, by id;
// so does audited. If its error is not nil, nothing was deleted.
func (c *Client) audited(ctx context.Context, files []Deletion, remove func() map[string]error) (map[string]error, *AuditError) {
	if c.Audit == nil || len(files) == 0 {
		return remove(), nil
	}
	select {
	case <-ctx.Done():
		failures := make(map[string]error, len(files))
		for _, f := range files {
			failures[f.ID] = ctx.Err()
		}
		return failures, nil
	default:
	}
	if err := c.Audit(ctx, files); err != nil {
		return nil, &AuditError{Err: err}
	}
	failures := remove()
	var failed []Deletion
	for _, f := range files {
		if f.Err = failures[f.ID]; f.Err != nil {
			failed = append(failed, f)
		}
	}
	if len(failed) > 0 {
		// That somebody has interrupted is no reason to leave it away.
		if err := c.Audit(context.WithoutCancel(ctx), failed); err != nil {
			for _, f := range failed {
				failures[f.ID] = fmt.Errorf("%w; %w", f.Err, err)
			}
		}
	}
	return failures, nil
}
