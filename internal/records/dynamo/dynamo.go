// Package dynamo keeps the records of files in a DynamoDB table, the one that the Filestore API
// uses as well (docs/contract.md, "The parts" and "The record").
//
// It writes strictly and reads leniently: an attribute of the wrong type never fails the
// answer for the other records, see [records.Record.Mistyped].
package dynamo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"
	"golang.org/x/sync/errgroup"

	"github.com/designfultech/filestore/internal/records"
)

const (
	// batchSize is the most keys BatchGetItem takes (Amazon DynamoDB API Reference, "BatchGetItem").
	batchSize = 100
	// batchesAtOnce bounds the BatchGetItem calls of one Get that are under way.
	batchesAtOnce = 8

	// Unprocessed keys are asked again after a random time of up to firstDelay, then up to twice
	// that, and so on to maxDelay; not for ever, if the table has no capacity at all: after
	// maxFruitless answers in a row without a single key processed, Get fails.
	firstDelay   = 50 * time.Millisecond
	maxDelay     = 5 * time.Second
	maxFruitless = 10

	// maxKeyBytes is the longest a partition key can be (Amazon DynamoDB Developer Guide, "Constraints
	// in Amazon DynamoDB").
	maxKeyBytes = 2048

	// maxTries bounds how often a write is tried whose refusal the record, as read afterwards,
	// does not explain. Records only ever move forward through their few states, so that a
	// second try is rare and a third one enough.
	maxTries = 3
)

// API is what a [Table] needs of a [*dynamodb.Client].
type API interface {
	GetItem(context.Context, *dynamodb.GetItemInput, ...func(*dynamodb.Options)) (*dynamodb.GetItemOutput, error)
	PutItem(context.Context, *dynamodb.PutItemInput, ...func(*dynamodb.Options)) (*dynamodb.PutItemOutput, error)
	UpdateItem(context.Context, *dynamodb.UpdateItemInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateItemOutput, error)
	DeleteItem(context.Context, *dynamodb.DeleteItemInput, ...func(*dynamodb.Options)) (*dynamodb.DeleteItemOutput, error)
	BatchGetItem(context.Context, *dynamodb.BatchGetItemInput, ...func(*dynamodb.Options)) (*dynamodb.BatchGetItemOutput, error)
	Scan(context.Context, *dynamodb.ScanInput, ...func(*dynamodb.Options)) (*dynamodb.ScanOutput, error)
	Query(context.Context, *dynamodb.QueryInput, ...func(*dynamodb.Options)) (*dynamodb.QueryOutput, error)
	DescribeTable(context.Context, *dynamodb.DescribeTableInput, ...func(*dynamodb.Options)) (*dynamodb.DescribeTableOutput, error)
	CreateTable(context.Context, *dynamodb.CreateTableInput, ...func(*dynamodb.Options)) (*dynamodb.CreateTableOutput, error)
	UpdateTable(context.Context, *dynamodb.UpdateTableInput, ...func(*dynamodb.Options)) (*dynamodb.UpdateTableOutput, error)
}

// Table is a [records.Table] in DynamoDB. It is safe for concurrent use.
//
// The SDK sends a write again whose answer was lost. The first one may have been carried out,
// so the second can meet what the first has written. What each transition then reports:
//
//   - Uploaded, Store and Delete write the same once more, and if_not_exists keeps what the
//     first has set: nothing to tell apart. Import that finds its own record is a success.
//   - Create finds the id taken, Expire and Abandon find the file deleted, Correct the upload
//     recorded, Discard finds nothing. If this write was sent more than once, and the record is
//     exactly what it would have made, they report success. A write that was sent once and refused has lost, however
//     the record looks: so of two sweeps that claim a file in the same second, one is told
//     that it lost.
//   - If a sweep's answer was lost, and another sweep claimed the file in that same second, both
//     report the claim. Both then delete the object, which is harmless; their counts are one too
//     high in sum. (For Create it would take the same random id as well.)
type Table struct {
	client API
	name   string
	batch  *batcher       // nil: every write is a request of its own
	writes *records.Meter // nil: writes are not counted
}

var (
	_ records.Table   = (*Table)(nil)
	_ records.Metered = (*Table)(nil)
)

