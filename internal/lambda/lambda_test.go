package lambda_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/testserver"
)

// TestLambda has the program, as Lambda starts it, handle the events of a filestore's life.
func TestLambda(t *testing.T) {
	program, table := bootstrap(t), testserver.Dynalite(t)
	t.Run("versitygw", func(t *testing.T) { testLambda(t, program, testserver.Versitygw(t), table) })
	if !testserver.Race {
		t.Run("minio", func(t *testing.T) { testLambda(t, program, testserver.MinIO(t), table) })
	}
}

func testLambda(t *testing.T, program string, s3 testserver.S3, table string) {
	t.Run("a file's life", func(t *testing.T) { testAPI(t, program, s3, table) })
	t.Run("keys", func(t *testing.T) { testKeys(t, program, s3, table) })
	t.Run("store on load", func(t *testing.T) { testStoreOnLoad(t, program, s3, table) })
	t.Run("notifications and sweeps", func(t *testing.T) { testNotifications(t, program, s3, table) })
	t.Run("settings", func(t *testing.T) { testSettings(t, program, s3, table) })
}

// put uploads by a URL, as a browser does.
func put(t testing.TB, url, content string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if resp, answer := testserver.Ask(t, r); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", resp.Status, answer)
	}
}

// placeholder makes a placeholder, and uploads to it.
func uploadByURL(t testing.TB, program string, env []string, content string) (id string) {
	t.Helper()
	id, url, _ := strings.Cut(run(t, program, env, "presign", "put", "a.txt"), "\t")
	url, _, _ = strings.Cut(url, "\t")
	put(t, url, content)
	return id
}

// state is that of a file, as the command tells it.
func state(t testing.TB, program string, env []string, id string) string {
	t.Helper()
	var file struct{ State string }
	if err := json.Unmarshal([]byte(run(t, program, env, "info", "--json", "--deleted", "--nonstored", id)), &file); err != nil {
		t.Fatal(err)
	}
	return file.State
}

func testNotifications(t *testing.T, program string, s3 testserver.S3, table string) {
	bucket, env := newFilestore(t, program, s3, table)
	f := start(t, program, append(slices.Clone(env), "FILESTORE_TEMPORARY_LIFETIME=1s")...)
	f.succeed(t, newEvent(t, "s3-test").with(t, "Bucket", bucket).text(t))
	wantState := func(id, want string) {
		t.Helper()
		if got := state(t, program, env, id); got != want {
			t.Errorf("%s is %s, want %s", id, got, want)
		}
	}

	// S3 may tell of an object twice, and of others that are no file's; keys come as in a query.
	id := uploadByURL(t, program, env, "one")
	wantState(id, "placeholder")
	f.succeed(t, objectCreated(t, bucket, id).text(t))
	wantState(id, "temporary")
	f.succeed(t, objectCreated(t, bucket, id, id, client.NewID(), "a+b%2Fc%C3%A4.pdf").text(t))
	wantState(id, "temporary")

	// Where one of several fails, the event does, and the others are done all the same.
	second := uploadByURL(t, program, env, "two")
	f.fail(t, objectCreated(t, bucket, "%zz", second).text(t), "1 of 2 notifications failed: key \"%zz\"")
	wantState(second, "temporary")

	// Time goes by.
	run(t, program, env, "store", second)
	ends := time.Now().Add(patience)
	for f.succeed(t, newEvent(t, "scheduled").text(t)); state(t, program, env, id) != "deleted"; f.succeed(t, newEvent(t, "scheduler").text(t)) {
		if time.Now().After(ends) {
			t.Fatal("the sweep does not remove a file that nobody has stored")
		}
	}
	wantState(second, "stored")

	// A notification may come that late.
	f.succeed(t, objectCreated(t, bucket, id).text(t))
	wantState(id, "deleted")

	// What it does not know fails, and the function goes on.
	for _, event := range []string{`{}`, `"sweep"`, `{"Records": [{"eventSource": "aws:sqs"}]}`} {
		f.fail(t, []byte(event), "event")
	}
	f.fail(t, []byte(`{"Records": [`), "unexpected end of JSON input")
	f.fail(t, objectCreated(t, "your-files", id).text(t), `about bucket "your-files"`)
	f.succeed(t, objectCreated(t, bucket, second).text(t))

	// A sweep that has no time left says so.
	if o := f.invoke(t, newEvent(t, "scheduled").text(t), -time.Second); o.failure.Message == "" {
		t.Errorf("%s", o.response)
	}

	told := make(map[string]int)
	for _, line := range f.log.lines(t) {
		message, _ := line["msg"].(string)
		told[message]++
		if requestID, _ := line["request_id"].(string); message != "" && !strings.HasPrefix(requestID, "8476a536-") {
			t.Errorf("a line does not say of which event it is: %v", line)
		}
	}
	for _, want := range []string{"notifications were set up", "an object was written", "an object without a record is left alone", "swept", "the event failed"} {
		if told[want] == 0 {
			t.Errorf("the log does not say %q: %v", want, told)
		}
	}
}

// What is wrong with the settings is told at the start, once, and the function ends.
func testSettings(t *testing.T, program string, s3 testserver.S3, table string) {
	_, env := newFilestore(t, program, s3, table)
	for name, test := range map[string]struct{ variable, want string }{
		"no bucket":          {"FILESTORE_BUCKET=", "no filestore is configured"},
		"no duration":        {"FILESTORE_URL_EXPIRATION=soon", "FILESTORE_URL_EXPIRATION: "},
		"a short token key":  {"FILESTORE_TOKEN_KEY=secret", "FILESTORE_TOKEN_KEY has 6 bytes, and must have 32 or more"},
		"keys that are none": {"FILESTORE_API_KEYS= , ", "FILESTORE_API_KEYS has no key"},
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, program, append(slices.Clone(env), test.variable)...)
			<-f.ended
			lines := f.log.lines(t)
			if len(lines) != 1 {
				t.Fatalf("%v", lines)
			}
			if message, _ := lines[0]["msg"].(string); !strings.Contains(message, test.want) || f.err == nil {
				t.Errorf("%v, %v; want %q", lines[0], f.err, test.want)
			}
		})
	}
}
