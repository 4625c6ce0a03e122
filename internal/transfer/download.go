package transfer

import (
	"context"
	"crypto/md5"  //nolint:gosec // an ETag is an MD5: compared, not trusted
	"crypto/sha1" //nolint:gosec // as above, a checksum that S3 may hold
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/limit"
)

// downloadWhole is [Engine.Download] by one request, and by further ones only where its body
// breaks off.
func (e *Engine) downloadWhole(ctx context.Context, key string, size int64, w io.Writer, progress Progress) (Object, error) {
	slot, err := e.limiter(max(size, 0)).Acquire(ctx)
	if err != nil {
		return Object{}, err
	}
	d := &download{engine: e, key: key, want: size, w: w, progress: progress}
	defer func() { slot.Release(d.offset) }()
	err = e.continuing(ctx, slot, func() (int64, error) {
		before := d.offset
		err := d.run(ctx)
		return d.offset - before, err
	})
	if err != nil {
		return Object{}, err
	}
	return d.verify()
}

// continuing calls fetch, which goes on from where its last call has come and tells how far it
// came, until it succeeds, fails for good, or the tries are used up. A try that has brought it
// forward does not count.
func (e *Engine) continuing(ctx context.Context, slot *limit.Slot, fetch func() (moved int64, err error)) error {
	excused := 0
	for try := 0; ; try++ {
		moved, err := fetch()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if moved > 0 {
			try, excused = 0, 0
		}
		if failed, ok := errors.AsType[*writeError](err); ok {
			return failed.err
		}
		if throttled(err) && slot.Throttled() && excused < maxExcused {
			excused++
		}
		broken, isBroken := errors.AsType[*brokenBody](err)
		if try+1-excused >= e.attempts() || !isBroken && !WorthRetrying(err) {
			if isBroken {
				err = broken.err
			}
			return err
		}
		if err := wait(ctx, e.backoff(try)); err != nil {
			return err
		}
	}
}

// brokenBody is an answer that began well and broke off: worth continuing.
type brokenBody struct{ err error }

func (e *brokenBody) Error() string { return e.err.Error() }
func (e *brokenBody) Unwrap() error { return e.err }

// writeError is a failure of the writer: trying again would write what was written already.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }
func (e *writeError) Unwrap() error { return e.err }

func writeAll(w io.Writer, p []byte) error {
	n, err := w.Write(p)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return &writeError{err}
	}
	return nil
}

type download struct {
	engine   *Engine
	key      string
	want     int64
	w        io.Writer
	progress Progress

	etag        string
	contentType string
	size        int64
	offset      int64
	check       verifier
}

// run asks for what is missing and writes it.
func (d *download) run(ctx context.Context) error {
	e := d.engine
	in := &s3.GetObjectInput{Bucket: &e.Bucket, Key: &d.key, ChecksumMode: types.ChecksumModeEnabled}
	resumed := d.check != nil
	if resumed {
		if d.offset == d.size {
			return nil
		}
		if d.etag == "" {
			return fmt.Errorf("%w: broken off at byte %d, and without an ETag it can't be continued", io.ErrUnexpectedEOF, d.offset)
		}
		in.IfMatch = &d.etag
		in.Range = aws.String("bytes=" + strconv.FormatInt(d.offset, 10) + "-")
	}
	timed, answered := e.small(ctx, d.want)
	out, err := e.S3.GetObject(timed, in, once)
	answered()
	if err != nil {
		return changedIfMismatch(d.key, err)
	}
	defer func() { _ = out.Body.Close() }()

	if !resumed {
		d.etag, d.size, d.contentType = aws.ToString(out.ETag), aws.ToInt64(out.ContentLength), aws.ToString(out.ContentType)
		if d.want >= 0 && d.size != d.want {
			return sizeMismatch(d.size, d.want)
		}
		if d.check, err = e.verifierFor(ctx, d.key, out); err != nil {
			return err
		}
	} else if !strings.HasPrefix(aws.ToString(out.ContentRange), fmt.Sprintf("bytes %d-", d.offset)) {
		return fmt.Errorf("asked for bytes from %d, the server sent %q", d.offset, aws.ToString(out.ContentRange))
	}
	return d.copy(out.Body)
}

