package lambda_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/lambda"
)

// echo answers with what it was asked, and who it is.
type echo string

func (e echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		body = []byte(err.Error())
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header()["X-Twice"] = []string{"a", "b"}
	w.WriteHeader(http.StatusTeapot)
	_, _ = fmt.Fprintf(w, "%s %s %s %q from %s at %s, %d bytes %q", string(e), r.Method, r.URL, r.Header.Values("X-Sent"), r.RemoteAddr, r.Host,
		r.ContentLength, body)
}

func echoing() *lambda.Function {
	return &lambda.Function{
		Client: &client.Client{Bucket: "my-files"}, Trusted: echo("trusted"), Asking: echo("asking"), Log: slog.New(slog.DiscardHandler),
	}
}

// TestRequests has each kind of request that may come, and what the handler then sees of it.
func TestRequests(t *testing.T) {
	const rest, v2, url = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com", "f6g7h8i9j0.execute-api.eu-central-1.amazonaws.com",
		"abcdefghijklmnopqrstuvwxyz012345.lambda-url.eu-central-1.on.aws"
	for name, test := range map[string]struct {
		event event
		want  string
	}{
		"with a key": {
			newEvent(t, "rest-api"),
			`trusted PUT /files [] from 203.0.113.7:0 at ` + rest + `, 2 bytes "[]"`,
		},
		"without a key": {
			restRequest(t, "POST", "/file", false, `{"name": "a.txt"}`),
			`asking POST /file [] from 203.0.113.7:0 at ` + rest + `, 17 bytes "{\"name\": \"a.txt\"}"`,
		},
		"a query": {
			restRequest(t, "POST", "/files?deleted=yes&nonstored=a b&nonstored=c&d", true, ""),
			`trusted POST /files?d=&deleted=yes&nonstored=a+b&nonstored=c [] from 203.0.113.7:0 at ` + rest + `, 0 bytes ""`,
		},
		"a query with one value each": {
			restRequest(t, "POST", "/files?deleted=yes", true, "").with(t, "multiValueQueryStringParameters", nil),
			`trusted POST /files?deleted=yes [] from 203.0.113.7:0 at ` + rest + `, 0 bytes ""`,
		},
		"a header sent twice": {
			newEvent(t, "rest-api").with(t, "multiValueHeaders", map[string]any{"x-sent": []any{"1", "2"}, "host": []any{"h"}}).with(t, "headers", map[string]any{"x-sent": "2"}),
			`trusted PUT /files ["1" "2"] from 203.0.113.7:0 at h, 2 bytes "[]"`,
		},
		"headers with one value each": {
			newEvent(t, "rest-api").with(t, "multiValueHeaders", nil).with(t, "headers", map[string]any{"x-sent": "2", "HOST": "h"}),
			`trusted PUT /files ["2"] from 203.0.113.7:0 at h, 2 bytes "[]"`,
		},
		"a parameter in the path": {
			restRequest(t, "DELETE", "/file/3p1xk0s9d2mfa7qz", false, ""),
			`asking DELETE /file/3p1xk0s9d2mfa7qz [] from 203.0.113.7:0 at ` + rest + `, 0 bytes ""`,
		},
		"a parameter that is no part of a path": {
			restRequest(t, "DELETE", "/file/..%2f a/b?", false, ""),
			`asking DELETE /file/..%252f%20a%2Fb [] from 203.0.113.7:0 at ` + rest + `, 0 bytes ""`,
		},
		"a resource for all paths": {
			newEvent(t, "rest-api").with(t, "resource", "/{proxy+}").with(t, "pathParameters", map[string]any{"proxy": "file/a b"}),
			`trusted PUT /file/a%20b [] from 203.0.113.7:0 at ` + rest + `, 2 bytes "[]"`,
		},
		"a domain of one's own": { // whose mapping is before the path
			newEvent(t, "rest-api").with(t, "path", "/v1/files").with(t, "requestContext.path", "/v1/files"),
			`trusted PUT /files [] from 203.0.113.7:0 at ` + rest + `, 2 bytes "[]"`,
		},
		"a body in base64": {
			newEvent(t, "rest-api").with(t, "body", base64.StdEncoding.EncodeToString([]byte("\xff\x00"))).with(t, "isBase64Encoded", true),
			`trusted PUT /files [] from 203.0.113.7:0 at ` + rest + `, 2 bytes "\xff\x00"`,
		},
		"no body": {
			newEvent(t, "rest-api").with(t, "body", nil),
			`trusted PUT /files [] from 203.0.113.7:0 at ` + rest + `, 0 bytes ""`,
		},
		"an HTTP API, payload 1.0": {
			newEvent(t, "http-api-1"),
			`asking PUT /files [] from 203.0.113.7:0 at ` + v2 + `, 2 bytes "[]"`,
		},
		"an HTTP API, payload 1.0, with one route for all": {
			newEvent(t, "http-api-1").with(t, "resource", "$default").with(t, "path", "/file/a b"),
			`asking PUT /file/a%20b [] from 203.0.113.7:0 at ` + v2 + `, 2 bytes "[]"`,
		},
		"an HTTP API, payload 1.0, with one route for all and a stage": {
			newEvent(t, "http-api-1").with(t, "resource", "$default").with(t, "path", "/live/files").with(t, "requestContext.stage", "live"),
			`asking PUT /files [] from 203.0.113.7:0 at ` + v2 + `, 2 bytes "[]"`,
		},
		"an HTTP API, payload 2.0, with a stage": {
			newEvent(t, "http-api-2"),
			`asking POST /files?deleted=yes&nonstored=yes [] from 203.0.113.7:0 at ` + v2 + `, 20 bytes "[\"3p1xk0s9d2mfa7qz\"]"`,
		},
		"an HTTP API, payload 1.0, that names a key": { // which a REST API alone checks
			newEvent(t, "http-api-1").with(t, "requestContext.identity", map[string]any{"apiKeyId": "k3y1d2c3b4", "sourceIp": "203.0.113.7"}),
			`asking PUT /files [] from 203.0.113.7:0 at ` + v2 + `, 2 bytes "[]"`,
		},
		"a function's own URL": {
			newEvent(t, "function-url"),
			`asking POST /file [] from 203.0.113.7:0 at ` + url + `, 17 bytes "{\"name\": \"a.txt\"}"`,
		},
		"a path that looks like a host": {
			newEvent(t, "function-url").with(t, "rawPath", "//example.com/files").with(t, "body", ""),
			`asking POST //example.com/files [] from 203.0.113.7:0 at ` + url + `, 0 bytes ""`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := echoing().Invoke(t.Context(), test.event.text(t))
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				StatusCode        int
				Headers           map[string]string
				MultiValueHeaders http.Header
				Body              string
				IsBase64Encoded   bool
			}
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got.Body); diff != "" || got.StatusCode != http.StatusTeapot || got.IsBase64Encoded {
				t.Errorf("%s\n- want + got\n%s", out, diff)
			}
			// Payload 2.0 has one value a header.
			if test.event["version"] == "2.0" {
				if got.Headers["X-Twice"] != "a, b" || got.Headers["Content-Type"] != "text/plain" {
					t.Errorf("headers %q", got.Headers)
				}
			} else if diff := cmp.Diff(http.Header{"Content-Type": {"text/plain"}, "X-Twice": {"a", "b"}}, got.MultiValueHeaders); diff != "" {
				t.Errorf("- want + got\n%s", diff)
			}
		})
	}
}

