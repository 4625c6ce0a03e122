// Package nullserver has stand-ins for S3 and DynamoDB that cost next to nothing, so that what is
// measured with them is the client. The commands nulls3 and nulldynamo of bench/ serve them.
package nullserver

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/crc64nvme"
)

// S3 throws uploads away, and answers every download with the bytes of one file, or with zeros. It
// confirms the checksums of uploads without having compared them, and sends right ones with
// downloads. Buckets are there, whatever their names. It serves HTTP.
type S3 struct {
	Latency time.Duration // every answer is so late
	Rate    float64       // bytes a second that one request body or answer moves at most; 0: no limit
	Listed  int           // so many keys seem to be under any prefix with "shared/" in it

	file     *os.File
	fileSize int64
	fileCRC  string // CRC-64/NVME in base64, as S3 has it
	zeros    []byte
	zerosCRC string
	uploads  atomic.Int64
	buffers  sync.Pool // of *[]byte
}

// NewS3 returns a server whose every object with "big" in its key is the content of the file, which
// must stay open and as it is. Every other object has so many zeros, in bytes.
func NewS3(file *os.File, zeros int64) (*S3, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	crc := crc64nvme.New()
	content := struct{ io.Reader }{io.NewSectionReader(file, 0, info.Size())}
	if _, err := io.CopyBuffer(struct{ io.Writer }{crc}, content, make([]byte, 1<<20)); err != nil {
		return nil, err
	}
	s := &S3{file: file, fileSize: info.Size(), fileCRC: encode(crc.Sum64()), zeros: make([]byte, zeros)}
	s.zerosCRC = encode(crc64nvme.Checksum(s.zeros))
	s.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	return s, nil
}

const bufferSize = 512 << 10

// etag has the form of one of a multipart upload: no client takes it for an MD5.
const etag = `"d41d8cd98f00b204e9800998ecf8427e-2"`

func encode(sum uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, sum))
}

// ServeHTTP implements [http.Handler].
func (s *S3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	w.Header().Set("Server", "nulls3")
	var end string // of the body
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		var err error
		if end, err = s.drain(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	time.Sleep(s.Latency)
	switch {
	case r.Method == http.MethodPost && query.Has("uploads"):
		// The kind of checksum that was asked for is confirmed, as S3 does it.
		for _, name := range []string{"X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type"} {
			echo(w, r, name)
		}
		xml(w, fmt.Sprintf(`<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>%s</Key><UploadId>u%d</UploadId></InitiateMultipartUploadResult>`, key, s.uploads.Add(1)))
	case r.Method == http.MethodPost && query.Has("uploadId"):
		xml(w, `<CompleteMultipartUploadResult><Bucket>b</Bucket><Key>`+key+`</Key><ETag>`+etag+`</ETag></CompleteMultipartUploadResult>`)
	case r.Method == http.MethodPost && query.Has("delete"):
		xml(w, `<DeleteResult></DeleteResult>`)
	case r.Method == http.MethodPut:
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Amz-Checksum-") {
				echo(w, r, name)
			}
		}
		if name := r.Header.Get("X-Amz-Trailer"); name != "" {
			if _, value, ok := strings.Cut(end, "\r\n"+name+":"); ok {
				w.Header().Set(name, strings.TrimSpace(value))
			}
		}
		w.Header().Set("ETag", etag)
	case r.Method == http.MethodDelete:
		w.WriteHeader(http.StatusNoContent)
	case key == "" && r.Method == http.MethodHead:
	case key == "" && query.Has("location"):
		xml(w, `<LocationConstraint></LocationConstraint>`)
	case key == "" && r.Method == http.MethodGet:
		s.list(w, query)
	case r.Method == http.MethodGet, r.Method == http.MethodHead:
		s.get(w, r, strings.Contains(key, "big"))
	default:
		w.WriteHeader(http.StatusBadRequest)
	}
}

func echo(w http.ResponseWriter, r *http.Request, name string) {
	if value := r.Header.Get(name); value != "" {
		w.Header().Set(name, value)
	}
}

func xml(w http.ResponseWriter, body string) {
	body = `<?xml version="1.0" encoding="UTF-8"?>` + body
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = io.WriteString(w, body)
}

// longestEnd is how many bytes of the end of a body hold the trailers.
const longestEnd = 256

