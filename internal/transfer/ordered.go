package transfer

import (
	"context"
	"errors"
	"hash"
	"io"

	"golang.org/x/sync/errgroup"
)

// How far a download in order reads ahead: so many pieces, each a request, are on their way or wait
// to be written. Together they are the memory that it needs, 64 MiB.
const (
	orderedPiece  = 4 << 20 // bytes
	orderedPieces = 16
)

// Download writes the object under key to w, in order. size is the number of bytes that the
// object must have, -1 where it isn't known. A body that breaks off is continued from where it
// broke, with If-Match on the ETag, so that all bytes are of one version of the object.
//
// An object of more than one part is asked for in ranges, several at a time, and read ahead into
// bounded memory. A writer that takes its time keeps no request waiting: a range is read as fast
// as it comes, and the next one asked for when there is room for it. An object of which the
// server holds no checksum that can be combined is one request.
//
// What was written is verified against the checksum that S3 holds; only after a nil error is it
// right. ErrSize, ErrChecksum and ErrChanged say how it is wrong. Errors of w are returned as
// they are.
func (e *Engine) Download(ctx context.Context, key string, size int64, w io.Writer, progress Progress) (Object, error) {
	v, err := e.Version(ctx, key, size)
	if err != nil {
		return Object{}, err
	}
	if !v.InRanges() {
		return e.downloadWhole(ctx, key, size, w, progress)
	}
	d := &rangedDownload{engine: e, key: key, Version: v, progress: progress}
	return d.inOrder(ctx, w)
}

// inOrder asks for the pieces in one goroutine each and writes them in their order in another. A
// piece needs a buffer before it is asked for, and gives it back when it is written.
func (d *rangedDownload) inOrder(ctx context.Context, w io.Writer) (Object, error) {
	free := make(chan []byte, orderedPieces)
	for range orderedPieces {
		free <- nil // made when it is needed
	}
	var written []extent
	group, groupCtx := errgroup.WithContext(ctx)
	queue := make(chan *orderedRange, orderedPieces)
	group.Go(func() error {
		defer close(queue)
		for _, next := range gaps(nil, d.Size, orderedPiece) {
			var buf []byte
			select {
			case buf = <-free:
			case <-groupCtx.Done():
				return groupCtx.Err()
			}
			slot, err := d.engine.limiter(orderedPiece).Acquire(groupCtx)
			if err != nil {
				return err
			}
			if buf == nil {
				buf = make([]byte, orderedPiece)
			}
			r := &orderedRange{extent: next, buf: buf, hash: d.crc.hash(), done: make(chan struct{})}
			queue <- r // there is room for as many as there are buffers
			group.Go(func() error {
				defer slot.Release(next.to - next.from)
				if err := d.fetch(groupCtx, slot, next.from, next.to, r); err != nil {
					return err
				}
				close(r.done)
				return nil
			})
		}
		return nil
	})
	group.Go(func() error {
		for r := range queue {
			select {
			case <-r.done:
			case <-groupCtx.Done():
				return groupCtx.Err()
			}
			if err := writePieces(w, r.buf[:r.filled]); err != nil {
				return err
			}
			r.sum = d.crc.of(r.hash)
			written = append(written, r.extent)
			free <- r.buf
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return Object{}, err
	}
	if err := ctx.Err(); err != nil {
		return Object{}, err
	}
	return d.verify(written)
}

// writePieces writes p in pieces, so that a writer that copies what it is given need not copy
// everything at once. It returns the error of w as it is.
func writePieces(w io.Writer, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), copyBufferSize)
		if err := writeAll(w, p[:n]); err != nil {
			return errors.Unwrap(err)
		}
		p = p[n:]
	}
	return nil
}

// orderedRange is a range in memory.
type orderedRange struct {
	extent
	buf    []byte
	filled int
	hash   hash.Hash
	done   chan struct{} // closed when it is whole
}

func (r *orderedRange) room(most int64) []byte {
	return r.buf[r.filled : r.filled+int(min(most, copyBufferSize))]
}

func (r *orderedRange) take(p []byte) error {
	_, _ = r.hash.Write(p) // a hash never fails
	r.filled += len(p)
	return nil
}
