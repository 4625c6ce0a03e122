package transfer

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/designfultech/filestore/internal/limit"
)

// Sink is an empty file that a download fills; *os.File is one.
type Sink interface {
	io.Writer
	io.WriterAt
	Truncate(size int64) error
}

// DownloadFile writes the object under key to f, verified as [Engine.Download] does it, but in
// parallel: ranges of it are asked for, all with If-Match on one ETag, and written where they
// belong. Their checksums are computed as they arrive and combined, so that the file is not read
// again. The file gets its full size at once: where the file system can tell, a disk without room
// for it is an error before the first byte.
//
// An object of at most one part, or of which the server holds no checksum that can be combined,
// is downloaded in one piece.
func (e *Engine) DownloadFile(ctx context.Context, key string, size int64, f Sink, progress Progress) (Object, error) {
	if size >= 0 && size <= e.partSize() {
		return e.Download(ctx, key, size, f, progress)
	}
	head, err := e.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &e.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return Object{}, err
	}
	d := &rangedDownload{engine: e, key: key, etag: aws.ToString(head.ETag), size: aws.ToInt64(head.ContentLength), f: f, progress: progress}
	if size >= 0 && d.size != size {
		return Object{}, sizeMismatch(d.size, size)
	}
	var ok bool
	if d.crc, d.want, ok = fullObjectCRC(head); !ok || d.etag == "" || d.size <= e.partSize() {
		return e.Download(ctx, key, size, f, progress)
	}
	if err := preallocate(f, d.size); err != nil {
		return Object{}, err
	}
	if err := d.run(ctx); err != nil {
		return Object{}, err
	}
	return Object{Size: d.size, ETag: d.etag, Verified: d.crc.name}, nil
}

// fullObjectCRC picks the CRC of the full object that S3 holds, and its value in base64.
func fullObjectCRC(head *s3.HeadObjectOutput) (c crc, want string, ok bool) {
	if head.ChecksumType == types.ChecksumTypeComposite {
		return crc{}, "", false
	}
	for _, held := range []struct {
		crc   crc
		value *string
	}{
		{crc64NVME(), head.ChecksumCRC64NVME},
		{crc32C(), head.ChecksumCRC32C},
		{crc32IEEE(), head.ChecksumCRC32},
	} {
		if value := aws.ToString(held.value); value != "" {
			return held.crc, value, !strings.Contains(value, "-")
		}
	}
	return crc{}, "", false
}

// rangedDownload is one object on its way into a file.
type rangedDownload struct {
	engine   *Engine
	key      string
	etag     string
	size     int64
	crc      crc
	want     string
	f        io.WriterAt
	progress Progress
}

func (d *rangedDownload) run(ctx context.Context) error {
	partSize := d.engine.partSize()
	sums := make([]uint64, (d.size+partSize-1)/partSize)
	bounds := func(i int) (from, to int64) {
		from = int64(i) * partSize
		return from, min(from+partSize, d.size)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	for i := range sums {
		from, to := bounds(i)
		slot, err := d.engine.limiter(partSize).Acquire(groupCtx)
		if err != nil {
			break // of groupCtx, and told below
		}
		group.Go(func() (err error) {
			defer slot.Release(to - from)
			sums[i], err = d.fetch(groupCtx, slot, from, to)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	var whole uint64
	for i, sum := range sums {
		from, to := bounds(i)
		whole = d.crc.combine(whole, sum, to-from)
	}
	if d.crc.encode(whole) != d.want {
		return checksumMismatch(d.crc.name)
	}
	return nil
}

// fetch gets the bytes [from, to) and returns their checksum. A body that breaks off is
// continued from where it broke.
func (d *rangedDownload) fetch(ctx context.Context, slot *limit.Slot, from, to int64) (uint64, error) {
	hash, at := d.crc.hash(), from
	err := d.engine.continuing(ctx, slot, func() (int64, error) {
		before := at
		err := d.fetchOnce(ctx, &at, to, hash)
		return at - before, err
	})
	return d.crc.of(hash), err
}

func (d *rangedDownload) fetchOnce(ctx context.Context, at *int64, to int64, hash io.Writer) error {
	e := d.engine
	if *at == to {
		return nil
	}
	out, err := e.S3.GetObject(ctx, &s3.GetObjectInput{
		Bucket: &e.Bucket, Key: &d.key, IfMatch: &d.etag, Range: aws.String(fmt.Sprintf("bytes=%d-%d", *at, to-1)),
	}, once)
	if err != nil {
		return changedIfMismatch(d.key, err)
	}
	defer func() { _ = out.Body.Close() }()
	if want := fmt.Sprintf("bytes %d-%d/%d", *at, to-1, d.size); aws.ToString(out.ContentRange) != want {
		return fmt.Errorf("asked for %q, the server sent %q", want, aws.ToString(out.ContentRange))
	}
	buf := e.copyBuffer(to - *at)
	defer e.giveBack(buf)
	for *at < to {
		n, err := io.ReadFull(out.Body, (*buf)[:min(int64(len(*buf)), to-*at)])
		if n > 0 {
			if _, err := d.f.WriteAt((*buf)[:n], *at); err != nil {
				return &writeError{err}
			}
			_, _ = hash.Write((*buf)[:n]) // a hash never fails
			*at += int64(n)
			d.progress.add(int64(n))
		}
		if err != nil {
			return &brokenBody{fmt.Errorf("at byte %d of %d: %w", *at, d.size, err)}
		}
	}
	return nil
}
