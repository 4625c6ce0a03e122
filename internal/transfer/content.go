package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// Content is what a file held when [Engine.ContentOf] read it: its size, and its checksums of the
// two kinds with which bodies are sent. Mistakes do not give two contents one Content; somebody who
// wants to can find such a pair, since a CRC is no cryptographic hash.
type Content struct {
	size      int64
	crc64nvme uint64
	crc32     uint64
}

// String returns the content as records hold it (docs/contract.md, "The record"):
// "crc64nvme:CHECKSUM:SIZE".
func (c Content) String() string {
	return fmt.Sprintf("crc64nvme:%s:%d", crc64NVME().encode(c.crc64nvme), c.size)
}

// sum returns the checksum of kind k, of which it has only those of [Engine.uploadCRC].
func (c Content) sum(k crc) uint64 {
	if k.name == crc32IEEE().name {
		return c.crc32
	}
	return c.crc64nvme
}

// ContentOf reads the whole file. ErrChanged where its size or its modification time changes
// meanwhile.
func (e *Engine) ContentOf(ctx context.Context, f File) (Content, error) {
	before, err := f.Stat()
	if err != nil {
		return Content{}, err
	}
	size := before.Size()
	buf := e.copyBuffer(size)
	defer e.giveBack(buf)
	wide, narrow := crc64NVME(), crc32IEEE()
	wideHash, narrowHash := wide.hash(), narrow.hash()
	for offset := int64(0); offset < size; {
		if err := ctx.Err(); err != nil {
			return Content{}, err
		}
		n, err := f.ReadAt((*buf)[:min(int64(len(*buf)), size-offset)], offset)
		_, _ = wideHash.Write((*buf)[:n])   // a hash never fails
		_, _ = narrowHash.Write((*buf)[:n]) // as above
		offset += int64(n)
		if errors.Is(err, io.EOF) && offset < size {
			return Content{}, ErrChanged
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return Content{}, err
		}
	}
	after, err := f.Stat()
	if err != nil {
		return Content{}, err
	}
	if after.Size() != size || !after.ModTime().Equal(before.ModTime()) {
		return Content{}, ErrChanged
	}
	return Content{size: size, crc64nvme: wide.of(wideHash), crc32: narrow.of(narrowHash)}, nil
}

// UploadContent is [Engine.UploadFile] for a key under which other programs may be uploading the
// same content at the same time: no other content gets there from here, and no multipart upload
// but its own is aborted. ErrChanged where the file holds anything but want.
func (e *Engine) UploadContent(ctx context.Context, key, contentType string, f File, want Content, progress Progress) (Object, error) {
	return e.uploadFile(ctx, key, contentType, f, &want, progress)
}

// is fails with ErrChanged unless what is about to be written has the size and the checksum of the
// content that is wanted; nil wants nothing.
func (c *Content) is(kind crc, sum uint64, size int64) error {
	if c != nil && (c.size != size || c.sum(kind) != sum) {
		return ErrChanged
	}
	return nil
}

// errShared is why a multipart upload of a shared key is left whose id is not known.
var errShared = errors.New("it can't be told from those of others to the same key; a sweep removes it after a day")

// Checksum is one that S3 holds of an object.
type Checksum struct {
	Algorithm string // as S3 names it: "CRC64NVME", "CRC32C", "CRC32", "SHA256" or "SHA1"
	Value     string // base64; that of parts has their number behind a dash
	Type      string // "FULL_OBJECT"; or "COMPOSITE", a checksum of the checksums of the parts
}

const (
	fullObject = string(types.ChecksumTypeFullObject)
	composite  = string(types.ChecksumTypeComposite)
)

// Held is what S3 holds under a key.
type Held struct {
	Size int64 // bytes
	ETag string
	// Checksums are in the order of preference; usually there is one, from some servers none.
	Checksums []Checksum
}

// Head asks S3 what it holds under key. The error is S3's where there is no object.
func (e *Engine) Head(ctx context.Context, key string) (Held, error) {
	out, err := e.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &e.Bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		return Held{}, err
	}
	there := Held{Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag)}
	for _, c := range checksumsOf(held(out)) {
		kind := fullObject
		if c.composite {
			kind = composite
		}
		there.Checksums = append(there.Checksums, Checksum{Algorithm: c.algorithm, Value: c.value, Type: kind})
	}
	return there, nil
}

// Compare fails with ErrSize or ErrChecksum where held is not the content. verified tells whether
// there was a checksum to compare.
func (c Content) Compare(held Held) (verified bool, err error) {
	if held.Size != c.size {
		return false, fmt.Errorf("%w: %d bytes, not %d", ErrSize, held.Size, c.size)
	}
	for _, kind := range []crc{crc64NVME(), crc32IEEE()} {
		for _, sum := range held.Checksums {
			if sum.Algorithm != kind.name || sum.Type != fullObject {
				continue
			}
			if want := kind.encode(c.sum(kind)); sum.Value != want {
				return false, fmt.Errorf("%w: %s %s, not %s", ErrChecksum, kind.name, sum.Value, want)
			}
			verified = true
		}
	}
	return verified, nil
}
