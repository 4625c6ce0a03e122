// Package sqlite keeps the records of files in one SQLite database on this disk.
//
// Any number of processes may use one database at once: it is in WAL mode, a writer that finds
// another one at work waits for it, and every transition is a single statement
// (docs/contract.md, "The transitions"). What a call has written survives the death of the
// process. A power failure can take the latest writes back, but never a part of one, until
// the last process to use the database has closed it.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/designfultech/filestore/internal/records"
)

const (
	// schemaVersion is the PRAGMA user_version of the schema below. A database that is just
	// made has 0; one of an earlier version is brought to it by [upgrades].
	schemaVersion = 2

	// schema follows docs/contract.md, "The record": an attribute that is not set is NULL.
	schema = `CREATE TABLE files (
		id          TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
		name        TEXT NOT NULL,
		type        TEXT,
		size        INTEGER,
		meta        TEXT,
		created_at  TEXT,
		uploaded_at TEXT,
		stored_at   TEXT,
		deleted_at  TEXT,
		fingerprint TEXT
	) STRICT, WITHOUT ROWID`

	// busyTimeout is how long a statement waits for another process that writes.
	busyTimeout = 10 * time.Second

	// pageSize is how many records one statement of Get or Scan reads. It keeps both far below
	// SQLite's limit of 32766 parameters, and a page in a few hundred kilobytes.
	pageSize = 500

	// maxTries bounds how often a write is tried whose refusal the record, as read afterwards,
	// does not explain. Records only ever move forward through their few states, so that a
	// second try is rare and a third one enough.
	maxTries = 3
)

// Table is a [records.Table] in a SQLite database. It is safe for concurrent use.
type Table struct {
	db   *sql.DB
	page int // records per statement of Get and Scan
}

var (
	_ records.Table       = (*Table)(nil)
	_ records.BulkExpirer = (*Table)(nil)
)

// Open opens the database at path, and makes it (mode 0600) if it is not there. The directory
// must exist. It fails on a database that a newer version of this program has changed.
// Several processes may open a path at the same moment, a path that is not there yet too.
func Open(ctx context.Context, path string) (*Table, error) {
	db, err := open(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("records in %q: %w", path, named(err))
	}
	return &Table{db: db, page: pageSize}, nil
}

// Close ends the use of the database. The last process to close it writes everything back
// into the one file and has it synced to the disk.
func (t *Table) Close() error { return t.db.Close() }

func open(ctx context.Context, path string) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", dataSource(path))
	if err != nil {
		return nil, err
	}
	// One connection: SQLite has one writer at a time anyway, and goroutines that queue here are
	// served in turn, where connections would poll for each other's lock. It is the cheapest to
	// open, too.
	db.SetMaxOpenConns(1)
	if err := prepare(ctx, db, path); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// dataSource is a URI, since a plain name would be cut at its first "?".
func dataSource(path string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/dir, as https://www.sqlite.org/uri.html wants it
	}
	query := url.Values{
		"_busy_timeout": {strconv.FormatInt(busyTimeout.Milliseconds(), 10)},
		"_synchronous":  {"NORMAL"},
		"_txlock":       {"immediate"},
		"_error_rc":     {"1"}, // no "out of memory" for a directory that is not there
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}

// prepare brings the database to the current schema. The usual case, that it is there already,
// costs one read.
func prepare(ctx context.Context, db *sql.DB, path string) error {
	// While processes switch a new database to WAL at the same moment, SQLite answers some of
	// them "busy" at once, without the wait of busy_timeout, as it does wherever a wait could be
	// a deadlock. So the whole is tried again.
	ctx, cancel := context.WithTimeoutCause(ctx, busyTimeout, errors.New("the database stays locked"))
	defer cancel()
	for {
		version, err := userVersion(ctx, db)
		switch {
		case err == nil && version == schemaVersion:
			return nil
		case err == nil && (version < 0 || version > schemaVersion):
			return fmt.Errorf("schema version %d is not known, only %d: a newer version of filestore has written it", version, schemaVersion)
		case err == nil && version == 0:
			err = create(ctx, db, path)
		case err == nil:
			err = upgrade(ctx, db)
		}
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		if err != nil && !isBusy(err) {
			return err
		}
		if err != nil {
			pause(ctx, time.Millisecond+rand.N(20*time.Millisecond))
		}
	}
}

