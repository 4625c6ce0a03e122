// Command rawhttp moves bytes to and from an S3 server with as little as net/http needs: no
// checksums, no retries, nothing adapted, nothing written to disk. It shows what a server and the loopback
// interface allow, the limit that no client can pass.
//
//	rawhttp put FILE URL      upload in parts, in parallel
//	rawhttp get URL           download in ranges, in parallel, and throw it away
//	rawhttp putdir DIR URL    upload every file of a directory under URL/
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"golang.org/x/sync/errgroup"
)

func main() {
	var c raw
	flag.IntVar(&c.connections, "n", 8, "connections")
	flag.Int64Var(&c.partSize, "part", 16<<20, "size of a part or a range, in bytes")
	flag.BoolVar(&c.sign, "sign", false, "sign, with the keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	ca := flag.String("ca", "", "`file` with the certificate to trust")
	flag.Parse()
	if err := c.run(context.Background(), *ca, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "rawhttp:", err)
		os.Exit(1)
	}
}

type raw struct {
	connections int
	partSize    int64
	sign        bool
	signer      *v4.Signer
	http        *http.Client
}

func (c *raw) run(ctx context.Context, ca string, args []string) error {
	transport := &http.Transport{
		MaxIdleConnsPerHost: c.connections, DisableCompression: true, Protocols: new(http.Protocols),
		WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10,
	}
	transport.Protocols.SetHTTP1(true)
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return err
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(text)
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	}
	c.http, c.signer = &http.Client{Transport: transport}, v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	switch {
	case len(args) == 3 && args[0] == "put":
		return c.put(ctx, args[1], args[2])
	case len(args) == 2 && args[0] == "get":
		return c.get(ctx, args[1])
	case len(args) == 3 && args[0] == "putdir":
		return c.putDir(ctx, args[1], args[2])
	}
	return errors.New("put FILE URL, get URL or putdir DIR URL")
}

// do sends a request and returns its answer, the body of which the caller closes.
func (c *raw) do(ctx context.Context, method, target string, body io.Reader, size int64, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = size
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	if c.sign {
		const unsigned = "UNSIGNED-PAYLOAD"
		req.Header.Set("X-Amz-Content-Sha256", unsigned)
		keys := aws.Credentials{AccessKeyID: os.Getenv("AWS_ACCESS_KEY_ID"), SecretAccessKey: os.Getenv("AWS_SECRET_ACCESS_KEY")}
		if err := c.signer.SignHTTP(ctx, keys, req, unsigned, "s3", os.Getenv("AWS_REGION"), time.Now()); err != nil {
			return nil, err
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		defer func() { _ = resp.Body.Close() }()
		why, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("%s %s: %s: %s", method, target, resp.Status, why)
	}
	return resp, nil
}

// answer sends a request and returns the ETag and the body of its answer.
func (c *raw) answer(ctx context.Context, method, target string, body io.Reader, size int64) (etag string, text []byte, err error) {
	resp, err := c.do(ctx, method, target, body, size)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err = io.ReadAll(resp.Body)
	return resp.Header.Get("ETag"), text, err
}

// section is what a file holds from its offset to end, as a body that the kernel can copy into the
// connection: net/http looks for a descriptor (sendfile).
type section struct {
	file *os.File
	end  int64
}

func (s section) SyscallConn() (syscall.RawConn, error) { return s.file.SyscallConn() }
func (s section) Close() error                          { return s.file.Close() }

// Read ends where the section does: net/http asks for more than it has had copied.
func (s section) Read(p []byte) (int, error) {
	at, err := s.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	if at >= s.end {
		return 0, io.EOF
	}
	return s.file.Read(p[:min(int64(len(p)), s.end-at)])
}

// putSection sends size bytes of the file from offset on, and returns the ETag.
func (c *raw) putSection(ctx context.Context, path string, offset, size int64, target string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return "", err
	}
	etag, _, err := c.answer(ctx, http.MethodPut, target, section{f, offset + size}, size)
	return etag, err
}

func (c *raw) put(ctx context.Context, path, target string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	_, text, err := c.answer(ctx, http.MethodPost, target+"?uploads=", nil, 0)
	if err != nil {
		return err
	}
	var created struct {
		UploadID string `xml:"UploadId"`
	}
	if err := xml.Unmarshal(text, &created); err != nil {
		return err
	}
	id := "uploadId=" + url.QueryEscape(created.UploadID)
	etags := make([]string, (info.Size()+c.partSize-1)/c.partSize)
	err = c.each(ctx, len(etags), func(ctx context.Context, i int) (err error) {
		from := int64(i) * c.partSize
		etags[i], err = c.putSection(ctx, path, from, min(c.partSize, info.Size()-from),
			fmt.Sprintf("%s?partNumber=%d&%s", target, i+1, id))
		return err
	})
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("<CompleteMultipartUpload>")
	for i, etag := range etags {
		fmt.Fprintf(&b, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", i+1, etag)
	}
	b.WriteString("</CompleteMultipartUpload>")
	_, _, err = c.answer(ctx, http.MethodPost, target+"?"+id, strings.NewReader(b.String()), int64(b.Len()))
	return err
}

func (c *raw) get(ctx context.Context, target string) error {
	head, err := c.do(ctx, http.MethodHead, target, nil, 0)
	if err != nil {
		return err
	}
	_ = head.Body.Close()
	size := head.ContentLength
	return c.each(ctx, int((size+c.partSize-1)/c.partSize), func(ctx context.Context, i int) error {
		from := int64(i) * c.partSize
		to := min(from+c.partSize, size)
		resp, err := c.do(ctx, http.MethodGet, target, nil, 0,
			"Range", "bytes="+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to-1, 10))
		if err != nil {
			return err
		}
		defer func() { _ = resp.Body.Close() }()
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, resp.Body, make([]byte, 512<<10))
		if err == nil && n != to-from {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
}

func (c *raw) putDir(ctx context.Context, dir, target string) error {
	type file struct {
		path string
		size int64
	}
	var files []file
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			files = append(files, file{path, info.Size()})
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.each(ctx, len(files), func(ctx context.Context, i int) error {
		_, err := c.putSection(ctx, files[i].path, 0, files[i].size, target+"/"+filepath.Base(files[i].path))
		return err
	})
}

// each calls f for 0 to n-1, on so many goroutines as there are connections.
func (c *raw) each(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.connections)
	for i := range n {
		group.Go(func() error { return f(ctx, i) })
	}
	return group.Wait()
}
