package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/faultproxy"
	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/testserver"
)

const (
	updateFlag = "update"

	// scriptDeadline bounds every wait for another process. It is long: machines may be busy.
	scriptDeadline = 60 * time.Second
	// scriptPoll is the pause between two looks at another process.
	scriptPoll = 10 * time.Millisecond
)

// TestScript runs the scripts of testdata/script: those of the directory itself on a local
// store, those of "aws" on a DynamoDB with each of two S3 servers, those of "every" on a local
// store and on DynamoDB with MinIO. (The other S3 server is the local store's, too.)
// testdata/script/README.md names the commands that scripts have beside those of testscript itself.
func TestScript(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the local store is not supported here, and the scripts use a Unix shell")
	}
	dir := filepath.Join("testdata", "script")
	t.Run("local", func(t *testing.T) {
		runScripts(t, localBackend{}, dir, filepath.Join(dir, "every"))
	})
	t.Run("aws", func(t *testing.T) {
		table := testserver.Dynalite(t)
		for name, start := range map[string]func(testing.TB) testserver.S3{
			"versitygw": testserver.Versitygw,
			"minio":     testserver.MinIO,
		} {
			if testserver.Race && name != "minio" { // nothing that is shared by goroutines
				continue
			}
			t.Run(name, func(t *testing.T) {
				b := awsBackend{name: name, s3: start(t), dynamoDB: table}
				dirs := []string{filepath.Join(dir, "aws")}
				if !testserver.Race && name == "minio" { // on a local store they run in any case
					dirs = append(dirs, filepath.Join(dir, "every"))
				}
				runScripts(t, b, dirs...)
			})
		}
	})
}

// backend is a kind of filestore that scripts run on.
type backend interface {
	// condition is what scripts call it: [local], [minio] or [versitygw].
	condition() string
	// variables configures the program for a filestore of the script's own.
	variables(env *testscript.Env) []string
	// contents counts what is in the filestore of a script.
	contents(ctx context.Context, workDir string) (counts, error)
}

// counts is what a filestore holds: records in any state, objects, multipart uploads.
type counts struct{ records, objects, uploads int }

func runScripts(t *testing.T, b backend, dirs ...string) {
	t.Helper()
	var files []string
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no scripts in %q (%v)", dir, err)
		}
		files = append(files, found...)
	}
	testscript.Run(t, testscript.Params{
		Files:              files,
		UpdateScripts:      flag.Lookup(updateFlag).Value.String() == "true",
		RequireUniqueNames: true,
		Setup:              func(env *testscript.Env) error { return setUpScript(env, b) },
		Condition: func(condition string) (bool, error) {
			if slices.Contains([]string{"local", "minio", "versitygw"}, condition) {
				return condition == b.condition(), nil
			}
			if condition == "race" {
				return testserver.Race, nil
			}
			return false, fmt.Errorf("unknown condition %q", condition)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await":      cmdAwait,
			"blob":       cmdBlob,
			"capture":    cmdCapture,
			"closedpipe": cmdClosedPipe,
			"ended":      cmdEnded,
			"escapes":    cmdEscapes,
			"example":    cmdExample,
			"files":      cmdFiles,
			"flip":       cmdFlip,
			"get":        cmdGet,
			"hang":       cmdHang,
			"holds":      func(ts *testscript.TestScript, neg bool, args []string) { cmdHolds(ts, b, neg, args) },
			"interrupt":  cmdInterrupt,
			"json":       cmdJSON,
			"jsonlines":  cmdJSONLines,
			"metrics":    cmdMetrics,
			"part":       cmdPart,
			"proxy":      func(ts *testscript.TestScript, neg bool, args []string) { cmdProxy(ts, b, neg, args) },
			"put":        cmdPut,
			"read":       cmdRead,
			"start":      cmdStart,
			"status":     cmdStatus,
			"until":      cmdUntil,
		},
	})
}

