package transfer_test

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/crc64nvme"

	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// fakeS3 is an S3 in memory that knows only some checksums, as many servers do.
type fakeS3 struct {
	// knows are the kinds of checksums that it compares and tells of: CRC64NVME (of full objects),
	// CRC32 (of the parts of multipart uploads).
	knows []string
	// status and code are what other kinds are refused with. The zero values ignore them without a
	// word.
	status int
	code   string
	// trailers is what it does with a checksum behind a body. The zero value knows it.
	trailers trailerManners
	// before is called with every request before anything is done with it.
	before func(*http.Request)

	mu       sync.Mutex
	objects  map[string]*fakeObject
	uploads  map[string]*fakeUpload
	begins   int // multipart uploads that were ever begun
	requests []fakeRequest
}

type trailerManners int

const (
	knowsTrailers   trailerManners = iota
	ignoresTrailers                // keeps the body with all that is around the content
	refusesTrailers                // with 501
	missesTrailers                 // takes the content, and says nothing of the checksum
)

type fakeRequest struct {
	operation string
	header    http.Header
	length    int64
}

type fakeObject struct {
	data      []byte
	etag      string
	checksums http.Header
	parts     []int // sizes; nil: no multipart upload
}

type fakeUpload struct {
	key, kind string
	parts     map[int]*fakeObject
}

// start serves it until the test ends.
func (f *fakeS3) start(t *testing.T) testserver.S3 {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	return testserver.S3{Endpoint: server.URL, AccessKey: "key", SecretKey: "secret", Region: "us-east-1"}
}

// object returns the object of key, nil where there is none.
func (f *fakeS3) object(key string) *fakeObject {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.objects["/"+bucket+"/"+key]
}

// seen returns the requests for an operation.
func (f *fakeS3) seen(operation string) []fakeRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.requests), func(r fakeRequest) bool { return r.operation != operation })
}

// begun returns how many multipart uploads are neither completed nor aborted.
func (f *fakeS3) begun() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.uploads)
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operations := map[string]func(http.ResponseWriter, *http.Request){
		"PutObject": f.putObject, "UploadPart": f.uploadPart, "CreateMultipartUpload": f.create,
		"CompleteMultipartUpload": f.complete, "AbortMultipartUpload": f.abort, "ListParts": f.listParts,
		"ListMultipartUploads": f.listUploads,
		"HeadObject":           f.get, "GetObject": f.get, "GetObjectAttributes": f.attributes,
	}
	operation := operationOf(r)
	if f.before != nil {
		f.before(r)
	}
	f.mu.Lock()
	f.requests = append(f.requests, fakeRequest{operation, r.Header, r.ContentLength})
	f.mu.Unlock()
	if do, ok := operations[operation]; ok {
		do(w, r)
		return
	}
	fail(w, http.StatusNotImplemented, "NotImplemented")
}

// operationOf returns the name of what r asks for.
func operationOf(r *http.Request) string {
	query := r.URL.Query()
	switch has := query.Has; {
	case r.Method == http.MethodPut && has("partNumber"):
		return "UploadPart"
	case r.Method == http.MethodPut:
		return "PutObject"
	case r.Method == http.MethodPost && has("uploads"):
		return "CreateMultipartUpload"
	case r.Method == http.MethodPost && has("uploadId"):
		return "CompleteMultipartUpload"
	case r.Method == http.MethodDelete && has("uploadId"):
		return "AbortMultipartUpload"
	case r.Method == http.MethodGet && has("uploadId"):
		return "ListParts"
	case r.Method == http.MethodGet && has("uploads"):
		return "ListMultipartUploads"
	case r.Method == http.MethodGet && has("attributes"):
		return "GetObjectAttributes"
	case r.Method == http.MethodHead:
		return "HeadObject"
	case r.Method == http.MethodGet && len(query) <= 1: // x-id
		return "GetObject"
	}
	return r.Method + "?" + r.URL.RawQuery
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}

