// Package transfer moves the bytes of objects between this machine and one S3 bucket:
// uploads of files and streams, whole or in parts, and downloads, all verified against the
// checksum that S3 computes itself. It knows nothing of records.
//
// Bodies are sent as UNSIGNED-PAYLOAD with a CRC-64/NVME of our own (Amazon S3 User Guide,
// "Checking object integrity"): S3 refuses a body that does not match it, and the second pass
// over every body that a SHA-256 signature costs is saved. Bodies are retried here and not by
// the SDK, because only the caller of each try knows whether an object may have come of it.
//
// Nothing here limits the time of a transfer. A server that falls silent is given up by the
// connection (package client, HTTPClient), and the try that it carried is repeated.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/limit"
)

// Defaults of an [Engine].
const (
	DefaultPartSize = 16 << 20 // bytes
	DefaultAttempts = 5
)

// How many requests are in flight unless Concurrency says otherwise: where it begins, and the
// bounds within which it adapts (docs/performance.md, "Transfers"). Parts are counted apart from
// small files: they need fewer to fill a connection, and more memory each.
const (
	firstParts, fewestParts, mostParts = 32, 2, 64
	firstFiles, fewestFiles, mostFiles = 64, 4, 256 // after the first answer: see small
)

// A range is up to mostRange parts long, and there are rangesEach for each that is in flight, so that the last
// ones end together.
const (
	rangesEach = 4
	mostRange  = 8
)

// smallFile is the size up to which a file counts as a small one, in bytes.
const smallFile = 1 << 20

// Limits of S3 (Amazon S3 User Guide, "Amazon S3 multipart upload limits").
const (
	MinPartSize   = 5 << 20 // bytes, but for the last part
	MaxPartSize   = 5 << 30 // bytes
	MaxParts      = 10_000
	MaxObjectSize = 5 << 40 // bytes
)

// How long it may take to leave nothing behind: after a failure, and after an interrupt or a deadline, when
// somebody waits.
const (
	cleanupTimeout          = 15 * time.Second
	interruptCleanupTimeout = 3 * time.Second
)

// Cleanup returns a context for what leaves nothing behind: it lives on after ctx has ended, but
// not for long, and no longer after the deadline of ctx than if that were over already.
func Cleanup(ctx context.Context) (context.Context, context.CancelFunc) {
	timeout := cleanupTimeout
	if ctx.Err() != nil {
		timeout = interruptCleanupTimeout
	} else if end, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(end)+interruptCleanupTimeout)
	}
	return context.WithTimeout(context.WithoutCancel(ctx), timeout)
}

// Errors of transfers, for errors.Is.
var (
	// ErrChanged says that the source changed while it was being read.
	ErrChanged = errors.New("changed while it was being transferred")
	// ErrChecksum says that what arrived is not what S3 holds.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrSize says that the number of bytes is not the expected one.
	ErrSize = errors.New("size mismatch")
	// ErrTooLarge says that the object would exceed what S3 can hold.
	ErrTooLarge = errors.New("larger than 5 TiB, the largest object that S3 holds")
)

// errEmptyAnswer says that an answer with status 200 says nothing of what was written: it broke off,
// or something between here and S3 has made it. The SDK takes such a one for success.
var errEmptyAnswer = fmt.Errorf("the answer does not say what was written: %w", io.ErrUnexpectedEOF)

// Outcome is what a failed upload may have left in the bucket.
type Outcome int

// The outcomes, from certain to uncertain.
const (
	NotWritten Outcome = iota // no object came of it, and none will
	Written                   // the object is there
	Unknown                   // everything was sent and no answer came: it may be there, or appear
)

// UploadError is a failed upload. No multipart upload is left behind, unless Leftover says why
// one could not be removed.
type UploadError struct {
	Err      error
	Outcome  Outcome
	Leftover error
}

func (e *UploadError) Error() string {
	if e.Leftover != nil {
		return fmt.Sprintf("%v (and a multipart upload may be left: %v)", e.Err, e.Leftover)
	}
	return e.Err.Error()
}

// Unwrap returns the cause.
func (e *UploadError) Unwrap() error { return e.Err }

// Object is what a transfer learnt about an object.
type Object struct {
	Size int64  // bytes
	ETag string // with its quotes, as S3 writes it
	// Verified names the checksum that was compared from end to end: "CRC64NVME", "MD5" and so
	// on; empty when the server holds none, and only the size could be compared.
	Verified string
}

