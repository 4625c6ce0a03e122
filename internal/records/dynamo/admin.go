package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// How EnsureTable waits for a table to become ACTIVE. That takes seconds; the SDK would look
// after 20 s for the first time.
const (
	firstLook = 200 * time.Millisecond
	maxLook   = 5 * time.Second
	maxWait   = 5 * time.Minute
)

// EnsureTable makes the table of docs/contract.md, "The parts", if it is not there, and
// returns once it can be used. created says that it was not there: it has been made or, with
// dryRun, would be. A table of that name whose key is not the contract's is an error.
func (t *Table) EnsureTable(ctx context.Context, dryRun bool) (created bool, err error) {
	out, err := t.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.name})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		if dryRun {
			return true, nil
		}
		if created, err = t.createTable(ctx); err != nil {
			return false, fmt.Errorf("create table %q: %w", t.name, err)
		}
		out, err = t.awaitTable(ctx)
	} else if err == nil && out.Table.TableStatus == types.TableStatusCreating && !dryRun {
		out, err = t.awaitTable(ctx)
	}
	if err != nil {
		return created, fmt.Errorf("table %q: %w", t.name, err)
	}
	return created, checkTable(out.Table)
}

// createTable reports false when somebody else has been faster.
func (t *Table) createTable(ctx context.Context) (bool, error) {
	_, err := t.client.CreateTable(ctx, &dynamodb.CreateTableInput{
		TableName:            &t.name,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS}},
		KeySchema:            []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
	})
	if _, taken := errors.AsType[*types.ResourceInUseException](err); taken {
		return false, nil
	}
	return err == nil, err
}

func (t *Table) awaitTable(ctx context.Context) (*dynamodb.DescribeTableOutput, error) {
	waiter := dynamodb.NewTableExistsWaiter(t.client, func(o *dynamodb.TableExistsWaiterOptions) {
		o.MinDelay, o.MaxDelay = firstLook, maxLook
	})
	return waiter.WaitForOutput(ctx, &dynamodb.DescribeTableInput{TableName: &t.name}, maxWait)
}

func checkTable(table *types.TableDescription) error {
	name := aws.ToString(table.TableName)
	isKey := func(e types.KeySchemaElement) bool {
		return aws.ToString(e.AttributeName) == "id" && e.KeyType == types.KeyTypeHash
	}
	isString := func(d types.AttributeDefinition) bool {
		return aws.ToString(d.AttributeName) == "id" && d.AttributeType == types.ScalarAttributeTypeS
	}
	if len(table.KeySchema) != 1 || !isKey(table.KeySchema[0]) || !slices.ContainsFunc(table.AttributeDefinitions, isString) {
		return fmt.Errorf(`table %q exists, but its key is not the partition key "id" of type string alone`, name)
	}
	if table.TableStatus == types.TableStatusDeleting {
		return fmt.Errorf("table %q is being deleted", name)
	}
	return nil
}
