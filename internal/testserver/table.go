package testserver

import (
	"context"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
)

// tableMaker is what MakeTable needs of a client of DynamoDB.
type tableMaker interface {
	dynamodb.DescribeTableAPIClient
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
}

// MakeTable makes a table and waits until it can be used: with dynalite some milliseconds, where
// EnsureTable of package dynamo, made for AWS, looks five times a second.
func MakeTable(t testing.TB, api tableMaker, schema *dynamodb.CreateTableInput) {
	t.Helper()
	if _, err := api.CreateTable(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	waiter := dynamodb.NewTableExistsWaiter(api, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 10*time.Millisecond
	})
	if err := waiter.Wait(t.Context(), &dynamodb.DescribeTableInput{TableName: schema.TableName}, time.Minute); err != nil {
		t.Fatal(err)
	}
}
