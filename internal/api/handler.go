package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/client"
)

// New returns the API's handler. It answers every path: one that it does not serve with 404. It is safe for concurrent
// use.
func New(opts Options) http.Handler {
	h := &handler{
		client: opts.Client, log: orDiscard(opts.Log), tokenKey: opts.TokenKey,
		address: opts.Address, timeout: opts.Timeout,
	}
	if h.address == nil {
		h.address = func(r *http.Request) string { return r.RemoteAddr }
	}
	if h.timeout == 0 {
		h.timeout = DefaultTimeout
	}
	if opts.Keys != nil {
		h.keys = newKeys(opts)
		h.anonymous = newAnonymous(opts)
	}
	files := map[string]call{
		http.MethodPut:    {do: h.storeFiles, keyed: true},
		http.MethodPost:   {do: h.showFiles, keyed: true},
		http.MethodDelete: {do: h.deleteFiles, keyed: true},
	}
	h.paths = map[string]map[string]call{
		"/file":         {http.MethodPost: {do: h.newFile, limited: true}},
		"/files":        files,
		"/files/":       files,
		"/healthz":      {http.MethodGet: {do: healthy}},
		"/openapi.json": {http.MethodGet: {do: describe}},
	}
	h.file = map[string]call{http.MethodDelete: {do: h.revertFile, limited: true}}
	return h
}

type handler struct {
	client   *client.Client
	log      *slog.Logger
	tokenKey []byte
	address  func(*http.Request) string
	timeout  time.Duration

	keys      *keys      // nil: nobody is asked for one
	anonymous *anonymous // nil: nothing is limited

	paths map[string]map[string]call // by path and method
	file  map[string]call            // of /file/ID, by method
}

// call is one call of the API: what it does, and what stands before it.
type call struct {
	// do returns what is sent with the status 200: nil nothing, with 204. An error that is no [*failure] is
	// classified.
	do      func(request) (any, error)
	keyed   bool // needs a key, whose calls are counted
	limited bool // has a limit for each address
}

// request is what a call needs of a request.
type request struct {
	*http.Request
	body []byte // nil of GET and HEAD
	id   string // of /file/ID
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	a := &answer{ResponseWriter: w}
	line := &logLine{}
	defer func() {
		thrown := recover()
		if thrown != nil && thrown != any(http.ErrAbortHandler) {
			h.log.ErrorContext(r.Context(), "panic", "method", short(r.Method), "path", short(r.URL.Path), "panic", thrown)
			if a.status == 0 {
				a.fail(&failure{status: http.StatusInternalServerError, Message: messageInternal})
			}
		}
		h.log.InfoContext(r.Context(), "request", "method", short(r.Method), "path", short(r.URL.Path), "status", a.status,
			"bytes", a.bytes, "duration", time.Since(begin).Round(time.Microsecond), "address", short(h.address(r)), "key", line.key)
		if thrown == any(http.ErrAbortHandler) {
			panic(thrown)
		}
	}()
	header := w.Header()
	header.Set("Access-Control-Allow-Origin", "*")
	header.Set("Access-Control-Expose-Headers", "Retry-After")
	header.Set("Cache-Control", "no-store") // URLs and tokens are for one reader
	header.Set("X-Content-Type-Options", "nosniff")

	result, err := h.handle(a, r, line)
	switch {
	case err != nil:
		f := failureOf(err)
		if f.cause != nil && r.Context().Err() == nil { // else the caller has gone
			h.log.ErrorContext(r.Context(), "failed", "method", short(r.Method), "path", short(r.URL.Path), "error", f.cause)
		}
		a.fail(f)
	case result == nil:
		a.WriteHeader(http.StatusNoContent)
	default:
		a.send(http.StatusOK, result)
	}
}

// logLine is what the log tells of a request, beside what every request has.
type logLine struct {
	key int // which of the keys it came with, counted from 1; 0: none
}

