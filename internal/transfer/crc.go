package transfer

import (
	"encoding/base64"
	"encoding/binary"
)

// crc64nvmePoly is the CRC-64/NVME polynomial, bits reversed (NVM Express NVM Command Set
// Specification; Amazon S3 User Guide, "Checking object integrity").
const crc64nvmePoly = 0x9a6c9329ac4bc9b5

// combineCRC returns the CRC-64/NVME of A followed by B from the checksums of A and B and the
// length of B in bytes. Parts are hashed in parallel and in any order; this is how their
// checksums become that of the whole object.
//
// Appending n bytes multiplies the remainder of A by x^(8n) modulo the polynomial. The pre- and
// post-inversion of the CRC cancel out, as in zlib's crc32_combine.
func combineCRC(a, b uint64, lenB int64) uint64 {
	return mulModP(a, xPowModP(uint64(lenB)*8)) ^ b
}

// mulModP multiplies two polynomials over GF(2) modulo the CRC polynomial. Bit 63 is x^0.
func mulModP(a, b uint64) uint64 {
	var product uint64
	for ; a != 0; a <<= 1 {
		if a>>63 == 1 {
			product ^= b
		}
		if b&1 == 1 {
			b = b>>1 ^ crc64nvmePoly
		} else {
			b >>= 1
		}
	}
	return product
}

// xPowModP returns x^n modulo the CRC polynomial, by repeated squaring.
func xPowModP(n uint64) uint64 {
	result, square := uint64(1)<<63, uint64(1)<<62
	for ; n != 0; n >>= 1 {
		if n&1 == 1 {
			result = mulModP(result, square)
		}
		square = mulModP(square, square)
	}
	return result
}

// encodeCRC returns a CRC-64 as the headers of S3 carry it: base64 of the big-endian bytes.
func encodeCRC(crc uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, crc))
}
