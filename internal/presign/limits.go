package presign

import (
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
)

// Limits is what an upload URL that is given to others can be bound to. Each limit is a header
// that is signed in: who sends another value, or leaves it away, is refused by the server. The
// zero Limits binds to nothing, as the API's browser client needs it, since that sends no
// headers of its own.
type Limits struct {
	// Size is the exact size of the body in bytes; nil: any. SigV4 signers don't sign a
	// Content-Length of zero, so that size is bound by the checksum of the empty body instead.
	Size *int64
	// ContentType is the exact Content-Type; empty: any.
	ContentType string
	// Checksum is the checksum of the body; zero: any body.
	Checksum Checksum
	// IfNoneMatch binds to "If-None-Match: *": the upload fails when the object exists already
	// (Amazon S3 User Guide, "How to prevent object overwrites with conditional writes").
	IfNoneMatch bool
}

// Algorithm is a checksum algorithm, by S3's name for it.
type Algorithm string

// The algorithms that can be signed in (Amazon S3 User Guide, "Checking object integrity").
const (
	CRC64NVME Algorithm = "CRC64NVME"
	SHA256    Algorithm = "SHA256"
)

// Size returns how many bytes a checksum of that algorithm has, 0 of one that is not known.
func (a Algorithm) Size() int {
	switch a {
	case CRC64NVME:
		return 8
	case SHA256:
		return 32
	}
	return 0
}

// MaxUpload is the largest body that one PUT takes, in bytes (Amazon S3 User Guide, "Uploading
// objects").
const MaxUpload = 5 << 30

// Checksum is an object's checksum over all of its bytes.
type Checksum struct {
	Algorithm Algorithm
	Value     string // base64, as S3 writes it: standard alphabet, padded, big endian
}

// emptySHA256 is the SHA-256 of no bytes at all.
const emptySHA256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

// header returns the headers that carry the limits out, nil for none, and the Content-Length
// to sign, 0 for none. It fails with [*InputError].
func (l Limits) header() (length int64, _ http.Header, _ error) {
	header := http.Header{}
	checksum := l.Checksum
	if l.Size != nil {
		length = *l.Size
		if length < 0 {
			return 0, nil, &InputError{"size", strconv.FormatInt(length, 10), "is negative"}
		}
		if length > MaxUpload {
			return 0, nil, &InputError{"size", strconv.FormatInt(length, 10), "is more than one PUT takes: 5 GiB"}
		}
		header.Set("Content-Length", strconv.FormatInt(length, 10))
		if length == 0 && checksum == (Checksum{}) {
			checksum = Checksum{SHA256, emptySHA256}
		}
	}
	if l.ContentType != "" {
		if !isContentType(l.ContentType) {
			return 0, nil, &InputError{"content type", l.ContentType, "is not a MIME type"}
		}
		header.Set("Content-Type", l.ContentType)
	}
	if checksum != (Checksum{}) {
		if err := checksum.Check(); err != nil {
			return 0, nil, err
		}
		header.Set("X-Amz-Checksum-"+string(checksum.Algorithm), checksum.Value)
	}
	if l.IfNoneMatch {
		header.Set("If-None-Match", "*")
	}
	if len(header) == 0 {
		return 0, nil, nil
	}
	return length, header, nil
}

// Check fails with [*InputError] for an unknown algorithm, or a value that S3 would not take.
func (c Checksum) Check() error {
	size := c.Algorithm.Size()
	if size == 0 {
		return &InputError{"checksum algorithm", string(c.Algorithm), fmt.Sprintf("is neither %s nor %s", CRC64NVME, SHA256)}
	}
	sum, err := base64.StdEncoding.DecodeString(c.Value)
	if err != nil || base64.StdEncoding.EncodeToString(sum) != c.Value || len(sum) != size {
		return &InputError{"checksum", c.Value, fmt.Sprintf("is not the base64 of %d bytes, as %s is", size, c.Algorithm)}
	}
	return nil
}

// isContentType reports whether s, parameters allowed, can be sent and signed as it stands.
// Two spaces in a row can't: signers and servers fold them.
func isContentType(s string) bool {
	_, _, err := mime.ParseMediaType(s)
	return err == nil && strings.Contains(s, "/") && isPrintable(s) &&
		strings.TrimSpace(s) == s && !strings.Contains(s, "  ")
}
