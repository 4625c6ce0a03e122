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
	if r, known = found[key]; !known {
		return r, false, nil
	}
	r, err = c.uploaded(ctx, r)
	return r, true, failed(key, err)
}

// uploaded brings a record up to what the bucket has.
func (c *Client) uploaded(ctx context.Context, r records.Record) (records.Record, error) {
	if r.State() != records.Deleted {
		upload, found, err := c.head(ctx, r.ID)
		if err != nil || !found || r.UploadedAt.IsSet() && r.Size == upload.Size && r.Type == upload.Type {
			return r, err
		}
		upload.Store = c.Settings.StoreOnLoad
		write := c.Records.Uploaded
		if !r.UploadedAt.IsSet() {
			// Not over what its uploader has written since: the time that he was told.
			write = func(ctx context.Context, id string, u records.Upload) (records.Record, error) {
				return c.Records.Correct(ctx, id, "", u)
			}
		}
		after, err := write(ctx, r.ID, upload)
		refusal, refused := errors.AsType[*records.TransitionError](err)
		switch {
		case refused && errors.Is(refusal, records.ErrChanged):
			return refusal.Current, nil
		case !refused || !errors.Is(refusal, records.ErrDeleted):
			return after, err
		}
		r = refusal.Current
	}
	return r, c.deleteObject(ctx, r.ID)
}