// create makes the schema in a database that has none.
func create(ctx context.Context, db *sql.DB, path string) error {
	// Before the first byte is written, and before there is a WAL, which takes its mode from
	// the database. Not by making the file ourselves: to close a file drops all locks this
	// process has on it (https://www.sqlite.org/howtocorrupt.html, "Posix advisory locks").
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	// Outside of the transaction, in which SQLite cannot switch; and before it, so that a
	// database of the current version is in WAL mode for sure.
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("journal mode %q, not \"wal\": the file system does not allow shared memory", mode)
	}
	return upgrade(ctx, db)
}

// upgrades returns what brings a database of that version to the current one.
func upgrades(version int) []string {
	if version == 0 {
		return []string{schema}
	}
	return []string{ // what each version has changed, from the second one on
		`ALTER TABLE files ADD COLUMN fingerprint TEXT`,
	}[version-1:]
}

// upgrade brings the database to the current version, in one transaction.
func upgrade(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil) // BEGIN IMMEDIATE, by _txlock
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to undo after a commit
	version, err := userVersion(ctx, tx)
	if err != nil || version >= schemaVersion {
		return err // another process has been faster
	}
	for _, statement := range append(upgrades(version), fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)) {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func userVersion(ctx context.Context, q querier) (version int, err error) {
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version)
	return version, err
}

