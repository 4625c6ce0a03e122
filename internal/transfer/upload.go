package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/minio/crc64nvme"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/designfultech/filestore/internal/limit"
)

// File is what [Engine.UploadFile] reads; *os.File is one.
type File interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
}

// UploadFile puts the file under key. A file of at most one part is a single PutObject; a larger
// one a multipart upload with its parts sent in parallel, each read straight from the file. The
// file must not change meanwhile: ErrChanged where its size, its modification time or the
// checksum of a part does. Every error is an [*UploadError].
func (e *Engine) UploadFile(ctx context.Context, key, contentType string, f File, progress Progress) (Object, error) {
	before, err := f.Stat()
	if err != nil {
		return Object{}, &UploadError{Err: err}
	}
	size := before.Size()
	if size > MaxObjectSize {
		return Object{}, &UploadError{Err: ErrTooLarge}
	}
	unchanged := func() error {
		after, err := f.Stat()
		if err != nil {
			return err
		}
		if after.Size() != size || !after.ModTime().Equal(before.ModTime()) {
			return ErrChanged
		}
		return nil
	}
	if size <= e.partSize() {
		return e.putWhole(ctx, key, contentType, f, size, unchanged, progress)
	}
	return e.multipart(ctx, key, contentType, fileParts(f, size, e.partSize()), unchanged, progress)
}

// Stream is content of unknown length whose first part has been read.
type Stream struct {
	first []byte
	rest  io.Reader // nil: first is all
}

// OpenStream reads the first part of r. A caller that makes a record for the upload does so
// after it: however long the content takes to begin, the record does not wait for it.
func (e *Engine) OpenStream(r io.Reader) (*Stream, error) {
	first := make([]byte, min(e.partSize(), streamPartSize(1)))
	n, err := io.ReadFull(r, first)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Stream{first: first[:n]}, nil
	case err != nil:
		return nil, err
	}
	return &Stream{first: first, rest: r}, nil
}

// UploadStream puts what s holds, up to its end, under key: a single PutObject where that is at
// most one part, else a multipart upload whose parts grow, so that 10,000 of them hold 5 TiB.
// The memory it takes is 64 MiB and the size of a part. Every error is an [*UploadError].
func (e *Engine) UploadStream(ctx context.Context, key, contentType string, s *Stream, progress Progress) (Object, error) {
	nothingToCheck := func() error { return nil }
	if s.rest == nil {
		return e.putWhole(ctx, key, contentType, bytes.NewReader(s.first), int64(len(s.first)), nothingToCheck, progress)
	}
	return e.multipart(ctx, key, contentType, streamParts(s.rest, s.first), nothingToCheck, progress)
}

// putWhole sends one PutObject.
func (e *Engine) putWhole(ctx context.Context, key, contentType string, r io.ReaderAt, size int64,
	unchanged func() error, progress Progress,
) (Object, error) {
	slot, err := e.limiter(size).Acquire(ctx)
	if err != nil {
		return Object{}, &UploadError{Err: err}
	}
	defer slot.Release(size)
	if size <= smallest {
		// Read once: the bytes that are hashed are the bytes that are sent.
		data := make([]byte, size)
		if n, err := r.ReadAt(data, 0); int64(n) < size {
			if errors.Is(err, io.EOF) {
				err = ErrChanged
			}
			return Object{}, &UploadError{Err: err}
		}
		r = bytes.NewReader(data)
	}
	crc, err := e.checksum(r, size)
	if err != nil {
		return Object{}, &UploadError{Err: err}
	}
	sum := crc64NVME().encode(crc)
	var etag string
	outcome, err := e.send(ctx, slot, r, size, progress, func(ctx context.Context, body io.ReadSeeker) error {
		out, err := e.S3.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &e.Bucket, Key: &key, Body: body,
			ContentLength: &size, ContentType: &contentType, ChecksumCRC64NVME: &sum,
		}, once)
		if err != nil {
			return errors.Join(err, changedOnly(unchanged))
		}
		etag = aws.ToString(out.ETag)
		return nil
	})
	if err == nil {
		if err = unchanged(); err != nil {
			return Object{}, &UploadError{Err: err, Outcome: Written}
		}
		return Object{Size: size, ETag: etag, Verified: "CRC64NVME"}, nil
	}
	if outcome == Unknown {
		if object, ok := e.confirm(ctx, key, size, sum); ok {
			return object, nil
		}
	}
	return Object{}, &UploadError{Err: err, Outcome: outcome}
}