// Progress is told of every byte that moved: n is negative where a failed attempt has to be
// sent again. It is called from several goroutines at once. A nil Progress is allowed.
type Progress func(n int64)

func (p Progress) add(n int64) {
	if p != nil && n != 0 {
		p(n)
	}
}

// Engine transfers the objects of one bucket. The zero value of every field but S3 and Bucket
// means the default. An Engine is safe for concurrent use.
type Engine struct {
	S3          *s3.Client
	Bucket      string
	PartSize    int64 // bytes; files larger than one part are sent in parts
	Concurrency int   // parts, and small files, in flight; 0: adapted to the connection and the service
	Attempts    int   // tries for one body
	Bandwidth   int64 // bytes a second that the connections of S3 are kept to; 0: not
	// Backoff is how long to wait after try number 0, 1, ... failed.
	Backoff func(try int) time.Duration

	buffers      sync.Pool // of *[]byte, copyBufferSize each
	rangeBuffers sync.Pool // of *[]byte, rangeBufferSize each

	// What the server was found to know of checksums, see uploadCRC.
	noCRC64NVME atomic.Bool
	noCRC32     atomic.Bool
	noTrailers  atomic.Bool
	probe       sync.Mutex // held by the request that finds it out

	limits sync.Once
	parts  *limit.Limiter // of requests that move much
	files  *limit.Limiter // of those that move little
	placed atomic.Bool    // files knows whether the server is near
	probed atomic.Int32   // answers that have not told
}

// FilesAtOnce is how many files a caller should have under way so that never fewer requests are
// in flight than allowed.
func (e *Engine) FilesAtOnce() int {
	return e.limiter(0).Highest()
}

// DownloadsNow is how many downloads a caller should have under way at present: what it does before and after the request of
// one of them is then not waited for.
func (e *Engine) DownloadsNow() int { return e.filesNow(2) }

// UploadsNow is the same of uploads, each of which also has two writes of its record to wait for.
func (e *Engine) UploadsNow() int { return e.filesNow(4) }

// filesNow is so many for each request that may be in flight, of either kind.
func (e *Engine) filesNow(each int) int {
	small, large := e.limiter(0), e.limiter(MinPartSize)
	return min(each*max(small.Limit(), large.Limit()), small.Highest())
}

// Throttled tells that the table of records asks for fewer requests: each small file needs two of
// its writes, so that fewer files in flight are what lowers them.
func (e *Engine) Throttled() { e.limiter(0).Throttled() }

// limiter returns what bounds the requests for so many bytes.
func (e *Engine) limiter(size int64) *limit.Limiter {
	e.limits.Do(func() {
		if e.Concurrency > 0 {
			e.parts, e.files = limit.Fixed(e.Concurrency), limit.Fixed(e.Concurrency)
			return
		}
		e.parts = e.adaptive(partShare, firstParts, fewestParts, mostParts)
		e.files = e.adaptive(fileShare, probeFiles, fewestFiles, mostFiles)
	})
	if size > smallFile {
		return e.parts
	}
	return e.files
}

func (e *Engine) partSize() int64 {
	if e.PartSize > 0 {
		return max(e.PartSize, MinPartSize)
	}
	return DefaultPartSize
}

func (e *Engine) attempts() int {
	if e.Attempts > 0 {
		return e.Attempts
	}
	return DefaultAttempts
}

// maxExcused is how many tries of one body may be throttled without counting: those after which fewer
// requests are in flight. That there were too many of them is not the fault of any one.
const maxExcused = 20

// backoff is "full jitter" over an exponential (AWS Architecture Blog, "Exponential Backoff And
// Jitter").
func (e *Engine) backoff(try int) time.Duration {
	if e.Backoff != nil {
		return e.Backoff(try)
	}
	ceiling := min(100*time.Millisecond<<try, 10*time.Second)
	return rand.N(ceiling) + time.Millisecond
}

// copyBufferSize is how much is read, hashed and written at once, in bytes: the 32 KiB of io.Copy
// cost two to three times the CPU (docs/performance.md), and what is larger than the processor's
// second cache is read from memory once more.
const copyBufferSize = 256 << 10

