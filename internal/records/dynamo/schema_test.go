package dynamo_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/testserver"
)

// TestPendingIndexSchema makes a table with the index from the start, as the CloudFormation
// template does. The index holds only the records that wait for something, and of them what a
// sweep reads.
func TestPendingIndexSchema(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	const name = "Files"
	schema := dynamo.Schema(name)
	index, attributes := dynamo.PendingIndexSchema()
	schema.GlobalSecondaryIndexes = []types.GlobalSecondaryIndex{index}
	schema.AttributeDefinitions = append(schema.AttributeDefinitions, attributes...)
	if _, err := client.CreateTable(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	waiter := dynamodb.NewTableExistsWaiter(client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	})
	if err := waiter.Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: aws.String(name)}, time.Minute); err != nil {
		t.Fatal(err)
	}

	if created, err := dynamo.New(client, name).EnsureTable(t.Context(), false); created || err != nil {
		t.Errorf("EnsureTable does not take the table for a filestore's: created %t, error %v", created, err)
	}

	waiting := map[string]types.AttributeValue{
		"id": text("waiting"), "name": text("a.txt"), "meta": text(`{"k":"v"}`), "created_at": text(string(early)),
		dynamo.PendingAttribute: text("07"), dynamo.PendingAtAttribute: text(string(early)),
	}
	putRaw(t, client, name, waiting)
	putRaw(t, client, name, map[string]types.AttributeValue{
		"id": text("stored"), "name": text("b.txt"), "uploaded_at": text(string(early)), "stored_at": text(string(early)),
	})

	out, err := client.Query(t.Context(), &dynamodb.QueryInput{
		TableName: aws.String(name), IndexName: aws.String(dynamo.PendingIndex),
		KeyConditionExpression:    aws.String("#pending = :shard AND #at < :now"),
		ExpressionAttributeNames:  map[string]string{"#pending": dynamo.PendingAttribute, "#at": dynamo.PendingAtAttribute},
		ExpressionAttributeValues: map[string]types.AttributeValue{":shard": text("07"), ":now": text(string(now))},
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Items) != 1 {
		t.Fatalf("the index finds %d records, want the one that waits", len(out.Items))
	}
	delete(waiting, "meta")
	if diff := cmp.Diff(slices.Sorted(maps.Keys(waiting)), slices.Sorted(maps.Keys(out.Items[0]))); diff != "" {
		t.Errorf("attributes in the index, - want + got\n%s", diff)
	}
}
