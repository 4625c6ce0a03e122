package client

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/records"
)

// Store makes files permanent ("store", docs/contract.md, "The transitions"). Results come in
// the order of ids, each id once. Storing a stored file succeeds and keeps its first time.
//
// With the setting StoreOnLoad it is [ErrStoreOnLoad] for every file.
func (c *Client) Store(ctx context.Context, ids []string) iter.Seq[Result[records.Record]] {
	return InOrder(ctx, unique(ids), batch, func(ctx context.Context, id string) Result[records.Record] {
		record, err := c.store(ctx, id)
		return Result[records.Record]{ID: id, Value: record, Err: failed(id, err)}
	})
}

func (c *Client) store(ctx context.Context, id string) (records.Record, error) {
	if c.Settings.StoreOnLoad {
		return records.Record{}, ErrStoreOnLoad
	}
	if !ValidID(id) {
		return records.Record{}, notAnID(id)
	}
	record, err := c.Records.Store(ctx, id, c.stamp(), nil)
	if errors.Is(err, records.ErrNotUploaded) {
		// The upload notification may come seconds after the upload, or never: the object decides.
		upload, found, headErr := c.head(ctx, id)
		switch {
		case headErr != nil:
			return records.Record{}, headErr
		case found:
			record, err = c.Records.Store(ctx, id, c.stamp(), &upload)
		default:
			// A sweep may have taken both between the write and the question.
			record, err = c.Records.Store(ctx, id, c.stamp(), nil)
		}
	}
	return record, c.explain(id, err)
}

// head asks the bucket what is known of an upload. found is false where there is no object.
func (c *Client) head(ctx context.Context, id string) (upload records.Upload, found bool, err error) {
	object, err := c.object(ctx, id)
	if object == nil || err != nil {
		return records.Upload{}, false, err
	}
	return records.Upload{At: records.At(object.Modified), Type: object.Type, Size: object.Size}, true, nil
}

// object asks for the object of id; nil: there is none.
func (c *Client) object(ctx context.Context, id string) (*FoundObject, error) {
	out, err := c.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &c.Bucket, Key: &id})
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &FoundObject{
		Size: aws.ToInt64(out.ContentLength), Type: baseType(aws.ToString(out.ContentType)),
		Modified: aws.ToTime(out.LastModified), ETag: aws.ToString(out.ETag),
	}, nil
}

// explain turns the refusal of a transition into what the user should know.
func (c *Client) explain(id string, err error) error {
	refusal, ok := errors.AsType[*records.TransitionError](err)
	if !ok {
		return err
	}
	switch {
	case errors.Is(err, records.ErrNotFound):
		return fileError(id, NotFound, "%w", records.ErrNotFound)
	case errors.Is(err, records.ErrNotUploaded):
		return fileError(id, NotUploaded, "%w", records.ErrNotUploaded)
	case errors.Is(err, records.ErrDeleted):
		return c.gone(refusal.Current)
	}
	return err
}

// gone says of a deleted record whether it expired. Records hold no reason: a file that was
// deleted unstored, after its temporary lifetime had passed, has expired.
func (c *Client) gone(r records.Record) *FileError {
	uploaded, err := r.UploadedAt.Time()
	deleted, err2 := r.DeletedAt.Time()
	if err == nil && err2 == nil && !r.StoredAt.IsSet() && deleted.Sub(uploaded) >= c.Settings.TemporaryLifetime {
		return fileError(r.ID, Expired, "expired on %s", deleted.Format(time.RFC3339))
	}
	if err2 != nil {
		return fileError(r.ID, Deleted, "deleted")
	}
	return fileError(r.ID, Deleted, "deleted on %s", deleted.Format(time.RFC3339))
}

func notAnID(id string) error {
	return fileError(id, NotFound, "%w: an id is 16 characters of a-z0-9", records.ErrNotFound)
}
