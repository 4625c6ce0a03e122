// Command nulls3 is a stand-in for S3 that keeps nothing: it throws uploads away, and answers every
// download with the bytes of one file. What a benchmark against it measures is the client.
//
// It can answer late, limit what one connection moves, and speak TLS with a certificate that it
// makes for itself. It listens on the loopback interface only.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
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

func main() {
	s := &server{}
	listen := flag.String("listen", "127.0.0.1:7090", "`address`")
	caOut := flag.String("tls", "", "speak TLS, and write the certificate to this `file`")
	path := flag.String("file", "", "the `file` whose bytes are those of every key that contains \"big\"")
	flag.Int64Var(&s.smallSize, "small-size", 4096, "size of every other object, in bytes")
	flag.IntVar(&s.listed, "listed", 2000, "how many keys a prefix with \"shared/\" in it seems to have")
	flag.DurationVar(&s.latency, "latency", 0, "how late every answer is")
	rate := flag.Float64("connrate", 0, "MiB/s that one request body or answer moves at most; 0: no limit")
	flag.Parse()
	s.rate = *rate * (1 << 20)
	if err := run(s, *listen, *caOut, *path); err != nil {
		fmt.Fprintln(os.Stderr, "nulls3:", err)
		os.Exit(1)
	}
}

func run(s *server, listen, caOut, path string) error {
	if !strings.HasPrefix(listen, "127.") {
		return fmt.Errorf("%q is not an address of the loopback interface", listen)
	}
	if err := s.open(path); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if caOut != "" {
		config, err := selfSigned(l.Addr().(*net.TCPAddr).IP, caOut) //nolint:errcheck,forcetypeassert // a TCP listener has such an address
		if err != nil {
			return err
		}
		l = tls.NewListener(l, config)
	}
	return (&http.Server{Handler: s, ReadHeaderTimeout: time.Minute}).Serve(l)
}

// selfSigned makes a certificate for ip, and writes it to path for the clients that are to trust it.
func selfSigned(ip net.IP, path string) (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: "filestore bench"},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		IPAddresses: []net.IP{ip}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, nil
}

type server struct {
	file      *os.File
	bigSize   int64
	bigCRC    string // CRC-64/NVME in base64, as S3 has it
	small     []byte
	smallSize int64
	smallCRC  string
	listed    int
	latency   time.Duration
	rate      float64 // bytes a second; 0: no limit
	uploads   atomic.Int64
	buffers   sync.Pool // of *[]byte
}

const bufferSize = 512 << 10

// etag has the form of one of a multipart upload: no client takes it for an MD5.
const etag = `"d41d8cd98f00b204e9800998ecf8427e-2"`

// open opens the file and computes the checksums that downloads are verified with.
func (s *server) open(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	crc := crc64nvme.New()
	if _, err := io.CopyBuffer(crc, io.NewSectionReader(f, 0, info.Size()), make([]byte, 1<<20)); err != nil {
		return err
	}
	s.file, s.bigSize, s.bigCRC = f, info.Size(), encode(crc.Sum64())
	s.small = make([]byte, s.smallSize)
	s.smallCRC = encode(crc64nvme.Checksum(s.small))
	s.buffers.New = func() any { b := make([]byte, bufferSize); return &b }
	return nil
}

func encode(sum uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64(nil, sum))
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	query := r.URL.Query()
	w.Header().Set("Server", "nulls3")
	if r.Method == http.MethodPut || r.Method == http.MethodPost {
		if err := s.drain(r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	time.Sleep(s.latency)
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

// drain reads a body to its end, at most at the rate of a connection.
func (s *server) drain(body io.Reader) error {
	buf := s.buffers.Get().(*[]byte) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	defer s.buffers.Put(buf)
	pace := pace{rate: s.rate, begin: time.Now()}
	for {
		n, err := body.Read(*buf)
		pace.moved(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
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

func (s *server) get(w http.ResponseWriter, r *http.Request, isBig bool) {
	size, crc := s.smallSize, s.smallCRC
	if isBig {
		size, crc = s.bigSize, s.bigCRC
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
		_, _ = w.Write(s.small[offset : offset+n])
	case s.rate > 0:
		buf := s.buffers.Get().(*[]byte) //nolint:errcheck,forcetypeassert // the pool holds nothing else
		defer s.buffers.Put(buf)
		paced := &pacedWriter{Writer: w, pace: pace{rate: s.rate, begin: time.Now()}}
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
func (s *server) list(w http.ResponseWriter, query url.Values) {
	const page = 1000
	prefix, start, total := query.Get("prefix"), 0, s.listed
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
			prefix, i, etag, s.smallSize)
	}
	b.WriteString(`</ListBucketResult>`)
	xml(w, b.String())
}
