package dynamo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/records"
)

// ErrNotMade says that the server has taken the request to change the index, and has not done it, as
// servers do that know nothing of it.
var ErrNotMade = errors.New("the server does not change the indexes of a table that is there")

// Index implements [records.Table].
func (t *Table) Index(ctx context.Context) (records.Index, error) {
	table, err := t.describe(ctx)
	if err != nil {
		return records.Index{}, err
	}
	index := indexOf(table)
	if index == nil {
		return noIndex(), nil
	}
	return describeIndex(index), nil
}

func noIndex() records.Index {
	return records.Index{Name: PendingIndex, State: records.IndexNone, Records: -1, Bytes: -1}
}

func describeIndex(index *types.GlobalSecondaryIndexDescription) records.Index {
	out := records.Index{
		Name: PendingIndex, Backfilling: aws.ToBool(index.Backfilling),
		State: map[types.IndexStatus]records.IndexState{
			types.IndexStatusCreating: records.IndexCreating, types.IndexStatusActive: records.IndexActive,
			types.IndexStatusUpdating: records.IndexUpdating, types.IndexStatusDeleting: records.IndexDeleting,
		}[index.IndexStatus],
		Records: -1, Bytes: -1,
	}
	if index.ItemCount != nil {
		out.Records = *index.ItemCount
	}
	if index.IndexSizeBytes != nil {
		out.Bytes = *index.IndexSizeBytes
	}
	return out
}

// CreateIndex implements [records.Table]. The table fills the index from the records that have the
// attributes of its key; it can be used meanwhile (Amazon DynamoDB Developer Guide, "Managing
// Global Secondary Indexes in DynamoDB").
func (t *Table) CreateIndex(ctx context.Context) (created bool, err error) {
	table, err := t.describe(ctx)
	if err != nil {
		return false, err
	}
	if index := indexOf(table); index != nil {
		return false, checkIndex(index)
	}
	schema, attributes := PendingIndexSchema()
	create := &types.CreateGlobalSecondaryIndexAction{
		IndexName: schema.IndexName, KeySchema: schema.KeySchema, Projection: schema.Projection,
	}
	if b := table.BillingModeSummary; b == nil || b.BillingMode == types.BillingModeProvisioned {
		// A table that others have made with a throughput: the index gets the same.
		if p := table.ProvisionedThroughput; p != nil && aws.ToInt64(p.WriteCapacityUnits) > 0 {
			create.ProvisionedThroughput = &types.ProvisionedThroughput{
				ReadCapacityUnits: p.ReadCapacityUnits, WriteCapacityUnits: p.WriteCapacityUnits,
			}
		}
	}
	err = t.updateIndex(ctx, attributes, types.GlobalSecondaryIndexUpdate{Create: create}, true)
	return err == nil, err
}

// DropIndex implements [records.Table].
func (t *Table) DropIndex(ctx context.Context) (dropped bool, err error) {
	table, err := t.describe(ctx)
	if err != nil {
		return false, err
	}
	if indexOf(table) == nil {
		return false, nil
	}
	err = t.updateIndex(ctx, nil, types.GlobalSecondaryIndexUpdate{
		Delete: &types.DeleteGlobalSecondaryIndexAction{IndexName: aws.String(PendingIndex)},
	}, false)
	return err == nil, err
}

// updateIndex asks for the update; there says that the table has the index from then on.
func (t *Table) updateIndex(ctx context.Context, attributes []types.AttributeDefinition, update types.GlobalSecondaryIndexUpdate, there bool) error {
	out, err := t.client.UpdateTable(ctx, &dynamodb.UpdateTableInput{
		TableName: &t.name, AttributeDefinitions: attributes,
		GlobalSecondaryIndexUpdates: []types.GlobalSecondaryIndexUpdate{update},
	})
	if err != nil {
		return fmt.Errorf("index %q of table %q: %w", PendingIndex, t.name, err)
	}
	// One that is going has the status DELETING until it has gone.
	index := indexOf(out.TableDescription)
	if there && index == nil || !there && index != nil && index.IndexStatus != types.IndexStatusDeleting {
		return fmt.Errorf("index %q of table %q: %w", PendingIndex, t.name, ErrNotMade)
	}
	return nil
}

func (t *Table) describe(ctx context.Context) (*types.TableDescription, error) {
	out, err := t.client.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: &t.name})
	if err != nil {
		return nil, fmt.Errorf("table %q: %w", t.name, err)
	}
	return out.Table, nil
}

// indexOf returns the index of pending files, nil where there is none.
func indexOf(table *types.TableDescription) *types.GlobalSecondaryIndexDescription {
	if table == nil {
		return nil
	}
	i := slices.IndexFunc(table.GlobalSecondaryIndexes, func(d types.GlobalSecondaryIndexDescription) bool {
		return aws.ToString(d.IndexName) == PendingIndex
	})
	if i < 0 {
		return nil
	}
	return &table.GlobalSecondaryIndexes[i]
}

// checkIndex fails if an index that somebody has made under our name can't be used.
func checkIndex(index *types.GlobalSecondaryIndexDescription) error {
	schema, _ := PendingIndexSchema()
	same := func(a, b types.KeySchemaElement) bool {
		return aws.ToString(a.AttributeName) == aws.ToString(b.AttributeName) && a.KeyType == b.KeyType
	}
	if !slices.EqualFunc(index.KeySchema, schema.KeySchema, same) {
		return fmt.Errorf("there is an index %q, but its key is not %q and %q", PendingIndex, PendingAttribute, PendingAtAttribute)
	}
	if p := index.Projection; p != nil && p.ProjectionType != types.ProjectionTypeAll {
		for _, attribute := range schema.Projection.NonKeyAttributes {
			if !slices.Contains(p.NonKeyAttributes, attribute) {
				return fmt.Errorf("there is an index %q, but it does not hold %q", PendingIndex, attribute)
			}
		}
	}
	if index.IndexStatus == types.IndexStatusDeleting {
		return fmt.Errorf("index %q is being deleted", PendingIndex)
	}
	return nil
}