// TestAnswers has answers of every kind in the words of an event.
func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"nothing": {
			func(http.ResponseWriter, *http.Request) {},
			`{"statusCode":200,"headers":null,"multiValueHeaders":{},"body":""}`,
		},
		"no text": {
			func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0xff, 0}) },
			`{"statusCode":200,"headers":null,"multiValueHeaders":{},"body":"/wA=","isBase64Encoded":true}`,
		},
		"a status more than once": {
			func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusEarlyHints)
				w.WriteHeader(http.StatusNotFound)
				w.WriteHeader(http.StatusOK)
			},
			`{"statusCode":404,"headers":null,"multiValueHeaders":{},"body":""}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := echoing()
			f.Trusted = test.handler
			out, err := f.Invoke(t.Context(), newEvent(t, "rest-api").text(t))
			if err != nil || string(out) != test.want {
				t.Errorf("%s, %v; want %s", out, err, test.want)
			}
		})
	}
}

// TestUnknownEvents has what a function does not know fail: a success would say that something was done.
func TestUnknownEvents(t *testing.T) {
	const unknown = "unknown event: "
	for name, test := range map[string]struct {
		event, want string
	}{
		"nothing":              {``, "read the event: unexpected end of JSON input"},
		"half an event":        {`{"Records": [{"eventSource"`, "read the event: unexpected end of JSON input"},
		"text":                 {`"sweep"`, "read the event: json: cannot unmarshal string"},
		"null":                 {`null`, unknown},
		"an empty object":      {`{}`, unknown},
		"a list":               {`[]`, "read the event: json: cannot unmarshal array"},
		"no records":           {`{"Records": []}`, unknown},
		"records that are one": {`{"Records": {"eventSource": "aws:s3"}}`, "read the event: json: cannot unmarshal object"},
		"SNS":                  {string(newEvent(t, "sns").text(t)), `1 of 1 notifications failed: unknown event: of "aws:sns"`},
		"SQS":                  {string(newEvent(t, "sqs").text(t)), `1 of 1 notifications failed: unknown event: of "aws:sqs"`},
		"a load balancer":      {string(newEvent(t, "load-balancer").text(t)), unknown},
		"another bucket's test": {
			string(newEvent(t, "s3-test").with(t, "Bucket", "your-files").text(t)), unknown + `about bucket "your-files", and not "my-files"`,
		},
		"another bucket's object": {
			string(objectCreated(t, "your-files", "3p1xk0s9d2mfa7qz").text(t)),
			`1 of 1 notifications failed: unknown event: about bucket "your-files", and not "my-files"`,
		},
		"an object without a key": {
			string(objectCreated(t, "my-files", "").text(t)), `1 of 1 notifications failed: unknown event: of S3, without a key`,
		},
		"an object whose key can't be read": {
			string(objectCreated(t, "my-files", "%zz").text(t)), `1 of 1 notifications failed: key "%zz": invalid URL escape`,
		},
		"an object that was removed": {
			strings.Replace(string(objectCreated(t, "my-files", "3p1xk0s9d2mfa7qz").text(t)), "ObjectCreated:Put", "ObjectRemoved:Delete", 1),
			`1 of 1 notifications failed: unknown event: of S3, named "ObjectRemoved:Delete"`,
		},
		"another event of EventBridge": {
			string(newEvent(t, "scheduled").with(t, "detail-type", "EC2 Instance State-change Notification").text(t)), unknown,
		},
		"another's schedule": {string(newEvent(t, "scheduled").with(t, "source", "my.app").text(t)), unknown},
		"a body that is not base64": {
			string(newEvent(t, "rest-api").with(t, "body", "{}").with(t, "isBase64Encoded", true).text(t)), "read the body of the request: illegal base64",
		},
		"a method that can't be one": {
			string(newEvent(t, "rest-api").with(t, "httpMethod", "P T").text(t)), `read the request: net/http: invalid method "P T"`,
		},
		"a path that is none": {
			string(newEvent(t, "function-url").with(t, "rawPath", "files").text(t)), `read the request: parse "files": invalid URI`,
		},
		"headers that are none": {
			string(newEvent(t, "rest-api").with(t, "headers", []any{"a"}).text(t)), "read the event: json: cannot unmarshal array",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := echoing()
			f.Client = &client.Client{Bucket: "my-files"} // which has neither a table nor S3
			out, err := f.Invoke(t.Context(), []byte(test.event))
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("%s, %v; want %s", out, err, test.want)
			}
			if unknown, ok := errors.AsType[*lambda.UnknownEventError](err); strings.Contains(test.want, "unknown event") && !ok {
				t.Errorf("%T, want %T", err, unknown)
			}
		})
	}
}

// TestEveryEventIsTold makes sure that the events of testdata are in its README.
func TestEveryEventIsTold(t *testing.T) {
	readme, err := os.ReadFile("testdata/README.md")
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir("testdata")
	if err != nil || len(files) < 10 {
		t.Fatal(len(files), err)
	}
	for _, f := range files {
		if strings.HasSuffix(f.Name(), ".json") && !strings.Contains(string(readme), "`"+f.Name()+"`") {
			t.Errorf("README.md does not tell of %s", f.Name())
		}
	}
}
