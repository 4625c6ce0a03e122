package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/recordstest"
	"github.com/designfultech/filestore/internal/testserver"
)

// partiQL is a DynamoDB that knows BatchExecuteStatement, which dynalite does not: it reads the
// statements that this package writes, and makes the same conditional writes of them one by one.
type partiQL struct {
	updatable
	mute    bool                          // answers without items, as for plain updates
	refuse  func(statement string) string // an error code for a statement
	failure func() error                  // of a whole batch
	batches atomic.Int64                  // answered
	largest atomic.Int64                  // statements in one
}

var (
	insertForm = regexp.MustCompile(`^INSERT INTO "([^"]+)" VALUE \{(.*)\}$`)
	updateForm = regexp.MustCompile(`^UPDATE "([^"]+)"((?: SET "[a-z_]+"=\?)*)((?: REMOVE "[a-z_]+")*) WHERE id=\?((?: AND [a-z_]+ (?:IS MISSING|IS NOT MISSING|< \?))*) RETURNING ALL NEW \*$`)
	nameForm   = regexp.MustCompile(`['"]([a-z_]+)['"]`)
)

func (p *partiQL) BatchExecuteStatement(ctx context.Context, in *dynamodb.BatchExecuteStatementInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	if p.failure != nil {
		return nil, p.failure()
	}
	if len(in.Statements) > 25 {
		return nil, &smithy.GenericAPIError{Code: "ValidationException", Message: "too many statements"}
	}
	p.batches.Add(1)
	for n := int64(len(in.Statements)); p.largest.Load() < n; {
		p.largest.Store(n)
	}
	out := &dynamodb.BatchExecuteStatementOutput{}
	for _, s := range in.Statements {
		out.Responses = append(out.Responses, p.execute(ctx, *s.Statement, s.Parameters))
	}
	return out, nil
}

func (p *partiQL) execute(ctx context.Context, statement string, params []types.AttributeValue) types.BatchStatementResponse {
	failed := func(code string) types.BatchStatementResponse {
		return types.BatchStatementResponse{Error: &types.BatchStatementError{Code: types.BatchStatementErrorCodeEnum(code)}}
	}
	if p.refuse != nil {
		if code := p.refuse(statement); code != "" {
			return failed(code)
		}
	}
	if m := insertForm.FindStringSubmatch(statement); m != nil {
		item := make(map[string]types.AttributeValue)
		for i, name := range nameForm.FindAllStringSubmatch(m[2], -1) {
			item[name[1]] = params[i]
		}
		_, err := p.PutItem(ctx, &dynamodb.PutItemInput{TableName: &m[1], Item: item, ConditionExpression: aws.String("attribute_not_exists(id)")})
		if err != nil {
			return failed("DuplicateItem")
		}
		return types.BatchStatementResponse{}
	}
	m := updateForm.FindStringSubmatch(statement)
	if m == nil {
		return failed("ValidationError")
	}
	in := &dynamodb.UpdateItemInput{
		TableName: &m[1], ReturnValues: types.ReturnValueAllNew,
		ExpressionAttributeNames: map[string]string{}, ExpressionAttributeValues: map[string]types.AttributeValue{},
	}
	next := func() string {
		name := fmt.Sprintf(":p%d", len(in.ExpressionAttributeValues))
		in.ExpressionAttributeValues[name], params = params[0], params[1:]
		return name
	}
	var set []string
	for i, name := range nameForm.FindAllStringSubmatch(m[2], -1) {
		alias := fmt.Sprintf("#n%d", i)
		in.ExpressionAttributeNames[alias] = name[1]
		set = append(set, alias+" = "+next())
	}
	var remove []string
	for _, name := range nameForm.FindAllStringSubmatch(m[3], -1) {
		remove = append(remove, name[1])
	}
	var clauses []string
	if len(set) > 0 {
		clauses = append(clauses, "SET "+strings.Join(set, ", "))
	}
	if len(remove) > 0 {
		clauses = append(clauses, "REMOVE "+strings.Join(remove, ", "))
	}
	in.UpdateExpression = aws.String(strings.Join(clauses, " "))
	in.Key, params = map[string]types.AttributeValue{"id": params[0]}, params[1:]
	conditions := []string{"attribute_exists(id)"}
	for term := range strings.SplitSeq(strings.TrimPrefix(m[4], " AND "), " AND ") {
		attribute, operator, _ := strings.Cut(term, " ")
		switch operator {
		case "IS MISSING":
			conditions = append(conditions, "attribute_not_exists("+attribute+")")
		case "IS NOT MISSING":
			conditions = append(conditions, "attribute_exists("+attribute+")")
		case "< ?":
			conditions = append(conditions, attribute+" < "+next())
		}
	}
	in.ConditionExpression = aws.String(strings.Join(conditions, " AND "))
	out, err := p.UpdateItem(ctx, in)
	if err != nil {
		return failed("ConditionalCheckFailed")
	}
	if p.mute {
		return types.BatchStatementResponse{}
	}
	return types.BatchStatementResponse{Item: out.Attributes}
}

