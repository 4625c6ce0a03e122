package dynamo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/records"
)

// unmark takes an item out of the index, as a REMOVE clause.
const unmark = PendingAttribute + ", " + PendingAtAttribute

// unmarked is unmark for a statement.
func unmarked() []string { return []string{PendingAttribute, PendingAtAttribute} }

const (
	isMarked  = "attribute_exists(" + PendingAttribute + ")"
	notMarked = "attribute_not_exists(" + PendingAttribute + ")"
)

// marking is w that also puts the item of id into the index, unless it is there: another value for an
// attribute of its key would cost two writes of the index.
func (w write) marking(id string, at records.Stamp) write {
	set := []string{
		PendingAttribute + " = if_not_exists(" + PendingAttribute + ", :shard)",
		PendingAtAttribute + " = if_not_exists(" + PendingAtAttribute + ", :pending)",
	}
	if w.set != "" {
		set = append([]string{w.set}, set...)
	}
	w.set = strings.Join(set, ", ")
	w.values = maps.Clone(w.values)
	if w.values == nil {
		w.values = make(map[string]types.AttributeValue)
	}
	w.values[":shard"], w.values[":pending"] = text(records.Shard(id)), text(at)
	return w
}

// deleting returns the statements that set deleted_at of a file that is marked, and of one that is not,
// which they mark. PartiQL has nothing like if_not_exists.
func (t *Table) deleting(id string, at records.Stamp, condition string, params ...types.AttributeValue) (marked, without statement) {
	deleted := assignment{"deleted_at", text(at)}
	marked = t.updating(id, []assignment{deleted}, nil, condition+" AND "+PendingAttribute+" IS NOT MISSING", params...)
	without = t.updating(id, append([]assignment{deleted}, t.mark(id, at)...), nil, condition+" AND "+PendingAttribute+" IS MISSING", params...)
	return marked, without
}

// mark puts the item of id into the index.
func (t *Table) mark(id string, at records.Stamp) []assignment {
	return []assignment{{PendingAttribute, text(records.Shard(id))}, {PendingAtAttribute, text(at)}}
}

// MarkPending implements [records.Table].
func (t *Table) MarkPending(ctx context.Context, id string, at, deletedSince records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(at, deletedSince); err != nil {
		return records.Record{}, err
	}
	w := write{
		condition: and(exists, "("+notDeleted, notStored+" OR deleted_at >= :since)"),
		values:    map[string]types.AttributeValue{":since": text(deletedSince)},
		checks:    []check{records.IsUnsettled(deletedSince)},
	}.marking(id, at)
	// One that is deleted is written by itself: there are few.
	w.batched = []statement{t.updating(id, t.mark(id, at), nil, "deleted_at IS MISSING AND stored_at IS MISSING AND pending IS MISSING")}
	return t.update(ctx, id, w)
}

// UnmarkPending implements [records.Table].
func (t *Table) UnmarkPending(ctx context.Context, id string, deletedBefore records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(deletedBefore); err != nil {
		return records.Record{}, err
	}
	return t.update(ctx, id, write{
		remove:    unmark,
		condition: and(exists, "(deleted_at < :limit OR attribute_exists(stored_at)", notDeleted+")"),
		values:    map[string]types.AttributeValue{":limit": text(deletedBefore)},
		checks:    []check{records.IsSettled(deletedBefore)},
		// One that is stored is written by itself: only those that others have stored are still marked.
		batched: []statement{t.updating(id, nil, unmarked(), "deleted_at < ?", text(deletedBefore))},
	})
}

// Pending implements [records.Table]: with a Query of each part of the index. It can't be read
// consistently (Amazon DynamoDB Developer Guide, "Using Global Secondary Indexes in DynamoDB"); every
// transition checks for itself.
func (t *Table) Pending(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	// What is stored or deleted is all of interest: because of f, or since it should not be here.
	filter, values := condition(records.Filter{UploadedBefore: f.UploadedBefore, CreatedBefore: f.CreatedBefore})
	terms := []string{"attribute_exists(stored_at)", "attribute_exists(deleted_at)"}
	if filter != "" {
		terms = append([]string{filter}, terms...)
	}
	shards := records.ShardNames()
	// In another order each time: see records.ScanOptions.Parts.
	rand.Shuffle(len(shards), func(i, j int) { shards[i], shards[j] = shards[j], shards[i] })
	return func(yield func([]records.Record, error) bool) {
		// Whether there is an index at all is asked once, and not by all readers.
		answered := make(chan struct{})
		read := func(ctx context.Context, n int) iter.Seq2[[]records.Record, error] {
			values := maps.Clone(values)
			if values == nil {
				values = make(map[string]types.AttributeValue)
			}
			values[":shard"] = text(shards[n])
			pages := t.queryPages(ctx, dynamodb.QueryInput{
				TableName: &t.name, IndexName: aws.String(PendingIndex),
				KeyConditionExpression:    aws.String(PendingAttribute + " = :shard"),
				FilterExpression:          aws.String(strings.Join(terms, " OR ")),
				ProjectionExpression:      aws.String(projection),
				ExpressionAttributeNames:  projectionNames(),
				ExpressionAttributeValues: values,
				ReturnConsumedCapacity:    types.ReturnConsumedCapacityTotal,
			}, opts.Meter)
			if n == 0 {
				return announced(pages, answered)
			}
			select {
			case <-answered:
			case <-ctx.Done():
			}
			return pages
		}
		for page, err := range together(ctx, max(opts.Segments, 1), len(shards), read) {
			switch {
			case isNoIndex(err):
				err = fmt.Errorf("%w: %w", records.ErrNoIndex, err)
			case err != nil:
				err = fmt.Errorf("query the pending files: %w", err)
			}
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

// announced is pages; the first one that is there closes answered.
func announced(pages iter.Seq2[[]records.Record, error], answered chan struct{}) iter.Seq2[[]records.Record, error] {
	return func(yield func([]records.Record, error) bool) {
		first := true
		for page, err := range pages {
			if first && err == nil {
				close(answered)
				first = false
			}
			if !yield(page, err) {
				return
			}
		}
	}
}

// queryPages reads one part of the index. It ends after the first error.
func (t *Table) queryPages(ctx context.Context, input dynamodb.QueryInput, meter *records.Meter) iter.Seq2[[]records.Record, error] {
	return func(yield func([]records.Record, error) bool) {
		input := input // each range over the result begins at the first page
		for {
			done, err := meter.Begin(ctx)
			if err != nil {
				yield(nil, err)
				return
			}
			out, err := t.client.Query(ctx, &input)
			if err != nil {
				done(records.Cost{})
				yield(nil, err)
				return
			}
			done(costOf(out.ScannedCount, out.ConsumedCapacity))
			if !yield(decodeAll(out.Items), nil) || len(out.LastEvaluatedKey) == 0 {
				return
			}
			input.ExclusiveStartKey = out.LastEvaluatedKey
		}
	}
}

// isNoIndex reports whether a Query was refused since there is no index, or none that can be read yet.
// Both are ValidationExceptions, told apart from others by what they say.
func isNoIndex(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && api.ErrorCode() == "ValidationException" &&
		(strings.Contains(api.ErrorMessage(), "specified index") || strings.Contains(api.ErrorMessage(), "backfilling global secondary index"))
}
