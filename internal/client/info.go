package client

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

// InfoOptions choose what [Client.Info] shows beside stored files.
type InfoOptions struct {
	Deleted   bool          // deleted files too
	NonStored bool          // placeholders and temporary files too
	Expires   time.Duration // lifetime of the download URLs; 0: the setting URLLifetime
	// Checksum asks S3 for each object: one call a file, of those that have an object. A file whose
	// object is missing or has another size than its record says is an error then.
	Checksum bool
	// Settle asks S3 for the object of each placeholder, and where it is there records the upload
	// ("uploaded", docs/contract.md, "The transitions"): its notification may be late or lost, or there are
	// none. It is for servers of the API.
	Settle bool
}

// FileInfo is a record and, for stored files, the URL to download it.
type FileInfo struct {
	records.Record
	URL presign.URL // zero for files that get none
	// Checksum is the one that S3 holds, of several the first in the order of [transfer.Held]; zero
	// where it holds none, or was not asked.
	Checksum transfer.Checksum
}

// infoChunk is how many records are asked for at a time, so that answers begin before the last
// record is read.
const infoChunk = 1000

// Info returns the records of files in the order of ids, each id once ("Which records info
// shows", docs/contract.md, "The HTTP API"). A file that is there but not shown is an error that
// says what it is: Expired, Deleted, NotUploaded or NotStored.
func (c *Client) Info(ctx context.Context, ids []string, opts InfoOptions) iter.Seq[Result[FileInfo]] {
	return func(yield func(Result[FileInfo]) bool) {
		signer := sync.OnceValues(func() (presign.Signer, error) { return c.Signer(ctx) })
		show := func(ctx context.Context, r Result[records.Record]) Result[FileInfo] {
			if r.Err == nil && opts.Settle && r.Value.State() == records.Placeholder {
				r.Value, r.Err = c.uploaded(ctx, r.Value)
				r.Err = c.explain(r.ID, r.Err)
			}
			result := Result[FileInfo]{ID: r.ID, Value: FileInfo{Record: r.Value}, Err: r.Err}
			if r.Err == nil {
				result.Err = c.visible(r.Value, opts)
			}
			if result.Err == nil && r.Value.State() == records.Stored {
				result.Value.URL, result.Err = c.downloadURL(signer, r.Value, opts.Expires)
			}
			if result.Err == nil && opts.Checksum {
				result.Value.Checksum, result.Err = c.checksum(ctx, r.Value)
			}
			result.Err = failed(r.ID, result.Err)
			return result
		}
		if !opts.Checksum && !opts.Settle {
			for r := range c.Get(ctx, ids) {
				if !yield(show(ctx, r)) {
					return
				}
			}
			return
		}
		for chunk := range inChunks(c.Get(ctx, ids), infoChunk) {
			for result := range InOrder(ctx, chunk, batch, show) {
				if !yield(result) {
					return
				}
			}
		}
	}
}

// inChunks yields what seq yields, up to n at a time.
func inChunks[T any](seq iter.Seq[T], n int) iter.Seq[[]T] {
	return func(yield func([]T) bool) {
		var chunk []T
		for v := range seq {
			if chunk = append(chunk, v); len(chunk) == n {
				if !yield(chunk) {
					return
				}
				chunk = nil
			}
		}
		if len(chunk) > 0 {
			yield(chunk)
		}
	}
}

// checksum asks S3 for the checksum of a file, if it has an object.
func (c *Client) checksum(ctx context.Context, r records.Record) (transfer.Checksum, error) {
	if state := r.State(); state != records.Stored && state != records.Temporary {
		return transfer.Checksum{}, nil
	}
	held, err := c.Transfer.Head(ctx, r.ID)
	switch {
	case isMissing(err):
		return transfer.Checksum{}, ErrObjectMissing
	case err != nil:
		return transfer.Checksum{}, err
	case r.Size >= 0 && r.Size != held.Size:
		return transfer.Checksum{}, fmt.Errorf("%w: the object has %d bytes, and the record says %d", transfer.ErrSize, held.Size, r.Size)
	case len(held.Checksums) == 0:
		return transfer.Checksum{}, nil
	}
	return held.Checksums[0], nil
}

// Get returns the records of files, in whatever state, in the order of ids, each id once. It
// asks for them in batches.
func (c *Client) Get(ctx context.Context, ids []string) iter.Seq[Result[records.Record]] {
	return func(yield func(Result[records.Record]) bool) {
		ids := unique(ids)
		for len(ids) > 0 {
			chunk := ids[:min(infoChunk, len(ids))]
			ids = ids[len(chunk):]
			var valid []string
			for _, id := range chunk {
				if ValidID(id) {
					valid = append(valid, id)
				}
			}
			found, err := c.Records.Get(ctx, valid)
			for _, id := range chunk {
				record, ok := found[id]
				result := Result[records.Record]{ID: id, Value: record}
				switch {
				case !ValidID(id):
					result.Err = notAnID(id)
				case err != nil:
					result.Err = failed(id, err)
				case !ok:
					result.Err = fileError(id, NotFound, "%w", records.ErrNotFound)
				}
				if !yield(result) {
					return
				}
			}
		}
	}
}

// visible returns why a record is not shown, nil where it is.
func (c *Client) visible(r records.Record, opts InfoOptions) error {
	switch r.State() {
	case records.Deleted:
		// A file that was deleted before it was ever stored is both.
		if opts.Deleted || opts.NonStored && !r.StoredAt.IsSet() {
			return nil
		}
		return c.gone(r)
	case records.Placeholder:
		if opts.NonStored {
			return nil
		}
		return fileError(r.ID, NotUploaded, "%w", records.ErrNotUploaded)
	case records.Temporary:
		if opts.NonStored {
			return nil
		}
		return fileError(r.ID, NotStored, "temporary, not stored")
	case records.Stored:
	}
	return nil
}

func (c *Client) downloadURL(signer func() (presign.Signer, error), r records.Record, lifetime time.Duration) (presign.URL, error) {
	s, err := signer()
	if err != nil {
		return presign.URL{}, err
	}
	if lifetime == 0 {
		lifetime = c.Settings.URLLifetime
	}
	return s.Get(r.ID, r.Name, r.Type, c.Now(), lifetime)
}