// The suite, with every write that can go in a batch in one.
func TestContractInBatches(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	api := &partiQL{updatable: updatable{smallPages: smallPages{client}}}
	var tables int
	recordstest.Run(t, func(t *testing.T) records.Table {
		tables++
		name := fmt.Sprintf("Batches%d", tables)
		return suiteTable{newIndexedTable(t, api, name).AlwaysBatch(), client, name}
	})
	if api.batches.Load() == 0 {
		t.Error("no batch was written")
	}
}

// Many files at once share their requests, and each learns its own fate.
func TestBatchesAreShared(t *testing.T) {
	for _, mute := range []bool{false, true} {
		t.Run(fmt.Sprintf("mute=%v", mute), func(t *testing.T) { testBatchesAreShared(t, mute) })
	}
}

func testBatchesAreShared(t *testing.T, mute bool) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	api := &partiQL{updatable: updatable{smallPages: smallPages{client}}, mute: mute}
	table := newTable(t, api, "Shared")
	const files = 200
	taken := "taken00000000000"
	if err := table.Create(t.Context(), records.Record{ID: taken, Name: "first", CreatedAt: early}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	failures := make([]error, files)
	for i := range files {
		wg.Go(func() {
			id := fmt.Sprintf("shared%010d", i)
			if i == files/2 {
				id = taken
			}
			if failures[i] = table.Create(t.Context(), records.Record{ID: id, Name: "a", CreatedAt: early}); failures[i] != nil {
				return
			}
			var r records.Record
			r, failures[i] = table.Uploaded(t.Context(), id, records.Upload{At: now, Type: "text/plain", Size: int64(i), Store: i%2 == 0})
			if failures[i] == nil && (r.ID != id || r.Name != "a" || r.Size != int64(i) || r.StoredAt.IsSet() != (i%2 == 0)) {
				t.Errorf("file %d was written as %+v", i, r)
			}
		})
	}
	wg.Wait()
	for i, err := range failures {
		if taken := i == files/2; taken != errors.Is(err, records.ErrExists) || !taken && err != nil {
			t.Errorf("file %d: %v", i, err)
		}
	}
	if n := api.batches.Load(); n == 0 || n > files {
		t.Errorf("%d batches for %d writes", n, 2*files)
	}
	if n := api.largest.Load(); n < 2 || n > 25 {
		t.Errorf("the largest batch had %d writes", n)
	}
	found, err := table.Get(t.Context(), []string{taken})
	if err != nil || found[taken].Name != "first" || found[taken].State() != records.Placeholder {
		t.Errorf("the record that was there first is now %+v, %v", found[taken], err)
	}
}

