package dynamo_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/testserver"
)

// updatable is a DynamoDB in which the index of a table goes and comes: dynalite takes an UpdateTable for
// that, and does nothing. Beneath, the index is always there.
type updatable struct {
	smallPages
	mu   sync.Mutex
	gone map[string]bool // tables whose index was removed
}

func (u *updatable) isGone(table string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.gone[table]
}

func (u *updatable) UpdateTable(ctx context.Context, in *dynamodb.UpdateTableInput, opts ...func(*dynamodb.Options)) (*dynamodb.UpdateTableOutput, error) {
	update := in.GlobalSecondaryIndexUpdates[0]
	u.mu.Lock()
	if u.gone == nil {
		u.gone = make(map[string]bool)
	}
	u.gone[*in.TableName] = update.Delete != nil
	u.mu.Unlock()
	out, err := u.DescribeTable(ctx, &dynamodb.DescribeTableInput{TableName: in.TableName}, opts...)
	if err != nil {
		return nil, err
	}
	return &dynamodb.UpdateTableOutput{TableDescription: out.Table}, nil
}

func (u *updatable) DescribeTable(ctx context.Context, in *dynamodb.DescribeTableInput, opts ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	out, err := u.Client.DescribeTable(ctx, in, opts...)
	if err == nil && u.isGone(*in.TableName) {
		out.Table.GlobalSecondaryIndexes = nil
	}
	return out, err
}

func (u *updatable) Query(ctx context.Context, in *dynamodb.QueryInput, opts ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	if u.isGone(*in.TableName) {
		return nil, &smithy.GenericAPIError{Code: "ValidationException", Message: "The table does not have the specified index: " + *in.IndexName}
	}
	return u.smallPages.Query(ctx, in, opts...)
}

// A table without the index is told from every other refusal, as the services say it.
func TestNoIndex(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	first := func(table *dynamo.Table) error {
		for _, err := range table.Pending(t.Context(), records.Filter{UploadedBefore: now}, records.ScanOptions{Segments: 16}) {
			return err
		}
		return nil
	}
	if err := first(newTable(t, client, "Plain")); !errors.Is(err, records.ErrNoIndex) {
		t.Errorf("dynalite: error %v", err)
	}
	for _, test := range []struct {
		code, message string
		none          bool
	}{
		{"ValidationException", "The table does not have the specified index: pending", true},
		{"ValidationException", "Cannot read from backfilling global secondary index: pending", true},
		{"ValidationException", "1 validation error detected", false},
		{"AccessDeniedException", "not authorized to perform: dynamodb:Query on resource: the specified index", false},
		{"ResourceNotFoundException", "Requested resource not found", false},
	} {
		api := refusingQueries{smallPages{client}, &smithy.GenericAPIError{Code: test.code, Message: test.message}}
		err := first(dynamo.New(api, "Plain"))
		if errors.Is(err, records.ErrNoIndex) != test.none || err == nil {
			t.Errorf("%s: %s: error %v", test.code, test.message, err)
		}
		if refusal, ok := errors.AsType[smithy.APIError](err); !ok || refusal.ErrorCode() != test.code {
			t.Errorf("%s: the error does not say what the service said: %v", test.code, err)
		}
	}
}

type refusingQueries struct {
	smallPages
	err error
}

func (r refusingQueries) Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error) {
	return nil, r.err
}

// described is a DynamoDB that knows one table, and keeps what is asked to be changed of it.
type described struct {
	dynamo.API
	table  types.TableDescription
	answer func(*dynamodb.UpdateTableInput) (*types.TableDescription, error)
	asked  []*dynamodb.UpdateTableInput
}

func (d *described) DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error) {
	return &dynamodb.DescribeTableOutput{Table: &d.table}, nil
}

func (d *described) UpdateTable(_ context.Context, in *dynamodb.UpdateTableInput, _ ...func(*dynamodb.Options)) (*dynamodb.UpdateTableOutput, error) {
	d.asked = append(d.asked, in)
	table, err := d.answer(in)
	if err != nil {
		return nil, err
	}
	return &dynamodb.UpdateTableOutput{TableDescription: table}, nil
}

// pendingIndex is the index as DynamoDB describes it, with a change.
func pendingIndex(change func(*types.GlobalSecondaryIndexDescription)) types.GlobalSecondaryIndexDescription {
	schema, _ := dynamo.PendingIndexSchema()
	index := types.GlobalSecondaryIndexDescription{
		IndexName: schema.IndexName, KeySchema: schema.KeySchema, Projection: schema.Projection, IndexStatus: types.IndexStatusActive,
	}
	change(&index)
	return index
}