// setUpScript gives the script an environment in which nothing of the user is touched, and
// nothing is configured but the filestore of its own. testscript passes on nothing else.
func setUpScript(env *testscript.Env, b backend) error {
	env.Vars = append(env.Vars,
		"HOME="+filepath.Join(env.WorkDir, "home"),
		"XDG_DATA_HOME="+filepath.Join(env.WorkDir, "data"),
		"XDG_STATE_HOME="+filepath.Join(env.WorkDir, "state"),
		"TZ=UTC",
		// The race detector would have every command sleep for a second when it ends.
		"GORACE=atexit_sleep_ms=0",
	)
	env.Vars = append(env.Vars, b.variables(env)...)
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return err
	}
	s := &script{root: root, processes: make(map[string]*process)}
	// What scripts may set later.
	s.names = append(s.names, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION",
		"FILESTORE_BUCKET", "FILESTORE_STORE_ON_LOAD", "FILESTORE_TEMPORARY_LIFETIME",
		"FILESTORE_API_KEYS", "FILESTORE_TOKEN_KEY")
	for _, v := range env.Vars {
		name, _, _ := strings.Cut(v, "=")
		s.names = append(s.names, name)
	}
	env.Values[scriptKey{}] = s
	env.Defer(s.stop)
	return nil
}

// script is the state of one script.
type script struct {
	root      string   // of the repository
	names     []string // of variables
	processes map[string]*process
	hanging   *hangingServer
	proxy     *faultproxy.Proxy
	front     *httptest.Server // of the proxy
	held      *faultproxy.Rule
}

type scriptKey struct{}

func scriptOf(ts *testscript.TestScript) *script {
	s, ok := ts.Value(scriptKey{}).(*script)
	if !ok {
		ts.Fatalf("the script was not set up")
	}
	return s
}

// stop ends what the script has started and not waited for.
func (s *script) stop() {
	for _, p := range s.processes {
		_ = p.cmd.Process.Kill() // fails when it has ended
		<-p.done
	}
	if s.hanging != nil {
		s.hanging.close()
	}
	if s.proxy != nil {
		s.proxy.Close()
		s.front.CloseClientConnections()
		s.front.Close()
	}
}

// localBackend is a directory of this disk.
type localBackend struct{}

func (localBackend) condition() string { return "local" }

func (localBackend) dir(workDir string) string { return filepath.Join(workDir, "store") }

func (b localBackend) variables(env *testscript.Env) []string {
	return []string{"FILESTORE_LOCAL=" + b.dir(env.WorkDir)}
}

func (b localBackend) contents(ctx context.Context, workDir string) (_ counts, err error) {
	store, err := local.Open(b.dir(workDir))
	if err != nil {
		return counts{}, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if store.Executable, err = exec.LookPath("filestore"); err != nil {
		return counts{}, err
	}
	table, err := sqlite.Open(ctx, store.Records())
	if err != nil {
		return counts{}, err
	}
	defer func() { err = errors.Join(err, table.Close()) }()
	key := store.Credentials()
	return count(ctx, table, local.Bucket, client.NewS3(aws.Config{
		Region:      local.Region,
		HTTPClient:  client.HTTPClient(scriptDeadline, store.Dial),
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, ""),
	}, func(o *s3.Options) { o.BaseEndpoint = aws.String(store.PublicURL()) }))
}

// awsBackend is a DynamoDB and an S3 server. Both are shared by scripts: each has a bucket and
// a table of its own.
type awsBackend struct {
	name     string
	s3       testserver.S3
	dynamoDB string
}

func (b awsBackend) condition() string { return b.name }

func (b awsBackend) bucket(workDir string) string {
	return strings.ReplaceAll(filepath.Base(workDir), "_", "-")
}

func (b awsBackend) table(workDir string) string { return b.name + "-" + b.bucket(workDir) }

func (b awsBackend) variables(env *testscript.Env) []string {
	return []string{
		"AWS_ENDPOINT_URL_S3=" + b.s3.Endpoint,
		"AWS_ENDPOINT_URL_DYNAMODB=" + b.dynamoDB,
		"AWS_ACCESS_KEY_ID=" + b.s3.AccessKey,
		"AWS_SECRET_ACCESS_KEY=" + b.s3.SecretKey,
		"AWS_REGION=" + b.s3.Region,
		"FILESTORE_BUCKET=" + b.bucket(env.WorkDir),
		"FILESTORE_TABLE=" + b.table(env.WorkDir),
	}
}

