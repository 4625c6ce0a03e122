package dynamo

import (
	"context"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/records"
)

// maxSegments is the most that a table can be split into (Amazon DynamoDB API Reference, "Scan").
const maxSegments = 1_000_000

// projection is what is read of many records: without what others have added, and mostly without
// meta, both of which can be large. The index has it too.
const projection = "id, #name, #type, #size, created_at, uploaded_at, stored_at, deleted_at"

// projectionNames are the reserved words among them.
func projectionNames() map[string]string {
	return map[string]string{"#name": "name", "#type": "type", "#size": "size"}
}

// Scan implements [records.Table]. A page is what DynamoDB finds in a megabyte of the table;
// the pages are not read consistently, which costs half, so that they may show a record as it was
// a second ago. Every transition checks for itself.
func (t *Table) Scan(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	input := dynamodb.ScanInput{
		TableName:                &t.name,
		ProjectionExpression:     aws.String(projection),
		ExpressionAttributeNames: projectionNames(),
		ReturnConsumedCapacity:   types.ReturnConsumedCapacityTotal,
	}
	if opts.Meta {
		input.ProjectionExpression = aws.String(*input.ProjectionExpression + ", meta, fingerprint")
	}
	if opts.FirstPage > 0 {
		input.Limit = aws.Int32(int32(min(opts.FirstPage, math.MaxInt32)))
	}
	if expression, values := condition(f); expression != "" {
		input.FilterExpression, input.ExpressionAttributeValues = &expression, values
	}
	return func(yield func([]records.Record, error) bool) {
		pages := t.pages(ctx, input, opts.Meter)
		if opts.Segments > 0 {
			pages = t.segments(ctx, input, opts)
		}
		for page, err := range pages {
			if err != nil {
				yield(nil, fmt.Errorf("scan files: %w", err))
				return
			}
			if !yield(page, nil) {
				return
			}
		}
	}
}

// pages reads one segment, or the table, from its beginning: the next page is asked for when the
// caller comes back. It ends after the first error.
func (t *Table) pages(ctx context.Context, input dynamodb.ScanInput, meter *records.Meter) iter.Seq2[[]records.Record, error] {
	return func(yield func([]records.Record, error) bool) {
		input := input // each range over the result begins at the first page
		for {
			page, next, err := t.page(ctx, &input, meter)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(page, nil) || len(next) == 0 {
				return
			}
			input.ExclusiveStartKey = next
			if input.Limit != nil {
				input.Limit = aws.Int32(min(*input.Limit, math.MaxInt32/2) * 2)
			}
		}
	}
}

// page makes one request. next is where the one after it begins; empty: there is none.
func (t *Table) page(ctx context.Context, input *dynamodb.ScanInput, meter *records.Meter) (page []records.Record, next map[string]types.AttributeValue, err error) {
	done, err := meter.Begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	out, err := t.client.Scan(ctx, input)
	if err != nil {
		done(records.Cost{})
		return nil, nil, err
	}
	done(costOf(out.ScannedCount, out.ConsumedCapacity))
	return decodeAll(out.Items), out.LastEvaluatedKey, nil
}

// costOf is what a request took that has looked at so many items.
func costOf(scanned int32, capacity *types.ConsumedCapacity) records.Cost {
	cost := records.Cost{Requests: 1, Records: int64(scanned), Units: -1}
	if capacity != nil && capacity.CapacityUnits != nil {
		cost.Units = *capacity.CapacityUnits
	}
	return cost
}

func decodeAll(items []map[string]types.AttributeValue) []records.Record {
	page := make([]records.Record, len(items))
	for i, item := range items {
		page[i] = decode(item)
	}
	return page
}

// segments reads the segments of the table at the same time (Amazon DynamoDB Developer Guide,
// "Parallel scan"). Each has read one page that waits for the caller, and no more: so many pages
// are in memory, however large the table is. Where the table is split into more segments, they are
// read in a random order, the next one when one has ended.
func (t *Table) segments(ctx context.Context, input dynamodb.ScanInput, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	parts := min(max(opts.Segments, opts.Parts), maxSegments)
	order := rand.Perm(parts)
	return together(ctx, opts.Segments, parts, func(ctx context.Context, n int) iter.Seq2[[]records.Record, error] {
		input := input
		if parts > 1 {
			input.Segment, input.TotalSegments = aws.Int32(int32(order[n])), aws.Int32(int32(parts))
		}
		return t.pages(ctx, input, opts.Meter)
	})
}

