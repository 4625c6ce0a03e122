package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
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
	return e.uploadFile(ctx, key, contentType, f, nil, progress)
}

// uploadFile is UploadFile; a want that is not nil makes it UploadContent.
func (e *Engine) uploadFile(ctx context.Context, key, contentType string, f File, want *Content, progress Progress) (Object, error) {
	size, unchanged, err := watch(f)
	if err != nil {
		return Object{}, &UploadError{Err: err}
	}
	if size <= e.partSize() {
		return e.putWhole(ctx, key, contentType, f, size, want, unchanged, progress)
	}
	return e.multipart(ctx, key, contentType, fileParts(f, size, e.partSize()), want, unchanged, progress)
}

// watch returns the size of a file, and what tells later whether the file has changed since.
func watch(f File) (size int64, unchanged func() error, err error) {
	before, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	size = before.Size()
	if size > MaxObjectSize {
		return 0, nil, ErrTooLarge
	}
	return size, func() error {
		after, err := f.Stat()
		if err != nil {
			return err
		}
		if after.Size() != size || !after.ModTime().Equal(before.ModTime()) {
			return ErrChanged
		}
		return nil
	}, nil
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
		return e.putWhole(ctx, key, contentType, bytes.NewReader(s.first), int64(len(s.first)), nil, nothingToCheck, progress)
	}
	return e.multipart(ctx, key, contentType, streamParts(s.rest, s.first), nil, nothingToCheck, progress)
}

// putWhole sends one PutObject.
func (e *Engine) putWhole(ctx context.Context, key, contentType string, r io.ReaderAt, size int64,
	want *Content, unchanged func() error, progress Progress,
) (Object, error) {
	slot, err := e.limiter(size).Acquire(ctx)
	if err != nil {
		return Object{}, &UploadError{Err: err}
	}
	defer slot.Release(size)
	return e.putIn(ctx, slot, key, contentType, r, size, want, unchanged, progress)
}

// putIn is putWhole for a caller that has the slot.
func (e *Engine) putIn(ctx context.Context, slot *limit.Slot, key, contentType string, r io.ReaderAt, size int64,
	want *Content, unchanged func() error, progress Progress,
) (Object, error) {
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
	put := wholePut{engine: e, key: key, contentType: contentType, r: r, size: size, want: want, unchanged: unchanged, progress: progress, slot: slot}
	c := e.uploadCRC()
	object, err := put.with(ctx, c)
	if c.name == crc32IEEE().name || err == nil && object.Verified != "" || err != nil && !refusesChecksum(err) {
		return object, err
	}
	return put.again(ctx, object, err)
}

// wholePut is one file or stream that goes as a single PutObject.
type wholePut struct {
	engine           *Engine
	key, contentType string
	r                io.ReaderAt
	size             int64
	want             *Content // nil: whatever r holds
	unchanged        func() error
	progress         Progress
	slot             *limit.Slot
}

// with puts the object with a checksum of kind c. The object is Verified only if the server says
// that it has compared the checksum.
func (p *wholePut) with(ctx context.Context, c crc) (Object, error) {
	e := p.engine
	crc, err := e.checksum(c, p.r, p.size)
	if err == nil {
		err = p.want.is(c, crc, p.size)
	}
	if err != nil {
		return Object{}, &UploadError{Err: err}
	}
	sum := c.encode(crc)
	object := Object{Size: p.size}
	outcome, err := e.send(ctx, p.slot, p.r, p.size, p.progress, func(ctx context.Context, body io.ReadSeeker) error {
		in := &s3.PutObjectInput{Bucket: &e.Bucket, Key: &p.key, Body: body, ContentLength: &p.size, ContentType: &p.contentType}
		in.ChecksumCRC64NVME, in.ChecksumCRC32 = c.fields(sum)
		timed, answered := e.small(ctx, p.size)
		out, err := e.S3.PutObject(timed, in, once)
		answered()
		if err != nil {
			return orChanged(e.whyRefused(err, c, crc, p.r, p.size), p.unchanged)
		}
		if aws.ToString(out.ETag) == "" {
			return errEmptyAnswer
		}
		object.ETag = aws.ToString(out.ETag)
		if c.held(out.ChecksumCRC64NVME, out.ChecksumCRC32) == sum {
			object.Verified = c.name
		}
		return nil
	})
	if err == nil {
		if err = p.unchanged(); err != nil {
			return Object{}, &UploadError{Err: err, Outcome: Written}
		}
		return object, nil
	}
	if outcome == Unknown {
		if object, ok := e.confirm(ctx, p.key, p.size, c, sum); ok {
			return object, nil
		}
	}
	return Object{}, &UploadError{Err: err, Outcome: outcome}
}