func (b awsBackend) contents(ctx context.Context, workDir string) (counts, error) {
	return count(ctx, dynamo.New(testserver.DynamoDB(b.dynamoDB), b.table(workDir)), b.bucket(workDir), client.NewS3(aws.Config{
		Region:      b.s3.Region,
		Credentials: credentials.NewStaticCredentialsProvider(b.s3.AccessKey, b.s3.SecretKey, ""),
	}, func(o *s3.Options) { o.BaseEndpoint = &b.s3.Endpoint }))
}

func count(ctx context.Context, table records.Table, bucket string, api *s3.Client) (counts, error) {
	var n counts
	for page, err := range table.Scan(ctx, records.Filter{}, records.ScanOptions{}) {
		if err != nil {
			return n, fmt.Errorf("count the records: %w", err)
		}
		n.records += len(page)
	}
	objects, err := api.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		return n, fmt.Errorf("count the objects: %w", err)
	}
	n.objects = len(objects.Contents)
	uploads, err := api.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: &bucket})
	if err != nil {
		return n, fmt.Errorf("count the multipart uploads: %w", err)
	}
	n.uploads = len(uploads.Uploads)
	return n, nil
}

// cmdHolds compares what is in the filestore, which it asks without the program:
//
//	holds [-wait] [records=N] [objects=N] [uploads=N]
//
// With -wait it waits until that is so.
func cmdHolds(ts *testscript.TestScript, b backend, neg bool, args []string) {
	wait := len(args) > 0 && args[0] == "-wait"
	if wait {
		args = args[1:]
	}
	if neg || len(args) == 0 {
		ts.Fatalf("usage: holds [-wait] [records=N] [objects=N] [uploads=N]")
	}
	want := make(map[string]int)
	for _, arg := range args {
		what, number, _ := strings.Cut(arg, "=")
		n, err := strconv.Atoi(number)
		ts.Check(err)
		want[what] = n
	}
	ctx, cancel := context.WithTimeout(context.Background(), scriptDeadline)
	defer cancel()
	tick := time.NewTicker(scriptPoll)
	defer tick.Stop()
	for {
		n, err := b.contents(ctx, ts.Getenv("WORK"))
		ts.Check(err)
		got := map[string]int{"records": n.records, "objects": n.objects, "uploads": n.uploads}
		maps.DeleteFunc(got, func(what string, _ int) bool { _, asked := want[what]; return !asked })
		if maps.Equal(got, want) {
			return
		}
		if !wait {
			ts.Fatalf("the filestore holds %v, not %v", got, want)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			ts.Fatalf("the filestore still holds %v, not %v", got, want)
		}
	}
}

// cmdStatus runs a program and compares its exit status and, on demand, how long it took:
//
//	status [-within=DURATION] STATUS PROGRAM [ARG...]
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	limit, args := withinFlag(ts, args)
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status [-within=DURATION] STATUS PROGRAM [ARG...]")
	}
	begin := time.Now()
	err := ts.Exec(args[1], args[2:]...)
	took := time.Since(begin)
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = statusOf(exit.ProcessState)
	} else {
		ts.Check(err)
	}
	if want := args[0]; strconv.Itoa(got) != want {
		ts.Fatalf("exit status %d, not %s", got, want)
	}
	if took > limit {
		ts.Fatalf("it took %s, more than %s", took, limit)
	}
}

// withinFlag takes -within=DURATION off the arguments. Without it the limit is scriptDeadline.
func withinFlag(ts *testscript.TestScript, args []string) (time.Duration, []string) {
	if len(args) == 0 {
		return scriptDeadline, args
	}
	text, ok := strings.CutPrefix(args[0], "-within=")
	if !ok {
		return scriptDeadline, args
	}
	limit, err := time.ParseDuration(text)
	ts.Check(err)
	return limit, args[1:]
}

// statusOf is the exit status as a shell shows it: that of a process ended by signal N is 128+N.
func statusOf(state *os.ProcessState) int {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return state.ExitCode()
}

