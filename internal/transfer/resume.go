package transfer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"
)

// ErrUploadGone says that the multipart upload to go on with is not there any more: it was
// completed or aborted.
var ErrUploadGone = errors.New("the multipart upload is gone")

// Checkpoint is a multipart upload of a file, as another process needs it to go on.
type Checkpoint struct {
	UploadID string
	PartSize int64  // bytes, as the engine that began it had it
	Checksum string // what the parts are sent with: "CRC64NVME" or "CRC32"
	// Sent is what the server confirmed. It is needed only where the server lists parts without
	// their checksums.
	Sent []SentPart
}

// SentPart is a part that the server has confirmed.
type SentPart struct {
	Number   int32
	ETag     string // with its quotes
	Checksum string // base64, of the kind that the Checkpoint names
}

// Tracking is how an upload in parts outlives its process.
type Tracking struct {
	// From is the upload to go on with. Without an UploadID one is begun.
	From Checkpoint
	// Begun is told of an upload that was begun, before any part is sent. Its error ends the upload.
	Begun func(Checkpoint) error
	// Resumed is told how many bytes of From are there, before anything is sent. It may be nil.
	Resumed func(there int64)
	// Sent is told of each part once the server has it, one at a time. It may be nil.
	Sent func(SentPart)
	// Keep leaves the multipart upload as it is after a failure, for another process to go on with.
	Keep bool
}

// InParts reports whether UploadFile sends a file of so many bytes in parts.
func (e *Engine) InParts(size int64) bool { return size > e.partSize() }

// UploadTracked is UploadFile in parts that another process can go on with. Parts that are there
// are not sent again: each must have the checksum of what the file has in its place. Progress is
// told of them too. The error is [ErrUploadGone] where there is nothing to go on with.
func (e *Engine) UploadTracked(ctx context.Context, key, contentType string, f File, t Tracking, progress Progress) (Object, error) {
	size, unchanged, err := watch(f)
	if err != nil {
		return Object{}, &UploadError{Err: err}
	}
	var upload *multipartUpload
	var next parts
	if t.From.UploadID == "" {
		upload, next, err = e.beginTracked(ctx, key, contentType, f, size, t)
	} else {
		upload, next, err = e.reopen(ctx, key, f, size, t, progress)
	}
	if err != nil {
		return Object{}, err
	}
	upload.progress, upload.onSent = progress, t.Sent
	object, outcome, err := upload.run(ctx, next, unchanged)
	if err != nil {
		return Object{}, upload.failed(ctx, outcome, err, t.Keep)
	}
	return object, nil
}

// failed returns the error of an upload that has failed. It is aborted, unless it is to be kept.
func (u *multipartUpload) failed(ctx context.Context, outcome Outcome, err error, keep bool) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	failure := &UploadError{Err: err, Outcome: outcome}
	if !keep {
		failure.Leftover = u.abort(ctx)
	}
	return failure
}

func (e *Engine) beginTracked(ctx context.Context, key, contentType string, f File, size int64, t Tracking) (*multipartUpload, parts, error) {
	upload, err := e.create(ctx, key, contentType, false)
	if err != nil {
		return nil, nil, err
	}
	begun := Checkpoint{UploadID: aws.ToString(upload.id), PartSize: e.partSize(), Checksum: upload.crc.name}
	if err := t.Begun(begun); err != nil {
		return nil, nil, upload.failed(ctx, NotWritten, err, t.Keep)
	}
	return upload, fileParts(f, size, e.partSize()), nil
}

// reopen finds what is there of an upload that another process has begun, and returns it with the
// parts that are missing.
func (e *Engine) reopen(ctx context.Context, key string, f File, size int64, t Tracking, progress Progress) (*multipartUpload, parts, error) {
	c := crcNamed(t.From.Checksum)
	upload := &multipartUpload{engine: e, key: key, id: &t.From.UploadID, crc: c}
	there, err := upload.list(ctx)
	if err != nil {
		return nil, nil, &UploadError{Err: err}
	}
	for _, p := range t.From.Sent {
		// A server that lists no checksums has the very part that was sent if it has its ETag.
		if listed, ok := there[p.Number]; ok && listed.sum == "" && listed.etag == p.ETag {
			listed.sum = p.Checksum
			there[p.Number] = listed
		}
	}
	have, missing, err := upload.compare(ctx, fileParts(f, size, t.From.PartSize), there)
	if err != nil {
		return nil, nil, upload.failed(ctx, NotWritten, err, t.Keep)
	}
	upload.sent = have
	var bytes int64
	for _, p := range have {
		bytes += p.size
	}
	if t.Resumed != nil {
		t.Resumed(bytes)
	}
	progress.add(bytes)
	return upload, func(context.Context) (part, error) {
		if len(missing) == 0 {
			return part{}, io.EOF
		}
		p := missing[0]
		missing = missing[1:]
		return p, nil
	}, nil
}

// listedPart is a part as the server lists it.
type listedPart struct {
	etag string
	sum  string // of the upload's kind; empty where the server lists none
	size int64
}