// copyBuffer returns a buffer for copying and hashing size bytes, to be given back with giveBack.
func (e *Engine) copyBuffer(size int64) *[]byte {
	if size <= copyBufferSize/4 {
		b := make([]byte, max(size, 1))
		return &b
	}
	return pooled(&e.buffers, copyBufferSize)
}

// pooled returns a buffer out of a pool of those of one size, in bytes, or a new one.
func pooled(pool *sync.Pool, size int) *[]byte {
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (e *Engine) giveBack(b *[]byte) {
	if len(*b) == copyBufferSize {
		e.buffers.Put(b)
	}
}

// body counts what one try reads of it. It ends, with an error, when its caller's context does:
// a request whose body is cut short is carried out by no server. One that was read whole is not cut short
// any more: net/http, which looks for more, would close the connection, and nobody hear the answer.
type body struct {
	*io.SectionReader
	ctx      context.Context // an io.Reader is given none
	progress Progress
	sent     atomic.Int64 // bytes read at the most advanced position
}

func (b *body) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil && b.sent.Load() < b.Size() {
		return 0, err
	}
	n, err := b.SectionReader.Read(p)
	if n > 0 {
		b.sent.Add(int64(n))
		b.progress.add(int64(n))
	}
	return n, err
}

func (b *body) Seek(offset int64, whence int) (int64, error) {
	pos, err := b.SectionReader.Seek(offset, whence)
	if err == nil && pos == 0 {
		b.progress.add(-b.sent.Swap(0))
	}
	return pos, err
}

// WriteTo is hidden from SectionReader's method set on purpose: every byte must pass Read.
func (b *body) WriteTo(w io.Writer) (int64, error) {
	return io.Copy(w, struct{ io.Reader }{b})
}

// send tries to send a body until it is accepted, refused for good, or the tries are used up.
// The outcome is Unknown when any failed try sent the body whole and no answer refused it. slot is
// told when the service asks for fewer requests.
func (e *Engine) send(ctx context.Context, slot *limit.Slot, r io.ReaderAt, size int64, progress Progress,
	put func(ctx context.Context, body io.ReadSeeker) error,
) (outcome Outcome, err error) {
	excused := 0
	for try := 0; ; try++ {
		b := &body{SectionReader: io.NewSectionReader(r, 0, size), ctx: ctx, progress: progress}
		// A request that has been sent whole is answered before the interrupt takes effect: the
		// outcome is known then, and nothing is written after it was undone.
		putCtx, cancel := Outlive(ctx)
		if file := e.openFileBody(b, r, size); file != nil {
			err = put(file.with(putCtx), b)
			file.end()
		} else {
			err = put(putCtx, b)
		}
		cancel()
		if err == nil {
			return Written, ctx.Err()
		}
		sent := b.sent.Load()
		if sent >= size && !refused(err) {
			outcome = Unknown
		}
		progress.add(-sent)
		if ctx.Err() != nil {
			return outcome, ctx.Err()
		}
		if throttled(err) && slot.Throttled() && excused < maxExcused {
			excused++
		}
		if try+1-excused >= e.attempts() || !WorthRetrying(err) {
			return outcome, err
		}
		if err := wait(ctx, e.backoff(try)); err != nil {
			return outcome, err
		}
	}
}

// interruptGrace is how much longer than its caller a call may take that makes something.
const interruptGrace = 2 * time.Second

// Outlive returns a context for a call that makes something which is undone when ctx ends: it
// ends a moment after ctx. A call that is broken off may still be carried out by the server, after
// the one that came to undo it; its answer tells.
func Outlive(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(interruptGrace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-longer.Done():
		}
	})
	return longer, func() { stop(); cancel() }
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refused reports whether it is certain that nothing was written: there was no connection, or the
// server answered that it would not. After a 500 or a 504 the write may have happened all the
// same.
func refused(err error) bool {
	if IsUnconnected(err) || IsWrongTLS(err) {
		return true
	}
	if resp, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status := resp.HTTPStatusCode()
		return status >= 300 && status < 500 || status == http.StatusServiceUnavailable || status == http.StatusNotImplemented
	}
	return false
}

// once turns off the SDK's own retries for calls that [Engine.send] repeats, and the hashing of
// the body for the signature.
func once(o *s3.Options) {
	o.Retryer = aws.NopRetryer{}
	o.APIOptions = append(o.APIOptions, v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware)
}