// cmdUntil runs a program again and again until its standard output matches:
//
//	until PATTERN PROGRAM [ARG...]
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM [ARG...]")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	// Each run is a process: not as many as the machine can start.
	tick := time.NewTicker(10 * scriptPoll)
	defer tick.Stop()
	timeout := time.After(scriptDeadline)
	for {
		ts.Check(ts.Exec(args[1], args[2:]...))
		if pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			ts.Fatalf("standard output still does not match %q", args[0])
		}
	}
}

// cmdCapture runs a program, which must succeed, and sets a variable to what it prints:
//
//	capture VARIABLE PROGRAM [ARG...]
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: capture VARIABLE PROGRAM [ARG...]")
	}
	ts.Check(ts.Exec(args[1], args[2:]...))
	ts.Setenv(args[0], strings.TrimSuffix(ts.ReadFile("stdout"), "\n"))
}

// cmdRead sets variables to the tab-separated fields of the one line of standard output:
//
//	read VARIABLE...
func cmdRead(ts *testscript.TestScript, neg bool, args []string) {
	line, ended := strings.CutSuffix(ts.ReadFile("stdout"), "\n")
	fields := strings.Split(line, "\t")
	if neg || !ended || strings.Contains(line, "\n") || len(fields) != len(args) {
		ts.Fatalf("standard output is not one line of %d fields", len(args))
	}
	for i, name := range args {
		ts.Setenv(name, fields[i])
	}
}

// cmdEscapes sets a variable to a text that scripts can't spell, with the escapes of a string
// literal in Go:
//
//	escapes VARIABLE TEXT
func cmdEscapes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: escapes VARIABLE TEXT")
	}
	text, err := strconv.Unquote(`"` + strings.ReplaceAll(args[1], `"`, `\"`) + `"`)
	ts.Check(err)
	ts.Setenv(args[0], text)
}

// cmdJSONLines checks that standard output is JSON Lines, so many objects:
//
//	jsonlines N
func cmdJSONLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: jsonlines N")
	}
	if n := len(jsonObjects(ts)); strconv.Itoa(n) != args[0] {
		ts.Fatalf("standard output has %d lines of JSON, not %s", n, args[0])
	}
}

// cmdJSON compares a field of a line of JSON on standard output. Fields of objects in it are
// named with dots; strings are compared as they are, everything else as JSON. With ! the field
// must not be there:
//
//	json LINE FIELD VALUE
//	! json LINE FIELD
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg && len(args) != 2 || !neg && len(args) != 3 {
		ts.Fatalf("usage: json LINE FIELD VALUE, or ! json LINE FIELD")
	}
	objects := jsonObjects(ts)
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	if n < 1 || n > len(objects) {
		ts.Fatalf("standard output has %d lines", len(objects))
	}
	var value any = objects[n-1]
	for name := range strings.SplitSeq(args[1], ".") {
		object, _ := value.(map[string]any)
		field, found := object[name]
		if !found && neg {
			return
		}
		if !found {
			ts.Fatalf("line %d has no field %q", n, args[1])
		}
		value = field
	}
	got, ok := value.(string)
	if !ok {
		text, err := json.Marshal(value)
		ts.Check(err)
		got = string(text)
	}
	switch {
	case neg:
		ts.Fatalf("line %d has the field %q: %q", n, args[1], got)
	case got != args[2]:
		ts.Fatalf("field %q of line %d is %q, not %q", args[1], n, got, args[2])
	}
}

func jsonObjects(ts *testscript.TestScript) []map[string]any {
	var objects []map[string]any
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil || !strings.HasSuffix(line, "\n") {
			ts.Fatalf("no line of JSON: %q (%v)", line, err)
		}
		objects = append(objects, object)
	}
	return objects
}

