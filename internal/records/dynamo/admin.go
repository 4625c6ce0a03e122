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

// keyAttribute is the partition key of the table, and the only part of its key.
const keyAttribute = "id"

// The optional index for sweeps (docs/contract.md, "The pending index"): sparse, since only the
// records that a sweep has to look at have the attributes of its key. Its partitions are shards, so
// that writes spread.
const (
	PendingIndex       = "pending"    // the name of the index
	PendingAttribute   = "pending"    // its partition key: a shard
	PendingAtAttribute = "pending_at" // its sort key: a time, as the others of a record
)

// Schema returns the request that creates the table of docs/contract.md, "The parts", billed per
// request. [Table.EnsureTable] sends it, and the CloudFormation template is built from it.
func Schema(name string) *dynamodb.CreateTableInput {
	return &dynamodb.CreateTableInput{
		TableName:            &name,
		BillingMode:          types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{stringAttribute(keyAttribute)},
		KeySchema:            []types.KeySchemaElement{keyElement(keyAttribute, types.KeyTypeHash)},
	}
}

// IndexedSchema is [Schema] with the index of pending files. [Table.EnsureIndexedTable] sends it.
func IndexedSchema(name string) *dynamodb.CreateTableInput {
	schema := Schema(name)
	index, attributes := PendingIndexSchema()
	schema.GlobalSecondaryIndexes = []types.GlobalSecondaryIndex{index}
	schema.AttributeDefinitions = append(schema.AttributeDefinitions, attributes...)
	return schema
}

// PendingIndexSchema returns the index named [PendingIndex], and the definitions of the attributes
// of its key, which go beside those of the table's own. It holds what a sweep reads of a record,
// so that the table itself is only written to.
func PendingIndexSchema() (types.GlobalSecondaryIndex, []types.AttributeDefinition) {
	return types.GlobalSecondaryIndex{
		IndexName: aws.String(PendingIndex),
		KeySchema: []types.KeySchemaElement{
			keyElement(PendingAttribute, types.KeyTypeHash),
			keyElement(PendingAtAttribute, types.KeyTypeRange),
		},
		Projection: &types.Projection{
			ProjectionType: types.ProjectionTypeInclude,
			// Without meta, which can be large.
			NonKeyAttributes: []string{"name", "type", "size", "created_at", "uploaded_at", "stored_at", "deleted_at"},
		},
	}, []types.AttributeDefinition{stringAttribute(PendingAttribute), stringAttribute(PendingAtAttribute)}
}

func stringAttribute(name string) types.AttributeDefinition {
	return types.AttributeDefinition{AttributeName: &name, AttributeType: types.ScalarAttributeTypeS}
}

func keyElement(name string, kind types.KeyType) types.KeySchemaElement {
	return types.KeySchemaElement{AttributeName: &name, KeyType: kind}
}

// EnsureTable makes the table of docs/contract.md, "The parts", if it is not there, and
// returns once it can be used. created says that it was not there: it has been made or, with
// dryRun, would be. A table of that name whose key is not the contract's is an error.
func (t *Table) EnsureTable(ctx context.Context, dryRun bool) (created bool, err error) {
	return t.ensureTable(ctx, Schema(t.name), dryRun)
}

// EnsureIndexedTable is [Table.EnsureTable] for a table that is made with the index of pending files. One that
// is there gets none: see [Table.CreateIndex].
func (t *Table) EnsureIndexedTable(ctx context.Context, dryRun bool) (created bool, err error) {
	return t.ensureTable(ctx, IndexedSchema(t.name), dryRun)
}

func (t *Table) ensureTable(ctx context.Context, schema *dynamodb.CreateTableInput, dryRun bool) (created bool, err error) {
	out, err := t.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.name})
	if _, missing := errors.AsType[*types.ResourceNotFoundException](err); missing {
		if dryRun {
			return true, nil
		}
		if created, err = t.createTable(ctx, schema); err != nil {
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
func (t *Table) createTable(ctx context.Context, schema *dynamodb.CreateTableInput) (bool, error) {
	_, err := t.client.CreateTable(ctx, schema)
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
		return aws.ToString(e.AttributeName) == keyAttribute && e.KeyType == types.KeyTypeHash
	}
	isString := func(d types.AttributeDefinition) bool {
		return aws.ToString(d.AttributeName) == keyAttribute && d.AttributeType == types.ScalarAttributeTypeS
	}
	if len(table.KeySchema) != 1 || !isKey(table.KeySchema[0]) || !slices.ContainsFunc(table.AttributeDefinitions, isString) {
		return fmt.Errorf("table %q exists, but its key is not the partition key %q of type string alone", name, keyAttribute)
	}
	if table.TableStatus == types.TableStatusDeleting {
		return fmt.Errorf("table %q is being deleted", name)
	}
	return nil
}
