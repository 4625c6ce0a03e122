package client

import (
	"context"
	"fmt"
	"io"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

// Download writes the object of record r to w and verifies it against the size in the record
// and the checksum that S3 holds. What was written is right only when the error is nil.
//
// Which records may be downloaded is for the caller to decide with [Client.Downloadable].
func (c *Client) Download(ctx context.Context, r records.Record, w io.Writer, progress transfer.Progress) (transfer.Object, error) {
	object, err := c.Transfer.Download(ctx, r.ID, r.Size, w, progress)
	return object, downloadError(r.ID, err)
}

// DownloadFile is [Client.Download] into an empty file, in parallel.
func (c *Client) DownloadFile(ctx context.Context, r records.Record, f transfer.Sink, progress transfer.Progress) (transfer.Object, error) {
	object, err := c.Transfer.DownloadFile(ctx, r.ID, r.Size, f, progress)
	return object, downloadError(r.ID, err)
}

// Version asks which version of the object of record r there is, for [Client.DownloadRest].
func (c *Client) Version(ctx context.Context, r records.Record) (transfer.Version, error) {
	v, err := c.Transfer.Version(ctx, r.ID, r.Size)
	return v, downloadError(r.ID, err)
}

// DownloadRest is [Client.DownloadFile] into a file that may have a part of that version.
func (c *Client) DownloadRest(ctx context.Context, r records.Record, v transfer.Version, f transfer.ResumableSink,
	how transfer.Resumption, progress transfer.Progress,
) (transfer.Object, error) {
	object, err := c.Transfer.DownloadRest(ctx, r.ID, v, f, how, progress)
	return object, downloadError(r.ID, err)
}

func downloadError(id string, err error) error {
	if isMissing(err) {
		err = fmt.Errorf("%w: %w", ErrObjectMissing, err)
	}
	return failed(id, err)
}

// Downloadable returns the records of files that may be downloaded, in the order of ids, each id
// once: stored ones, and with nonStored temporary ones ("who gets one", docs/contract.md,
// "Presigned URLs"). Of the others it says why not.
func (c *Client) Downloadable(ctx context.Context, ids []string, nonStored bool) []Result[records.Record] {
	var out []Result[records.Record]
	for r := range c.Get(ctx, ids) {
		if r.Err == nil {
			r.Err = failed(r.ID, c.downloadable(r.Value, nonStored))
		}
		out = append(out, r)
	}
	return out
}

func (c *Client) downloadable(r records.Record, nonStored bool) error {
	switch state := r.State(); {
	case state == records.Deleted:
		return c.gone(r)
	case state == records.Placeholder:
		return fileError(r.ID, NotUploaded, "%w", records.ErrNotUploaded)
	case state == records.Temporary && !nonStored:
		return fileError(r.ID, NotStored, "temporary, not stored")
	}
	return nil
}