// cmdExample runs the examples of a page of docs/, as they stand there: the blocks of shell below these headings, in
// this order and in one shell that the first failure ends:
//
//	example PAGE HEADING...
func cmdExample(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: example PAGE HEADING...")
	}
	page, err := os.ReadFile(filepath.Join(scriptOf(ts).root, "docs", args[0]))
	ts.Check(err)
	script := "set -eu\n"
	for _, heading := range args[1:] {
		_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		blocks := regexp.MustCompile("(?s)\n```sh\n(.*?\n)```\n").FindAllStringSubmatch(section, -1)
		if !found || len(blocks) == 0 {
			ts.Fatalf("%s has no example below %q", args[0], heading)
		}
		for _, block := range blocks {
			script += block[1]
		}
	}
	ts.Check(ts.Exec("sh", "-c", script))
}

// cmdMetrics has Prometheus's own parser and rules check a file, as promtool check metrics does:
//
//	metrics FILE
func cmdMetrics(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: metrics FILE")
	}
	problems, err := promlint.New(strings.NewReader(ts.ReadFile(args[0]))).Lint()
	ts.Check(err)
	for _, p := range problems {
		ts.Fatalf("%s: %s", p.Metric, p.Text)
	}
}

// cmdFiles makes a directory with so many small files in it, f001.txt and so on:
//
//	files DIR N
func cmdFiles(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: files DIR N")
	}
	dir := ts.MkAbs(args[0])
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	ts.Check(os.Mkdir(dir, 0o777))
	for i := range n {
		name := fmt.Sprintf("f%03d.txt", i+1)
		ts.Check(os.WriteFile(filepath.Join(dir, name), []byte(name+"\n"), 0o666))
	}
}

// cmdBlob makes a file of so many random bytes:
//
//	blob FILE BYTES
func cmdBlob(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: blob FILE BYTES")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	content := make([]byte, n)
	_, _ = rand.Read(content) // documented never to fail
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o666))
}

// cmdFlip changes one bit in the middle of a file, in place:
//
//	flip FILE
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip FILE")
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	info, err := f.Stat()
	ts.Check(err)
	var b [1]byte
	_, err = f.ReadAt(b[:], info.Size()/2)
	ts.Check(err)
	b[0] ^= 1
	_, err = f.WriteAt(b[:], info.Size()/2)
	ts.Check(err)
}

// cmdPut sends a file to a URL as a browser would, with more headers where there are any. Standard output
// is the answer's status and header:
//
//	put FILE URL [NAME:VALUE...]
func cmdPut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: put FILE URL [NAME:VALUE...]")
	}
	header := http.Header{}
	for _, line := range args[2:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			ts.Fatalf("%q is no header", line)
		}
		header.Set(name, strings.TrimSpace(value))
	}
	body := strings.NewReader(ts.ReadFile(args[0]))
	_ = httpDo(ts, http.MethodPut, args[1], body, header)
}

// cmdGet gets a URL into a file. Standard output is the answer's status and header:
//
//	get URL FILE
func cmdGet(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: get URL FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), httpDo(ts, http.MethodGet, args[0], nil, nil), 0o666))
}

func httpDo(ts *testscript.TestScript, method, url string, body io.Reader, header http.Header) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), scriptDeadline)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	ts.Check(err)
	maps.Copy(req.Header, header)
	// A connection of its own: the server may be ended by the next line.
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	ts.Check(err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n", resp.Status)
	ts.Check(resp.Header.Write(ts.Stdout()))
	return answer
}

// process is a program in the background.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout growing
	stderr growing
	done   chan struct{} // closed when it has ended
}

// growing is what a process has written so far.
type growing struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (g *growing) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.Write(p)
}

func (g *growing) String() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.text.String()
}

// cmdStart starts a program in the background, under a name. Its standard input is the file,
// if one is given, and does not end after it, as that of somebody who is still typing:
//
//	start [-stdin=FILE] NAME PROGRAM [ARG...]
func cmdStart(ts *testscript.TestScript, neg bool, args []string) {
	var input string
	if len(args) > 0 {
		if file, ok := strings.CutPrefix(args[0], "-stdin="); ok {
			input, args = ts.ReadFile(file), args[1:]
		}
	}
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start [-stdin=FILE] NAME PROGRAM [ARG...]")
	}
	s := scriptOf(ts)
	if s.processes[args[0]] != nil {
		ts.Fatalf("%q runs already", args[0])
	}
	program, err := exec.LookPath(args[1])
	ts.Check(err)
	p := &process{cmd: exec.Command(program, args[2:]...), done: make(chan struct{})}
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = s.environ(ts)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	stdin, err := p.cmd.StdinPipe()
	ts.Check(err)
	p.stdin = stdin
	ts.Check(p.cmd.Start())
	s.processes[args[0]] = p
	go func() {
		// A process that ends before it has read everything breaks the pipe: its status tells.
		_, _ = io.WriteString(stdin, input)
	}()
	go func() {
		_ = p.cmd.Wait() // the state has it
		close(p.done)
	}()
}