func (d *download) copy(body io.Reader) error {
	buf := d.engine.copyBuffer(d.size - d.offset + 1)
	defer d.engine.giveBack(buf)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			chunk := (*buf)[:n]
			if d.offset+int64(n) > d.size {
				return fmt.Errorf("%w: more than the announced %d bytes", ErrSize, d.size)
			}
			if err := writeAll(d.w, chunk); err != nil {
				return err
			}
			d.check.write(chunk)
			d.offset += int64(n)
			d.progress.add(int64(n))
		}
		switch {
		case errors.Is(err, io.EOF) && d.offset == d.size:
			return nil
		case errors.Is(err, io.EOF):
			return &brokenBody{fmt.Errorf("%w: %d of %d bytes arrived", io.ErrUnexpectedEOF, d.offset, d.size)}
		case err != nil:
			return &brokenBody{fmt.Errorf("after %d of %d bytes: %w", d.offset, d.size, err)}
		}
	}
}

func (d *download) verify() (Object, error) {
	if d.offset != d.size {
		return Object{}, fmt.Errorf("%w: %d bytes of %d", ErrSize, d.offset, d.size)
	}
	algorithm, ok := d.check.verify()
	if !ok {
		return Object{}, checksumMismatch(algorithm)
	}
	return Object{Size: d.size, ETag: d.etag, Verified: algorithm}, nil
}

func sizeMismatch(object, record int64) error {
	return fmt.Errorf("%w: the object has %d bytes, its record says %d", ErrSize, object, record)
}

func checksumMismatch(algorithm string) error {
	return fmt.Errorf("%w: what arrived does not have the %s that S3 holds", ErrChecksum, algorithm)
}

// changedIfMismatch makes the refusal of an If-Match what it means.
func changedIfMismatch(key string, err error) error {
	if StatusOf(err) == http.StatusPreconditionFailed {
		return fmt.Errorf("object %q %w", key, ErrChanged)
	}
	return err
}

// verifier compares a body with what S3 holds of it.
type verifier interface {
	write(p []byte)
	// verify returns the algorithm, empty where the server holds nothing to compare with.
	verify() (algorithm string, ok bool)
}

// heldChecksum is a checksum that S3 tells of with an object.
type heldChecksum struct {
	algorithm string // as S3 names it
	value     string // base64; that of parts has their number behind a dash
	composite bool   // of the checksums of the parts
	hash      func() hash.Hash
	crc       crc // the zero crc for those that can't be combined
}

// checksumsOf returns the checksums of an answer, the preferred one first; usually there is one, from some
// servers none.
func checksumsOf(out *s3.GetObjectOutput) []heldChecksum {
	var all []heldChecksum
	add := func(c heldChecksum, value *string) {
		if c.value = aws.ToString(value); c.value == "" {
			return
		}
		// Servers from before 2025 do not tell the type, some tell it of neither. No base64 has a dash.
		c.composite = strings.Contains(c.value, "-") || out.ChecksumType == types.ChecksumTypeComposite
		all = append(all, c)
	}
	for _, c := range []struct {
		crc   crc
		value *string
	}{{crc64NVME(), out.ChecksumCRC64NVME}, {crc32C(), out.ChecksumCRC32C}, {crc32IEEE(), out.ChecksumCRC32}} {
		add(heldChecksum{algorithm: c.crc.name, hash: c.crc.hash, crc: c.crc}, c.value)
	}
	add(heldChecksum{algorithm: "SHA256", hash: sha256.New}, out.ChecksumSHA256)
	add(heldChecksum{algorithm: "SHA1", hash: sha1.New}, out.ChecksumSHA1)
	return all
}

