package transfer

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/designfultech/filestore/internal/limit"
)

// trailerPayload is what is signed in place of the body's hash (Amazon S3 API Reference,
// "Authenticating Requests: Using the Authorization Header", x-amz-content-sha256).
const trailerPayload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

// errNoTrailer says that the server has taken a body without comparing the checksum behind it.
var errNoTrailer = errors.New("the checksum behind the body was not confirmed")

// overTLS reports whether the connections to S3 are encrypted. Nothing but TLS protects a trailer: it is
// not signed.
func (e *Engine) overTLS() bool {
	return !strings.HasPrefix(strings.ToLower(aws.ToString(e.S3.Options().BaseEndpoint)), "http://")
}

// trailedBody is the body of one try with its checksum behind it, which is computed while the content
// is sent, so that the content is read only once. It is one chunk of the encoding "aws-chunked" (Amazon
// S3 API Reference, "Signature calculations for the Authorization header: Including trailing headers").
type trailedBody struct {
	content io.Reader
	left    int64 // bytes of content to come
	crc     crc
	hash    hash.Hash
	frame   []byte // what comes next of the frame around the content
	ended   bool   // nothing comes after frame

	mu    sync.Mutex // who asks for the sum may do so while a connection that is given up still reads
	sum   uint64
	whole bool
}

func newTrailedBody(content io.Reader, size int64, c crc) *trailedBody {
	return &trailedBody{content: content, left: size, crc: c, hash: c.hash(), frame: []byte(chunkHeader(size))}
}

func chunkHeader(size int64) string { return strconv.FormatInt(size, 16) + "\r\n" }

// trailer ends a body; the chunk of no bytes is the last one.
func (c crc) trailer(sum uint64) string {
	return "\r\n0\r\n" + c.header() + ":" + c.encode(sum) + "\r\n\r\n"
}

// header is the name of the header or trailer with a checksum of kind c.
func (c crc) header() string { return "x-amz-checksum-" + strings.ToLower(c.name) }

// trailedSize is how many bytes the body with size bytes of content has.
func (c crc) trailedSize(size int64) int64 {
	return int64(len(chunkHeader(size))) + size + int64(len(c.trailer(0)))
}

// Read implements [io.Reader].
func (b *trailedBody) Read(p []byte) (int, error) {
	if len(b.frame) > 0 {
		n := copy(p, b.frame)
		b.frame = b.frame[n:]
		return n, nil
	}
	if b.ended {
		return 0, io.EOF
	}
	n, err := b.content.Read(p[:min(int64(len(p)), b.left)])
	_, _ = b.hash.Write(p[:n]) // a hash never fails
	if b.left -= int64(n); b.left == 0 {
		b.end()
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = ErrChanged
	}
	return n, err
}

func (b *trailedBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sum, b.whole, b.ended = b.crc.of(b.hash), true, true
	b.frame = []byte(b.crc.trailer(b.sum))
}

// checksum returns that of the content, once all of it was read.
func (b *trailedBody) checksum() (sum uint64, whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sum, b.whole
}

// withTrailer is once for a call whose body is a [trailedBody] with size bytes of content.
func (c crc) withTrailer(size int64) func(*s3.Options) {
	return func(o *s3.Options) {
		o.Retryer = aws.NopRetryer{}
		o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
			hash := middleware.FinalizeMiddlewareFunc((*v4.ComputePayloadSHA256)(nil).ID(),
				func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
					return next.HandleFinalize(v4.SetPayloadHash(ctx, trailerPayload), in)
				})
			if _, err := stack.Finalize.Swap(hash.ID(), hash); err != nil {
				return err
			}
			return stack.Build.Add(middleware.BuildMiddlewareFunc("TrailingChecksum",
				func(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (middleware.BuildOutput, middleware.Metadata, error) {
					req, ok := in.Request.(*smithyhttp.Request)
					if !ok {
						return middleware.BuildOutput{}, middleware.Metadata{}, fmt.Errorf("a request of type %T", in.Request)
					}
					req.Header.Set("Content-Encoding", "aws-chunked")
					req.Header.Set("X-Amz-Decoded-Content-Length", strconv.FormatInt(size, 10))
					req.Header.Set("X-Amz-Trailer", c.header())
					return next.HandleBuild(ctx, in)
				}), middleware.After)
		})
	}
}

// sendTrailed sends a part with its checksum behind it. The error is errNoTrailer where the server takes
// it and does not confirm the checksum.
func (u *multipartUpload) sendTrailed(ctx context.Context, slot *limit.Slot, p part, unchanged func() error) error {
	e := u.engine
	var before *trailedBody // of the last try
	_, err := e.send(ctx, slot, p.data, p.size, u.progress, func(ctx context.Context, content io.ReadSeeker) error {
		body, size := newTrailedBody(content, p.size, u.crc), u.crc.trailedSize(p.size)
		out, err := e.S3.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &e.Bucket, Key: &u.key, UploadId: u.id, PartNumber: &p.number, Body: body, ContentLength: &size,
		}, u.crc.withTrailer(p.size))
		sum, whole := body.checksum()
		if before != nil && whole {
			if first, also := before.checksum(); also && first != sum {
				return errors.Join(ErrChanged, err)
			}
		}
		before = body
		switch {
		case err != nil && whole:
			return orChanged(e.whyRefused(err, u.crc, sum, p.data, p.size), unchanged)
		case err != nil:
			return orChanged(err, unchanged)
		case aws.ToString(out.ETag) == "":
			return errEmptyAnswer
		case !whole || u.crc.held(out.ChecksumCRC64NVME, out.ChecksumCRC32) != u.crc.encode(sum):
			return errNoTrailer
		}
		u.keep(p, out.ETag, sum)
		return nil
	})
	return err
}

// refusesTrailer reports whether a server may mean that it knows no checksums behind a body.
func refusesTrailer(err error) bool {
	if errors.Is(err, errNoTrailer) || refusesChecksum(err) {
		return true
	}
	// It has hashed the body itself to compare the signature.
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == "SignatureDoesNotMatch" && StatusOf(err) == http.StatusForbidden
}
