//go:build linux

package memorytest

import (
	"encoding/base64"
	"encoding/binary"
	"hash"
	"io"
	"math/rand/v2"

	"github.com/minio/crc64nvme"
)

// content is what is moved: bytes that are made where they are needed, since nothing here holds
// gigabytes. No two of its blocks are equal, so that none can take the place of another.
type content struct {
	size  int64
	block []byte
}

const blockSize = 1 << 20

func newContent(size int64) *content {
	c := &content{size: size, block: make([]byte, blockSize)}
	_, _ = rand.NewChaCha8([32]byte{}).Read(c.block) // never fails
	return c
}

// zeros is what a sparse file holds.
func zeros(size int64) *content { return &content{size: size} }

// ReadAt implements io.ReaderAt.
func (c *content) ReadAt(p []byte, off int64) (n int, err error) {
	for n < len(p) && off < c.size {
		chunk := p[n:min(len(p), n+int(c.size-off))]
		if c.block == nil {
			clear(chunk)
		} else {
			at := off % blockSize
			chunk = chunk[:copy(chunk, c.block[at:])]
			if at < 8 { // the number of the block sets it apart
				copy(chunk, binary.BigEndian.AppendUint64(nil, uint64(off/blockSize))[at:])
			}
		}
		n += len(chunk)
		off += int64(len(chunk))
	}
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

// reader returns bytes [from, to) of it.
func (c *content) reader(from, to int64) *io.SectionReader {
	return io.NewSectionReader(c, from, to-from)
}

// checksum returns the CRC-64/NVME of bytes [from, to), as the headers of S3 have it.
func (c *content) checksum(from, to int64) string {
	h := crc64nvme.New()
	_ = copyTo(h, c.reader(from, to)) // neither fails
	return encode(h)
}

func encode(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

// copyTo copies with a buffer that is not too small for gigabytes.
func copyTo(w io.Writer, r io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, blockSize))
	return err
}