func isBusy(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	return ok && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// named makes an error of SQLite one that the callers of every table know.
func named(err error) error {
	if isBusy(err) {
		return fmt.Errorf("%w: %w", records.ErrBusy, err)
	}
	return err
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Create implements [records.Table].
func (t *Table) Create(ctx context.Context, r records.Record) error {
	if r.CreatedAt.IsSet() {
		if err := records.CheckWritten(r.CreatedAt); err != nil {
			return err
		}
	}
	for range maxTries {
		result, err := t.db.ExecContext(ctx,
			`INSERT INTO files (id, name, meta, fingerprint, created_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
			r.ID, text(r.Name), null(text(r.Meta)), null(text(r.Fingerprint)), null(r.CreatedAt))
		if err != nil {
			return fmt.Errorf("create file %q: %w", r.ID, named(err))
		}
		n, err := result.RowsAffected()
		if err != nil || n == 1 {
			return err
		}
		current, found, err := t.get(ctx, r.ID)
		if err != nil {
			return err
		}
		if found {
			return &records.TransitionError{ID: r.ID, Reason: records.ErrExists, Current: current}
		}
		// Discarded since the INSERT found it: the id is free again.
	}
	return &records.TransitionError{ID: r.ID, Reason: records.ErrExists}
}

// Uploaded implements [records.Table].
func (t *Table) Uploaded(ctx context.Context, id string, u records.Upload) (records.Record, error) {
	if err := records.CheckWritten(u.At); err != nil {
		return records.Record{}, err
	}
	return t.write(ctx, id, `UPDATE files SET
			uploaded_at = @at, type = @type, size = @size,
			stored_at = CASE WHEN @store THEN coalesce(stored_at, @at) ELSE stored_at END
		WHERE id = @id AND deleted_at IS NULL`,
		[]any{
			sql.Named("at", string(u.At)), sql.Named("type", text(u.Type)), sql.Named("size", u.Size),
			sql.Named("store", u.Store),
		},
		records.NotDeleted)
}

// Store implements [records.Table].
func (t *Table) Store(ctx context.Context, id string, at records.Stamp, missing *records.Upload) (records.Record, error) {
	if missing == nil {
		if err := records.CheckWritten(at); err != nil {
			return records.Record{}, err
		}
		return t.write(ctx, id, `UPDATE files SET stored_at = coalesce(stored_at, @at)
			WHERE id = @id AND deleted_at IS NULL AND uploaded_at IS NOT NULL`,
			[]any{sql.Named("at", string(at))},
			records.NotDeleted, records.IsUploaded)
	}
	if err := records.CheckWritten(at, missing.At); err != nil {
		return records.Record{}, err
	}
	// In SQL, the right-hand sides see the row as it was: uploaded_at in the CASEs is the old one.
	return t.write(ctx, id, `UPDATE files SET
			stored_at = coalesce(stored_at, @at),
			uploaded_at = coalesce(uploaded_at, @uploaded),
			type = CASE WHEN uploaded_at IS NULL THEN @type ELSE type END,
			size = CASE WHEN uploaded_at IS NULL THEN @size ELSE size END
		WHERE id = @id AND deleted_at IS NULL`,
		[]any{
			sql.Named("at", string(at)), sql.Named("uploaded", string(missing.At)),
			sql.Named("type", text(missing.Type)), sql.Named("size", missing.Size),
		},
		records.NotDeleted)
}

// Delete implements [records.Table].
func (t *Table) Delete(ctx context.Context, id string, at records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(at); err != nil {
		return records.Record{}, err
	}
	return t.write(ctx, id, `UPDATE files SET deleted_at = coalesce(deleted_at, @at) WHERE id = @id`,
		[]any{sql.Named("at", string(at))})
}

// Discard implements [records.Table].
func (t *Table) Discard(ctx context.Context, id string) error {
	_, err := t.write(ctx, id, `DELETE FROM files
		WHERE id = @id AND uploaded_at IS NULL AND stored_at IS NULL AND deleted_at IS NULL`,
		nil,
		records.NotDeleted, records.NotStored, records.NotUploaded)
	return err
}

// Expire implements [records.Table].
func (t *Table) Expire(ctx context.Context, id string, at, uploadedBefore records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(at, uploadedBefore); err != nil {
		return records.Record{}, err
	}
	return t.write(ctx, id, `UPDATE files SET deleted_at = @at
		WHERE id = @id AND uploaded_at < @limit AND stored_at IS NULL AND deleted_at IS NULL`,
		[]any{sql.Named("at", string(at)), sql.Named("limit", string(uploadedBefore))},
		records.NotDeleted, records.NotStored, records.IsUploaded,
		func(r records.Record) error { return due(r.UploadedAt, uploadedBefore) })
}

// ExpireMany implements [records.BulkExpirer]: with one statement, and so one transaction, for a page
// of ids.
func (t *Table) ExpireMany(ctx context.Context, ids []string, at, uploadedBefore records.Stamp) (claimed []string, err error) {
	if err := records.CheckWritten(at, uploadedBefore); err != nil {
		return nil, err
	}
	for page := range slices.Chunk(ids, t.page) {
		args := []any{string(at), string(uploadedBefore)}
		for _, id := range page {
			args = append(args, id)
		}
		in := strings.Repeat(", ?", len(page))[2:]
		now, err := t.queryIDs(ctx, `UPDATE files SET deleted_at = ?
			WHERE uploaded_at < ? AND stored_at IS NULL AND deleted_at IS NULL AND id IN (`+in+`) RETURNING id`, args...)
		if err != nil {
			return claimed, fmt.Errorf("write %d files: %w", len(page), named(err))
		}
		claimed = append(claimed, now...)
	}
	return claimed, nil
}

// queryIDs is query for statements that return nothing but an id.
func (t *Table) queryIDs(ctx context.Context, query string, args ...any) ([]string, error) {
	rows, err := t.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// Abandon implements [records.Table].
func (t *Table) Abandon(ctx context.Context, id string, at, createdBefore records.Stamp) (records.Record, error) {
	if err := records.CheckWritten(at, createdBefore); err != nil {
		return records.Record{}, err
	}
	return t.write(ctx, id, `UPDATE files SET deleted_at = @at
		WHERE id = @id AND created_at < @limit AND uploaded_at IS NULL AND stored_at IS NULL AND deleted_at IS NULL`,
		[]any{sql.Named("at", string(at)), sql.Named("limit", string(createdBefore))},
		records.NotDeleted, records.NotStored, records.NotUploaded,
		func(r records.Record) error { return due(r.CreatedAt, createdBefore) })
}

// Correct implements [records.Table].
func (t *Table) Correct(ctx context.Context, id string, known records.Stamp, u records.Upload) (records.Record, error) {
	args := []any{sql.Named("type", text(u.Type)), sql.Named("size", u.Size)}
	checks := []func(records.Record) error{records.NotDeleted, records.UploadedAt(known)}
	if known.IsSet() {
		return t.write(ctx, id, `UPDATE files SET type = @type, size = @size
			WHERE id = @id AND deleted_at IS NULL AND uploaded_at = @known`,
			append(args, sql.Named("known", string(known))), checks...)
	}
	if err := records.CheckWritten(u.At); err != nil {
		return records.Record{}, err
	}
	return t.write(ctx, id, `UPDATE files SET
			uploaded_at = @at, type = @type, size = @size,
			stored_at = CASE WHEN @store THEN coalesce(stored_at, @at) ELSE stored_at END
		WHERE id = @id AND deleted_at IS NULL AND uploaded_at IS NULL`,
		append(args, sql.Named("at", string(u.At)), sql.Named("store", u.Store)), checks...)
}

// Import implements [records.Table].
func (t *Table) Import(ctx context.Context, r records.Record) error {
	if err := r.CheckSet(); err != nil {
		return err
	}
	r.Name, r.Type, r.Meta, r.Fingerprint = text(r.Name), text(r.Type), text(r.Meta), text(r.Fingerprint)
	var size any
	if r.Size >= 0 {
		size = r.Size
	}
	var current records.Record
	for range maxTries {
		// The names in the WHERE are those of the row that is there.
		result, err := t.db.ExecContext(ctx, `INSERT INTO files (`+columns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (id) DO UPDATE SET
				name = excluded.name, type = excluded.type, size = excluded.size, meta = excluded.meta, fingerprint = excluded.fingerprint,
				created_at = excluded.created_at, uploaded_at = excluded.uploaded_at,
				stored_at = excluded.stored_at, deleted_at = excluded.deleted_at
			WHERE created_at IS NULL AND uploaded_at IS NULL AND stored_at IS NULL AND deleted_at IS NULL`,
			r.ID, r.Name, null(r.Type), size, null(r.Meta), null(r.Fingerprint),
			null(r.CreatedAt), null(r.UploadedAt), null(r.StoredAt), null(r.DeletedAt))
		if err != nil {
			return fmt.Errorf("import file %q: %w", r.ID, named(err))
		}
		if n, err := result.RowsAffected(); err != nil || n == 1 {
			return err
		}
		var found bool
		if current, found, err = t.get(ctx, r.ID); err != nil {
			return err
		}
		if found && records.Same(current, r) {
			return nil
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
	var size any
	if r.Size >= 0 {
		size = r.Size
	}
	_, err := t.write(ctx, r.ID, `UPDATE files SET
			name = @name, type = @type, size = @size, meta = @meta, fingerprint = @fingerprint,
			created_at = @created, uploaded_at = @uploaded, stored_at = @stored, deleted_at = @deleted
		WHERE id = @id AND deleted_at IS NULL AND created_at IS NULL AND uploaded_at = @known AND (stored_at IS NULL OR stored_at = uploaded_at)`,
		[]any{
			sql.Named("name", text(r.Name)), sql.Named("type", null(text(r.Type))), sql.Named("size", size),
			sql.Named("meta", null(text(r.Meta))), sql.Named("fingerprint", null(text(r.Fingerprint))),
			sql.Named("created", null(r.CreatedAt)), sql.Named("uploaded", null(r.UploadedAt)),
			sql.Named("stored", null(r.StoredAt)), sql.Named("deleted", null(r.DeletedAt)), sql.Named("known", string(known)),
		}, records.ImportAnnouncedChecks(known)...)
	return err
}

// Get implements [records.Table].
func (t *Table) Get(ctx context.Context, ids []string) (map[string]records.Record, error) {
	unique := slices.Compact(slices.Sorted(slices.Values(ids)))
	found := make(map[string]records.Record, len(unique))
	for batch := range slices.Chunk(unique, t.page) {
		args := make([]any, len(batch))
		for i, id := range batch {
			args[i] = id
		}
		in := strings.Repeat(", ?", len(batch))[2:]
		page, err := t.query(ctx, `SELECT `+columns+` FROM files WHERE id IN (`+in+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("read files: %w", named(err))
		}
		for _, r := range page {
			found[r.ID] = r
		}
	}
	return found, nil
}

// Scan implements [records.Table]. The order is that of the ids, from a random one on where opts.Parts
// asks for it. Each page is a statement of its own, so that no writer and no checkpoint waits for the caller between two of them. There is
// one reader, whatever opts.Segments says: the database has one connection, and no network to wait for.
func (t *Table) Scan(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	where, limits := condition(f)
	optional := "meta, fingerprint"
	if !opts.Meta {
		optional = "NULL, NULL" // as the other table: no caller comes to depend on them
	}
	query := `SELECT id, name, type, size, ` + optional + `, created_at, uploaded_at, stored_at, deleted_at FROM files
		WHERE id > @after%s AND (` + where + `) ORDER BY id LIMIT @count`
	return func(yield func([]records.Record, error) bool) {
		count := t.page
		if opts.FirstPage > 0 {
			count = min(opts.FirstPage, t.page)
		}
		// read yields what is after the id, and says whether to go on.
		read := func(after, upTo string, limits ...any) bool {
			for ; ; count = min(2*count, t.page) {
				page, err := t.scanPage(ctx, opts.Meter, fmt.Sprintf(query, upTo),
					append(slices.Clone(limits), sql.Named("after", after), sql.Named("count", count)))
				if err != nil {
					yield(nil, fmt.Errorf("scan files: %w", named(err)))
					return false
				}
				if !yield(page, nil) {
					return false
				}
				if len(page) < count {
					return true
				}
				after = page[len(page)-1].ID
			}
		}
		if opts.Parts <= opts.Segments {
			read("", "", limits...)
			return
		}
		if middle := anyID(); read(middle, "", limits...) {
			read("", " AND id <= @last", append(slices.Clone(limits), sql.Named("last", middle))...)
		}
	}
}

// anyID returns a place in the order of ids, from which most tables have records on both sides.
func anyID() string {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	id := make([]byte, 8)
	for i := range id {
		id[i] = digits[rand.N(len(digits))]
	}
	return string(id)
}

func (t *Table) scanPage(ctx context.Context, meter *records.Meter, query string, args []any) ([]records.Record, error) {
	done, err := meter.Begin(ctx)
	if err != nil {
		return nil, err
	}
	page, err := t.query(ctx, query, args...)
	if err != nil {
		done(records.Cost{})
		return nil, err
	}
	done(records.Cost{Requests: 1, Records: int64(len(page))})
	return page, nil
}

// condition is f in SQL, with its arguments.
func condition(f records.Filter) (string, []any) {
	var all []string // of which each must hold
	var args []any

	var due []string
	add := func(name string, limit records.Stamp, term string) {
		if limit.IsSet() {
			due = append(due, term)
			args = append(args, sql.Named(name, string(limit)))
		}
	}
	add("uploaded", f.UploadedBefore, "uploaded_at < @uploaded AND stored_at IS NULL AND deleted_at IS NULL")
	add("created", f.CreatedBefore, "created_at < @created AND uploaded_at IS NULL AND stored_at IS NULL AND deleted_at IS NULL")
	add("deleted", f.DeletedSince, "deleted_at >= @deleted")
	all = append(all, or(due)...)
	if f.Mismarked.IsSet() {
		all = append(all, "FALSE") // the indexes are kept by the database
	}

	var states []string
	for _, s := range f.States {
		states = append(states, inState(s))
	}
	all = append(all, or(states)...)

	at := "coalesce(uploaded_at, created_at)"
	if f.By != records.ByUpload {
		at = string(f.By) + "_at"
	}
	if f.Since.IsSet() {
		all = append(all, at+" >= @since")
		args = append(args, sql.Named("since", string(f.Since)))
	}
	if f.Until.IsSet() {
		all = append(all, at+" < @until")
		args = append(args, sql.Named("until", string(f.Until)))
	}
	if len(all) == 0 {
		return "TRUE", nil
	}
	return strings.Join(all, " AND "), args
}

// or joins terms of which one must hold, if there are any.
func or(terms []string) []string {
	if len(terms) == 0 {
		return nil
	}
	return []string{"(" + strings.Join(terms, " OR ") + ")"}
}

// inState is [records.Record.State] in SQL.
func inState(s records.State) string {
	switch s {
	case records.Placeholder:
		return "uploaded_at IS NULL AND stored_at IS NULL AND deleted_at IS NULL"
	case records.Temporary:
		return "uploaded_at IS NOT NULL AND stored_at IS NULL AND deleted_at IS NULL"
	case records.Stored:
		return "stored_at IS NOT NULL AND deleted_at IS NULL"
	case records.Deleted:
		return "deleted_at IS NOT NULL"
	}
	return "FALSE"
}

// write runs statement, a conditional UPDATE or DELETE of the row @id, and returns the row it
// has written. checks are its condition once more: they tell why it found no row.
func (t *Table) write(ctx context.Context, id, statement string, args []any, checks ...func(records.Record) error) (records.Record, error) {
	args = append(args, sql.Named("id", id))
	var current records.Record
	var found bool
	for range maxTries {
		written, err := t.query(ctx, statement+` RETURNING `+columns, args...)
		if err != nil {
			return records.Record{}, fmt.Errorf("write file %q: %w", id, named(err))
		}
		if len(written) == 1 {
			return written[0], nil
		}
		if current, found, err = t.get(ctx, id); err != nil {
			return records.Record{}, err
		}
		if !found || slices.ContainsFunc(checks, func(check func(records.Record) error) bool { return check(current) != nil }) {
			break
		}
		// The record has changed since, so that the write is allowed now.
	}
	return records.Record{}, records.Refusal(id, found, current, checks...)
}

func (t *Table) get(ctx context.Context, id string) (r records.Record, found bool, err error) {
	all, err := t.Get(ctx, []string{id})
	r, found = all[id]
	return r, found, err
}

const columns = `id, name, type, size, meta, fingerprint, created_at, uploaded_at, stored_at, deleted_at`

// query reads every row to the end: a statement with RETURNING commits only there, and that
// is where its commit can fail.
func (t *Table) query(ctx context.Context, query string, args ...any) ([]records.Record, error) {
	rows, err := t.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []records.Record
	for rows.Next() {
		var r records.Record
		var contentType, meta, fingerprint, created, uploaded, stored, deleted sql.NullString
		var size sql.NullInt64
		if err := rows.Scan(&r.ID, &r.Name, &contentType, &size, &meta, &fingerprint, &created, &uploaded, &stored, &deleted); err != nil {
			return nil, err
		}
		r.Type, r.Meta, r.Fingerprint, r.Size = contentType.String, meta.String, fingerprint.String, -1
		if size.Valid && size.Int64 >= 0 {
			r.Size = size.Int64
		} else if size.Valid {
			r.Mistyped = []string{"size"} // as package dynamo has it
		}
		r.CreatedAt, r.UploadedAt = records.Stamp(created.String), records.Stamp(uploaded.String)
		r.StoredAt, r.DeletedAt = records.Stamp(stored.String), records.Stamp(deleted.String)
		page = append(page, r)
	}
	return page, rows.Err()
}

// due fails with ErrNotDue unless s is before limit, compared as SQLite compares them.
func due(s, limit records.Stamp) error {
	if s.IsSet() && s < limit {
		return nil
	}
	return records.ErrNotDue
}

// text is s with everything that is not UTF-8 replaced: names come from file systems that
// allow any byte, and DynamoDB, which the records must be able to move to, takes only UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// null is NULL for an attribute that is not set.
func null[T ~string](s T) any {
	if s == "" {
		return nil
	}
	return string(s)
}