// again puts the object with a CRC-32, after the server has refused the CRC-64/NVME or taken the body
// without a word of it. One request at a time does so: where the server turns out to know no CRC-32
// either, the others need not be sent again.
func (p *wholePut) again(ctx context.Context, object Object, err error) (Object, error) {
	e := p.engine
	e.probe.Lock()
	defer e.probe.Unlock()
	if err == nil && e.noCRC32.Load() {
		return object, nil
	}
	if err == nil {
		p.progress.add(-p.size)
	}
	again, againErr := p.with(ctx, crc32IEEE())
	switch {
	case againErr == nil:
		e.noCRC64NVME.Store(true)
		e.noCRC32.Store(again.Verified == "")
	case err != nil:
		return Object{}, err // it was not for the checksum
	}
	if failed, ok := errors.AsType[*UploadError](againErr); ok && failed.Outcome == NotWritten {
		failed.Outcome = Written // by the first
	}
	return again, againErr
}

// uploadCRC is the checksum that bodies are sent with: CRC-64/NVME, and CRC-32 where the server was
// found not to know it. S3 has had the former since December 2024, many other servers have not.
func (e *Engine) uploadCRC() crc {
	if e.noCRC64NVME.Load() {
		return crc32IEEE()
	}
	return crc64NVME()
}

// fields returns the checksum sum for the field of a request that is of its kind.
func (c crc) fields(sum string) (crc64nvme, crc32 *string) {
	if c.name == crc32IEEE().name {
		return nil, &sum
	}
	return &sum, nil
}

// held returns the one of an answer's checksums that is of kind c.
func (c crc) held(crc64nvme, crc32 *string) string {
	if c.name == crc32IEEE().name {
		return aws.ToString(crc32)
	}
	return aws.ToString(crc64nvme)
}

// refusesChecksum reports whether a server may mean that it does not know the kind of checksum.
// What else it may mean shows when the request is repeated with another kind.
func refusesChecksum(err error) bool {
	status := StatusOf(err)
	if status != http.StatusBadRequest && status != http.StatusNotImplemented {
		return false
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return true
	}
	switch api.ErrorCode() {
	case "BadDigest", "XAmzContentChecksumMismatch", "EntityTooLarge", "IncompleteBody", "RequestTimeout", "ExpiredToken":
		return false
	}
	return true
}

// smallest is the size up to which a file is read into memory at once, in bytes.
const smallest = 64 << 10

// confirm asks whether an upload whose answer was lost has succeeded: the object is there with
// the very size and checksum.
func (e *Engine) confirm(ctx context.Context, key string, size int64, c crc, sum string) (Object, bool) {
	if ctx.Err() != nil {
		return Object{}, false
	}
	out, err := e.S3.HeadObject(ctx, &s3.HeadObjectInput{
		Bucket: &e.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled,
	})
	if err != nil || aws.ToInt64(out.ContentLength) != size || c.held(out.ChecksumCRC64NVME, out.ChecksumCRC32) != sum {
		return Object{}, false
	}
	return Object{Size: size, ETag: aws.ToString(out.ETag), Verified: c.name}, true
}