// New returns the table of that name. It makes no request.
func New(client API, table string) *Table {
	t := &Table{client: client, name: table}
	if b, ok := client.(BatchAPI); ok {
		t.batch = &batcher{table: t, client: b, fewest: 2}
	}
	return t
}

// Unbatched has every write be a request of its own, for a server: its callers have nothing to do with each other, and
// one whose write is throttled must not hold up the others. It must be called before anything is written. A table that
// [Table.Metered] returns is one caller's, and batches all the same.
func (t *Table) Unbatched() { t.batch = nil }

// Metered implements [records.Metered]. The writes of the table that it returns share no request with those of t, and are
// batched also where t is [Table.Unbatched]: they are those of one caller, such as a sweep.
func (t *Table) Metered(m *records.Meter) records.Table {
	metered := New(t.client, t.name)
	metered.writes = m
	if t.batch != nil {
		metered.batch.fewest = t.batch.fewest
		metered.batch.off.Store(t.batch.off.Load())
	}
	return metered
}

// The conditions of docs/contract.md, "The transitions". An attribute that holds NULL exists,
// here as in [records.Stamp.IsSet]: what somebody meant to store must not expire.
const (
	exists      = "attribute_exists(id)"
	notDeleted  = "attribute_not_exists(deleted_at)"
	notStored   = "attribute_not_exists(stored_at)"
	notUploaded = "attribute_not_exists(uploaded_at)"
	isUploaded  = "attribute_exists(uploaded_at)"
	notDated    = "attribute_not_exists(created_at)"
)

func and(terms ...string) string { return strings.Join(terms, " AND ") }

// Create implements [records.Table].
func (t *Table) Create(ctx context.Context, r records.Record) error {
	if r.CreatedAt.IsSet() {
		if err := records.CheckWritten(r.CreatedAt); err != nil {
			return err
		}
	}
	if !canBeKey(r.ID) {
		return fmt.Errorf("create file: %q cannot be an id", r.ID)
	}
	// Names come from file systems that allow any byte; DynamoDB's strings are UTF-8.
	made := records.Record{
		ID: r.ID, Name: validText(r.Name), Meta: validText(r.Meta), Fingerprint: validText(r.Fingerprint),
		Size: -1, CreatedAt: r.CreatedAt,
	}
	item := map[string]types.AttributeValue{"id": text(made.ID), "name": text(made.Name)}
	if made.CreatedAt.IsSet() {
		item["created_at"] = text(made.CreatedAt)
		item[PendingAttribute], item[PendingAtAttribute] = text(records.Shard(made.ID)), text(made.CreatedAt)
	}
	if made.Meta != "" {
		item["meta"] = text(made.Meta)
	}
	if made.Fingerprint != "" {
		item["fingerprint"] = text(made.Fingerprint)
	}
	batched, done := t.batch.do(ctx, t.insert(made.ID, item))
	defer done()
	switch {
	case batched.carriedOut:
		return nil
	case batched.err != nil:
		return fmt.Errorf("create file %q: %w", r.ID, batched.err)
	}
	var sent int
	for range maxTries {
		err := t.spend(ctx, 1, func(capacity types.ReturnConsumedCapacity) ([]types.ConsumedCapacity, error) {
			out, err := t.client.PutItem(ctx, &dynamodb.PutItemInput{
				TableName:                           &t.name,
				Item:                                item,
				ConditionExpression:                 aws.String("attribute_not_exists(id)"),
				ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
				ReturnConsumedCapacity:              capacity,
			}, count(&sent))
			if err != nil {
				return nil, err
			}
			return list(out.ConsumedCapacity), nil
		})
		if err == nil {
			return nil
		}
		current, found, err := t.explain(ctx, r.ID, err)
		if err != nil {
			return fmt.Errorf("create file %q: %w", r.ID, err)
		}
		if found {
			if batched.sent+sent > 1 && isPlaceholder(current, made) {
				return nil
			}
			return &records.TransitionError{ID: r.ID, Reason: records.ErrExists, Current: current}
		}
		// Discarded since the write found it: the id is free again.
	}
	return &records.TransitionError{ID: r.ID, Reason: records.ErrExists}
}

// isPlaceholder reports whether r is made, with nothing that came later.
func isPlaceholder(r, made records.Record) bool {
	return len(r.Mistyped) == 0 && r.ID == made.ID && r.Name == made.Name && r.Meta == made.Meta &&
		r.Fingerprint == made.Fingerprint && r.CreatedAt == made.CreatedAt && r.Type == "" && r.Size < 0 && r.State() == records.Placeholder
}