// drain reads a body to its end, at most at the rate of a connection, and returns its last bytes.
func (s *S3) drain(body io.Reader) (end string, err error) {
	var last []byte
	buf := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(buf)
	pace := pace{rate: s.Rate, begin: time.Now()}
	for {
		n, err := body.Read(*buf)
		pace.moved(n)
		last = append(last, (*buf)[max(0, n-longestEnd):n]...)
		last = last[max(0, len(last)-longestEnd):]
		if errors.Is(err, io.EOF) {
			return string(last), nil
		}
		if err != nil {
			return "", err
		}
	}
}

// pace keeps a transfer to its rate.
type pace struct {
	rate  float64 // bytes a second; 0: no limit
	begin time.Time
	bytes int64
}

func (p *pace) moved(n int) {
	if p.rate == 0 {
		return
	}
	p.bytes += int64(n)
	due := p.begin.Add(time.Duration(float64(p.bytes) / p.rate * float64(time.Second)))
	if wait := time.Until(due); wait > time.Millisecond {
		time.Sleep(wait)
	}
}

type pacedWriter struct {
	io.Writer
	pace pace
}

func (w *pacedWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	w.pace.moved(n)
	return n, err
}

func (s *S3) get(w http.ResponseWriter, r *http.Request, isBig bool) {
	size, crc := int64(len(s.zeros)), s.zerosCRC
	if isBig {
		size, crc = s.fileSize, s.fileCRC
	}
	h := w.Header()
	h.Set("ETag", etag)
	h.Set("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Type", "application/octet-stream")
	offset, n, status := int64(0), size, http.StatusOK
	if text := r.Header.Get("Range"); text != "" {
		var first, last int64
		if fields, _ := fmt.Sscanf(text, "bytes=%d-%d", &first, &last); fields == 1 {
			last = size - 1
		}
		if first >= size {
			w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
			return
		}
		last = min(last, size-1)
		offset, n, status = first, last-first+1, http.StatusPartialContent
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
	} else if r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
		h.Set("X-Amz-Checksum-Crc64nvme", crc)
		h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
	h.Set("Content-Length", strconv.FormatInt(n, 10))
	w.WriteHeader(status)
	switch {
	case r.Method == http.MethodHead:
	case !isBig:
		_, _ = w.Write(s.zeros[offset : offset+n])
	case s.Rate > 0:
		buf := s.buffers.Get().(*[]byte)
		defer s.buffers.Put(buf)
		paced := &pacedWriter{Writer: w, pace: pace{rate: s.Rate, begin: time.Now()}}
		_, _ = io.CopyBuffer(paced, struct{ io.Reader }{io.NewSectionReader(s.file, offset, n)}, *buf)
	default:
		// A descriptor of its own has an offset of its own, which sendfile needs.
		f, err := os.Open(s.file.Name())
		if err != nil {
			return
		}
		defer func() { _ = f.Close() }()
		if _, err := f.Seek(offset, io.SeekStart); err == nil {
			_, _ = io.CopyN(w, f, n)
		}
	}
}

// list answers both versions of ListObjects: nothing under any prefix but "…shared/…", which
// seems to hold so many small files.
func (s *S3) list(w http.ResponseWriter, query url.Values) {
	const page = 1000
	prefix, start, total := query.Get("prefix"), 0, s.Listed
	if token := query.Get("continuation-token"); token != "" {
		start, _ = strconv.Atoi(token)
	}
	if _, name, ok := strings.Cut(query.Get("marker"), "/f"); ok { // version 1: the last key of the page before
		start, _ = strconv.Atoi(strings.TrimSuffix(name, ".bin"))
		start++
	}
	if !strings.Contains(prefix, "shared/") {
		total = 0
	}
	end := min(start+page, total)
	var b strings.Builder
	fmt.Fprintf(&b, `<ListBucketResult><Name>b</Name><Prefix>%s</Prefix><KeyCount>%d</KeyCount><MaxKeys>%d</MaxKeys><IsTruncated>%v</IsTruncated>`,
		prefix, end-start, page, end < total)
	if end < total {
		fmt.Fprintf(&b, `<NextContinuationToken>%d</NextContinuationToken><NextMarker>%sf%05d.bin</NextMarker>`, end, prefix, end-1)
	}
	for i := start; i < end; i++ {
		fmt.Fprintf(&b, `<Contents><Key>%sf%05d.bin</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>%s</ETag><Size>%d</Size><StorageClass>STANDARD</StorageClass></Contents>`,
			prefix, i, etag, len(s.zeros))
	}
	b.WriteString(`</ListBucketResult>`)
	xml(w, b.String())
}
