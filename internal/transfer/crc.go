package transfer

import (
	"encoding/base64"
	"encoding/binary"
	"hash"
	"hash/crc32"

	"github.com/minio/crc64nvme"
)

// crc is a cyclic redundancy check that S3 computes of full objects (Amazon S3 User Guide,
// "Checking object integrity"). Parts and ranges are hashed in parallel and in any order; their
// checksums combine into that of the whole.
type crc struct {
	name  string // as S3 has it
	poly  uint64 // the polynomial, bits reversed
	width int    // bits
	hash  func() hash.Hash
}

// crc64NVME is the CRC of the NVM Express NVM Command Set Specification, and ours.
func crc64NVME() crc {
	return crc{"CRC64NVME", 0x9a6c9329ac4bc9b5, 64, func() hash.Hash { return crc64nvme.New() }}
}

func crc32C() crc {
	return crc{"CRC32C", crc32.Castagnoli, 32, func() hash.Hash { return crc32.New(crc32.MakeTable(crc32.Castagnoli)) }}
}

func crc32IEEE() crc {
	return crc{"CRC32", crc32.IEEE, 32, func() hash.Hash { return crc32.NewIEEE() }}
}

// of returns the checksum that h, made by c.hash, has computed.
func (c crc) of(h hash.Hash) uint64 {
	var sum uint64
	for _, b := range h.Sum(nil) {
		sum = sum<<8 | uint64(b)
	}
	return sum
}

// bytes returns the big-endian bytes of a checksum.
func (c crc) bytes(sum uint64) []byte {
	return binary.BigEndian.AppendUint64(nil, sum)[8-c.width/8:]
}

// encode returns a checksum as the headers of S3 carry it: base64 of its bytes.
func (c crc) encode(sum uint64) string {
	return base64.StdEncoding.EncodeToString(c.bytes(sum))
}

// combine returns the checksum of A followed by B from those of A and B and the length of B in
// bytes.
//
// Appending n bytes multiplies the remainder of A by x^(8n) modulo the polynomial. The pre- and
// post-inversion of the CRC cancel out, as in zlib's crc32_combine.
func (c crc) combine(a, b uint64, lenB int64) uint64 {
	return c.multiply(a, c.xPower(uint64(lenB)*8)) ^ b
}

// one is the polynomial 1: the highest bit is x^0.
func (c crc) one() uint64 { return 1 << (c.width - 1) }

// multiply multiplies two polynomials over GF(2) modulo the CRC's.
func (c crc) multiply(a, b uint64) uint64 {
	var product uint64
	for bit := c.one(); bit != 0; bit >>= 1 {
		if a&bit != 0 {
			product ^= b
		}
		if b&1 == 1 {
			b = b>>1 ^ c.poly
		} else {
			b >>= 1
		}
	}
	return product
}

// xPower returns x^n modulo the CRC's polynomial, by repeated squaring.
func (c crc) xPower(n uint64) uint64 {
	result, square := c.one(), c.one()>>1
	for ; n != 0; n >>= 1 {
		if n&1 == 1 {
			result = c.multiply(result, square)
		}
		square = c.multiply(square, square)
	}
	return result
}
