package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/recordstest"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/testserver"
)

const (
	early records.Stamp = "2026-01-02T03:04:05"
	now   records.Stamp = "2026-01-02T05:00:00"
)

// TestMain lets the test binary be the other process of the tests that need one: with roleEnv
// set it plays that role instead of running tests.
func TestMain(m *testing.M) {
	role, ok := os.LookupEnv(roleEnv)
	if !ok {
		os.Exit(m.Run())
	}
	var err error
	switch path := os.Args[1]; role {
	case "claim":
		err = claim(path)
	case "write":
		err = write(path)
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const roleEnv = "FILESTORE_SQLITE_TEST_ROLE"

func open(t testing.TB, path string) *sqlite.Table {
	t.Helper()
	table, err := sqlite.Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	})
	return table
}

func TestContract(t *testing.T) {
	if testserver.Race {
		t.Skip("TestContractTwoConnections does the same, and more of it at once")
	}
	recordstest.Run(t, func(t *testing.T) records.Table {
		table := open(t, filepath.Join(t.TempDir(), "records.db"))
		table.SetPageSize(7)
		createIndex(t, table)
		return table
	})
}

func createIndex(t *testing.T, table *sqlite.Table) {
	t.Helper()
	if created, err := table.CreateIndex(t.Context()); !created || err != nil {
		t.Fatalf("CreateIndex: %t, %v", created, err)
	}
}

// TestContractTwoConnections runs the suite with every other call on another connection, as
// between two processes.
func TestContractTwoConnections(t *testing.T) {
	recordstest.Run(t, func(t *testing.T) records.Table {
		path := filepath.Join(t.TempDir(), "records.db")
		a, b := open(t, path), open(t, path)
		a.SetPageSize(7)
		b.SetPageSize(7)
		createIndex(t, a)
		return &alternating{tables: [2]records.Table{a, b}}
	})
}

// alternating is a table that makes each call on the other one of two.
type alternating struct {
	tables [2]records.Table
	calls  atomic.Uint64
}

func (a *alternating) next() records.Table { return a.tables[a.calls.Add(1)%2] }

func (a *alternating) Import(ctx context.Context, r records.Record) error {
	return a.next().Import(ctx, r)
}

func (a *alternating) ImportAnnounced(ctx context.Context, r records.Record, known records.Stamp) error {
	return a.next().ImportAnnounced(ctx, r, known)
}

func (a *alternating) Create(ctx context.Context, r records.Record) error {
	return a.next().Create(ctx, r)
}

func (a *alternating) Uploaded(ctx context.Context, id string, u records.Upload) (records.Record, error) {
	return a.next().Uploaded(ctx, id, u)
}

func (a *alternating) Store(ctx context.Context, id string, at records.Stamp, missing *records.Upload) (records.Record, error) {
	return a.next().Store(ctx, id, at, missing)
}

func (a *alternating) Delete(ctx context.Context, id string, at records.Stamp) (records.Record, error) {
	return a.next().Delete(ctx, id, at)
}

func (a *alternating) Discard(ctx context.Context, id string) error { return a.next().Discard(ctx, id) }

func (a *alternating) Expire(ctx context.Context, id string, at, before records.Stamp) (records.Record, error) {
	return a.next().Expire(ctx, id, at, before)
}

func (a *alternating) ExpireMany(ctx context.Context, ids []string, at, before records.Stamp) ([]string, error) {
	return a.next().(records.BulkExpirer).ExpireMany(ctx, ids, at, before)
}

func (a *alternating) Abandon(ctx context.Context, id string, at, before records.Stamp) (records.Record, error) {
	return a.next().Abandon(ctx, id, at, before)
}

func (a *alternating) Correct(ctx context.Context, id string, known records.Stamp, u records.Upload) (records.Record, error) {
	return a.next().Correct(ctx, id, known, u)
}

func (a *alternating) Get(ctx context.Context, ids []string) (map[string]records.Record, error) {
	return a.next().Get(ctx, ids)
}

func (a *alternating) Scan(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	return a.next().Scan(ctx, f, opts)
}

func (a *alternating) Pending(ctx context.Context, f records.Filter, opts records.ScanOptions) iter.Seq2[[]records.Record, error] {
	return a.next().Pending(ctx, f, opts)
}

func (a *alternating) MarkPending(ctx context.Context, id string, at, since records.Stamp) (records.Record, error) {
	return a.next().MarkPending(ctx, id, at, since)
}

func (a *alternating) UnmarkPending(ctx context.Context, id string, before records.Stamp) (records.Record, error) {
	return a.next().UnmarkPending(ctx, id, before)
}

func (a *alternating) Index(ctx context.Context) (records.Index, error) { return a.next().Index(ctx) }

func (a *alternating) CreateIndex(ctx context.Context) (bool, error) {
	return a.next().CreateIndex(ctx)
}

func (a *alternating) DropIndex(ctx context.Context) (bool, error) { return a.next().DropIndex(ctx) }

