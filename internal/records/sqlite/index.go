package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"strings"

	"github.com/designfultech/filestore/internal/records"
)

// indexName is what the indexes of pending files are called together.
const indexName = "pending"

// pendingIndex is one of the indexes of pending files. SQLite keeps them by itself: an index has the rows
// for which its condition holds, in the order of a time and the id.
type pendingIndex struct {
	name, at, where string
	// limit is what a sweep asks of at, with the parameter of that name, and value what it compares with.
	limit, parameter string
	value            func(records.Filter) records.Stamp
}

// pendingIndexes returns the indexes in the order in which a sweep reads them: what it has just
// deleted, or found to be uploaded, is not to come once more.
func pendingIndexes() []pendingIndex {
	const pending = "stored_at IS NULL AND deleted_at IS NULL"
	return []pendingIndex{
		{
			"files_deleted", "deleted_at", "deleted_at IS NOT NULL",
			"deleted_at >= @deleted", "deleted", func(f records.Filter) records.Stamp { return f.DeletedSince },
		},
		{
			"files_temporary", "uploaded_at", "uploaded_at IS NOT NULL AND " + pending,
			"uploaded_at < @uploaded", "uploaded", func(f records.Filter) records.Stamp { return f.UploadedBefore },
		},
		{
			"files_placeholder", "created_at", "uploaded_at IS NULL AND created_at IS NOT NULL AND " + pending,
			"created_at < @created", "created", func(f records.Filter) records.Stamp { return f.CreatedBefore },
		},
	}
}

// Pending implements [records.Table]. Files that should not be in the index do not come: there are none.
func (t *Table) Pending(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	return func(yield func([]records.Record, error) bool) {
		index, err := t.Index(ctx)
		if err == nil && index.State == records.IndexNone {
			err = records.ErrNoIndex
		}
		if err != nil {
			yield(nil, err)
			return
		}
		for _, index := range pendingIndexes() {
			if index.value(f) == "" {
				continue
			}
			for page, err := range t.pendingPages(ctx, index, f, opts.Meter) {
				if err != nil {
					err = fmt.Errorf("read the pending files: %w", named(err))
				}
				if !yield(page, err) || err != nil {
					return
				}
			}
		}
	}
}

// pendingPages reads what f selects by one index, a page with each statement.
func (t *Table) pendingPages(ctx context.Context, index pendingIndex, f records.Filter, meter *records.Meter) iter.Seq2[[]records.Record, error] {
	query := `SELECT id, name, type, size, NULL, NULL, created_at, uploaded_at, stored_at, deleted_at
		FROM files INDEXED BY ` + index.name + ` WHERE ` + index.where + ` AND ` + index.limit +
		` AND (` + index.at + `, id) > (@at, @after) ORDER BY ` + index.at + `, id LIMIT @count`
	return func(yield func([]records.Record, error) bool) {
		var at, after string
		for {
			page, err := t.scanPage(ctx, meter, query, []any{
				sql.Named(index.parameter, string(index.value(f))), sql.Named("at", at), sql.Named("after", after), sql.Named("count", t.page),
			})
			if !yield(page, err) || err != nil || len(page) < t.page {
				return
			}
			last := page[len(page)-1]
			after = last.ID
			switch index.at {
			case "deleted_at":
				at = string(last.DeletedAt)
			case "uploaded_at":
				at = string(last.UploadedAt)
			default:
				at = string(last.CreatedAt)
			}
		}
	}
}

// MarkPending implements [records.Table]: there is nothing to write.
func (t *Table) MarkPending(ctx context.Context, id string, at, deletedSince records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(at, deletedSince); err != nil {
		return records.Record{}, err
	}
	return t.check(ctx, id, records.IsUnsettled(deletedSince))
}

// UnmarkPending implements [records.Table]: there is nothing to write.
func (t *Table) UnmarkPending(ctx context.Context, id string, deletedBefore records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(deletedBefore); err != nil {
		return records.Record{}, err
	}
	return t.check(ctx, id, records.IsSettled(deletedBefore))
}

func (t *Table) check(ctx context.Context, id string, check func(records.Record) error) (records.Record, error) {
	current, found, err := t.get(ctx, id)
	if err != nil {
		return records.Record{}, err
	}
	if !found || check(current) != nil {
		return records.Record{}, records.Refusal(id, found, current, check)
	}
	return current, nil
}

// Index implements [records.Table]. How large the indexes are, SQLite does not tell.
func (t *Table) Index(ctx context.Context) (records.Index, error) {
	index := records.Index{Name: indexName, State: records.IndexNone, Records: -1, Bytes: -1}
	n, err := t.countIndexes(ctx, t.db)
	if err != nil {
		return index, fmt.Errorf("look for the index: %w", named(err))
	}
	if n == len(pendingIndexes()) {
		index.State = records.IndexActive
	}
	return index, nil
}

// countIndexes returns how many of the indexes are there.
func (t *Table) countIndexes(ctx context.Context, q querier) (n int, err error) {
	var names []string
	for _, index := range pendingIndexes() {
		names = append(names, "'"+index.name+"'")
	}
	err = q.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND name IN (`+strings.Join(names, ", ")+`)`).Scan(&n)
	return n, err
}

// CreateIndex implements [records.Table]: the index can be read at once. Older versions of this program
// keep it too.
func (t *Table) CreateIndex(ctx context.Context) (created bool, err error) {
	var statements []string
	for _, index := range pendingIndexes() {
		statements = append(statements, `CREATE INDEX IF NOT EXISTS `+index.name+` ON files (`+index.at+`, id) WHERE `+index.where)
	}
	before, err := t.changeIndexes(ctx, statements)
	return err == nil && before < len(statements), err
}

// DropIndex implements [records.Table].
func (t *Table) DropIndex(ctx context.Context) (dropped bool, err error) {
	var statements []string
	for _, index := range pendingIndexes() {
		statements = append(statements, `DROP INDEX IF EXISTS `+index.name)
	}
	before, err := t.changeIndexes(ctx, statements)
	return err == nil && before > 0, err
}

// changeIndexes carries out all statements or none, and returns how many indexes were there before.
func (t *Table) changeIndexes(ctx context.Context, statements []string) (before int, err error) {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("change the index: %w", named(err))
	}
	defer func() { _ = tx.Rollback() }() // nothing to undo after a commit
	if before, err = t.countIndexes(ctx, tx); err != nil {
		return 0, fmt.Errorf("change the index: %w", named(err))
	}
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return 0, fmt.Errorf("change the index: %w", named(err))
		}
	}
	if err := tx.Commit(); err != nil {
		return 0, fmt.Errorf("change the index: %w", named(err))
	}
	return before, nil
}