// Uploaded implements [records.Table].
func (t *Table) Uploaded(ctx context.Context, id string, u records.Upload) (records.Record, error) {
	if err := records.CheckWritten(u.At); err != nil {
		return records.Record{}, err
	}
	w := write{
		set:       "uploaded_at = :uploaded, #type = :type, #size = :size",
		condition: and(exists, notDeleted),
		names:     uploadNames(),
		values:    uploadValues(u),
		checks:    []check{records.NotDeleted},
	}
	set := []assignment{{"uploaded_at", w.values[":uploaded"]}, {"type", w.values[":type"]}, {"size", w.values[":size"]}}
	if u.Store {
		w.set += ", stored_at = if_not_exists(stored_at, :uploaded)"
		w.remove = unmark
		set = append(set, assignment{"stored_at", w.values[":uploaded"]})
		// A file that is stored is written by itself, and keeps its time.
		w.batched = []statement{t.updating(id, set, unmarked(), "deleted_at IS MISSING AND stored_at IS MISSING")}
		return t.update(ctx, id, w)
	}
	marking := w.marking(id, u.At)
	marking.condition = and(w.condition, notStored)
	marking.checks = []check{records.NotDeleted, records.NotStored}
	// What others have made is written by itself, and marked.
	marking.batched = []statement{t.updating(id, set, nil, "deleted_at IS MISSING AND stored_at IS MISSING AND pending IS NOT MISSING")}
	r, err := t.update(ctx, id, marking)
	if !errors.Is(err, records.ErrStored) {
		return r, err
	}
	// Once more, of a file that is stored and waits for nothing.
	return t.update(ctx, id, w)
}

// type and size are reserved words in DynamoDB's expressions, name too.
func uploadNames() map[string]string { return map[string]string{"#type": "type", "#size": "size"} }

func uploadValues(u records.Upload) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{
		":uploaded": text(u.At),
		":type":     text(validText(u.Type)),
		":size":     &types.AttributeValueMemberN{Value: strconv.FormatInt(u.Size, 10)},
	}
}

// Store implements [records.Table].
func (t *Table) Store(ctx context.Context, id string, at records.Stamp, missing *records.Upload) (records.Record, error) {
	if err := records.CheckWritten(at); err != nil {
		return records.Record{}, err
	}
	if missing != nil {
		if err := records.CheckWritten(missing.At); err != nil {
			return records.Record{}, err
		}
		w := write{
			set: "uploaded_at = :uploaded, #type = :type, #size = :size, " +
				"stored_at = if_not_exists(stored_at, :at)",
			remove:    unmark,
			condition: and(exists, notDeleted, notUploaded),
			names:     uploadNames(),
			values:    uploadValues(*missing),
			checks:    []check{records.NotDeleted, records.NotUploaded},
		}
		w.values[":at"] = text(at)
		r, err := t.update(ctx, id, w)
		if !errors.Is(err, records.ErrUploaded) {
			return r, err
		}
		// The upload is known after all, and uploaded_at never goes away again. (if_not_exists for
		// each attribute would do it in one write, but could mix the two uploads.)
	}
	return t.update(ctx, id, write{
		set:       "stored_at = if_not_exists(stored_at, :at)",
		remove:    unmark,
		condition: and(exists, notDeleted, isUploaded),
		values:    map[string]types.AttributeValue{":at": text(at)},
		checks:    []check{records.NotDeleted, records.IsUploaded},
		batched: []statement{t.updating(id, []assignment{{"stored_at", text(at)}}, unmarked(),
			"deleted_at IS MISSING AND uploaded_at IS NOT MISSING AND stored_at IS MISSING")},
	})
}

// Delete implements [records.Table].
func (t *Table) Delete(ctx context.Context, id string, at records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(at); err != nil {
		return records.Record{}, err
	}
	w := write{
		set:       "deleted_at = if_not_exists(deleted_at, :at)",
		condition: exists,
		values:    map[string]types.AttributeValue{":at": text(at)},
	}.marking(id, at)
	// A file that is deleted already is written by itself, and keeps its time. Most of those that are
	// deleted are stored, and have no mark.
	marked, without := t.deleting(id, at, "deleted_at IS MISSING")
	w.batched = []statement{without, marked}
	return t.update(ctx, id, w)
}