// checksum reads size bytes of r. Fewer are ErrChanged.
func (e *Engine) checksum(c crc, r io.ReaderAt, size int64) (uint64, error) {
	buf := e.copyBuffer(size)
	defer e.giveBack(buf)
	hash := c.hash()
	n, err := io.CopyBuffer(struct{ io.Writer }{hash}, struct{ io.Reader }{io.NewSectionReader(r, 0, size)}, *buf)
	if err != nil {
		return 0, err
	}
	if n != size {
		return 0, ErrChanged
	}
	return c.of(hash), nil
}

// whyRefused looks into the refusal of a body for its checksum sum. Where the source has another
// one by now, it is ErrChanged, and another try is no use; else the body was damaged on its way.
func (e *Engine) whyRefused(err error, c crc, sum uint64, r io.ReaderAt, size int64) error {
	if !isBadDigest(err) {
		return err
	}
	now, readErr := e.checksum(c, r, size)
	switch {
	case readErr != nil && !errors.Is(readErr, ErrChanged):
		return errors.Join(err, readErr)
	case readErr != nil || now != sum:
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}

// isBadDigest reports whether S3 refused a body because it does not have the checksum that was
// sent with it. Servers use two codes (Amazon S3 API Reference, "Error responses").
func isBadDigest(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && (api.ErrorCode() == "BadDigest" || api.ErrorCode() == "XAmzContentChecksumMismatch")
}

// part is one part to be sent. Its number counts from 1.
type part struct {
	number int32
	data   io.ReaderAt // from 0
	size   int64
	// fetch gets the data before anything is read of it; nil: it is there.
	fetch func(ctx context.Context, slot *limit.Slot) error
	done  func() // gives back what holds the data
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
	want *Content, unchanged func() error, progress Progress,
) (Object, error) {
	upload, err := e.create(ctx, key, contentType, want != nil)
	if err != nil {
		return Object{}, err
	}
	upload.want, upload.progress = want, progress
	object, outcome, err := upload.run(ctx, next, unchanged)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return Object{}, &UploadError{Err: err, Outcome: outcome, Leftover: upload.abort(ctx)}
	}
	return object, nil
}

// create begins a multipart upload, with the checksum that the server knows. A key that is shared
// may have multipart uploads of others.
func (e *Engine) create(ctx context.Context, key, contentType string, shared bool) (*multipartUpload, error) {
	c := e.uploadCRC()
	upload, err := e.createWith(ctx, key, contentType, c, shared)
	if c.name == crc32IEEE().name || err == nil && upload.known || err != nil && !refusesChecksum(err) {
		return upload, err
	}
	// One at a time, as in wholePut.again.
	e.probe.Lock()
	defer e.probe.Unlock()
	if err == nil && e.noCRC32.Load() {
		return upload, nil
	}
	if err == nil {
		if err := upload.abort(ctx); err != nil {
			return nil, &UploadError{Err: err, Leftover: err}
		}
	}
	again, againErr := e.createWith(ctx, key, contentType, crc32IEEE(), shared)
	switch {
	case againErr == nil:
		e.noCRC64NVME.Store(true)
		e.noCRC32.Store(!again.known)
	case err != nil:
		return nil, err // it was not for the checksum
	}
	return again, againErr
}

func (e *Engine) createWith(ctx context.Context, key, contentType string, c crc, shared bool) (*multipartUpload, error) {
	in := &s3.CreateMultipartUploadInput{Bucket: &e.Bucket, Key: &key, ContentType: &contentType}
	if in.ChecksumAlgorithm = types.ChecksumAlgorithm(c.name); c.name == crc64NVME().name {
		in.ChecksumType = types.ChecksumTypeFullObject
	}
	createCtx, cancel := Outlive(ctx)
	defer cancel()
	timed, answer := timeAnswer(createCtx)
	created, err := e.S3.CreateMultipartUpload(timed, in)
	if err == nil && aws.ToString(created.UploadId) == "" {
		err = errEmptyAnswer
	}
	if err != nil {
		failure := &UploadError{Err: cmp.Or(ctx.Err(), err)}
		switch {
		case refused(err):
		case shared:
			failure.Leftover = errShared
		default:
			// The answer may have been lost and the upload be there: find it by its key, which is ours.
			failure.Leftover = e.AbortUploads(ctx, key)
		}
		return nil, failure
	}
	tries, _ := retry.GetAttemptResults(created.ResultMetadata)
	if !shared && slices.ContainsFunc(tries.Results, func(r retry.AttemptResult) bool { return r.Err != nil && !refused(r.Err) }) {
		// A try whose answer was lost may have begun another upload. Where that can't be aborted, it
		// is one without parts, which the sweep of old uploads removes.
		_ = e.abortUploads(ctx, key, created.UploadId)
	}
	near, _ := answer()
	return &multipartUpload{
		engine: e, key: key, id: created.UploadId, crc: c, known: string(created.ChecksumAlgorithm) == c.name, near: near,
	}, nil
}

