package lambda_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/lambda"
	"github.com/designfultech/filestore/internal/testserver"
)

// patience is how long a function may take to answer, on a machine that is busy with other tests.
const patience = time.Minute

// runtimeAPI is a small Lambda: it hands the events of a test to a function, one after the other, and takes its
// answers (AWS Lambda Developer Guide, "Using the Lambda runtime API for custom runtimes").
type runtimeAPI struct {
	server  *httptest.Server
	events  chan invocation
	answers chan outcome

	mu       sync.Mutex
	underWay string // id of the event that the function has
}

type invocation struct {
	id       string
	deadline time.Time
	payload  []byte
}

// outcome is what the function says of an event.
type outcome struct {
	id       string
	response []byte // nil: it failed
	failure  failure
}

// failure is how a function says that an event failed.
type failure struct {
	Message string `json:"errorMessage"`
	Type    string `json:"errorType"`
}

func newRuntimeAPI(t testing.TB) *runtimeAPI {
	t.Helper()
	r := &runtimeAPI{events: make(chan invocation), answers: make(chan outcome, 1)}
	const version = "/2018-06-01/runtime"
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+version+"/invocation/next", r.next)
	mux.HandleFunc("POST "+version+"/invocation/{id}/response", func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.answered(w, outcome{id: req.PathValue("id"), response: append([]byte{}, body...)})
	})
	mux.HandleFunc("POST "+version+"/invocation/{id}/error", func(w http.ResponseWriter, req *http.Request) {
		o := outcome{id: req.PathValue("id")}
		if err := json.NewDecoder(req.Body).Decode(&o.failure); err != nil || o.failure.Type != req.Header.Get("Lambda-Runtime-Function-Error-Type") &&
			req.Header.Get("Lambda-Runtime-Function-Error-Type") != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.answered(w, o)
	})
	mux.HandleFunc("POST "+version+"/init/error", func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the function says that it can't begin")
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		t.Errorf("the runtime API has no %s %s", req.Method, req.URL)
		w.WriteHeader(http.StatusNotFound)
	})
	r.server = httptest.NewServer(mux)
	t.Cleanup(func() {
		r.server.CloseClientConnections() // of a function that waits for the next event
		r.server.Close()
	})
	return r
}

func (r *runtimeAPI) next(w http.ResponseWriter, req *http.Request) {
	select {
	case e := <-r.events:
		r.mu.Lock()
		r.underWay = e.id
		r.mu.Unlock()
		w.Header().Set("Lambda-Runtime-Aws-Request-Id", e.id)
		w.Header().Set("Lambda-Runtime-Deadline-Ms", strconv.FormatInt(e.deadline.UnixMilli(), 10))
		w.Header().Set("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-central-1:123456789012:function:filestore")
		w.Header().Set("Lambda-Runtime-Trace-Id", "Root=1-674450b1-0a1b2c3d4e5f60718293a4b5;Parent=0a1b2c3d4e5f6071;Sampled=0")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(e.payload)
	case <-req.Context().Done():
	}
}

func (r *runtimeAPI) answered(w http.ResponseWriter, o outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if o.id == "" || o.id != r.underWay {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.underWay = ""
	r.answers <- o
	w.WriteHeader(http.StatusAccepted)
}

// function is the program as a function, running.
type function struct {
	runtime *runtimeAPI
	log     logFile
	ended   chan struct{}
	err     error // why it ended
	n       int   // events so far
}

// start starts the program as Lambda does.
func start(t testing.TB, program string, env ...string) *function {
	t.Helper()
	f := &function{runtime: newRuntimeAPI(t), log: logFile{filepath.Join(t.TempDir(), "log")}, ended: make(chan struct{})}
	log, err := os.Create(f.log.path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program) //nolint:noctx // it is killed below
	cmd.Dir = t.TempDir()
	// Lambda sets no HOME.
	cmd.Env = append(slices.Clone(env), lambda.RuntimeAPI+"="+strings.TrimPrefix(f.runtime.server.URL, "http://"), "PATH="+os.Getenv("PATH"),
		"AWS_LAMBDA_FUNCTION_NAME=filestore", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE=256", "AWS_LAMBDA_FUNCTION_VERSION=$LATEST",
		"AWS_LAMBDA_LOG_GROUP_NAME=/aws/lambda/filestore", "AWS_LAMBDA_LOG_STREAM_NAME=2026/11/25/[$LATEST]0", "_HANDLER=bootstrap", "TZ=:UTC",
		"GORACE=atexit_sleep_ms=0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.ended)
		f.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails where it has ended
		<-f.ended
		if t.Failed() {
			t.Logf("the log of the function:\n%s", f.log.text(t))
		}
	})
	return f
}