// The writes of a server go by themselves, and those of its sweeps together.
func TestUnbatched(t *testing.T) {
	api := &partiQL{updatable: updatable{smallPages: smallPages{testserver.DynamoDB(testserver.Dynalite(t))}}}
	table := newTable(t, api, "Unbatched")
	table.Unbatched()
	const files = 50
	write := func(f func(id string) error) (batches int64) {
		before := api.batches.Load()
		var wg sync.WaitGroup
		for i := range files {
			wg.Go(func() {
				if err := f(fmt.Sprintf("alone%011d", i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		return api.batches.Load() - before
	}
	if n := write(func(id string) error {
		return table.Create(t.Context(), records.Record{ID: id, Name: "a", CreatedAt: early})
	}); n != 0 {
		t.Errorf("%d batches of a server", n)
	}
	metered := table.Metered(records.NewMeter(0))
	if n := write(func(id string) error {
		_, err := metered.Uploaded(t.Context(), id, records.Upload{At: now, Type: "text/plain", Size: 1})
		return err
	}); n == 0 {
		t.Error("no batches of a sweep")
	}
}

// A server that knows no batches, or a policy that does not allow them, is met once.
func TestBatchesUnavailable(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	for _, code := range []string{"UnknownOperationException", "AccessDeniedException", "ValidationException"} {
		t.Run(code, func(t *testing.T) {
			var asked int
			api := &partiQL{updatable: updatable{smallPages: smallPages{client}}, failure: func() error {
				asked++
				return &smithy.GenericAPIError{Code: code, Message: "no"}
			}}
			table := newTable(t, api, "No"+code).AlwaysBatch()
			for i := range 3 {
				id := fmt.Sprintf("alone%011d", i)
				if err := table.Create(t.Context(), records.Record{ID: id, Name: "a", CreatedAt: early}); err != nil {
					t.Fatal(err)
				}
				if r, err := table.Uploaded(t.Context(), id, records.Upload{At: now, Type: "a/b", Size: 1}); err != nil || r.State() != records.Temporary {
					t.Fatal(r, err)
				}
			}
			if asked != 1 || table.Batches() {
				t.Errorf("asked %d times", asked)
			}
		})
	}
	t.Run("statements of another form", func(t *testing.T) {
		var asked atomic.Int64
		api := &partiQL{updatable: updatable{smallPages: smallPages{client}}, refuse: func(string) string {
			asked.Add(1)
			return "ValidationError"
		}}
		table := newTable(t, api, "OtherForm").AlwaysBatch()
		for i := range 3 {
			if err := table.Create(t.Context(), records.Record{ID: fmt.Sprintf("alone%011d", i), Name: "a", CreatedAt: early}); err != nil {
				t.Fatal(err)
			}
		}
		if asked.Load() != 1 || table.Batches() {
			t.Errorf("asked %d times", asked.Load())
		}
	})
	t.Run("dynalite", func(t *testing.T) {
		table := newTable(t, client, "Dynalite").AlwaysBatch()
		if err := table.Create(t.Context(), records.Record{ID: "alone00000000000", Name: "a", CreatedAt: early}); err != nil {
			t.Fatal(err)
		}
		if table.Batches() {
			t.Error("dynalite has learnt PartiQL: the tests can do without their own")
		}
	})
}

// What a batch does not carry out is written by itself, with the retries of the SDK.
func TestBatchThrottled(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	var throttled atomic.Int64
	api := &partiQL{updatable: updatable{smallPages: smallPages{client}}, refuse: func(string) string {
		throttled.Add(1)
		return "ThrottlingError"
	}}
	table := newTable(t, api, "Throttled").AlwaysBatch()
	id := "throttled0000000"
	if err := table.Create(t.Context(), records.Record{ID: id, Name: "a", CreatedAt: early}); err != nil {
		t.Fatal(err)
	}
	if r, err := table.Delete(t.Context(), id, now); err != nil || r.State() != records.Deleted {
		t.Fatal(r, err)
	}
	if throttled.Load() != 2 {
		t.Errorf("%d writes were throttled, want 2", throttled.Load())
	}
}

// A batch whose answer is lost is an error for each of its writes: none is told that it failed
// for a reason, and none that it succeeded.
func TestBatchAnswerLost(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	lost := &net.OpError{Op: "read", Err: errors.New("connection reset")}
	api := &partiQL{updatable: updatable{smallPages: smallPages{client}}, failure: func() error { return lost }}
	table := newTable(t, api, "Lost").AlwaysBatch()
	err := table.Create(t.Context(), records.Record{ID: "lost000000000000", Name: "a", CreatedAt: early})
	if !errors.Is(err, lost) {
		t.Errorf("error %v, want %v", err, lost)
	}
	if _, err := table.Expire(t.Context(), "lost000000000000", now, now); !errors.Is(err, lost) {
		t.Errorf("error %v, want %v", err, lost)
	}
}

// Somebody who gives up does not take the others of the batch along.
func TestBatchWithOneWhoGivesUp(t *testing.T) {
	client := testserver.DynamoDB(testserver.Dynalite(t))
	impatient, giveUp := context.WithCancel(t.Context())
	api := &blocking{partiQL: partiQL{updatable: updatable{smallPages: smallPages{client}}}, begun: make(chan []string), goOn: make(chan struct{})}
	table := newTable(t, api, "Impatient").AlwaysBatch()
	create := func(ctx context.Context, id string) chan error {
		result := make(chan error, 1)
		go func() { result <- table.Create(ctx, records.Record{ID: id, Name: "a", CreatedAt: early}) }()
		return result
	}
	first := create(t.Context(), "first00000000000")
	<-api.begun // from now on the others wait
	second := create(impatient, "second0000000000")
	third := create(t.Context(), "third00000000000")
	api.queued(t, table, 2)
	giveUp()
	if err := <-second; !errors.Is(err, context.Canceled) {
		t.Errorf("the one who gave up got %v", err)
	}
	api.goOn <- struct{}{}
	if batch := <-api.begun; !slices.Equal(batch, []string{"third00000000000"}) {
		t.Errorf("the second batch writes %v", batch)
	}
	api.goOn <- struct{}{}
	if err := errors.Join(<-first, <-third); err != nil {
		t.Error(err)
	}
}

// blocking is a partiQL whose batches wait.
type blocking struct {
	partiQL
	begun chan []string
	goOn  chan struct{}
}

func (b *blocking) BatchExecuteStatement(ctx context.Context, in *dynamodb.BatchExecuteStatementInput, opts ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error) {
	var ids []string
	for _, s := range in.Statements {
		names := nameForm.FindAllStringSubmatch(insertForm.FindStringSubmatch(*s.Statement)[2], -1)
		at := slices.IndexFunc(names, func(m []string) bool { return m[1] == "id" })
		ids = append(ids, s.Parameters[at].(*types.AttributeValueMemberS).Value)
	}
	b.begun <- ids
	<-b.goOn
	return b.partiQL.BatchExecuteStatement(ctx, in, opts...)
}

// queued waits until n writes are in the queue.
func (b *blocking) queued(t *testing.T, table *dynamo.Table, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); table.Queued() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d writes are in the queue, not %d", table.Queued(), n)
		}
	}
}
