package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-lambda-go/events"
)

// request1 answers an event with the payload of version 1.0 (Amazon API Gateway Developer Guide, "Lambda proxy
// integrations in API Gateway"). It is of a REST API, or if rest is false of an HTTP API that was asked
// to send the same.
//
// Only a REST API knows keys. The one it has checked is in the event, and only where the method wants one:
// a client can't put it there.
func (f *Function) request1(ctx context.Context, payload []byte, rest bool) ([]byte, error) {
	var e events.APIGatewayProxyRequest
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	header := make(http.Header)
	for name, value := range e.Headers {
		header.Set(name, value)
	}
	for name, values := range e.MultiValueHeaders {
		header[http.CanonicalHeaderKey(name)] = values
	}
	query := make(url.Values)
	for name, value := range e.QueryStringParameters {
		query.Set(name, value)
	}
	maps.Copy(query, e.MultiValueQueryStringParameters)
	handler := f.Asking
	if rest && e.RequestContext.Identity.APIKeyID != "" {
		handler = f.Trusted
	}
	a, err := call(ctx, handler, request{
		method: e.HTTPMethod, path: path1(e), query: query.Encode(), header: header, from: e.RequestContext.Identity.SourceIP,
		body: e.Body, base64: e.IsBase64Encoded,
	})
	if err != nil {
		return nil, err
	}
	body, encoded := a.text()
	return json.Marshal(events.APIGatewayProxyResponse{
		StatusCode: a.status, MultiValueHeaders: a.header, Body: body, IsBase64Encoded: encoded,
	})
}

// path1 returns the path of a request, escaped, as the API's resources have it. What the event calls the path has before
// that what a domain of one's own maps to the stage.
func path1(e events.APIGatewayProxyRequest) string {
	switch e.Resource {
	case "", "/":
		return escaped(e.Path)
	case defaultRoute: // of an HTTP API: no resource tells where the path begins
		return withoutStage(escaped(e.Path), e.RequestContext.Stage)
	}
	var path strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(e.Resource, "/"), "/") {
		path.WriteByte('/')
		name, isParameter := strings.CutPrefix(part, "{")
		name, greedy := strings.CutSuffix(strings.TrimSuffix(name, "}"), "+")
		switch value := e.PathParameters[name]; {
		case !isParameter:
			path.WriteString(part)
		case greedy: // {proxy+}: all that follows
			path.WriteString(strings.TrimPrefix(escaped("/"+value), "/"))
		default:
			path.WriteString(url.PathEscape(value))
		}
	}
	return path.String()
}

// What an HTTP API calls the route that takes what no other does, and the stage that has no part of the path (Amazon API
// Gateway Developer Guide, "Create routes for HTTP APIs in API Gateway" and "Stages for HTTP APIs in API Gateway").
const defaultRoute, defaultStage = "$default", "$default"

// withoutStage returns a path of an HTTP API without the name of the stage, with which it begins unless that is the default.
func withoutStage(path, stage string) string {
	if rest, ok := strings.CutPrefix(path, "/"+stage+"/"); ok && stage != defaultStage {
		return "/" + rest
	}
	return path
}

// escaped returns a path as it stands in a URL, whether it is that already or not.
func escaped(path string) string {
	if u, err := url.ParseRequestURI(path); err == nil && u.Path == path {
		return u.EscapedPath()
	}
	return (&url.URL{Path: path}).EscapedPath()
}

// request2 answers an event with the payload of version 2.0: of an HTTP API (Amazon API Gateway Developer Guide,
// "Create AWS Lambda proxy integrations for HTTP APIs in API Gateway") or of a function's own URL (AWS Lambda
// Developer Guide, "Invoking Lambda function URLs"). Neither knows keys.
func (f *Function) request2(ctx context.Context, payload []byte) ([]byte, error) {
	var e events.APIGatewayV2HTTPRequest
	if err := json.Unmarshal(payload, &e); err != nil {
		return nil, fmt.Errorf("read the event: %w", err)
	}
	header := make(http.Header)
	for name, value := range e.Headers { // those sent twice are joined by commas
		header.Set(name, value)
	}
	a, err := call(ctx, f.Asking, request{
		method: e.RequestContext.HTTP.Method, path: withoutStage(escaped(e.RawPath), e.RequestContext.Stage), query: e.RawQueryString,
		header: header, from: e.RequestContext.HTTP.SourceIP, body: e.Body, base64: e.IsBase64Encoded,
	})
	if err != nil {
		return nil, err
	}
	out := events.APIGatewayV2HTTPResponse{StatusCode: a.status, Headers: make(map[string]string, len(a.header))}
	for name, values := range a.header {
		out.Headers[name] = strings.Join(values, ", ")
	}
	out.Body, out.IsBase64Encoded = a.text()
	return json.Marshal(out)
}

// request is an HTTP request in whatever event.
type request struct {
	method, path, query string // the last two escaped
	header              http.Header
	from                string // address of the client
	body                string
	base64              bool
}

// call has a handler answer a request.
func call(ctx context.Context, handler http.Handler, in request) (*answer, error) {
	body := []byte(in.body)
	if in.base64 {
		var err error
		if body, err = base64.StdEncoding.DecodeString(in.body); err != nil {
			return nil, fmt.Errorf("read the body of the request: %w", err)
		}
	}
	target := in.path
	if in.query != "" {
		target += "?" + in.query
	}
	u, err := url.ParseRequestURI(target) // as a server does it: "//a" is a path
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, in.method, "/", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	r.URL, r.RequestURI, r.Header, r.Host = u, target, in.header, in.header.Get("Host")
	if in.from != "" {
		r.RemoteAddr = net.JoinHostPort(in.from, "0")
	}
	a := &answer{header: make(http.Header)}
	handler.ServeHTTP(a, r)
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a, nil
}

// answer is what a handler answers, kept.
type answer struct {
	header http.Header
	status int // 0: not decided yet
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK { // before it there may be those of 1xx, for which there is no room
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// text returns the body as a response in JSON holds it.
func (a *answer) text() (body string, isBase64 bool) {
	if utf8.Valid(a.body.Bytes()) {
		return a.body.String(), false
	}
	return base64.StdEncoding.EncodeToString(a.body.Bytes()), true
}