// receive reads a body and compares the checksums of its header that f knows. Where it refuses
// them, it answers, and returns nil.
func (f *fakeS3) receive(w http.ResponseWriter, r *http.Request) *fakeObject {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return nil // the connection broke
	}
	sums := maps.Clone(r.Header)
	if name := r.Header.Get("X-Amz-Trailer"); name != "" && f.trailers != ignoresTrailers {
		if f.trailers == refusesTrailers {
			fail(w, http.StatusNotImplemented, "NotImplemented")
			return nil
		}
		content, sum, err := unchunk(data, name)
		if err != nil || strconv.Itoa(len(content)) != r.Header.Get("X-Amz-Decoded-Content-Length") ||
			r.Header.Get("X-Amz-Content-Sha256") != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
			fail(w, http.StatusBadRequest, "IncompleteBody")
			return nil
		}
		data = content
		if f.trailers == knowsTrailers {
			sums.Set(name, sum)
		}
	}
	o := &fakeObject{data: data, checksums: http.Header{}}
	for header, values := range sums {
		kind, ok := strings.CutPrefix(header, "X-Amz-Checksum-")
		kind = strings.ToUpper(kind)
		switch {
		case !ok || kind == "MODE":
		case slices.Contains(f.knows, kind):
			if values[0] != checksumOf(kind, data) {
				fail(w, http.StatusBadRequest, "BadDigest")
				return nil
			}
			o.checksums[header] = values
		case f.status != 0:
			fail(w, f.status, f.code)
			return nil
		}
	}
	sum := md5.Sum(data)
	o.etag = `"` + hex.EncodeToString(sum[:]) + `"`
	f.answer(w, o)
	return o
}

// unchunk takes a body of one chunk apart, as the Amazon S3 API Reference has it ("Signature calculations
// for the Authorization header: Including trailing headers").
func unchunk(body []byte, trailer string) (content []byte, value string, err error) {
	head, rest, _ := bytes.Cut(body, []byte("\r\n"))
	size, err := strconv.ParseInt(string(head), 16, 64)
	if err != nil || size > int64(len(rest)) {
		return nil, "", fmt.Errorf("%q begins no chunk", head)
	}
	value, ok := strings.CutPrefix(string(rest[size:]), "\r\n0\r\n"+trailer+":")
	value, whole := strings.CutSuffix(value, "\r\n\r\n")
	if !ok || !whole {
		return nil, "", fmt.Errorf("%q is not the end", rest[size:])
	}
	return rest[:size], value, nil
}

func (f *fakeS3) answer(w http.ResponseWriter, o *fakeObject) {
	w.Header().Set("ETag", o.etag)
	maps.Copy(w.Header(), o.checksums)
}

// checksumOf returns a checksum as headers have it.
func checksumOf(kind string, data []byte) string {
	var sum []byte
	switch kind {
	case "CRC64NVME":
		sum = binary.BigEndian.AppendUint64(nil, crc64nvme.Checksum(data))
	case "CRC32":
		sum = binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(data))
	default:
		panic(kind)
	}
	return base64.StdEncoding.EncodeToString(sum)
}

func (f *fakeS3) putObject(w http.ResponseWriter, r *http.Request) {
	if o := f.receive(w, r); o != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.objects == nil {
			f.objects = map[string]*fakeObject{}
		}
		f.objects[r.URL.Path] = o
	}
}

func (f *fakeS3) create(w http.ResponseWriter, r *http.Request) {
	kind := r.Header.Get("X-Amz-Checksum-Algorithm")
	switch {
	case slices.Contains(f.knows, kind):
		w.Header().Set("X-Amz-Checksum-Algorithm", kind)
	case f.status != 0 && kind != "":
		fail(w, f.status, f.code)
		return
	default:
		kind = ""
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uploads == nil {
		f.uploads = map[string]*fakeUpload{}
	}
	f.begins++
	id := strconv.Itoa(f.begins)
	f.uploads[id] = &fakeUpload{key: r.URL.Path, kind: kind, parts: map[int]*fakeObject{}}
	fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
}

func (f *fakeS3) uploadPart(w http.ResponseWriter, r *http.Request) {
	number, err := strconv.Atoi(r.URL.Query().Get("partNumber"))
	if err != nil {
		fail(w, http.StatusBadRequest, "InvalidArgument")
		return
	}
	if o := f.receive(w, r); o != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		if u := f.uploads[r.URL.Query().Get("uploadId")]; u != nil {
			u.parts[number] = o
		}
	}
}

