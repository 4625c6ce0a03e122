package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/records"
)

const (
	// deleteChunk is how many records are marked as deleted before their objects are deleted.
	deleteChunk = 250
	// maxDeleted is how many objects one DeleteObjects request takes (Amazon S3 API Reference,
	// "DeleteObjects").
	maxDeleted = 1000
)

// Delete deletes files for good ("delete", docs/contract.md, "The transitions"): the record is
// marked first, then the object deleted, so that a delete that broke off is finished by saying
// it again or by the next sweep. Results come in the order of ids, each id once. Deleting a
// deleted file succeeds, keeps its first time, and deletes the object again.
func (c *Client) Delete(ctx context.Context, ids []string) iter.Seq[Result[records.Record]] {
	return func(yield func(Result[records.Record]) bool) {
		mark := c.markDeleted
		for chunk := range slices.Chunk(unique(ids), deleteChunk) {
			results := slices.Collect(InOrder(ctx, chunk, batch, mark))
			if err := c.deleteMarked(ctx, results); err != nil {
				mark = func(_ context.Context, id string) Result[records.Record] {
					return Result[records.Record]{ID: id, Err: failed(id, fmt.Errorf("not deleted: %w", err))}
				}
			}
			for _, r := range results {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// deleteMarked deletes the objects of the files that were marked, and has the results say where that
// failed. Its error says that nothing more can be deleted.
func (c *Client) deleteMarked(ctx context.Context, results []Result[records.Record]) error {
	var marked []string
	var files []Deletion
	for _, r := range results {
		if r.Err == nil {
			marked = append(marked, r.ID)
			files = append(files, newDeletion(r.Value, ActionDelete))
		}
	}
	failures, unaudited := c.audited(ctx, files, func() map[string]error { return c.deleteObjects(ctx, marked) })
	if unaudited != nil {
		failures = make(map[string]error)
		for _, id := range marked {
			failures[id] = unaudited
		}
	}
	for i, r := range results {
		if err := failures[r.ID]; err != nil {
			results[i].Err = failed(r.ID, fmt.Errorf("the record is marked as deleted, but its object is still there: %w", err))
		}
	}
	if unaudited != nil {
		return unaudited
	}
	return nil
}

func (c *Client) markDeleted(ctx context.Context, id string) Result[records.Record] {
	if !ValidID(id) {
		return Result[records.Record]{ID: id, Err: notAnID(id)}
	}
	record, err := c.Records.Delete(ctx, id, c.stamp())
	return Result[records.Record]{ID: id, Value: record, Err: failed(id, c.explain(id, err))}
}

// deleteObjects deletes the objects of ids and returns why some are still there, by id. It is
// no error where an object is not there.
func (c *Client) deleteObjects(ctx context.Context, ids []string) map[string]error {
	failures := make(map[string]error)
	for chunk := range slices.Chunk(ids, maxDeleted) {
		if len(chunk) == 1 {
			if err := c.deleteObject(ctx, chunk[0]); err != nil {
				failures[chunk[0]] = err
			}
			continue
		}
		objects := make([]types.ObjectIdentifier, len(chunk))
		for i, id := range chunk {
			objects[i].Key = aws.String(id)
		}
		out, err := c.S3.DeleteObjects(ctx, &s3.DeleteObjectsInput{
			Bucket: &c.Bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
		})
		if err != nil {
			for _, id := range chunk {
				failures[id] = err
			}
			continue
		}
		for _, e := range out.Errors {
			if code := aws.ToString(e.Code); code != "NoSuchKey" {
				failures[aws.ToString(e.Key)] = &smithy.GenericAPIError{Code: code, Message: aws.ToString(e.Message)}
			}
		}
	}
	return failures
}

// abortUploads aborts the multipart uploads under the key of id.
func (c *Client) abortUploads(ctx context.Context, id string) error {
	if err := c.Transfer.AbortUploads(ctx, id); err != nil {
		return errors.Join(fmt.Errorf("abort the multipart uploads of %q", id), err)
	}
	return nil
}