// smallest is the size up to which a file is read into memory at once, in bytes.
const smallest = 64 << 10

// confirm asks whether an upload whose answer was lost has succeeded: the object is there with
// the very size and checksum.
func (e *Engine) confirm(ctx context.Context, key string, size int64, sum string) (Object, bool) {
	if ctx.Err() != nil {
		return Object{}, false
	}
	out, err := e.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &e.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil || aws.ToInt64(out.ContentLength) != size || aws.ToString(out.ChecksumCRC64NVME) != sum {
		return Object{}, false
	}
	return Object{Size: size, ETag: aws.ToString(out.ETag), Verified: "CRC64NVME"}, true
}

// checksum reads size bytes of r. Fewer are ErrChanged.
func (e *Engine) checksum(r io.ReaderAt, size int64) (uint64, error) {
	buf := e.copyBuffer(size)
	defer e.giveBack(buf)
	hash := crc64nvme.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{hash}, struct{ io.Reader }{io.NewSectionReader(r, 0, size)}, *buf)
	if err != nil {
		return 0, err
	}
	if n != size {
		return 0, ErrChanged
	}
	return hash.Sum64(), nil
}

// part is one part to be sent. Its number counts from 1.
type part struct {
	number int32
	data   io.ReaderAt // from 0
	size   int64
	done   func() // gives back what holds the data
}

// parts yields the parts of an upload in order, until io.EOF. It may wait, until ctx ends, for
// memory that earlier parts hold.
type parts func(ctx context.Context) (part, error)

// fileParts cuts a file into sections. The part size grows with the file, in whole MiB, so that
// there are never more parts than S3 allows.
func fileParts(f io.ReaderAt, size, partSize int64) parts {
	if least := (size + MaxParts - 1) / MaxParts; partSize < least {
		const mib = 1 << 20
		partSize = (least + mib - 1) / mib * mib
	}
	var offset int64
	var number int32
	return func(context.Context) (part, error) {
		if offset >= size {
			return part{}, io.EOF
		}
		number++
		n := min(partSize, size-offset)
		p := part{number: number, data: io.NewSectionReader(f, offset, n), size: n, done: func() {}}
		offset += n
		return p, nil
	}
}

// streamPartSize returns the size of part number of a stream in bytes: 8 MiB, doubled with every
// 1,000 parts. 10,000 parts hold more than 5 TiB, and none exceeds the 5 GiB of a part.
func streamPartSize(number int32) int64 {
	return 8 << 20 << ((number - 1) / 1000)
}

// streamWindow is how many bytes of a stream are in memory at once, if no part is larger.
const streamWindow = 64 << 20

// streamParts reads parts from r into buffers; first is what was read already.
func streamParts(r io.Reader, first []byte) parts {
	var number int32
	var total int64
	var free sync.Pool
	memory := semaphore.NewWeighted(streamWindow)
	ended := false
	return func(ctx context.Context) (part, error) {
		if ended {
			return part{}, io.EOF
		}
		number++
		// One part that is larger than the window has it for itself.
		held := min(streamPartSize(number), streamWindow)
		if err := memory.Acquire(ctx, held); err != nil {
			return part{}, err
		}
		var data []byte
		if first != nil {
			data, first = first, nil
		} else {
			size := streamPartSize(number)
			buf, _ := free.Get().([]byte)
			if int64(cap(buf)) < size {
				buf = make([]byte, size)
			}
			n, err := io.ReadFull(r, buf[:size])
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
				ended = true
				if n == 0 {
					return part{}, io.EOF
				}
			case err != nil:
				return part{}, err
			}
			data = buf[:n]
		}
		if total += int64(len(data)); total > MaxObjectSize {
			return part{}, ErrTooLarge
		}
		return part{
			number: number, data: bytes.NewReader(data), size: int64(len(data)),
			done: func() {
				free.Put(data[:0]) //nolint:staticcheck // one allocation a part of megabytes
				memory.Release(held)
			},
		}, nil
	}
}