// invoke has the function handle an event, within the time.
func (f *function) invoke(t testing.TB, payload []byte, within time.Duration) outcome {
	t.Helper()
	f.n++
	id := "8476a536-e9f4-11e8-9739-" + strconv.Itoa(100000000000+f.n)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case f.runtime.events <- invocation{id, time.Now().Add(within), payload}:
	case <-f.ended:
		t.Fatalf("the function has ended: %v", f.err)
	case <-ctx.Done():
		t.Fatal("the function does not ask for an event")
	}
	select {
	case o := <-f.runtime.answers:
		return o
	case <-f.ended:
		t.Fatalf("the function has ended: %v", f.err)
	case <-ctx.Done():
		t.Fatal("the function does not answer")
	}
	return outcome{}
}

// succeed has the function handle an event that must not fail.
func (f *function) succeed(t testing.TB, payload []byte) []byte {
	t.Helper()
	o := f.invoke(t, payload, patience)
	if o.failure != (failure{}) {
		t.Fatalf("%s\n%+v", payload, o.failure)
	}
	return o.response
}

// fail has the function handle an event that must fail, saying that.
func (f *function) fail(t testing.TB, payload []byte, saying string) {
	t.Helper()
	if o := f.invoke(t, payload, patience); !strings.Contains(o.failure.Message, saying) || saying == "" {
		t.Errorf("%s\n%s%+v, want %q", payload, o.response, o.failure, saying)
	}
}

// answered is how a REST API is answered.
type answered struct {
	StatusCode        int         `json:"statusCode"`
	MultiValueHeaders http.Header `json:"multiValueHeaders"`
	Body              string      `json:"body"`
}

// ask has the function answer a request, into a value.
func (f *function) ask(t testing.TB, request event, status int, into any) answered {
	t.Helper()
	var a answered
	if err := json.Unmarshal(f.succeed(t, request.text(t)), &a); err != nil {
		t.Fatal(err)
	}
	if a.StatusCode != status {
		t.Fatalf("%s %s %s: %+v", request["httpMethod"], request["path"], request["body"], a)
	}
	if into != nil {
		if err := json.Unmarshal([]byte(a.Body), into); err != nil {
			t.Fatalf("%s: %v", a.Body, err)
		}
	}
	return a
}

// logFile is what a function writes: a file, in which a line is before the function goes on.
type logFile struct{ path string }

func (l logFile) text(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// lines are the objects in the log, of which every line must be one.
func (l logFile) lines(t testing.TB) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(l.text(t)) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Errorf("%q is no line of JSON: %v", line, err)
		}
		all = append(all, object)
	}
	return all
}

// bootstrap returns the program, under the name by which Lambda starts it.
func bootstrap(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), lambda.Bootstrap)
	if err := os.Symlink(testserver.Program(t), path); err != nil {
		t.Fatal(err)
	}
	return path
}

// newFilestore returns the environment of a function with a filestore of its own. Its table has the index of what is
// pending: to read all of a table in the many parts of a sweep with a limit of time takes dynalite seconds.
func newFilestore(t testing.TB, program string, s3 testserver.S3, dynamoDB string) (bucket string, env []string) {
	t.Helper()
	bucket = "bucket-" + client.NewID()
	env = []string{
		"AWS_ENDPOINT_URL_S3=" + s3.Endpoint, "AWS_ENDPOINT_URL_DYNAMODB=" + dynamoDB, "AWS_REGION=" + s3.Region,
		"AWS_ACCESS_KEY_ID=" + s3.AccessKey, "AWS_SECRET_ACCESS_KEY=" + s3.SecretKey,
		"FILESTORE_BUCKET=" + bucket, "FILESTORE_TABLE=files-" + client.NewID(), "FILESTORE_LOG_FORMAT=json",
		"FILESTORE_TOKEN_KEY=0123456789abcdef0123456789abcdef",
	}
	run(t, program, env, "init", "--index")
	return bucket, env
}

// run runs the program as a command and returns what it printed.
func run(t testing.TB, program string, env []string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(slices.Clone(env), "HOME="+t.TempDir(), "GORACE=atexit_sleep_ms=0")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("filestore %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	return strings.TrimSpace(string(out))
}