// verifierFor picks the strongest thing that the answer allows: a checksum of the full object,
// the checksums of its parts, or an ETag that is an MD5.
func (e *Engine) verifierFor(ctx context.Context, key string, out *s3.GetObjectOutput) (verifier, error) {
	if all := checksumsOf(out); len(all) > 0 {
		c := all[0]
		if c.composite {
			sum, _, _ := strings.Cut(c.value, "-")
			return e.compositeVerifier(ctx, key, c.algorithm, sum, c.hash)
		}
		return &fullVerifier{algorithm: c.algorithm, want: c.value, hash: c.hash(), encode: base64.StdEncoding.EncodeToString}, nil
	}
	// An ETag of 32 hexadecimal digits is the MD5 of the object, unless it is encrypted with a key
	// of KMS or of the customer (Amazon S3 API Reference, "Object").
	etag := strings.Trim(aws.ToString(out.ETag), `"`)
	if _, err := hex.DecodeString(etag); err == nil && len(etag) == 2*md5.Size &&
		out.SSECustomerAlgorithm == nil && (out.ServerSideEncryption == "" || out.ServerSideEncryption == types.ServerSideEncryptionAes256) {
		return &fullVerifier{algorithm: "MD5", want: strings.ToLower(etag), hash: md5.New(), encode: hex.EncodeToString}, nil //nolint:gosec // see the import
	}
	return sizeOnly{}, nil
}

type fullVerifier struct {
	algorithm string
	want      string
	hash      hash.Hash
	encode    func([]byte) string
}

func (v *fullVerifier) write(p []byte) { _, _ = v.hash.Write(p) } // a hash never fails

func (v *fullVerifier) verify() (string, bool) {
	return v.algorithm, v.encode(v.hash.Sum(nil)) == v.want
}

type sizeOnly struct{}

func (sizeOnly) write([]byte)           {}
func (sizeOnly) verify() (string, bool) { return "", true }

// compositeVerifier recomputes a checksum of checksums. It needs the sizes of the parts, which
// the server may not tell; then only the size is compared.
func (e *Engine) compositeVerifier(ctx context.Context, key, algorithm, want string, newHash func() hash.Hash) (verifier, error) {
	v := &partsVerifier{algorithm: algorithm, want: want, newHash: newHash, part: newHash(), whole: newHash()}
	in := &s3.GetObjectAttributesInput{
		Bucket: &e.Bucket, Key: &key,
		ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesObjectParts},
	}
	for {
		out, err := e.S3.GetObjectAttributes(ctx, in)
		if err != nil {
			if refused(err) {
				return sizeOnly{}, nil
			}
			return nil, err
		}
		if out.ObjectParts == nil || len(out.ObjectParts.Parts) == 0 {
			if v.sizes, err = e.partSizes(ctx, key); err != nil || v.sizes == nil {
				return sizeOnly{}, err
			}
			return v, nil
		}
		for _, p := range out.ObjectParts.Parts {
			v.sizes = append(v.sizes, aws.ToInt64(p.Size))
		}
		if !aws.ToBool(out.ObjectParts.IsTruncated) {
			return v, nil
		}
		in.PartNumberMarker = out.ObjectParts.NextPartNumberMarker
	}
}

// partSizes asks for the size of each part by itself, where the server lists none. It returns nil
// where that is not told either, or would take too many requests.
func (e *Engine) partSizes(ctx context.Context, key string) ([]int64, error) {
	const most = 1000
	var sizes []int64
	for number, count := int32(1), int32(1); number <= count; number++ {
		out, err := e.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &e.Bucket, Key: &key, PartNumber: &number})
		if refused(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		if count = aws.ToInt32(out.PartsCount); count == 0 || count > most {
			return nil, nil
		}
		sizes = append(sizes, aws.ToInt64(out.ContentLength))
	}
	return sizes, nil
}

type partsVerifier struct {
	algorithm   string
	want        string
	newHash     func() hash.Hash
	sizes       []int64 // of the parts still to come
	filled      int64   // bytes of the current part
	part, whole hash.Hash
}

func (v *partsVerifier) write(p []byte) {
	for len(p) > 0 && len(v.sizes) > 0 {
		n := min(int64(len(p)), v.sizes[0]-v.filled)
		_, _ = v.part.Write(p[:n])
		p, v.filled = p[n:], v.filled+n
		if v.filled == v.sizes[0] {
			_, _ = v.whole.Write(v.part.Sum(nil))
			v.part, v.sizes, v.filled = v.newHash(), v.sizes[1:], 0
		}
	}
}

func (v *partsVerifier) verify() (string, bool) {
	return v.algorithm, base64.StdEncoding.EncodeToString(v.whole.Sum(nil)) == v.want
}

// StatusOf returns the HTTP status of an answer that is an error, 0 where there was no answer.
func StatusOf(err error) int {
	if resp, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err); ok {
		return resp.HTTPStatusCode()
	}
	return 0
}