// handle has a request pass all that stands before its call.
func (h *handler) handle(a *answer, r *http.Request, line *logLine) (any, error) {
	req := request{Request: r}
	methods, known := h.paths[r.URL.Path]
	if id, ok := strings.CutPrefix(r.URL.Path, "/file/"); ok && id != "" {
		req.id, methods, known = id, h.file, true
	}
	if !known {
		return nil, refuse(http.StatusNotFound, "Not Found")
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if method == http.MethodOptions {
		header := a.Header()
		header.Set("Allow", allowed(methods))
		header.Set("Access-Control-Allow-Methods", allowed(methods))
		header.Set("Access-Control-Allow-Headers", "Content-Type,X-Amz-Date,Authorization,X-Api-Key")
		header.Set("Access-Control-Max-Age", "7200")
		return nil, nil
	}
	c, ok := methods[method]
	if !ok {
		a.Header().Set("Allow", allowed(methods))
		return nil, refuse(http.StatusMethodNotAllowed, "Method Not Allowed")
	}
	if err := h.admit(c, r, line); err != nil {
		return nil, err
	}
	if method != http.MethodGet {
		body, err := readBody(a, r)
		if err != nil {
			return nil, err
		}
		req.body = body
	}
	// What the client needed to send its body is not counted: that is the server's limit.
	ctx, cancel := context.WithTimeout(r.Context(), h.timeout)
	defer cancel()
	req.Request = r.WithContext(ctx)
	return c.do(req)
}

// admit checks key and limits.
func (h *handler) admit(c call, r *http.Request, line *logLine) error {
	switch {
	case c.keyed && h.keys != nil:
		number, use := h.keys.find(r.Header.Get("X-Api-Key"))
		if use == nil { // who guesses keys is slowed down, as who guesses tokens is
			if err := h.anonymous.take(h.address(r)); err != nil {
				return err
			}
			return refuse(http.StatusForbidden, "Forbidden")
		}
		line.key = number
		return use.take(h.client.Now())
	case c.limited && h.anonymous != nil:
		return h.anonymous.take(h.address(r))
	}
	return nil
}

// allowed names the methods of a path.
func allowed(methods map[string]call) string {
	names := slices.Sorted(maps.Keys(methods))
	if slices.Contains(names, http.MethodGet) {
		names = append(names, http.MethodHead)
	}
	return strings.Join(append(names, http.MethodOptions), ",")
}

// short cuts what a stranger has chosen, for the log.
func short(s string) string {
	const most = 200
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

// answer writes one answer, and remembers what the log tells of it.
type answer struct {
	http.ResponseWriter
	status, bytes int
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	n, err := a.ResponseWriter.Write(p)
	a.bytes += n
	return n, err
}

// send writes v as JSON. It is made whole first, so that an answer is never half of one.
func (a *answer) send(status int, v any) {
	var b bytes.Buffer
	if raw, ok := v.(rawJSON); ok {
		b.Write(raw)
	} else {
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false) // URLs stay readable
		if err := enc.Encode(v); err != nil {
			panic(err) // of the types that are sent none can fail
		}
	}
	// Metadata, which is sent as it is, may hold bytes that are no UTF-8.
	body := bytes.ToValidUTF8(b.Bytes(), []byte("\ufffd"))
	a.Header().Set("Content-Type", "application/json")
	a.Header().Set("Content-Length", strconv.Itoa(len(body)))
	a.WriteHeader(status)
	_, _ = a.Write(body) // nobody is left to be told
}

func (a *answer) fail(f *failure) {
	if f.retryAfter > 0 {
		seconds := int64((f.retryAfter + time.Second - 1) / time.Second)
		a.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	}
	if f.hangUp {
		a.Header().Set("Connection", "close")
	}
	a.send(f.status, f)
}

// rawJSON is a document that is JSON already.
type rawJSON []byte

const (
	messageInternal = "Internal Server Error"
	messageRetry    = "Service Unavailable: try again"
)

// failure is an answer other than success: what the caller is told, as JSON, and what the log is.
type failure struct {
	status     int
	retryAfter time.Duration
	hangUp     bool  // the rest of the request is not read
	cause      error // of a failure that is not the caller's; for the log

	Message string `json:"message"`
	// Of a call on several files: for which it was done all the same, and for which not.
	Done   []string     `json:"done,omitempty"`
	Failed []fileFailed `json:"failed,omitempty"`
}

// fileFailed is why a call was not done for one file.
type fileFailed struct {
	ID      string        `json:"id"`
	Reason  client.Reason `json:"reason"` // docs/output.md, "Reasons"
	Message string        `json:"message"`
}

func (f *failure) Error() string { return f.Message }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.cause }

func refuse(status int, message string) *failure { return &failure{status: status, Message: message} }

// tryAgain is the failure of something that may well succeed a moment later.
func tryAgain(cause error) *failure {
	return &failure{status: http.StatusServiceUnavailable, Message: messageRetry, retryAfter: time.Second, cause: cause}
}

// failureOf classifies an error of package client. Of what went wrong behind the API the caller learns no more than
// whether trying again is of use: an error of a service names hosts, buckets and accounts.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	internal := &failure{status: http.StatusInternalServerError, Message: messageInternal, cause: err}
	_, ofService := errors.AsType[smithy.APIError](err)
	switch reason := client.ReasonOf(err); {
	case reason == client.Retry, reason == client.Interrupted, ofService && reason == client.Conflict:
		return tryAgain(err)
	case ofService:
		return internal
	case reason == client.NotFound:
		return refuse(http.StatusNotFound, err.Error())
	case reason == client.Expired, reason == client.Deleted:
		return refuse(http.StatusGone, err.Error())
	case reason == client.NotUploaded, reason == client.NotStored, reason == client.Conflict:
		return refuse(http.StatusConflict, err.Error())
	}
	return internal
}