// environ is the environment of the script's programs.
func (s *script) environ(ts *testscript.TestScript) []string {
	var environ []string
	for _, name := range s.names {
		if value := ts.Getenv(name); value != "" {
			environ = append(environ, name+"="+value)
		}
	}
	return environ
}

func processOf(ts *testscript.TestScript, name string) *process {
	p := scriptOf(ts).processes[name]
	if p == nil {
		ts.Fatalf("nothing was started as %q", name)
	}
	return p
}

// cmdAwait waits until what a process has printed matches, and sets variables to what the groups of the
// pattern match:
//
//	await NAME PATTERN [VARIABLE...]
func cmdAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await NAME PATTERN [VARIABLE...]")
	}
	p := processOf(ts, args[0])
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	if pattern.NumSubexp() != len(args)-2 {
		ts.Fatalf("%d groups for %d variables", pattern.NumSubexp(), len(args)-2)
	}
	defer func() {
		for i, group := range pattern.FindStringSubmatch(p.stdout.String()) {
			if i > 0 {
				ts.Setenv(args[i+1], group)
			}
		}
	}()
	tick := time.NewTicker(scriptPoll)
	defer tick.Stop()
	timeout := time.After(scriptDeadline)
	for !pattern.MatchString(p.stdout.String()) {
		select {
		case <-tick.C:
			continue
		case <-p.done:
			if pattern.MatchString(p.stdout.String()) {
				return
			}
		case <-timeout:
		}
		ts.Fatalf("%q printed %q and %q", args[0], p.stdout.String(), p.stderr.String())
	}
}

// cmdInterrupt sends a process the signal of Ctrl-C, with -again as often as it takes, or with -kill
// the one that nobody can catch:
//
//	interrupt [-again | -kill] NAME
func cmdInterrupt(ts *testscript.TestScript, neg bool, args []string) {
	again, kill := len(args) > 0 && args[0] == "-again", len(args) > 0 && args[0] == "-kill"
	if again || kill {
		args = args[1:]
	}
	if neg || len(args) != 1 {
		ts.Fatalf("usage: interrupt [-again | -kill] NAME")
	}
	p := processOf(ts, args[0])
	if kill {
		ts.Check(p.cmd.Process.Kill())
		return
	}
	ts.Check(p.cmd.Process.Signal(os.Interrupt))
	if !again {
		return
	}
	tick := time.NewTicker(scriptPoll)
	defer tick.Stop()
	timeout := time.After(scriptDeadline)
	for {
		select {
		case <-tick.C:
			_ = p.cmd.Process.Signal(os.Interrupt) // fails when it has just ended
		case <-p.done:
			return
		case <-timeout:
			ts.Fatalf("%q goes on", args[0])
		}
	}
}

// cmdEnded waits until a process has ended and compares its exit status. Standard output and
// error are then those of the process:
//
//	ended STATUS NAME
func cmdEnded(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended STATUS NAME")
	}
	p := processOf(ts, args[1])
	select {
	case <-p.done:
	case <-time.After(scriptDeadline):
		ts.Fatalf("%q still runs", args[1])
	}
	delete(scriptOf(ts).processes, args[1])
	_, _ = io.WriteString(ts.Stdout(), p.stdout.String())
	_, _ = io.WriteString(ts.Stderr(), p.stderr.String())
	if got := statusOf(p.cmd.ProcessState); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, not %s: %q", got, args[0], p.stderr.String())
	}
}

