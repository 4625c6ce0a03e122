package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

// HalfDone is a multipart upload that is neither completed nor aborted: it is going on, or was given up.
type HalfDone struct {
	ID       string
	UploadID string
	Record   records.Record // the zero Record where there is none
	Size     int64          // bytes that are there
	// Started is when its placeholder was made, or else when the server says that the upload was begun:
	// some say when the last part came (versitygw, and so the local store).
	Started time.Time
	Latest  time.Time // when the last part came, or else when the upload was begun
}

// Uploads returns the multipart uploads under keys that are ids. Those of also are asked for by their keys,
// since a server may list uploads only so (MinIO after a restart). It ends after the first error.
func (c *Client) Uploads(ctx context.Context, also []string) iter.Seq2[HalfDone, error] {
	return func(yield func(HalfDone, error) bool) {
		seen := make(map[string]bool)
		prefixes := append([]string{""}, unique(also)...)
		for _, prefix := range prefixes {
			if seen[prefix] {
				continue
			}
			for page, err := range c.uploadPages(ctx, prefix) {
				if err != nil {
					yield(HalfDone{}, err)
					return
				}
				for u, err := range c.halfDone(ctx, page) {
					seen[u.ID] = true
					if !yield(u, err) || err != nil {
						return
					}
				}
			}
		}
	}
}

// uploadPages lists the multipart uploads under keys that are ids, all of them or those of one id.
func (c *Client) uploadPages(ctx context.Context, id string) iter.Seq2[[]types.MultipartUpload, error] {
	return func(yield func([]types.MultipartUpload, error) bool) {
		in := &s3.ListMultipartUploadsInput{Bucket: &c.Bucket}
		if id != "" {
			in.Prefix = &id
		}
		pages := s3.NewListMultipartUploadsPaginator(c.S3, in)
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(nil, fmt.Errorf("list the multipart uploads: %w", err))
				return
			}
			if !yield(slices.DeleteFunc(page.Uploads, func(u types.MultipartUpload) bool {
				key := aws.ToString(u.Key)
				return !ValidID(key) || id != "" && key != id
			}), nil) {
				return
			}
		}
	}
}

// isUnlisted reports whether multipart uploads can't be listed: the server does not know how, or the role
// may not.
func isUnlisted(err error) bool { return isNotImplemented(err) || ReasonOf(err) == Permission }

// halfDone looks at each upload of a page. Those that have ended meanwhile are left out.
func (c *Client) halfDone(ctx context.Context, page []types.MultipartUpload) iter.Seq2[HalfDone, error] {
	return func(yield func(HalfDone, error) bool) {
		ids := make([]string, len(page))
		for i, u := range page {
			ids[i] = aws.ToString(u.Key)
		}
		found, err := c.Records.Get(ctx, ids)
		if err != nil {
			yield(HalfDone{}, fmt.Errorf("read the records of multipart uploads: %w", err))
			return
		}
		type looked struct {
			HalfDone
			err error
		}
		for l := range InOrder(ctx, page, batch, func(ctx context.Context, u types.MultipartUpload) looked {
			id, uploadID, started := aws.ToString(u.Key), aws.ToString(u.UploadId), aws.ToTime(u.Initiated)
			size, latest, err := c.Transfer.PartsOf(ctx, id, uploadID)
			if latest.Before(started) {
				latest = started
			}
			if r := found[id]; r.State() == records.Placeholder && r.CreatedAt.Before(started) {
				started, _ = r.CreatedAt.Time() // it can be read, or it would be before nothing
			}
			return looked{HalfDone{ID: id, UploadID: uploadID, Record: found[id], Size: size, Started: started, Latest: latest}, err}
		}) {
			if errors.Is(l.err, transfer.ErrUploadGone) {
				continue
			}
			if !yield(l.HalfDone, l.err) {
				return
			}
		}
	}
}

// AbortUpload gives up what is half done of the file id: its multipart uploads are aborted, and then its
// placeholder is discarded. A record that says more is left as it is. It returns the record that was
// there.
//
// Without a multipart upload the error is NotFound: a placeholder alone may wait for somebody with a
// presigned URL. known says that this one does not, because whoever made it remembers so.
func (c *Client) AbortUpload(ctx context.Context, id string, known, dryRun bool) (records.Record, error) {
	record, err := c.abortUpload(ctx, id, known, dryRun)
	return record, failed(id, err)
}

func (c *Client) abortUpload(ctx context.Context, id string, known, dryRun bool) (records.Record, error) {
	if !ValidID(id) {
		return records.Record{}, notAnID(id)
	}
	there := false
	for page, err := range c.uploadPages(ctx, id) {
		if err != nil {
			return records.Record{}, err
		}
		there = there || len(page) > 0
	}
	found, err := c.Records.Get(ctx, []string{id})
	if err != nil {
		return records.Record{}, err
	}
	record, ok := found[id]
	waits := ok && record.State() == records.Placeholder
	if !there && (!known || !waits) {
		return record, fileError(id, NotFound, "no upload in parts is half done")
	}
	if dryRun {
		return record, nil
	}
	if err := c.abortUploads(ctx, id); err != nil || !waits {
		return record, err
	}
	// An upload that has just been completed is no longer half done: its placeholder gets its due, from
	// its uploader or from a sweep.
	_, whole, err := c.head(ctx, id)
	switch {
	case err != nil:
		return record, err
	case whole && !there:
		return record, fileError(id, NotFound, "no upload in parts is half done: its object is whole")
	case whole:
		return record, nil
	}
	err = c.Records.Discard(ctx, id)
	if _, lost := errors.AsType[*records.TransitionError](err); lost {
		err = nil
	}
	return record, err
}