// multipart sends the parts in parallel and completes the upload with the checksum of the whole.
// Whatever goes wrong, the multipart upload is aborted.
func (e *Engine) multipart(ctx context.Context, key, contentType string, next parts,
	unchanged func() error, progress Progress,
) (Object, error) {
	createCtx, cancel := Outlive(ctx)
	created, err := e.S3.CreateMultipartUpload(createCtx, &s3.CreateMultipartUploadInput{
		Bucket: &e.Bucket, Key: &key, ContentType: &contentType,
		ChecksumAlgorithm: types.ChecksumAlgorithmCrc64nvme, ChecksumType: types.ChecksumTypeFullObject,
	})
	cancel()
	if err != nil {
		// The answer may have been lost and the upload be there: find it by its key, which is ours.
		failure := &UploadError{Err: cmp.Or(ctx.Err(), err)}
		if !refused(err) {
			failure.Leftover = e.AbortUploads(ctx, key)
		}
		return Object{}, failure
	}
	upload := &multipartUpload{engine: e, key: key, id: created.UploadId, progress: progress}
	object, outcome, err := upload.run(ctx, next, unchanged)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Object{}, &UploadError{Err: err, Outcome: outcome, Leftover: upload.abort(ctx)}
	}
	return object, nil
}

type multipartUpload struct {
	engine   *Engine
	key      string
	id       *string
	progress Progress

	mu   sync.Mutex
	sent []sentPart
}

type sentPart struct {
	types.CompletedPart
	size int64
	crc  uint64
}

func (u *multipartUpload) run(ctx context.Context, next parts, unchanged func() error) (Object, Outcome, error) {
	group, partCtx := errgroup.WithContext(ctx)
	var readErr error
	for {
		// The slot is taken before the part is read: a stream holds no more parts in memory than
		// are in flight.
		slot, err := u.engine.limiter(MinPartSize).Acquire(partCtx)
		if err != nil {
			break // of partCtx, and told below
		}
		p, err := next(partCtx)
		if err != nil {
			slot.Release(0)
			if !errors.Is(err, io.EOF) {
				readErr = err
			}
			break
		}
		group.Go(func() error {
			defer func() { p.done(); slot.Release(p.size) }()
			return u.sendPart(partCtx, slot, p)
		})
	}
	if err := group.Wait(); err != nil {
		return Object{}, NotWritten, errors.Join(err, changedOnly(unchanged))
	}
	if err := cmp.Or(readErr, ctx.Err(), unchanged()); err != nil {
		return Object{}, NotWritten, err
	}
	return u.complete(ctx)
}

// changedOnly tells of a changed source beside the error that it caused, and of nothing else.
func changedOnly(unchanged func() error) error {
	if err := unchanged(); errors.Is(err, ErrChanged) {
		return err
	}
	return nil
}

