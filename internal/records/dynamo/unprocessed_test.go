package dynamo_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/testserver"
)

// throttled is a DynamoDB with little capacity: of each batch it processes the first few keys
// and leaves the others. It has a record for every id asked.
type throttled struct {
	dynamo.API // nil: only BatchGetItem is called
	process    func(keys int) int

	mu      sync.Mutex
	asked   map[string]int // how often an id was processed
	batches int
}

func (s *throttled) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, _ ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batches++
	request := in.RequestItems["Files"]
	if len(request.Keys) > 100 || request.ConsistentRead == nil || !*request.ConsistentRead {
		return nil, fmt.Errorf("a batch of %d keys, consistent %v", len(request.Keys), request.ConsistentRead)
	}
	n := min(s.process(len(request.Keys)), len(request.Keys))
	out := &dynamodb.BatchGetItemOutput{}
	for _, key := range request.Keys[:n] {
		s.asked[key["id"].(*types.AttributeValueMemberS).Value]++
	}
	out.Responses = map[string][]map[string]types.AttributeValue{"Files": request.Keys[:n]}
	if n < len(request.Keys) {
		out.UnprocessedKeys = map[string]types.KeysAndAttributes{"Files": {Keys: request.Keys[n:], ConsistentRead: request.ConsistentRead}}
	}
	return out, ctx.Err()
}

func ids(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("file%04d", i)
	}
	return list
}

func TestUnprocessedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &throttled{process: func(int) int { return 9 }, asked: map[string]int{}}
		found, err := dynamo.New(server, "Files").Get(t.Context(), slices.Concat(ids(250), ids(250)))
		if err != nil {
			t.Fatal(err)
		}
		if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, ids(250)) {
			t.Errorf("records %q", got)
		}
		for id, n := range server.asked {
			if n != 1 {
				t.Errorf("%q was read %d times", id, n)
			}
		}
		if server.batches != 12+12+6 {
			t.Errorf("%d requests", server.batches)
		}
	})
}

// TestNoCapacity shows that Get gives up after a while, and when it does.
func TestNoCapacity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &throttled{process: func(int) int { return 0 }, asked: map[string]int{}}
		begin := time.Now()
		_, err := dynamo.New(server, "Files").Get(t.Context(), ids(5))
		if _, ok := errors.AsType[*types.ProvisionedThroughputExceededException](err); !ok {
			t.Errorf("error %v", err)
		}
		// 50 ms doubled 9 times, at most 5 s each: 22.75 s at the very most.
		if d := time.Since(begin); d < 100*time.Millisecond || d > 23*time.Second {
			t.Errorf("after %s", d)
		}
		if server.batches != 10 {
			t.Errorf("%d requests", server.batches)
		}
	})
}

func TestNoCapacityCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		server := &throttled{asked: map[string]int{}}
		server.process = func(int) int {
			if server.batches == 3 {
				time.AfterFunc(0, cancel)
			}
			return 0
		}
		_, err := dynamo.New(server, "Files").Get(ctx, ids(5))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// dropping is a real server whose first answers leave keys unprocessed.
type dropping struct {
	*dynamodb.Client
	mu   sync.Mutex
	left int
}

func (d *dropping) BatchGetItem(ctx context.Context, in *dynamodb.BatchGetItemInput, optFns ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error) {
	d.mu.Lock()
	drop := d.left > 0
	d.left--
	d.mu.Unlock()
	request := in.RequestItems["Files"]
	if !drop || len(request.Keys) < 2 {
		return d.Client.BatchGetItem(ctx, in, optFns...)
	}
	half := len(request.Keys) / 2
	asked, rest := request, request
	asked.Keys, rest.Keys = request.Keys[:half], request.Keys[half:]
	out, err := d.Client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{"Files": asked}}, optFns...)
	if err == nil {
		out.UnprocessedKeys = map[string]types.KeysAndAttributes{"Files": rest}
	}
	return out, err
}

func TestUnprocessedKeysOfAServer(t *testing.T) {
	server := &dropping{Client: testserver.DynamoDB(testserver.Dynalite(t)), left: 7}
	table := newTable(t, server, "Files")
	for _, id := range ids(250) {
		putRaw(t, server.Client, "Files", map[string]types.AttributeValue{"id": text(id), "name": text(id)})
	}
	found, err := table.Get(t.Context(), ids(300))
	if err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, ids(250)) {
		t.Errorf("%d records: %q", len(got), got)
	}
	if server.left > 0 {
		t.Error("no keys were dropped")
	}
}