// together yields the pages of all parts, of which atOnce are read at the same time; read begins to
// read the part n, counted from 0. Each has read one page that waits for the caller, and no more. It ends after
// the first error.
func together(ctx context.Context, atOnce, parts int, read func(ctx context.Context, n int) iter.Seq2[[]records.Record, error]) iter.Seq2[[]records.Record, error] {
	type result struct {
		page []records.Record
		err  error
	}
	return func(yield func([]records.Record, error) bool) {
		readCtx, cancel := context.WithCancel(ctx)
		results := make(chan result)
		var running sync.WaitGroup
		// However the caller's loop ends, by a panic too, the readers end before it goes on.
		defer running.Wait()
		defer cancel()

		var next, left atomic.Int64
		left.Store(int64(atOnce))
		for range atOnce {
			running.Go(func() {
				defer func() {
					if left.Add(-1) == 0 {
						close(results)
					}
				}()
				for n := next.Add(1); n <= int64(parts); n = next.Add(1) {
					for page, err := range read(readCtx, int(n-1)) {
						select {
						case results <- result{page, err}:
						case <-readCtx.Done():
							return
						}
					}
				}
			})
		}
		for r := range results {
			if r.err != nil {
				yield(nil, r.err)
				return
			}
			if !yield(r.page, nil) {
				return
			}
		}
		// Readers that ended with ctx may not have said so.
		if err := ctx.Err(); err != nil {
			yield(nil, err)
		}
	}
}

// condition is f as a filter expression with its values; "" for the filter that selects all,
// since DynamoDB allows no empty expression. Values that none uses are not allowed either: they are
// nil where there are none.
func condition(f records.Filter) (string, map[string]types.AttributeValue) {
	var all []string // of which each must hold
	var values map[string]types.AttributeValue
	value := func(name string, limit records.Stamp) {
		if values == nil {
			values = make(map[string]types.AttributeValue)
		}
		values[name] = text(limit)
	}

	var due []string
	add := func(name string, limit records.Stamp, conditions ...string) {
		if limit.IsSet() {
			due = append(due, and(conditions...))
			value(name, limit)
		}
	}
	add(":uploaded", f.UploadedBefore, "uploaded_at < :uploaded", notStored, notDeleted)
	add(":created", f.CreatedBefore, "created_at < :created", notUploaded, notStored, notDeleted)
	add(":deleted", f.DeletedSince, "deleted_at >= :deleted")
	all = append(all, or(due)...)

	if f.Mismarked.IsSet() {
		value(":mismarked", f.Mismarked)
		all = append(all, or([]string{
			and(notMarked, notStored, notDeleted, "(attribute_exists(uploaded_at) OR attribute_exists(created_at))"),
			and(notMarked, "deleted_at >= :mismarked"),
			and(isMarked, "attribute_exists(stored_at)", notDeleted),
			and(isMarked, "deleted_at < :mismarked"),
		})...)
	}

	var states []string
	for _, s := range f.States {
		states = append(states, inState(s))
	}
	all = append(all, or(states)...)

	// between is the limits of time for one attribute. A comparison with one that is absent is false.
	between := func(attribute string) string {
		var terms []string
		if f.Since.IsSet() {
			terms = append(terms, attribute+" >= :since")
			value(":since", f.Since)
		}
		if f.Until.IsSet() {
			terms = append(terms, attribute+" < :until")
			value(":until", f.Until)
		}
		return and(terms...)
	}
	switch {
	case f.Since == "" && f.Until == "":
	case f.By == records.ByUpload:
		all = append(all, or([]string{
			between("uploaded_at"),
			and(notUploaded, between("created_at")),
		})...)
	default:
		all = append(all, between(string(f.By)+"_at"))
	}
	return and(all...), values
}

// or joins terms of which one must hold, if there are any. AND binds more tightly than OR; and
// DynamoDB refuses parentheses that it finds redundant.
func or(terms []string) []string {
	if len(terms) < 2 {
		return terms
	}
	return []string{"(" + strings.Join(terms, " OR ") + ")"}
}

// inState is [records.Record.State] as an expression.
func inState(s records.State) string {
	switch s {
	case records.Placeholder:
		return and(notUploaded, notStored, notDeleted)
	case records.Temporary:
		return and(isUploaded, notStored, notDeleted)
	case records.Stored:
		return and("attribute_exists(stored_at)", notDeleted)
	case records.Deleted:
		return "attribute_exists(deleted_at)"
	}
	return "attribute_not_exists(id)" // no record is in a state that there is not
}
