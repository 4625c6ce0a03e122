package nullserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/nullserver"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/transfer"
)

const (
	mib   = 1 << 20
	bigID = "bigbigbigbigbig0"
)

func config() aws.Config {
	return aws.Config{
		Region:      "us-east-1",
		HTTPClient:  client.HTTPClient(10*time.Second, nil),
		Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}
}

// file returns a file of random bytes.
func file(t *testing.T, size int) (*os.File, []byte) {
	t.Helper()
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, data
}

// engine returns a transfer engine on a null S3 whose large object is the content of f.
func engine(t *testing.T, f *os.File) (*transfer.Engine, *nullserver.S3) {
	t.Helper()
	s, err := nullserver.NewS3(f, 4096)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	api := client.NewS3(config(), func(o *s3.Options) { o.BaseEndpoint = &server.URL })
	return &transfer.Engine{S3: api, Bucket: "any", PartSize: 5 * mib}, s
}

func TestUploadsAreConfirmed(t *testing.T) {
	for name, size := range map[string]int{"whole": 100, "in parts": 12*mib + 1} {
		t.Run(name, func(t *testing.T) {
			f, _ := file(t, size)
			e, _ := engine(t, f)
			object, err := e.UploadFile(t.Context(), bigID, "text/plain", f, nil)
			if err != nil {
				t.Fatal(err)
			}
			// As S3 does: else the client would look for a checksum that the server knows.
			if object.Verified != "CRC64NVME" {
				t.Errorf("verified with %q", object.Verified)
			}
		})
	}
}

func TestDownloadsAreTheFile(t *testing.T) {
	for name, rate := range map[string]float64{"at once": 0, "paced": 1 << 30} {
		t.Run(name, func(t *testing.T) {
			f, data := file(t, 12*mib+1)
			e, server := engine(t, f)
			server.Rate = rate
			got, err := os.Create(filepath.Join(t.TempDir(), "got"))
			if err != nil {
				t.Fatal(err)
			}
			defer got.Close()
			object, err := e.DownloadFile(t.Context(), bigID, int64(len(data)), got, nil)
			if err != nil {
				t.Fatal(err)
			}
			if object.Verified != "CRC64NVME" {
				t.Errorf("verified with %q", object.Verified)
			}
			if read, err := os.ReadFile(got.Name()); err != nil || !bytes.Equal(read, data) {
				t.Errorf("not the bytes of the file (%v)", err)
			}
		})
	}
}

func TestOtherDownloadsAreZeros(t *testing.T) {
	f, _ := file(t, 10)
	e, _ := engine(t, f)
	var got bytes.Buffer
	object, err := e.Download(t.Context(), "abcdefghij012345", 4096, &got, nil)
	if err != nil {
		t.Fatal(err)
	}
	if object.Verified != "CRC64NVME" || !bytes.Equal(got.Bytes(), make([]byte, 4096)) {
		t.Errorf("verified with %q: %d bytes", object.Verified, got.Len())
	}
}

func TestSharedPrefixIsListed(t *testing.T) {
	f, _ := file(t, 10)
	e, server := engine(t, f)
	server.Listed = 2001
	for prefix, want := range map[string]int{"bench/shared/": 2001, "other/": 0} {
		seen := map[string]bool{}
		pages := s3.NewListObjectsV2Paginator(e.S3, &s3.ListObjectsV2Input{Bucket: aws.String("any"), Prefix: &prefix})
		for pages.HasMorePages() {
			page, err := pages.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, object := range page.Contents {
				seen[*object.Key] = true
			}
		}
		if len(seen) != want {
			t.Errorf("%d keys under %q", len(seen), prefix)
		}
	}
}

func table(t *testing.T, server *nullserver.DynamoDB) *dynamo.Table {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	endpoint := "http://" + l.Addr().String()
	return dynamo.New(dynamodb.NewFromConfig(config(), func(o *dynamodb.Options) { o.BaseEndpoint = &endpoint }), "Files")
}

func TestRecordsAreRemembered(t *testing.T) {
	ctx, id := t.Context(), "abcdefghij012345"
	table := table(t, &nullserver.DynamoDB{})
	if err := table.Create(ctx, records.Record{ID: id, Name: "a.txt", Size: -1, CreatedAt: "2026-01-02T03:04:05"}); err != nil {
		t.Fatal(err)
	}
	uploaded, err := table.Uploaded(ctx, id, records.Upload{At: "2026-01-02T03:04:06", Type: "text/plain", Size: 7})
	if err != nil {
		t.Fatal(err)
	}
	want := records.Record{
		ID: id, Name: "a.txt", Type: "text/plain", Size: 7, CreatedAt: "2026-01-02T03:04:05", UploadedAt: "2026-01-02T03:04:06",
	}
	same(t, uploaded, want)

	// Storing twice keeps the first time.
	for _, at := range []records.Stamp{"2026-01-02T03:04:07", "2026-01-02T03:04:08"} {
		if _, err := table.Store(ctx, id, at, nil); err != nil {
			t.Fatal(err)
		}
	}
	want.StoredAt = "2026-01-02T03:04:07"
	same(t, get(ctx, t, table, id), want)
}

func TestUnknownRecordsAreStoredFiles(t *testing.T) {
	table := table(t, &nullserver.DynamoDB{BigSize: 1 << 30, SmallSize: 4096})
	for id, size := range map[string]int64{bigID: 1 << 30, "abcdefghij012345": 4096} {
		r := get(t.Context(), t, table, id)
		if r.ID != id || r.Name != id+".bin" || r.Size != size || r.State() != records.Stored || len(r.Mistyped) != 0 {
			t.Errorf("%+v", r)
		}
	}
}

func get(ctx context.Context, t *testing.T, table *dynamo.Table, id string) records.Record {
	t.Helper()
	found, err := table.Get(ctx, []string{id})
	if err != nil {
		t.Fatal(err)
	}
	return found[id]
}

func same(t *testing.T, got, want records.Record) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

// Records that are written in batches are remembered like others.
func TestDynamoDBRemembersBatches(t *testing.T) {
	table := table(t, &nullserver.DynamoDB{})
	var ids []string
	var wg sync.WaitGroup
	for i := range 100 {
		id := fmt.Sprintf("file%012d", i)
		ids = append(ids, id)
		wg.Go(func() {
			if err := table.Create(t.Context(), records.Record{ID: id, Name: id + ".txt", CreatedAt: "2026-01-02T03:04:05"}); err != nil {
				t.Error(err)
			}
			r, err := table.Uploaded(t.Context(), id, records.Upload{At: "2026-01-02T03:04:06", Type: "text/plain", Size: int64(i)})
			if err != nil || r.ID != id || r.State() != records.Temporary {
				t.Errorf("uploaded: %+v, %v", r, err)
			}
		})
	}
	wg.Wait()
	found, err := table.Get(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if r := found[id]; r.Name != id+".txt" || r.Size != int64(i) || r.State() != records.Temporary {
			t.Errorf("%q is remembered as %+v", id, r)
		}
	}
}
