package client

import (
	"context"
	"errors"

	"github.com/designfultech/filestore/internal/records"
)

// ObjectCreated is what a notification that an object was written leads to ("uploaded",
// docs/contract.md, "The transitions"): its record says what the object is. What the bucket says counts, not
// the notification, which may be late or come twice; where there is no object any more, nothing is
// done. known is false for a key that is no file's: that is no error.
//
// A record that says so already is left as it is: uploaded_at is then that of the client which has written
// the object, or of the copy that has brought it. Where the file was deleted meanwhile, the object is
// deleted again.
func (c *Client) ObjectCreated(ctx context.Context, key string) (r records.Record, known bool, err error) {
	if !ValidID(key) {
		return records.Record{}, false, nil
	}
	found, err := c.Records.Get(ctx, []string{key})
	if err != nil {
		return records.Record{}, false, failed(key, err)
	}
	if r, known = found[key]; !known || c.OnlyWriter && r.State() == records.Placeholder && !r.CreatedAt.IsSet() {
		return r, known, nil
	}
	r, err = c.uploaded(ctx, r)
	return r, true, failed(key, err)
}

// uploaded brings a record up to what the bucket has. It does not touch what somebody else has meanwhile made of the
// record: that is looked at again. So a copy, which writes the record after the object, is not overwritten.
func (c *Client) uploaded(ctx context.Context, r records.Record) (records.Record, error) {
	for range lookAgain {
		if r.State() == records.Deleted {
			break
		}
		upload, found, err := c.head(ctx, r.ID)
		if err != nil || !found || r.UploadedAt.IsSet() && r.Size == upload.Size && r.Type == upload.Type {
			return r, err
		}
		upload.Store = c.Settings.StoreOnLoad
		var after records.Record
		if r.UploadedAt.IsSet() { // overwritten: it is another upload, with a time of its own
			if after, err = c.Records.Uploaded(ctx, r.ID, upload); err == nil {
				// Another notification may have looked later, and written sooner.
				r = after
				continue
			}
		} else {
			after, err = c.Records.Correct(ctx, r.ID, "", upload)
		}
		refusal, refused := errors.AsType[*records.TransitionError](err)
		if !refused || !errors.Is(err, records.ErrChanged) && !errors.Is(err, records.ErrDeleted) {
			return after, err
		}
		r = refusal.Current
	}
	if r.State() != records.Deleted {
		return r, &records.TransitionError{ID: r.ID, Reason: records.ErrChanged, Current: r}
	}
	failures, unaudited := c.audited(ctx, []Deletion{newDeletion(r, ActionClean)}, func() map[string]error {
		return map[string]error{r.ID: c.deleteObject(ctx, r.ID)}
	})
	if unaudited != nil {
		return r, unaudited
	}
	return r, failures[r.ID]
}