type multipartUpload struct {
	engine   *Engine
	key      string
	id       *string
	crc      crc
	known    bool     // the server said that it knows crc
	near     bool     // the server is near
	want     *Content // nil: whatever the parts hold
	progress Progress
	onSent   func(SentPart) // nil: nobody asks

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
		if u.near && p.fetch == nil && u.engine.overTLS() {
			u.engine.limiter(MinPartSize).Begin(nearParts)
		}
		group.Go(func() error {
			defer func() { p.done(); slot.Release(p.size) }()
			return u.sendPart(partCtx, slot, p, unchanged)
		})
	}
	if err := group.Wait(); err != nil {
		return Object{}, NotWritten, orChanged(err, unchanged)
	}
	if err := cmp.Or(readErr, ctx.Err(), unchanged()); err != nil {
		return Object{}, NotWritten, err
	}
	return u.complete(ctx)
}

// orChanged makes an error ErrChanged where a changed source explains it.
func orChanged(err error, unchanged func() error) error {
	if !errors.Is(err, ErrChanged) && errors.Is(unchanged(), ErrChanged) {
		return fmt.Errorf("%w: %w", ErrChanged, err)
	}
	return err
}

// sendPart sends a part, with its checksum behind it where that is of use and the server knows it.
func (u *multipartUpload) sendPart(ctx context.Context, slot *limit.Slot, p part, unchanged func() error) error {
	e := u.engine
	if p.fetch != nil {
		if err := p.fetch(ctx, slot); err != nil {
			return err
		}
	}
	if u.known && e.overTLS() && !e.noTrailers.Load() {
		err := u.sendTrailed(ctx, slot, p, unchanged)
		if err == nil {
			return nil
		}
		if !refusesTrailer(err) {
			return fmt.Errorf("part %d: %w", p.number, u.whyBroken(ctx, err))
		}
		e.noTrailers.Store(true)
	}
	crc, err := e.checksum(u.crc, p.data, p.size)
	if err != nil {
		return err
	}
	sum := u.crc.encode(crc)
	_, err = e.send(ctx, slot, p.data, p.size, u.progress, func(ctx context.Context, body io.ReadSeeker) error {
		in := &s3.UploadPartInput{
			Bucket: &e.Bucket, Key: &u.key, UploadId: u.id, PartNumber: &p.number, Body: body, ContentLength: &p.size,
		}
		in.ChecksumCRC64NVME, in.ChecksumCRC32 = u.crc.fields(sum)
		out, err := e.S3.UploadPart(ctx, in, once)
		if err != nil {
			return orChanged(e.whyRefused(err, u.crc, crc, p.data, p.size), unchanged)
		}
		if aws.ToString(out.ETag) == "" {
			return errEmptyAnswer
		}
		u.keep(p, out.ETag, crc)
		return nil
	})
	if err != nil {
		return fmt.Errorf("part %d: %w", p.number, u.whyBroken(ctx, err))
	}
	return nil
}

// whyBroken asks for the multipart upload where a part got no answer. A server that has none any more may refuse
// a part before it has read it; then the connection breaks, and the answer is lost.
func (u *multipartUpload) whyBroken(ctx context.Context, err error) error {
	if StatusOf(err) != 0 || errors.Is(err, ErrChanged) || IsUnconnected(err) || ctx.Err() != nil {
		return err
	}
	if asked := u.engine.askUpload(ctx, u.key, u.id); IsNoSuchUpload(asked) {
		return fmt.Errorf("%w (%w)", asked, err)
	}
	return err
}