// cmdClosedPipe runs a program whose standard output nobody reads, as after "| head" has ended,
// and compares its exit status. Standard error is that of the program:
//
//	closedpipe STATUS PROGRAM [ARG...]
func cmdClosedPipe(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: closedpipe STATUS PROGRAM [ARG...]")
	}
	program, err := exec.LookPath(args[1])
	ts.Check(err)
	r, w, err := os.Pipe()
	ts.Check(err)
	ts.Check(r.Close())
	defer w.Close()
	ctx, cancel := context.WithTimeout(context.Background(), scriptDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = scriptOf(ts).environ(ts)
	cmd.Stdout, cmd.Stderr = w, ts.Stderr()
	_ = cmd.Run() // the state has it
	if got := statusOf(cmd.ProcessState); strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit status %d, not %s", got, args[0])
	}
}

// hangingServer accepts connections and never answers.
type hangingServer struct {
	listener net.Listener
	accepted atomic.Int64
	done     chan struct{}
}

func (h *hangingServer) run() {
	defer close(h.done)
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		open = append(open, conn)
		h.accepted.Add(1)
	}
}

func (h *hangingServer) close() {
	_ = h.listener.Close()
	<-h.done
}

// cmdHang starts a server that accepts connections and never answers, and sets a variable to
// its URL; or waits until it has accepted so many:
//
//	hang VARIABLE
//	hang -connections=N
func cmdHang(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: hang VARIABLE, or hang -connections=N")
	}
	s := scriptOf(ts)
	number, waits := strings.CutPrefix(args[0], "-connections=")
	if !waits {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		if s.hanging != nil {
			s.hanging.close()
		}
		s.hanging = &hangingServer{listener: listener, done: make(chan struct{})}
		go s.hanging.run()
		ts.Setenv(args[0], "http://"+listener.Addr().String())
		return
	}
	n, err := strconv.ParseInt(number, 10, 64)
	ts.Check(err)
	tick := time.NewTicker(scriptPoll)
	defer tick.Stop()
	timeout := time.After(scriptDeadline)
	for s.hanging.accepted.Load() < n {
		select {
		case <-tick.C:
		case <-timeout:
			ts.Fatalf("%d connections came, not %d", s.hanging.accepted.Load(), n)
		}
	}
}

// cmdProxy puts a proxy in front of the S3 server, and sets AWS_ENDPOINT_URL_S3 to it:
//
//	proxy
func cmdProxy(ts *testscript.TestScript, b backend, neg bool, args []string) {
	aws, ok := b.(awsBackend)
	s := scriptOf(ts)
	if neg || len(args) != 0 || !ok || s.proxy != nil {
		ts.Fatalf("usage: proxy, once, where there is an S3 server")
	}
	s.proxy = faultproxy.New(aws.s3.Endpoint)
	s.front = httptest.NewServer(s.proxy)
	ts.Setenv("AWS_ENDPOINT_URL_S3", s.front.URL)
}

// cmdPart has the proxy refuse or keep back the part of that number of every upload from now on, or let all parts
// pass again; or waits until it has kept one back:
//
//	part N refuse|hold
//	part N held
//	part all pass
func cmdPart(ts *testscript.TestScript, neg bool, args []string) {
	s := scriptOf(ts)
	if neg || len(args) != 2 || s.proxy == nil {
		ts.Fatalf("usage: part N refuse|hold|held, or part all pass, after proxy")
	}
	is := func(r *http.Request) bool {
		return r.Method == http.MethodPut && r.URL.Query().Get("partNumber") == args[0]
	}
	switch args[1] {
	case "refuse":
		s.proxy.Inject(is, faultproxy.Always(), faultproxy.SlowDown())
	case "hold":
		s.held = s.proxy.Inject(is, faultproxy.Always(), faultproxy.Hang(faultproxy.Before, nil))
	case "held":
		tick := time.NewTicker(scriptPoll)
		defer tick.Stop()
		timeout := time.After(scriptDeadline)
		for s.held.Hits() == 0 {
			select {
			case <-tick.C:
			case <-timeout:
				ts.Fatalf("part %s did not come", args[0])
			}
		}
	case "pass":
		s.proxy.Heal()
	default:
		ts.Fatalf("unknown: %s", args[1])
	}
}
