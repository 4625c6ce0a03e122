package transfer_test

import (
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/nullserver"
	"github.com/designfultech/filestore/internal/testserver"
	"github.com/designfultech/filestore/internal/transfer"
)

// The servers of these benchmarks are in the same process: their work counts too, and their
// allocations. For figures of the program alone, see bench/.

const bigKey = "bigbigbigbigbig0" // nullserver knows a large object by its key

// nullServer returns a client of a server that keeps nothing, whose large object is the content of f.
func nullServer(b *testing.B, f *os.File) *s3.Client {
	b.Helper()
	handler, err := nullserver.NewS3(f, 4096)
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(handler)
	b.Cleanup(server.Close)
	return newClient(testserver.S3{Region: "us-east-1", AccessKey: "key", SecretKey: "secret"}, server.URL).Client
}

func largeFile(b *testing.B, size int) *os.File {
	b.Helper()
	path := filepath.Join(b.TempDir(), "source")
	if err := os.WriteFile(path, randomBytes(size), 0o600); err != nil {
		b.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	return f
}

// What a small file costs: signing, and one request.
func BenchmarkUpload4KiB(b *testing.B) {
	f := largeFile(b, 4096)
	engine := &transfer.Engine{S3: nullServer(b, f), Bucket: bucket}
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := engine.UploadFile(b.Context(), key, "application/octet-stream", f, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUploadFile64MiB(b *testing.B) {
	f := largeFile(b, 64*mib)
	engine := &transfer.Engine{S3: nullServer(b, f), Bucket: bucket}
	b.SetBytes(64 * mib)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := engine.UploadFile(b.Context(), bigKey, "application/octet-stream", f, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDownloadFile64MiB(b *testing.B) {
	f := largeFile(b, 64*mib)
	engine := &transfer.Engine{S3: nullServer(b, f), Bucket: bucket}
	target, err := os.Create(filepath.Join(b.TempDir(), "target"))
	if err != nil {
		b.Fatal(err)
	}
	defer target.Close()
	b.SetBytes(64 * mib)
	b.ReportAllocs()
	for b.Loop() {
		if err := target.Truncate(0); err != nil {
			b.Fatal(err)
		}
		if _, err := engine.DownloadFile(b.Context(), bigKey, 64*mib, target, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDownload4KiB(b *testing.B) {
	engine := &transfer.Engine{S3: nullServer(b, largeFile(b, 1)), Bucket: bucket}
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := engine.Download(b.Context(), key, 4096, io.Discard, nil); err != nil {
			b.Fatal(err)
		}
	}
}