// keep remembers a part that was sent.
func (u *multipartUpload) keep(p part, etag *string, crc uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	sum := u.crc.encode(crc)
	done := types.CompletedPart{ETag: etag, PartNumber: &p.number}
	done.ChecksumCRC64NVME, done.ChecksumCRC32 = u.crc.fields(sum)
	u.sent = append(u.sent, sentPart{CompletedPart: done, size: p.size, crc: crc})
	if u.onSent != nil {
		u.onSent(SentPart{Number: p.number, ETag: aws.ToString(etag), Checksum: sum})
	}
}

func (u *multipartUpload) complete(ctx context.Context) (Object, Outcome, error) {
	e := u.engine
	slices.SortFunc(u.sent, func(a, b sentPart) int { return cmp.Compare(*a.PartNumber, *b.PartNumber) })
	var size int64
	var crc uint64
	completed := make([]types.CompletedPart, len(u.sent))
	composite := u.crc.hash()
	for i, p := range u.sent {
		completed[i] = p.CompletedPart
		crc = u.crc.combine(crc, p.crc, p.size)
		_, _ = composite.Write(u.crc.bytes(p.crc)) // a hash never fails
		size += p.size
	}
	if err := u.want.is(u.crc, crc, size); err != nil {
		return Object{}, NotWritten, err
	}
	sum := u.crc.encode(crc)
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &e.Bucket, Key: &u.key, UploadId: u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: completed},
	}
	if u.crc.name == crc64NVME().name {
		// Servers that know no CRC-64/NVME know no CRC-32 of the full object either, only one of
		// those of the parts.
		in.ChecksumCRC64NVME, in.ChecksumType, in.MpuObjectSize = &sum, types.ChecksumTypeFullObject, &size
	} else {
		sum = fmt.Sprintf("%s-%d", u.crc.encode(u.crc.of(composite)), len(u.sent))
	}
	out, err := e.S3.CompleteMultipartUpload(ctx, in)
	if err == nil && aws.ToString(out.ETag) == "" {
		err = errEmptyAnswer
	}
	if err != nil {
		// The SDK tries again by itself: a refusal may answer the second try of a call whose
		// first one succeeded.
		if object, ok := e.confirm(ctx, u.key, size, u.crc, sum); ok {
			return object, Written, nil
		}
		return Object{}, Unknown, err
	}
	object := Object{Size: size, ETag: aws.ToString(out.ETag)}
	if u.known {
		object.Verified = u.crc.name
	}
	return object, Written, nil
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
		err = e.askUpload(ctx, key, id)
		if IsNoSuchUpload(err) {
			return nil
		}
		if err != nil && !WorthRetrying(err) {
			return nil // aborted, and whether anything came after it can't be asked
		}
		if err := wait(ctx, e.backoff(try)); err != nil {
			return err
		}
	}
	return fmt.Errorf("it is still there after %d tries", abortAttempts)
}

// askUpload asks for a multipart upload: nil where it is there, and [IsNoSuchUpload] of the error where it isn't.
func (e *Engine) askUpload(ctx context.Context, key string, id *string) error {
	_, err := e.S3.ListParts(ctx, &s3.ListPartsInput{Bucket: &e.Bucket, Key: &key, UploadId: id, MaxParts: aws.Int32(1)})
	return err
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
	return e.abortUploads(ctx, key, nil)
}

// abortUploads aborts every multipart upload of key but one; nil: every one.
func (e *Engine) abortUploads(ctx context.Context, key string, but *string) error {
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
			if aws.ToString(u.Key) == key && (but == nil || aws.ToString(u.UploadId) != *but) {
				failures = append(failures, e.abortUpload(ctx, key, u.UploadId))
			}
		}
	}
	return errors.Join(failures...)
}