// Expire implements [records.Table].
func (t *Table) Expire(ctx context.Context, id string, at, uploadedBefore records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(at, uploadedBefore); err != nil {
		return records.Record{}, err
	}
	due := func(r records.Record) error { return before(r, "uploaded_at", r.UploadedAt, uploadedBefore) }
	w := write{
		set:       "deleted_at = :at",
		condition: and(exists, notDeleted, notStored, "uploaded_at < :limit"),
		values:    map[string]types.AttributeValue{":at": text(at), ":limit": text(uploadedBefore)},
		checks:    []check{records.NotDeleted, records.NotStored, records.IsUploaded, due},
		own: func(r records.Record) bool {
			return r.DeletedAt == at && !r.StoredAt.IsSet() && due(r) == nil
		},
	}.marking(id, at)
	// What others have made has no mark.
	marked, without := t.deleting(id, at, "deleted_at IS MISSING AND stored_at IS MISSING AND uploaded_at < ?", text(uploadedBefore))
	w.batched = []statement{marked, without}
	return t.update(ctx, id, w)
}

// Abandon implements [records.Table].
func (t *Table) Abandon(ctx context.Context, id string, at, createdBefore records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(at, createdBefore); err != nil {
		return records.Record{}, err
	}
	due := func(r records.Record) error { return before(r, "created_at", r.CreatedAt, createdBefore) }
	return t.update(ctx, id, write{
		set:       "deleted_at = :at",
		condition: and(exists, notDeleted, notStored, notUploaded, "created_at < :limit"),
		values:    map[string]types.AttributeValue{":at": text(at), ":limit": text(createdBefore)},
		checks:    []check{records.NotDeleted, records.NotStored, records.NotUploaded, due},
		own: func(r records.Record) bool {
			return r.DeletedAt == at && !r.StoredAt.IsSet() && !r.UploadedAt.IsSet() && due(r) == nil
		},
	}.marking(id, at))
}

// Correct implements [records.Table].
func (t *Table) Correct(ctx context.Context, id string, known records.Stamp, u records.Upload) (records.Record, error) {
	w := write{
		set:    "#type = :type, #size = :size",
		names:  uploadNames(),
		values: uploadValues(u),
		checks: []check{records.NotDeleted, records.UploadedAt(known)},
	}
	if known.IsSet() {
		w.condition = and(exists, notDeleted, "uploaded_at = :uploaded")
		w.values[":uploaded"] = text(known)
		return t.update(ctx, id, w)
	}
	if err := records.CheckWritten(u.At); err != nil {
		return records.Record{}, err
	}
	w.condition = and(exists, notDeleted, notUploaded)
	w.set += ", uploaded_at = :uploaded"
	w.own = func(r records.Record) bool {
		return r.UploadedAt == u.At && r.Type == validText(u.Type) && r.Size == u.Size && !r.DeletedAt.IsSet() && len(r.Mistyped) == 0
	}
	if u.Store {
		w.set += ", stored_at = if_not_exists(stored_at, :uploaded)"
		w.remove = unmark
		return t.update(ctx, id, w)
	}
	marking := w.marking(id, u.At)
	marking.condition = and(w.condition, notStored)
	marking.checks = append(slices.Clone(w.checks), records.NotStored)
	r, err := t.update(ctx, id, marking)
	if !errors.Is(err, records.ErrStored) {
		return r, err
	}
	// Once more, of a file that is stored and waits for nothing.
	return t.update(ctx, id, w)
}

// before fails with ErrNotDue unless the attribute s is before limit, compared as DynamoDB
// compares: texts byte by byte, and never a text with another type.
func before(r records.Record, attribute string, s, limit records.Stamp) error {
	if s.IsSet() && s < limit && !slices.Contains(r.Mistyped, attribute) {
		return nil
	}
	return records.ErrNotDue
}