func (u *multipartUpload) sendPart(ctx context.Context, slot *limit.Slot, p part) error {
	e := u.engine
	crc, err := e.checksum(p.data, p.size)
	if err != nil {
		return err
	}
	sum := crc64NVME().encode(crc)
	_, err = e.send(ctx, slot, p.data, p.size, u.progress, func(ctx context.Context, body io.ReadSeeker) error {
		out, err := e.S3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &e.Bucket, Key: &u.key, UploadId: u.id, PartNumber: &p.number,
			Body: body, ContentLength: &p.size, ChecksumCRC64NVME: &sum,
		}, once)
		if err != nil {
			return err
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		u.sent = append(u.sent, sentPart{
			CompletedPart: types.CompletedPart{ETag: out.ETag, PartNumber: &p.number, ChecksumCRC64NVME: &sum},
			size:          p.size, crc: crc,
		})
		return nil
	})
	if err != nil {
		return fmt.Errorf("part %d: %w", p.number, err)
	}
	return nil
}

func (u *multipartUpload) complete(ctx context.Context) (Object, Outcome, error) {
	e := u.engine
	slices.SortFunc(u.sent, func(a, b sentPart) int { return cmp.Compare(*a.PartNumber, *b.PartNumber) })
	var size int64
	var crc uint64
	completed := make([]types.CompletedPart, len(u.sent))
	for i, p := range u.sent {
		completed[i] = p.CompletedPart
		crc = crc64NVME().combine(crc, p.crc, p.size)
		size += p.size
	}
	sum := crc64NVME().encode(crc)
	out, err := e.S3.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &e.Bucket, Key: &u.key, UploadId: u.id,
		MultipartUpload:   &types.CompletedMultipartUpload{Parts: completed},
		ChecksumCRC64NVME: &sum, ChecksumType: types.ChecksumTypeFullObject, MpuObjectSize: &size,
	})
	if err != nil {
		// The SDK tries again by itself: a refusal may answer the second try of a call whose
		// first one succeeded.
		if object, ok := e.confirm(ctx, u.key, size, sum); ok {
			return object, Written, nil
		}
		return Object{}, Unknown, err
	}
	return Object{Size: size, ETag: aws.ToString(out.ETag), Verified: "CRC64NVME"}, Written, nil
}

// abort removes the multipart upload with its parts, also after ctx has ended.
func (u *multipartUpload) abort(ctx context.Context) error {
	ctx, cancel := Cleanup(ctx)
	defer cancel()
	return u.engine.abortUpload(ctx, u.key, u.id)
}

// abortUpload aborts until the upload is gone: a part that is being written while the upload is
// aborted may keep it (Amazon S3 API Reference, "AbortMultipartUpload").
func (e *Engine) abortUpload(ctx context.Context, key string, id *string) error {
	for try := range abortAttempts {
		_, err := e.S3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &e.Bucket, Key: &key, UploadId: id})
		if IsNoSuchUpload(err) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = e.S3.ListParts(ctx, &s3.ListPartsInput{Bucket: &e.Bucket, Key: &key, UploadId: id, MaxParts: aws.Int32(1)})
		if IsNoSuchUpload(err) {
			return nil
		}
		if err != nil && !worthRetrying(err) {
			return nil // aborted, and whether anything came after it can't be asked
		}
		if err := wait(ctx, e.backoff(try)); err != nil {
			return err
		}
	}
	return fmt.Errorf("it is still there after %d tries", abortAttempts)
}

// abortAttempts is how often an upload is aborted that does not go away.
const abortAttempts = 6

// IsNoSuchUpload reports whether S3 answered that there is no such multipart upload.
func IsNoSuchUpload(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == "NoSuchUpload"
}

// AbortUploads aborts every multipart upload of key, also after ctx has ended.
func (e *Engine) AbortUploads(ctx context.Context, key string) error {
	ctx, cancel := Cleanup(ctx)
	defer cancel()
	pages := s3.NewListMultipartUploadsPaginator(e.S3, &s3.ListMultipartUploadsInput{Bucket: &e.Bucket, Prefix: &key})
	var failures []error
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return errors.Join(append(failures, err)...)
		}
		for _, u := range page.Uploads {
			if aws.ToString(u.Key) == key {
				failures = append(failures, e.abortUpload(ctx, key, u.UploadId))
			}
		}
	}
	return errors.Join(failures...)
}
