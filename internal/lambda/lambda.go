// Package lambda is a filestore as an AWS Lambda function: it answers the HTTP requests that an API
// Gateway hands on, records the uploads that S3 tells of, and sweeps when EventBridge says that it is time
// (docs/lambda.md).
//
// One function may get events of all kinds, or several one kind each: what an event is, it says itself.
package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"

	awslambda "github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"

	"github.com/designfultech/filestore/internal/client"
)

// RuntimeAPI is the variable that tells a function where its events come from (AWS Lambda Developer Guide,
// "Using the Lambda runtime API for custom runtimes"). Where it is not set, there is no Lambda.
const RuntimeAPI = "AWS_LAMBDA_RUNTIME_API"

// Bootstrap is what Lambda calls the program of a runtime that is a function's own.
const Bootstrap = "bootstrap"

// Function handles events, of any kind that it knows. All fields are needed. It is safe for concurrent use.
type Function struct {
	Client *client.Client
	// Trusted answers requests of which a REST API has checked the key; Asking answers all others, and asks for
	// a key itself.
	Trusted, Asking http.Handler
	// Log gets what happened, and why an event failed.
	Log *slog.Logger
}

// Serve handles events until the process ends: Lambda ends it. It does not return: when Lambda can't be talked to any more,
// the library ends the process with the status 1. logs gets what the library has to say.
func Serve(ctx context.Context, f *Function, logs io.Writer) {
	// The library tells of failed events through package log, an object in JSON and a line each, and why it ends the process.
	log.SetFlags(0)     //nolint:forbidigo // see above
	log.SetOutput(logs) //nolint:forbidigo // see above
	awslambda.StartWithOptions(f, awslambda.WithContext(ctx))
}

// UnknownEventError is an event that the function can do nothing with.
type UnknownEventError struct{ What string }

func (e *UnknownEventError) Error() string { return "unknown event: " + e.What }

// event is what tells the kinds of events apart.
type event struct {
	// Of the API Gateway, and others that speak HTTP.
	Version        string `json:"version"`
	HTTPMethod     string `json:"httpMethod"`
	RequestContext *struct {
		APIID string `json:"apiId"`
		HTTP  *struct {
			Method string `json:"method"`
		} `json:"http"`
	} `json:"requestContext"`
	// Of S3.
	Records []notification `json:"Records"`
	Event   string         `json:"Event"`
	Bucket  string         `json:"Bucket"`
	// Of EventBridge.
	DetailType string `json:"detail-type"`
	Source     string `json:"source"`
}

// Invoke handles one event. It implements the Handler of aws-lambda-go, which hands an error on to Lambda.
func (f *Function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	answer, err := f.handle(ctx, payload)
	if err != nil { // the library's own line does not say of which event it is
		f.Log.ErrorContext(ctx, "the event failed", "error", err.Error())
	}
	return answer, err
}

func (f *Function) handle(ctx context.Context, payload []byte) ([]byte, error) {
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	switch rc := e.RequestContext; {
	case rc != nil && rc.HTTP != nil && e.Version == "2.0":
		return f.request2(ctx, payload)
	case rc != nil && rc.APIID != "" && e.HTTPMethod != "":
		return f.request1(ctx, payload, e.Version == "")
	case len(e.Records) > 0:
		return nil, f.notified(ctx, e.Records)
	case e.Event == "s3:TestEvent": // when notifications are set up
		f.Log.InfoContext(ctx, "notifications were set up", "bucket", e.Bucket)
		return nil, f.ownBucket(e.Bucket)
	case e.DetailType == "Scheduled Event" && (e.Source == "aws.events" || e.Source == "aws.scheduler"):
		return nil, f.sweep(ctx)
	}
	return nil, &UnknownEventError{"neither of an API Gateway, nor of S3, nor a schedule's"}
}

// ownBucket makes sure that an event is about the bucket of this filestore: of another, the function would look
// for the objects in the wrong place.
func (f *Function) ownBucket(name string) error {
	if name != f.Client.Bucket {
		return &UnknownEventError{fmt.Sprintf("about bucket %q, and not %q", name, f.Client.Bucket)}
	}
	return nil
}

// WithRequestID returns a handler that adds to a record of the log of which event it is.
func WithRequestID(h slog.Handler) slog.Handler { return requestIDHandler{h} }

type requestIDHandler struct{ slog.Handler }

func (h requestIDHandler) Handle(ctx context.Context, r slog.Record) error {
	if lc, ok := lambdacontext.FromContext(ctx); ok && lc.AwsRequestID != "" {
		r.AddAttrs(slog.String("request_id", lc.AwsRequestID))
	}
	return h.Handler.Handle(ctx, r)
}

func (h requestIDHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return requestIDHandler{h.Handler.WithAttrs(attrs)}
}

func (h requestIDHandler) WithGroup(name string) slog.Handler {
	return requestIDHandler{h.Handler.WithGroup(name)}
}