// TestRealPages reads more records than fit in a page of the usual size.
func TestRealPages(t *testing.T) {
	table := open(t, filepath.Join(t.TempDir(), "records.db"))
	const n = 1001
	var ids []string
	for i := range n {
		id := fmt.Sprintf("file%04d", i)
		if err := table.Create(t.Context(), records.Record{ID: id, Name: "a", CreatedAt: early}); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	var sizes []int
	for page, err := range table.Scan(t.Context(), records.Filter{CreatedBefore: now}, records.ScanOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(page))
	}
	if diff := cmp.Diff([]int{500, 500, 1}, sizes); diff != "" {
		t.Errorf("sizes of the pages (-want +got):\n%s", diff)
	}
	if found, err := table.Get(t.Context(), ids); err != nil || len(found) != n {
		t.Errorf("Get: %d records, error %v", len(found), err)
	}
}

func TestOpenErrors(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()

	newer := filepath.Join(dir, "newer.db")
	open(t, newer)
	exec1(t, newer, "PRAGMA user_version = 3")

	text := filepath.Join(dir, "text.db")
	if err := os.WriteFile(text, []byte(strings.Repeat("no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}

	foreign := filepath.Join(dir, "foreign.db")
	exec1(t, foreign, "CREATE TABLE files (path TEXT)")

	for _, test := range []struct{ name, path, want string }{
		{"newer schema", newer, "schema version 3 is not known"},
		{"not a database", text, "not a database"},
		{"database of another program", foreign, "already exists"},
		{"no such directory", filepath.Join(dir, "none", "records.db"), "unable to open database file"},
		{"a directory", dir, "unable to open database file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			table, err := sqlite.Open(ctx, test.path)
			if err == nil {
				table.Close()
				t.Fatal("no error")
			}
			for _, want := range []string{test.want, fmt.Sprintf("%q", test.path)} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}

	t.Run("canceled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := sqlite.Open(ctx, filepath.Join(dir, "canceled.db")); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

// TestUpgrade opens a database as the first version made it, by several at once: its records are
// there, and new ones have what that version did not know.
func TestUpgrade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	exec1(t, path, `PRAGMA journal_mode = WAL;
		CREATE TABLE files (
			id          TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
			name        TEXT NOT NULL,
			type        TEXT,
			size        INTEGER,
			meta        TEXT,
			created_at  TEXT,
			uploaded_at TEXT,
			stored_at   TEXT,
			deleted_at  TEXT
		) STRICT, WITHOUT ROWID;
		PRAGMA user_version = 1;
		INSERT INTO files (id, name, type, size, meta, created_at, uploaded_at)
			VALUES ('old', 'a.txt', 'text/plain', 5, '{}', '2026-01-02T03:04:05', '2026-01-02T03:04:05')`)

	tables := make([]*sqlite.Table, 8)
	var wg sync.WaitGroup
	for i := range tables {
		wg.Go(func() {
			var err error
			if tables[i], err = sqlite.Open(t.Context(), path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	want := map[string]records.Record{
		"old": {ID: "old", Name: "a.txt", Type: "text/plain", Size: 5, Meta: "{}", CreatedAt: early, UploadedAt: early},
		"new": {ID: "new", Name: "b.txt", Size: -1, Fingerprint: "crc64nvme:AAAAAAAAAAA=:0", CreatedAt: now},
	}
	if err := tables[0].Create(t.Context(), want["new"]); err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		got, err := table.Get(t.Context(), []string{"old", "new"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("records (-want +got):\n%s", diff)
		}
		if err := table.Close(); err != nil {
			t.Error(err)
		}
	}
}

// exec1 runs a statement on the database at path, as another program may.
func exec1(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

// TestStrangePath shows that the whole path is the path, with what would be parameters in a
// URI.
func TestStrangePath(t *testing.T) {
	dir := t.TempDir()
	name := "a b%41?mode=memory#c&d=日本語.db"
	if runtime.GOOS == "windows" {
		name = "a b%41#c&d=日本語.db"
	}
	table := open(t, filepath.Join(dir, name))
	if err := table.Create(t.Context(), records.Record{ID: "a", Name: "a"}); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), name) {
			t.Errorf("there is a file %q", entry.Name())
		}
	}
}

func TestFileMode(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	dir := t.TempDir()
	table := open(t, filepath.Join(dir, "records.db"))
	if err := table.Create(t.Context(), records.Record{ID: "a", Name: "a"}); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		names[d.Name()] = true
		if info.Mode() != 0o600 {
			t.Errorf("%s has mode %o", d.Name(), info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"records.db", "records.db-wal", "records.db-shm"} {
		if !names[name] {
			t.Errorf("there is no %s: not in WAL mode?", name)
		}
	}
}

// claim waits until its standard input ends, then opens the database, makes the files of the
// test, those that it is the first to make, and claims every one that it can. It prints how
// many it has claimed.
func claim(path string) error {
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	ctx := context.Background()
	table, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	claimed := 0
	for i := range claimFiles {
		id := fmt.Sprintf("file%03d", i)
		if err := table.Create(ctx, records.Record{ID: id, Name: "a", CreatedAt: early}); err != nil && !errors.Is(err, records.ErrExists) {
			return err
		}
		_, err := table.Abandon(ctx, id, now, now)
		switch {
		case err == nil:
			claimed++
		case !errors.Is(err, records.ErrDeleted):
			return err
		}
	}
	fmt.Println(claimed)
	return table.Close()
}

const claimFiles = 100

// TestManyProcesses opens a database that is not there yet in many processes at the same
// moment; then all of them claim the same files.
func TestManyProcesses(t *testing.T) {
	for round := range 5 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "records.db")
			processes := make([]*process, 8)
			for i := range processes {
				processes[i] = start(t, "claim", path)
			}
			for _, p := range processes {
				if line := p.line(t); line != "ready" {
					t.Fatalf("the process says %q", line)
				}
			}
			for _, p := range processes {
				p.stdin.Close() // go
			}
			sum := 0
			for _, p := range processes {
				var claimed int
				if _, err := fmt.Sscan(p.line(t), &claimed); err != nil {
					t.Error(err)
				}
				sum += claimed
				if err := p.cmd.Wait(); err != nil {
					t.Error(err)
				}
			}
			if sum != claimFiles {
				t.Errorf("%d claims on %d files", sum, claimFiles)
			}
		})
	}
}

// write makes files for ever and prints the id of each one when it is made.
func write(path string) error {
	ctx := context.Background()
	table, err := sqlite.Open(ctx, path)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("file%d", i)
		if err := table.Create(ctx, records.Record{ID: id, Name: "a", CreatedAt: early}); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

// TestKilledWriter kills a process that writes: what it said is written, is there.
func TestKilledWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "records.db")
	p := start(t, "write", path)
	var ids []string
	for range 200 {
		ids = append(ids, p.line(t))
	}
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for p.stdout.Scan() { // what it said until it died
		ids = append(ids, p.stdout.Text())
	}
	if err := p.cmd.Wait(); err == nil {
		t.Error("the process ended by itself")
	}
	found, err := open(t, path).Get(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if _, ok := found[id]; !ok {
			t.Errorf("the record of %s is lost", id)
		}
	}
}

// process is this test binary, in another role.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Scanner
}

func start(t *testing.T, role, path string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, path)
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &process{cmd: cmd, stdin: stdin, stdout: bufio.NewScanner(stdout)}
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	if !p.stdout.Scan() {
		t.Fatalf("the process ended: %v", p.stdout.Err())
	}
	return p.stdout.Text()
}

func BenchmarkOpenCreateClose(b *testing.B) {
	path := filepath.Join(b.TempDir(), "records.db")
	open(b, path) // stays open, so that the loop measures no first and no last user
	for i := 0; b.Loop(); i++ {
		table, err := sqlite.Open(b.Context(), path)
		if err != nil {
			b.Fatal(err)
		}
		if err := table.Create(b.Context(), records.Record{ID: fmt.Sprint(i), Name: "a", CreatedAt: early}); err != nil {
			b.Fatal(err)
		}
		if err := table.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSoleUser is BenchmarkOpenCreateClose where nobody else has the database open, as
// for a single command: the WAL is made, synced and removed each time.
func BenchmarkSoleUser(b *testing.B) {
	path := filepath.Join(b.TempDir(), "records.db")
	for i := 0; b.Loop(); i++ {
		table, err := sqlite.Open(b.Context(), path)
		if err != nil {
			b.Fatal(err)
		}
		if err := table.Create(b.Context(), records.Record{ID: fmt.Sprint(i), Name: "a", CreatedAt: early}); err != nil {
			b.Fatal(err)
		}
		if err := table.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTransitions(b *testing.B) {
	table := open(b, filepath.Join(b.TempDir(), "records.db"))
	// A number for each file, however often a benchmark starts.
	var file int
	next := func() string { file++; return fmt.Sprint(file) }
	create := func(b *testing.B) string {
		id := next()
		if err := table.Create(b.Context(), records.Record{ID: id, Name: "a", CreatedAt: early}); err != nil {
			b.Fatal(err)
		}
		return id
	}
	b.Run("Create", func(b *testing.B) {
		for b.Loop() {
			create(b)
		}
	})
	b.Run("Uploaded", func(b *testing.B) {
		id := create(b)
		for b.Loop() {
			if _, err := table.Uploaded(b.Context(), id, records.Upload{At: early, Type: "text/plain", Size: 1}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Store", func(b *testing.B) {
		id := create(b)
		for b.Loop() {
			if _, err := table.Store(b.Context(), id, now, &records.Upload{At: early, Type: "text/plain", Size: 1}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
