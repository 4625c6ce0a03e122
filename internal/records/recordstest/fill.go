package recordstest

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"golang.org/x/sync/errgroup"

	"github.com/designfultech/filestore/internal/records"
)

// Fill puts n items into a DynamoDB table, those that item returns for 0 to n-1. It calls item
// from several goroutines. 20,000 small items take dynalite some seconds.
func Fill(t testing.TB, client *dynamodb.Client, table string, n int, item func(i int) map[string]types.AttributeValue) {
	t.Helper()
	const batchSize = 25 // the most that BatchWriteItem takes
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(4)
	for first := 0; first < n; first += batchSize {
		group.Go(func() error {
			var requests []types.WriteRequest
			for i := first; i < min(first+batchSize, n); i++ {
				requests = append(requests, types.WriteRequest{PutRequest: &types.PutRequest{Item: item(i)}})
			}
			return writeBatch(ctx, client, table, requests)
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func writeBatch(ctx context.Context, client *dynamodb.Client, table string, requests []types.WriteRequest) error {
	for len(requests) > 0 {
		out, err := client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{table: requests},
		})
		if err != nil {
			return fmt.Errorf("fill table %q: %w", table, err)
		}
		requests = out.UnprocessedItems[table]
	}
	return nil
}

// Item is r as an item of a DynamoDB table, in whatever state, with what is set of it.
func Item(r records.Record) map[string]types.AttributeValue {
	item := map[string]types.AttributeValue{
		"id":   &types.AttributeValueMemberS{Value: r.ID},
		"name": &types.AttributeValueMemberS{Value: r.Name},
	}
	if r.Size >= 0 {
		item["size"] = &types.AttributeValueMemberN{Value: strconv.FormatInt(r.Size, 10)}
	}
	for name, value := range map[string]string{
		"type": r.Type, "meta": r.Meta, "fingerprint": r.Fingerprint,
		"created_at": string(r.CreatedAt), "uploaded_at": string(r.UploadedAt),
		"stored_at": string(r.StoredAt), "deleted_at": string(r.DeletedAt),
	} {
		if value != "" {
			item[name] = &types.AttributeValueMemberS{Value: value}
		}
	}
	return item
}

// Mark puts the item of r into the index of pending files, as the transitions that lead to r would,
// unless it is stored.
func Mark(item map[string]types.AttributeValue, r records.Record) {
	at := cmp.Or(r.CreatedAt, r.UploadedAt, r.DeletedAt)
	if r.State() != records.Stored && at.IsSet() {
		item[markAttribute] = &types.AttributeValueMemberS{Value: records.Shard(r.ID)}
		item[markAtAttribute] = &types.AttributeValueMemberS{Value: string(at)}
	}
}