func (f *fakeS3) complete(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.NewDecoder(r.Body).Decode(&in); err != nil {
		fail(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := r.URL.Query().Get("uploadId")
	u := f.uploads[id]
	if u == nil {
		fail(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	o := &fakeObject{checksums: http.Header{}}
	var etags, sums []byte
	for _, p := range in.Part {
		part := u.parts[p.PartNumber]
		if part == nil || part.etag != p.ETag {
			fail(w, http.StatusBadRequest, "InvalidPart")
			return
		}
		o.data = append(o.data, part.data...)
		o.parts = append(o.parts, len(part.data))
		etag, _ := hex.DecodeString(strings.Trim(part.etag, `"`)) // our own
		etags = append(etags, etag...)
		sums = binary.BigEndian.AppendUint32(sums, crc32.ChecksumIEEE(part.data))
	}
	sum := md5.Sum(etags)
	o.etag = fmt.Sprintf(`"%x-%d"`, sum, len(in.Part))
	switch u.kind {
	case "CRC64NVME":
		whole := checksumOf(u.kind, o.data)
		if r.Header.Get("X-Amz-Checksum-Crc64nvme") != whole {
			fail(w, http.StatusBadRequest, "BadDigest")
			return
		}
		o.checksums.Set("X-Amz-Checksum-Crc64nvme", whole)
		o.checksums.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	case "CRC32":
		o.checksums.Set("X-Amz-Checksum-Crc32", fmt.Sprintf("%s-%d", checksumOf(u.kind, sums), len(in.Part)))
		o.checksums.Set("X-Amz-Checksum-Type", "COMPOSITE")
	}
	if f.objects == nil {
		f.objects = map[string]*fakeObject{}
	}
	f.objects[u.key] = o
	delete(f.uploads, id)
	fmt.Fprintf(w, "<CompleteMultipartUploadResult><ETag>%s</ETag></CompleteMultipartUploadResult>", o.etag)
}

func (f *fakeS3) abort(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.uploads, r.URL.Query().Get("uploadId"))
	w.WriteHeader(http.StatusNoContent)
}

func (f *fakeS3) listParts(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.uploads[r.URL.Query().Get("uploadId")] == nil {
		fail(w, http.StatusNotFound, "NoSuchUpload")
		return
	}
	_, _ = io.WriteString(w, "<ListPartsResult></ListPartsResult>")
}

func (f *fakeS3) listUploads(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = io.WriteString(w, "<ListMultipartUploadsResult>")
	for id, u := range f.uploads {
		if key := strings.TrimPrefix(u.key, "/"+bucket+"/"); strings.HasPrefix(key, r.URL.Query().Get("prefix")) {
			fmt.Fprintf(w, "<Upload><Key>%s</Key><UploadId>%s</UploadId></Upload>", key, id)
		}
	}
	_, _ = io.WriteString(w, "</ListMultipartUploadsResult>")
}

func (f *fakeS3) get(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	o := f.objects[r.URL.Path]
	f.mu.Unlock()
	if o == nil {
		fail(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	f.answer(w, o)
	if r.Header.Get("X-Amz-Checksum-Mode") == "" {
		for name := range o.checksums {
			w.Header().Del(name)
		}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.data)) // with ranges and If-Match
}

func (f *fakeS3) attributes(w http.ResponseWriter, r *http.Request) {
	o := f.object(strings.TrimPrefix(r.URL.Path, "/"+bucket+"/"))
	_, _ = io.WriteString(w, "<GetObjectAttributesResponse><ObjectParts><IsTruncated>false</IsTruncated>")
	for i, size := range o.parts {
		fmt.Fprintf(w, "<Part><PartNumber>%d</PartNumber><Size>%d</Size></Part>", i+1, size)
	}
	_, _ = io.WriteString(w, "</ObjectParts></GetObjectAttributesResponse>")
}

// bytesFile is a file in memory.
func bytesFile(data []byte) transfer.File { return memoryFile{bytes.NewReader(data)} }

type memoryFile struct{ *bytes.Reader }

func (f memoryFile) Stat() (fs.FileInfo, error) { return memoryInfo{size: f.Size()}, nil }

type memoryInfo struct {
	fs.FileInfo
	size int64
}

func (i memoryInfo) Size() int64      { return i.size }
func (memoryInfo) ModTime() time.Time { return time.Time{} }
