package dynamo

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/records"
)

// BatchAPI is what an [API] has too where it can carry out several conditional writes with one
// request; a [*dynamodb.Client] can.
type BatchAPI interface {
	BatchExecuteStatement(context.Context, *dynamodb.BatchExecuteStatementInput, ...func(*dynamodb.Options)) (*dynamodb.BatchExecuteStatementOutput, error)
}

const (
	// maxStatements is the most that BatchExecuteStatement takes (Amazon DynamoDB API Reference,
	// "BatchExecuteStatement").
	maxStatements = 25
	// statementsAtOnce bounds the batches that are under way.
	statementsAtOnce = 8
	// largestStatement is the size in bytes up to which a write goes with others: a request is to
	// stay far below its limit of 4 MB.
	largestStatement = 32 << 10
)

// batcher carries out writes on single items, several with one request, where many are wanted at
// the same time. Each keeps its condition and its own success or failure: a batch is no
// transaction (Amazon DynamoDB Developer Guide, "Running batch operations with PartiQL for
// DynamoDB"). BatchWriteItem would do as well with one request, but knows no conditions.
//
// As in Nagle's algorithm (RFC 896), a write that finds none under way is made at once and by
// itself; those that come meanwhile wait for its answer, or until they fill a batch. So a single
// write is never late, and many share their requests.
//
// Whatever a batch says but success, its writes are made again one by one: there the refused one
// gets its reason, and the one that was throttled its retries. Servers that know no PartiQL, and
// policies that do not allow it, are found out with the first batch.
type batcher struct {
	table  *Table
	client BatchAPI
	fewest int // writes that make a batch; fewer are made by themselves

	mu       sync.Mutex
	inFlight int
	queue    []*batched
	off      atomic.Bool // batches are not to be had here
}

// statement is a conditional write on one item in PartiQL.
type statement struct {
	id     string
	text   string
	params []types.AttributeValue
}

// batched is a statement that waits for its batch.
type batched struct {
	statement
	ctx     context.Context // of the one who waits
	done    chan struct{}
	outcome outcome
}

// outcome is what a batch says of one write.
type outcome struct {
	carriedOut bool
	record     records.Record // as it is now
	err        error          // of the whole batch: it is not known whether the write was carried out
	sent       int            // how often the write was sent without an answer that it was not carried out
	alone      bool           // no others wanted to write at that time
	refused    bool           // its condition did not hold
}

// do makes the write together with others. Unless the outcome is carriedOut or an error, the
// caller makes it by itself; then it calls done.
func (b *batcher) do(ctx context.Context, s statement) (o outcome, done func()) {
	nothing := func() {}
	if b == nil || b.off.Load() || s.size() > largestStatement {
		return outcome{}, nothing
	}
	if err := ctx.Err(); err != nil {
		return outcome{err: err}, nothing
	}
	w := &batched{statement: s, ctx: ctx, done: make(chan struct{})}
	b.mu.Lock()
	b.queue = append(b.queue, w)
	b.dispatch()
	b.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		b.mu.Lock()
		waiting := slices.Index(b.queue, w)
		if waiting >= 0 {
			b.queue = slices.Delete(b.queue, waiting, waiting+1)
		}
		b.mu.Unlock()
		if waiting >= 0 {
			return outcome{err: ctx.Err()}, nothing
		}
		<-w.done // it is under way, and ends with the contexts of those in it
	}
	if w.outcome.alone {
		return w.outcome, b.leave
	}
	return w.outcome, nothing
}

// leave tells that a request has been answered.
func (b *batcher) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inFlight--
	b.dispatch()
}

// dispatch sends what is due. The caller holds the lock.
func (b *batcher) dispatch() {
	for len(b.queue) > 0 && (b.inFlight == 0 || len(b.queue) >= maxStatements && b.inFlight < statementsAtOnce) {
		batch := b.take()
		b.inFlight++
		if len(batch) < b.fewest {
			batch[0].outcome = outcome{alone: true}
			close(batch[0].done)
			continue
		}
		go b.send(batch)
	}
}

// take removes the next batch from the queue. A batch must not write an item twice.
func (b *batcher) take() []*batched {
	batch := make([]*batched, 0, min(len(b.queue), maxStatements))
	ids := make(map[string]bool, cap(batch))
	b.queue = slices.DeleteFunc(b.queue, func(w *batched) bool {
		if len(batch) == maxStatements || ids[w.id] {
			return false
		}
		ids[w.id] = true
		batch = append(batch, w)
		return true
	})
	return batch
}

func (b *batcher) send(batch []*batched) {
	defer b.leave()
	// The request goes on for as long as anybody waits for it.
	ctx, cancel := context.WithCancel(context.WithoutCancel(batch[0].ctx))
	defer cancel()
	var waiting atomic.Int32
	waiting.Store(int32(len(batch)))
	for _, w := range batch {
		defer context.AfterFunc(w.ctx, func() {
			if waiting.Add(-1) == 0 {
				cancel()
			}
		})()
	}
	b.execute(ctx, batch)
	for _, w := range batch {
		close(w.done)
	}
}