// Discard implements [records.Table].
func (t *Table) Discard(ctx context.Context, id string) error {
	checks := []check{records.NotDeleted, records.NotStored, records.NotUploaded}
	if !canBeKey(id) {
		return records.Refusal(id, false, records.Record{})
	}
	var sent int
	return t.retryUnexplained(ctx, id, checks, func() error {
		return t.spend(ctx, 1, func(capacity types.ReturnConsumedCapacity) ([]types.ConsumedCapacity, error) {
			out, err := t.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
				TableName:                           &t.name,
				Key:                                 key(id),
				ConditionExpression:                 aws.String(and(exists, notDeleted, notStored, notUploaded)),
				ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
				ReturnConsumedCapacity:              capacity,
			}, count(&sent))
			if err != nil {
				return nil, err
			}
			return list(out.ConsumedCapacity), nil
		})
	}, func(_ records.Record, found bool) bool { return sent > 1 && !found })
}

// Import implements [records.Table].
func (t *Table) Import(ctx context.Context, r records.Record) error {
	if err := r.CheckSet(); err != nil {
		return err
	}
	if !canBeKey(r.ID) {
		return fmt.Errorf("import file: %q cannot be an id", r.ID)
	}
	r.Name, r.Type, r.Meta, r.Fingerprint = validText(r.Name), validText(r.Type), validText(r.Meta), validText(r.Fingerprint)
	set := assignments(r)
	// Of what comes as deleted there never was an object here that a sweep could look for.
	if r.State() == records.Temporary {
		set = append(set, t.mark(r.ID, cmp.Or(r.CreatedAt, r.UploadedAt))...)
	}
	var statement statement
	if r.State() == records.Deleted { // which mostly has no placeholder
		item := map[string]types.AttributeValue{"id": text(r.ID)}
		for _, a := range set {
			item[a.attribute] = a.value
		}
		statement = t.insert(r.ID, item)
	} else {
		statement = t.updating(r.ID, set, nil,
			"created_at IS MISSING AND uploaded_at IS MISSING AND stored_at IS MISSING AND deleted_at IS MISSING")
	}
	batched, done := t.batch.do(ctx, statement)
	defer done()
	switch {
	case batched.carriedOut:
		return nil
	case batched.err != nil:
		return fmt.Errorf("import file %q: %w", r.ID, batched.err)
	}
	// An update makes the item where there is none.
	in := &dynamodb.UpdateItemInput{
		TableName: &t.name, Key: key(r.ID),
		ConditionExpression:                 aws.String(and(notUploaded, notStored, notDeleted, notDated)),
		ExpressionAttributeNames:            make(map[string]string),
		ExpressionAttributeValues:           make(map[string]types.AttributeValue),
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
	terms := make([]string, len(set))
	for i, a := range set {
		terms[i] = fmt.Sprintf("#%s = :%[1]s", a.attribute)
		in.ExpressionAttributeNames["#"+a.attribute], in.ExpressionAttributeValues[":"+a.attribute] = a.attribute, a.value
	}
	in.UpdateExpression = aws.String("SET " + strings.Join(terms, ", "))
	var current records.Record
	for range maxTries {
		_, err := t.updateItem(ctx, in)
		if err == nil {
			return nil
		}
		var found bool
		if current, found, err = t.explain(ctx, r.ID, err); err != nil {
			return fmt.Errorf("import file %q: %w", r.ID, err)
		}
		if found && records.Same(current, r) {
			return nil // whoever has written it: there is nothing to tell apart
		}
		if refusal := records.RefusalOfImport(r.ID, found, current); refusal != nil {
			return refusal
		}
		// The record has changed since, so that the write is allowed now.
	}
	return &records.TransitionError{ID: r.ID, Reason: records.ErrExists, Current: current}
}

// ImportAnnounced implements [records.Table].
func (t *Table) ImportAnnounced(ctx context.Context, r records.Record, known records.Stamp) error {
	if err := r.CheckSet(); err != nil {
		return err
	}
	r.Name, r.Type, r.Meta, r.Fingerprint = validText(r.Name), validText(r.Type), validText(r.Meta), validText(r.Fingerprint)
	set := assignments(r)
	if r.State() == records.Temporary {
		set = append(set, t.mark(r.ID, cmp.Or(r.CreatedAt, r.UploadedAt))...)
	}
	w := write{
		condition: and(exists, notDeleted, notDated, "uploaded_at = :known", "("+notStored+" OR stored_at = uploaded_at)"),
		names:     make(map[string]string),
		values:    map[string]types.AttributeValue{":known": text(known)},
		checks:    records.ImportAnnouncedChecks(known),
		own:       func(current records.Record) bool { return records.Same(current, r) },
	}
	// What the placeholder has got, and r has not.
	gone := []string{"type", "size", "uploaded_at", "stored_at", PendingAttribute, PendingAtAttribute}
	var terms []string
	for _, a := range set {
		terms = append(terms, fmt.Sprintf("#%s = :%[1]s", a.attribute))
		w.names["#"+a.attribute], w.values[":"+a.attribute] = a.attribute, a.value
		gone = slices.DeleteFunc(gone, func(name string) bool { return name == a.attribute })
	}
	for i, name := range gone {
		w.names["#"+name], gone[i] = name, "#"+name
	}
	w.set, w.remove = strings.Join(terms, ", "), strings.Join(gone, ", ")
	_, err := t.update(ctx, r.ID, w)
	return err
}

// assignments are the attributes that r has beside its id.
func assignments(r records.Record) []assignment {
	set := []assignment{{"name", text(r.Name)}}
	if r.Size >= 0 {
		set = append(set, assignment{"size", &types.AttributeValueMemberN{Value: strconv.FormatInt(r.Size, 10)}})
	}
	for _, a := range []struct{ attribute, value string }{
		{"type", r.Type}, {"meta", r.Meta}, {"fingerprint", r.Fingerprint},
		{"created_at", string(r.CreatedAt)}, {"uploaded_at", string(r.UploadedAt)},
		{"stored_at", string(r.StoredAt)}, {"deleted_at", string(r.DeletedAt)},
	} {
		if a.value != "" {
			set = append(set, assignment{a.attribute, text(a.value)})
		}
	}
	return set
}

// check is one condition of a write as a function of the record; see [records.Refusal].
type check = func(records.Record) error

// write is a conditional update of one item.
type write struct {
	set       string // the SET clause; empty: none
	remove    string // the REMOVE clause; empty: none
	condition string
	names     map[string]string
	values    map[string]types.AttributeValue
	// checks are the condition once more, to name what failed it.
	checks []check
	// own reports whether a refused write, sent more than once, has made the record itself. nil:
	// its condition cannot fail on its own result.
	own func(records.Record) bool
	// batched are the same write, or such with stronger conditions, for batches: one after the other is
	// tried.
	batched []statement
}

// expression returns the update expression of w.
func (w write) expression() string {
	var clauses []string
	if w.set != "" {
		clauses = append(clauses, "SET "+w.set)
	}
	if w.remove != "" {
		clauses = append(clauses, "REMOVE "+w.remove)
	}
	return strings.Join(clauses, " ")
}

func (t *Table) update(ctx context.Context, id string, w write) (records.Record, error) {
	if !canBeKey(id) {
		return records.Record{}, records.Refusal(id, false, records.Record{})
	}
	var sentBefore int
	for _, s := range w.batched {
		batched, done := t.batch.do(ctx, s)
		defer done()
		switch {
		case batched.carriedOut:
			return batched.record, nil
		case batched.err != nil:
			return records.Record{}, fmt.Errorf("write file %q: %w", id, batched.err)
		}
		sentBefore += batched.sent
		if !batched.refused {
			break
		}
	}
	var sent int
	var written records.Record
	err := t.retryUnexplained(ctx, id, w.checks, func() error {
		out, err := t.updateItem(ctx, &dynamodb.UpdateItemInput{
			TableName:                           &t.name,
			Key:                                 key(id),
			UpdateExpression:                    aws.String(w.expression()),
			ConditionExpression:                 &w.condition,
			ExpressionAttributeNames:            w.names,
			ExpressionAttributeValues:           w.values,
			ReturnValues:                        types.ReturnValueAllNew,
			ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
		}, count(&sent))
		if err == nil {
			written = decode(out.Attributes)
		}
		return err
	}, func(current records.Record, found bool) bool {
		if !found || w.own == nil || sentBefore+sent <= 1 || !w.own(current) {
			return false
		}
		written = current
		return true
	})
	return written, err
}

// retryUnexplained makes the conditional write on id. When it is refused, own tells whether
// the write was carried out nevertheless, at its first sending; checks tell why if not. A
// record that passes all of them has changed between the write and the read that came to
// explain it: then the write is allowed now, and made again.
func (t *Table) retryUnexplained(ctx context.Context, id string, checks []check, write func() error, own func(current records.Record, found bool) bool) error {
	var current records.Record
	var found bool
	for range maxTries {
		err := write()
		if err == nil {
			return nil
		}
		if current, found, err = t.explain(ctx, id, err); err != nil {
			return fmt.Errorf("write file %q: %w", id, err)
		}
		if own(current, found) {
			return nil
		}
		if !found || slices.ContainsFunc(checks, func(c check) bool { return c(current) != nil }) {
			break
		}
	}
	return records.Refusal(id, found, current, checks...)
}

// explain returns the record that a conditional write has met, if err says that its condition
// failed; any other err it returns. Servers that do not know ReturnValuesOnConditionCheckFailure
// (it came in 2023) answer without the item, as all do when there is none: then it is read.
func (t *Table) explain(ctx context.Context, id string, err error) (r records.Record, found bool, _ error) {
	failed, ok := errors.AsType[*types.ConditionalCheckFailedException](err)
	if !ok {
		return records.Record{}, false, err
	}
	item := failed.Item
	if len(item) == 0 {
		out, err := t.client.GetItem(ctx, &dynamodb.GetItemInput{
			TableName: &t.name, Key: key(id), ConsistentRead: aws.Bool(true),
		})
		if err != nil {
			return records.Record{}, false, err
		}
		item = out.Item
	}
	if len(item) == 0 {
		return records.Record{}, false, nil
	}
	return decode(item), true, nil
}

// count makes *sent the number of times that the SDK has sent a request: 1, or more after a
// failure that may have come after the write was carried out.
func count(sent *int) func(*dynamodb.Options) {
	*sent = 0
	step := middleware.FinalizeMiddlewareFunc("CountAttempts", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		*sent++
		return next.HandleFinalize(ctx, in)
	})
	return func(o *dynamodb.Options) {
		o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(step, "Retry", middleware.After)
		})
	}
}

