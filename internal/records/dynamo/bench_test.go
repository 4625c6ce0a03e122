package dynamo

import (
	"errors"
	"net"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/nullserver"
	"github.com/designfultech/filestore/internal/records"
)

func BenchmarkDecode(b *testing.B) {
	item := map[string]types.AttributeValue{
		"id": text("abcdefghij012345"), "name": text("report.pdf"), "type": text("application/pdf"),
		"size": &types.AttributeValueMemberN{Value: "123456"}, "meta": text(`{"branch":"main"}`),
		"created_at": text("2026-01-02T03:04:05"), "uploaded_at": text("2026-01-02T03:04:06"), "stored_at": text("2026-01-02T03:04:07"),
	}
	b.ReportAllocs()
	for b.Loop() {
		if r := decode(item); r.State() != records.Stored {
			b.Fatalf("%+v", r)
		}
	}
}

// nullTable is a table of a server that answers at once, and in the same process: its work counts
// too.
func nullTable(b *testing.B) *Table {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- (&nullserver.DynamoDB{}).Serve(l) }()
	b.Cleanup(func() {
		_ = l.Close()
		if err := <-served; err != nil && !errors.Is(err, net.ErrClosed) {
			b.Error(err)
		}
	})
	endpoint := "http://" + l.Addr().String()
	return New(dynamodb.NewFromConfig(aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("key", "secret", ""),
	}, func(o *dynamodb.Options) { o.BaseEndpoint = &endpoint }), "Files")
}

// What the record of a small file costs beside the file.
func BenchmarkCreateAndUploaded(b *testing.B) {
	table := nullTable(b)
	b.ReportAllocs()
	for b.Loop() {
		r := records.Record{ID: "abcdefghij012345", Name: "report.pdf", Size: -1, CreatedAt: "2026-01-02T03:04:05"}
		if err := table.Create(b.Context(), r); err != nil {
			b.Fatal(err)
		}
		if _, err := table.Uploaded(b.Context(), r.ID, records.Upload{At: "2026-01-02T03:04:06", Type: "application/pdf", Size: 4096}); err != nil {
			b.Fatal(err)
		}
	}
}

// A batch, as downloads and info read records.
func BenchmarkGet100(b *testing.B) {
	table, ids := nullTable(b), make([]string, 100)
	for i := range ids {
		ids[i] = "abcdefghijklm" + strconv.Itoa(100+i)
	}
	b.ReportAllocs()
	for b.Loop() {
		if found, err := table.Get(b.Context(), ids); err != nil || len(found) != len(ids) {
			b.Fatalf("%d records: %v", len(found), err)
		}
	}
}