// list returns the parts that the server has, by their number, and learns whether it knows the
// checksum.
func (u *multipartUpload) list(ctx context.Context) (map[int32]listedPart, error) {
	there := make(map[int32]listedPart)
	pages := s3.NewListPartsPaginator(u.engine.S3, &s3.ListPartsInput{Bucket: &u.engine.Bucket, Key: &u.key, UploadId: u.id})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if IsNoSuchUpload(err) {
			return nil, errors.Join(ErrUploadGone, err)
		}
		if err != nil {
			return nil, fmt.Errorf("list the parts that are there: %w", err)
		}
		u.known = string(page.ChecksumAlgorithm) == u.crc.name
		for _, p := range page.Parts {
			there[aws.ToInt32(p.PartNumber)] = listedPart{
				etag: aws.ToString(p.ETag), sum: u.crc.held(p.ChecksumCRC64NVME, p.ChecksumCRC32), size: aws.ToInt64(p.Size),
			}
		}
	}
	return there, nil
}

// compare reads what the file has in the place of each part that is there. It returns those that
// are the same, and those that are still to be sent.
func (u *multipartUpload) compare(ctx context.Context, next parts, there map[int32]listedPart) (have []sentPart, missing []part, err error) {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0)) // what bounds it is hashing
	for {
		p, err := next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, errors.Join(err, group.Wait())
		}
		listed, ok := there[p.number]
		if !ok || listed.sum == "" || listed.size != p.size {
			mu.Lock()
			missing = append(missing, p)
			mu.Unlock()
			continue
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			crc, err := u.engine.checksum(u.crc, p.data, p.size)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			if u.crc.encode(crc) != listed.sum {
				missing = append(missing, p)
				return nil
			}
			done := types.CompletedPart{ETag: &listed.etag, PartNumber: &p.number}
			done.ChecksumCRC64NVME, done.ChecksumCRC32 = u.crc.fields(listed.sum)
			have = append(have, sentPart{CompletedPart: done, size: p.size, crc: crc})
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(missing, func(a, b part) int { return int(a.number - b.number) })
	return have, missing, nil
}

// Holds compares the object under key with what an upload from that checkpoint makes of the file.
// same is false where they differ or there is no object. The object is Verified by the checksum that was
// compared; where the server holds none, the sizes alone are the same.
func (e *Engine) Holds(ctx context.Context, key string, f File, from Checkpoint) (object Object, same bool, err error) {
	size, unchanged, err := watch(f)
	if err != nil {
		return Object{}, false, err
	}
	out, err := e.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &e.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if StatusOf(err) == http.StatusNotFound {
		return Object{}, false, nil
	}
	if err != nil {
		return Object{}, false, err
	}
	c := crcNamed(from.Checksum)
	object = Object{Size: size, ETag: aws.ToString(out.ETag)}
	held := c.held(out.ChecksumCRC64NVME, out.ChecksumCRC32)
	if aws.ToInt64(out.ContentLength) != size || held == "" {
		return object, aws.ToInt64(out.ContentLength) == size, nil
	}
	full, composite, err := e.checksums(ctx, c, fileParts(f, size, from.PartSize))
	if err == nil {
		err = unchanged()
	}
	if err != nil {
		return Object{}, false, err
	}
	// A checksum of checksums is followed by the number of parts (Amazon S3 User Guide, "Checking
	// object integrity").
	if sum, _, isComposite := strings.Cut(held, "-"); isComposite || out.ChecksumType == types.ChecksumTypeComposite {
		held, full = sum, composite
	}
	object.Verified = c.name
	return object, held == full, nil
}

// checksums reads all parts and returns the checksum of the whole, and that of the checksums of the parts.
func (e *Engine) checksums(ctx context.Context, c crc, next parts) (full, composite string, err error) {
	var all []part
	for {
		p, err := next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", "", err
		}
		all = append(all, p)
	}
	sums := make([]uint64, len(all))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range all {
		group.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			sums[i], err = e.checksum(c, p.data, p.size)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return "", "", err
	}
	var whole uint64
	ofSums := c.hash()
	for i, p := range all {
		whole = c.combine(whole, sums[i], p.size)
		_, _ = ofSums.Write(binary.BigEndian.AppendUint64(nil, sums[i])[8-c.width/8:]) // a hash never fails
	}
	return c.encode(whole), c.encode(c.of(ofSums)), nil
}

// crcNamed is the checksum of that name for uploads.
func crcNamed(name string) crc {
	if name == crc32IEEE().name {
		return crc32IEEE()
	}
	return crc64NVME()
}

// AbortUpload aborts one multipart upload, also after ctx has ended. It succeeds where that is gone.
func (e *Engine) AbortUpload(ctx context.Context, key, uploadID string) error {
	ctx, cancel := Cleanup(ctx)
	defer cancel()
	return e.abortUpload(ctx, key, &uploadID)
}

// PartsOf returns how many bytes of a multipart upload are there, and when the last of them came; the zero
// time where there are none. The error is [ErrUploadGone] where there is no such upload.
func (e *Engine) PartsOf(ctx context.Context, key, uploadID string) (size int64, latest time.Time, err error) {
	pages := s3.NewListPartsPaginator(e.S3, &s3.ListPartsInput{Bucket: &e.Bucket, Key: &key, UploadId: &uploadID})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if IsNoSuchUpload(err) {
			return 0, time.Time{}, errors.Join(ErrUploadGone, err)
		}
		if err != nil {
			return 0, time.Time{}, err
		}
		for _, p := range page.Parts {
			size += aws.ToInt64(p.Size)
			if at := aws.ToTime(p.LastModified); at.After(latest) {
				latest = at
			}
		}
	}
	return size, latest, nil
}