// Get implements [records.Table]. What a table that is throttled leaves unprocessed is asked
// again for a while; the error after that is a [*types.ProvisionedThroughputExceededException].
func (t *Table) Get(ctx context.Context, ids []string) (map[string]records.Record, error) {
	unique := slices.Compact(slices.Sorted(slices.Values(ids)))
	unique = slices.DeleteFunc(unique, func(id string) bool { return !canBeKey(id) })
	found := make(map[string]records.Record, len(unique))
	var mu sync.Mutex // guards found

	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(batchesAtOnce)
	for batch := range slices.Chunk(unique, batchSize) {
		group.Go(func() error {
			return t.getBatch(ctx, batch, func(r records.Record) {
				mu.Lock()
				defer mu.Unlock()
				found[r.ID] = r
			})
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("read files: %w", err)
	}
	return found, nil
}

// getBatch calls found with the record of each of at most batchSize ids that has one.
func (t *Table) getBatch(ctx context.Context, ids []string, found func(records.Record)) error {
	keys := make([]map[string]types.AttributeValue, len(ids))
	for i, id := range ids {
		keys[i] = key(id)
	}
	delay := firstDelay
	for fruitless := 0; ; {
		out, err := t.client.BatchGetItem(ctx, &dynamodb.BatchGetItemInput{
			RequestItems: map[string]types.KeysAndAttributes{
				t.name: {Keys: keys, ConsistentRead: aws.Bool(true)},
			},
		})
		if err != nil {
			return err
		}
		for _, item := range out.Responses[t.name] {
			found(decode(item))
		}
		left := out.UnprocessedKeys[t.name].Keys
		if len(left) == 0 {
			return nil
		}
		if len(left) < len(keys) {
			fruitless, delay = 0, firstDelay
		} else if fruitless++; fruitless == maxFruitless {
			return &types.ProvisionedThroughputExceededException{
				Message: aws.String(fmt.Sprintf("%d keys of a batch stay unprocessed", len(left))),
			}
		}
		keys = left
		if err := pause(ctx, rand.N(delay)); err != nil {
			return err
		}
		delay = min(2*delay, maxDelay)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func key(id string) map[string]types.AttributeValue {
	return map[string]types.AttributeValue{"id": text(id)}
}

// canBeKey reports whether an item can have the id at all. DynamoDB refuses a whole request
// for one key that is none.
func canBeKey(id string) bool {
	return id != "" && len(id) <= maxKeyBytes && utf8.ValidString(id)
}

func text[T ~string](s T) types.AttributeValue {
	return &types.AttributeValueMemberS{Value: string(s)}
}

func validText(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