func TestCreateIndex(t *testing.T) {
	schema, attributes := dynamo.PendingIndexSchema()
	create := &types.CreateGlobalSecondaryIndexAction{IndexName: schema.IndexName, KeySchema: schema.KeySchema, Projection: schema.Projection}
	provisioned := *create
	provisioned.ProvisionedThroughput = &types.ProvisionedThroughput{ReadCapacityUnits: aws.Int64(5), WriteCapacityUnits: aws.Int64(7)}
	accepted := func(*dynamodb.UpdateTableInput) (*types.TableDescription, error) {
		return &types.TableDescription{GlobalSecondaryIndexes: []types.GlobalSecondaryIndexDescription{
			pendingIndex(func(i *types.GlobalSecondaryIndexDescription) { i.IndexStatus = types.IndexStatusCreating }),
		}}, nil
	}
	onDemand := &types.BillingModeSummary{BillingMode: types.BillingModePayPerRequest}
	for _, test := range []struct {
		name  string
		table types.TableDescription
		want  *types.CreateGlobalSecondaryIndexAction
	}{
		{"billed per request", types.TableDescription{
			BillingModeSummary:    onDemand,
			ProvisionedThroughput: &types.ProvisionedThroughputDescription{ReadCapacityUnits: aws.Int64(0), WriteCapacityUnits: aws.Int64(0)},
		}, create},
		{"provisioned", types.TableDescription{
			ProvisionedThroughput: &types.ProvisionedThroughputDescription{ReadCapacityUnits: aws.Int64(5), WriteCapacityUnits: aws.Int64(7)},
		}, &provisioned},
		{"with an index of others", types.TableDescription{
			BillingModeSummary: onDemand,
			GlobalSecondaryIndexes: []types.GlobalSecondaryIndexDescription{
				pendingIndex(func(i *types.GlobalSecondaryIndexDescription) { i.IndexName = aws.String("by-name") }),
			},
		}, create},
	} {
		t.Run(test.name, func(t *testing.T) {
			api := &described{table: test.table, answer: accepted}
			created, err := dynamo.New(api, "Files").CreateIndex(t.Context())
			if !created || err != nil || len(api.asked) != 1 {
				t.Fatalf("created %t, error %v, %d requests", created, err, len(api.asked))
			}
			want := &dynamodb.UpdateTableInput{
				TableName: aws.String("Files"), AttributeDefinitions: attributes,
				GlobalSecondaryIndexUpdates: []types.GlobalSecondaryIndexUpdate{{Create: test.want}},
			}
			unexported := cmpopts.IgnoreUnexported(dynamodb.UpdateTableInput{}, types.GlobalSecondaryIndexUpdate{}, types.CreateGlobalSecondaryIndexAction{},
				types.AttributeDefinition{}, types.KeySchemaElement{}, types.Projection{}, types.ProvisionedThroughput{})
			if diff := cmp.Diff(want, api.asked[0], unexported); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}

	t.Run("there already", func(t *testing.T) {
		for name, test := range map[string]struct {
			change func(*types.GlobalSecondaryIndexDescription)
			usable bool
		}{
			"ours":       {func(*types.GlobalSecondaryIndexDescription) {}, true},
			"being made": {func(i *types.GlobalSecondaryIndexDescription) { i.IndexStatus = types.IndexStatusCreating }, true},
			"with everything": {func(i *types.GlobalSecondaryIndexDescription) {
				i.Projection = &types.Projection{ProjectionType: types.ProjectionTypeAll}
			}, true},
			"with keys only": {func(i *types.GlobalSecondaryIndexDescription) {
				i.Projection = &types.Projection{ProjectionType: types.ProjectionTypeKeysOnly}
			}, false},
			"another key": {func(i *types.GlobalSecondaryIndexDescription) { i.KeySchema = slices.Clone(i.KeySchema)[:1] }, false},
			"going":       {func(i *types.GlobalSecondaryIndexDescription) { i.IndexStatus = types.IndexStatusDeleting }, false},
		} {
			api := &described{table: types.TableDescription{GlobalSecondaryIndexes: []types.GlobalSecondaryIndexDescription{pendingIndex(test.change)}}}
			created, err := dynamo.New(api, "Files").CreateIndex(t.Context())
			if created || (err == nil) != test.usable || len(api.asked) != 0 {
				t.Errorf("%s: created %t, error %v, %d requests", name, created, err, len(api.asked))
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		refusal := &types.LimitExceededException{Message: aws.String("Only 1 online index can be created or deleted simultaneously per table")}
		api := &described{answer: func(*dynamodb.UpdateTableInput) (*types.TableDescription, error) { return nil, refusal }}
		if created, err := dynamo.New(api, "Files").CreateIndex(t.Context()); created || !errors.Is(err, refusal) {
			t.Errorf("created %t, error %v", created, err)
		}
	})
	t.Run("dynalite", func(t *testing.T) {
		// It takes the request for a table with a throughput, and does nothing.
		client := testserver.DynamoDB(testserver.Dynalite(t))
		schema := dynamo.Schema("Files")
		schema.BillingMode = types.BillingModeProvisioned
		schema.ProvisionedThroughput = &types.ProvisionedThroughput{ReadCapacityUnits: aws.Int64(5), WriteCapacityUnits: aws.Int64(5)}
		testserver.MakeTable(t, client, schema)
		if created, err := dynamo.New(client, "Files").CreateIndex(t.Context()); created || !errors.Is(err, dynamo.ErrNotMade) {
			t.Errorf("created %t, error %v: if dynalite has learnt it, the tests can do without their own", created, err)
		}
	})
}

func TestDropIndex(t *testing.T) {
	going := pendingIndex(func(i *types.GlobalSecondaryIndexDescription) { i.IndexStatus = types.IndexStatusDeleting })
	for name, test := range map[string]struct {
		after   []types.GlobalSecondaryIndexDescription
		dropped bool
	}{
		"going":       {[]types.GlobalSecondaryIndexDescription{going}, true},
		"gone":        {nil, true},
		"still there": {[]types.GlobalSecondaryIndexDescription{pendingIndex(func(*types.GlobalSecondaryIndexDescription) {})}, false},
	} {
		api := &described{
			table: types.TableDescription{GlobalSecondaryIndexes: []types.GlobalSecondaryIndexDescription{pendingIndex(func(*types.GlobalSecondaryIndexDescription) {})}},
			answer: func(*dynamodb.UpdateTableInput) (*types.TableDescription, error) {
				return &types.TableDescription{GlobalSecondaryIndexes: test.after}, nil
			},
		}
		dropped, err := dynamo.New(api, "Files").DropIndex(t.Context())
		if dropped != test.dropped || errors.Is(err, dynamo.ErrNotMade) == test.dropped || len(api.asked) != 1 {
			t.Fatalf("%s: dropped %t, error %v, %d requests", name, dropped, err, len(api.asked))
		}
		if got := aws.ToString(api.asked[0].GlobalSecondaryIndexUpdates[0].Delete.IndexName); got != dynamo.PendingIndex {
			t.Errorf("%s: the index %q is dropped", name, got)
		}
	}
}

func TestIndexStatus(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*types.GlobalSecondaryIndexDescription)
		want   records.Index
	}{
		"active": {
			func(i *types.GlobalSecondaryIndexDescription) {
				i.ItemCount, i.IndexSizeBytes = aws.Int64(12), aws.Int64(3456)
			},
			records.Index{State: records.IndexActive, Records: 12, Bytes: 3456},
		},
		"backfilling": {
			func(i *types.GlobalSecondaryIndexDescription) {
				i.IndexStatus, i.Backfilling = types.IndexStatusCreating, aws.Bool(true)
			},
			records.Index{State: records.IndexCreating, Backfilling: true, Records: -1, Bytes: -1},
		},
		"updating": {
			func(i *types.GlobalSecondaryIndexDescription) { i.IndexStatus = types.IndexStatusUpdating },
			records.Index{State: records.IndexUpdating, Records: -1, Bytes: -1},
		},
		"deleting": {
			func(i *types.GlobalSecondaryIndexDescription) { i.IndexStatus = types.IndexStatusDeleting },
			records.Index{State: records.IndexDeleting, Records: -1, Bytes: -1},
		},
	} {
		api := &described{table: types.TableDescription{GlobalSecondaryIndexes: []types.GlobalSecondaryIndexDescription{pendingIndex(test.change)}}}
		test.want.Name = dynamo.PendingIndex
		if got, err := dynamo.New(api, "Files").Index(t.Context()); err != nil || got != test.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, test.want)
		}
	}
}