func (b *batcher) execute(ctx context.Context, batch []*batched) {
	in := &dynamodb.BatchExecuteStatementInput{Statements: make([]types.BatchStatementRequest, len(batch))}
	for i, w := range batch {
		in.Statements[i] = types.BatchStatementRequest{Statement: &w.text, Parameters: w.params}
	}
	var sent int
	var out *dynamodb.BatchExecuteStatementOutput
	err := b.table.spend(ctx, len(batch), func(capacity types.ReturnConsumedCapacity) (_ []types.ConsumedCapacity, err error) {
		in.ReturnConsumedCapacity = capacity
		if out, err = b.client.BatchExecuteStatement(ctx, in, count(&sent)); err != nil {
			return nil, err
		}
		return out.ConsumedCapacity, nil
	})
	switch {
	case isUnavailable(err):
		b.off.Store(true)
		return
	case err != nil:
		for _, w := range batch {
			w.outcome.err = err
		}
		return
	}
	var unread []string // ids of what was written, and is not in the answer
	for i, w := range batch {
		if len(out.Responses) != len(batch) {
			w.outcome.sent = sent // with fewer answers than questions, none can be believed
			continue
		}
		if refusal := out.Responses[i].Error; refusal != nil {
			w.outcome.sent = sent - 1
			w.outcome.refused = refusal.Code == types.BatchStatementErrorCodeEnumConditionalCheckFailed
			if refusal.Code == types.BatchStatementErrorCodeEnumValidationError {
				b.off.Store(true) // the server knows statements, and not ours
			}
			continue
		}
		w.outcome.carriedOut = true
		if w.wantsRecord() {
			if w.outcome.record = decode(out.Responses[i].Item); w.outcome.record.ID != w.id {
				unread = append(unread, w.id)
			}
		}
	}
	if len(unread) == 0 {
		return
	}
	found, err := b.table.Get(ctx, unread)
	for _, w := range batch {
		if !slices.Contains(unread, w.id) {
			continue
		}
		var ok bool
		if w.outcome.record, ok = found[w.id]; err != nil || !ok {
			w.outcome.carriedOut = false // once more, by itself, which is answered with the record
		}
	}
}

// isUnavailable reports whether batches are not to be had: the server does not know them, or does
// not take them in our form, or does not allow them.
func isUnavailable(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode() {
	case "UnknownOperationException", "ValidationException", "AccessDeniedException", "NotImplemented", "SerializationException":
		return true
	}
	return false
}

func (s statement) size() int {
	size := len(s.text)
	for _, p := range s.params {
		if text, ok := p.(*types.AttributeValueMemberS); ok {
			size += len(text.Value)
		}
	}
	return size
}

// returning is the end of a statement that is answered with the item.
const returning = " RETURNING ALL NEW *"

func (s statement) wantsRecord() bool { return strings.HasSuffix(s.text, returning) }

// insert is a statement that puts the item of id, and fails where there is one (Amazon DynamoDB
// Developer Guide, "PartiQL insert statements for DynamoDB").
func (t *Table) insert(id string, item map[string]types.AttributeValue) statement {
	s := statement{id: id}
	var text strings.Builder
	text.WriteString("INSERT INTO " + quoted(t.name) + " VALUE {")
	for i, name := range slices.Sorted(maps.Keys(item)) {
		if i > 0 {
			text.WriteString(", ")
		}
		text.WriteString("'" + name + "': ?")
		s.params = append(s.params, item[name])
	}
	text.WriteString("}")
	s.text = text.String()
	return s
}

// assignment sets an attribute.
type assignment struct {
	attribute string
	value     types.AttributeValue
}

// updating is a statement that sets and removes attributes of the item of id, which must be there, if
// the condition holds, with its parameters (Amazon DynamoDB Developer Guide, "PartiQL update
// statements for DynamoDB").
func (t *Table) updating(id string, set []assignment, remove []string, condition string, params ...types.AttributeValue) statement {
	s := statement{id: id}
	var b strings.Builder
	b.WriteString("UPDATE " + quoted(t.name))
	for _, a := range set {
		b.WriteString(" SET " + quoted(a.attribute) + "=?")
		s.params = append(s.params, a.value)
	}
	for _, attribute := range remove {
		b.WriteString(" REMOVE " + quoted(attribute))
	}
	b.WriteString(" WHERE id=?")
	s.params = append(s.params, text(id))
	if condition != "" {
		b.WriteString(" AND " + condition)
		s.params = append(s.params, params...)
	}
	b.WriteString(returning)
	s.text = b.String()
	return s
}

// quoted is a name in PartiQL.
func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
