package transfer

import (
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// smallestFileBody is the size in bytes from which on it is worth the while to open a file once more.
const smallestFileBody = 1 << 20

// FileBody is the body of one try as a connection without TLS can take it: the kernel copies it
// from the file into the socket, and it never comes into the memory of the process (sendfile(2)).
// [HTTPClient] sees to it that the connection gets it, which has to ask for the pieces. It is read from
// where the file stands, a file that nobody else uses.
type FileBody struct {
	try   *body // counts
	file  *os.File
	start int64 // where the file stood
	size  int64 // bytes
	moved int64 // bytes, by either way

	mu    sync.Mutex
	ended bool // the try is over: nothing is counted any more
}

// openFileBody returns what b reads of r as a file of its own; nil where that is of no use, where r is
// no file, or the path no longer leads to it. The caller ends it.
func (e *Engine) openFileBody(b *body, r io.ReaderAt, size int64) *FileBody {
	if size < smallestFileBody || e.overTLS() {
		return nil
	}
	var start int64
	if section, ok := r.(*io.SectionReader); ok {
		r, start, _ = section.Outer()
	}
	source, ok := r.(*os.File)
	if !ok || strings.HasPrefix(source.Name(), "/dev/") { // /dev/fd/3 is no other file on macOS and BSD, but the same
		return nil
	}
	file, err := os.Open(source.Name())
	if err != nil {
		return nil
	}
	before, err := source.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = file.Stat(); err == nil && os.SameFile(before, now) {
			if _, err = file.Seek(start, io.SeekStart); err == nil {
				return &FileBody{try: b, file: file, start: start, size: size}
			}
		}
	}
	_ = file.Close() // which was only read
	return nil
}

// Read implements [io.Reader]: what comes together with the header of the request, or goes
// through TLS, is read.
func (b *FileBody) Read(p []byte) (int, error) {
	left := b.size - b.moved
	if left == 0 {
		return 0, io.EOF
	}
	if err := b.try.ctx.Err(); err != nil {
		return 0, err
	}
	p = p[:min(int64(len(p)), left)]
	b.count(int64(len(p)))
	n, err := b.file.Read(p)
	b.count(int64(n - len(p)))
	return n, err
}

// Next has copyFrom, a ReadFrom that knows files, copy at most n bytes, and counts them. Its error is that of
// the caller's context, or of copyFrom.
func (b *FileBody) Next(n int64, copyFrom func(io.Reader) (int64, error)) (int64, error) {
	if err := b.try.ctx.Err(); err != nil {
		return 0, err
	}
	n = min(n, b.size-b.moved)
	b.count(n)
	copied, err := copyFrom(&io.LimitedReader{R: b.file, N: n})
	// What was copied or read, the file knows.
	at, seekErr := b.file.Seek(0, io.SeekCurrent)
	if seekErr != nil {
		return copied, seekErr
	}
	b.count(at - b.start - b.moved)
	return copied, err
}

// count counts bytes before they move, and n is negative for those that then did not: an answer that is
// here before the last of the body was counted would else be taken for one to a body cut short.
func (b *FileBody) count(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.moved += n
	if b.ended {
		return
	}
	b.try.sent.Add(n)
	b.try.progress.add(n)
}

// end ends the try, and what a connection that is given up may still send of it.
func (b *FileBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	_ = b.file.Close() // which was only read
}

// Close does nothing: send ends it.
func (b *FileBody) Close() error { return nil }

type fileBodyKey struct{}

// with returns the context of a request that has this body.
func (b *FileBody) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, fileBodyKey{}, b)
}

// HTTPClient returns c, which then gets the bodies of uploads as they are, where the SDK would wrap
// them up.
func HTTPClient(c s3.HTTPClient) s3.HTTPClient { return &fileSender{c} }

type fileSender struct{ s3.HTTPClient }

// Do implements [s3.HTTPClient].
func (c *fileSender) Do(req *http.Request) (*http.Response, error) {
	if b, ok := req.Context().Value(fileBodyKey{}).(*FileBody); ok && req.ContentLength == b.size {
		req.Body = b
	}
	return c.HTTPClient.Do(req)
}
