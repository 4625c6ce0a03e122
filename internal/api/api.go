// Package api is the HTTP API of a filestore (docs/contract.md, "The HTTP API"): a thin layer of HTTP over package
// client, which has the rules.
//
// Each call has a file of its own; what they share, in the order in which a request meets it, is in handler.go (routes,
// CORS, log), limits.go (keys and rates) and body.go (what a body may hold).
package api

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/designfultech/filestore/internal/client"
)

// What one request may ask for.
const (
	// MaxIDs is how many ids store and info take (docs/contract.md, "How many ids").
	MaxIDs = 10
	// MaxDeleted is how many ids delete takes: as many as S3 deletes with one request (Amazon S3 API Reference,
	// "DeleteObjects").
	MaxDeleted = 1000
	// MaxBody is the most bytes that a body may have.
	MaxBody = 64 << 10
	// MaxName is the most bytes that the name of a file may have, in UTF-8: that of a key in S3. Escaped twice, it
	// must find room in the URL of a download.
	MaxName = 1024
	// MaxMeta is the most bytes that the metadata of a file may have, as JSON.
	MaxMeta = 4096
)

// DefaultTimeout is shorter than the 29 seconds after which Amazon API Gateway gives up, also with the 5 seconds after it that
// the answer to a write may take, and the undoing of that (package transfer, Outlive and Cleanup).
const DefaultTimeout = 22 * time.Second

// The defaults of [Options]: those of the contract's usage plan, and for calls without a key.
const (
	DefaultRate  = 10   // requests a second
	DefaultBurst = 20   // requests
	DefaultQuota = 1000 // requests a month

	DefaultAnonymousRate  = 100 // requests a second, of all addresses together
	DefaultAnonymousBurst = 200 // requests
)

// Limit is a rate, and how many requests may come at once when there were none for a while.
type Limit struct {
	Rate  float64 // requests a second; 0: the default; negative: any
	Burst int     // requests; 0: the default
}

// Options are what a handler needs. All fields but Client may be left zero.
type Options struct {
	Client *client.Client
	// Keys are accepted as x-api-key on /files. nil: nobody is asked for one and nothing is limited, since the API
	// Gateway before it has done both. Not nil and empty: no key is accepted.
	Keys []string
	// TokenKey signs the tokens with which a browser may take back what it has uploaded: 32 random bytes, the same
	// for every process that serves the filestore. Empty: no tokens are handed out.
	TokenKey []byte
	// Log gets a line for each request, and one for each failure that is not the caller's. No key, token, signature or
	// query is in them. May be nil.
	Log *slog.Logger

	// PerKey limits the calls of each key. They are counted in this process.
	PerKey Limit
	// Quota is how many calls each key has in a calendar month (UTC). 0: DefaultQuota; negative: any. They are
	// counted in this process: a new one begins with none.
	Quota int
	// PerAddress limits the calls without a key from each address: POST /file, which makes a record, DELETE
	// /file/ID, and those on /files whose key is wrong or missing. The defaults are those of PerKey.
	PerAddress Limit
	// Anonymous limits these calls of all addresses together.
	Anonymous Limit
	// Address tells where a request comes from, for PerAddress and the log: [Forwarded], where a proxy stands before this
	// server. nil: the connection's. It is called more than once for a request.
	Address func(*http.Request) string

	// Timeout ends a request that takes longer, with 503. 0: DefaultTimeout.
	Timeout time.Duration
}

// How long a connection may take. A client that sends a byte now and then ("slowloris") holds one, and nothing else.
const (
	ReadHeaderTimeout = 10 * time.Second
	ReadTimeout       = 15 * time.Second // header and body
	WriteTimeout      = ReadTimeout + DefaultTimeout + 10*time.Second
	IdleTimeout       = 60 * time.Second
	MaxHeaderBytes    = 16 << 10
)

// Server returns a server with the limits on time and size that the API needs, not yet started. What net/http itself
// has to say, for instance of a connection that is no HTTP, goes to log, which may be nil.
func Server(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: ReadHeaderTimeout, ReadTimeout: ReadTimeout, WriteTimeout: WriteTimeout, IdleTimeout: IdleTimeout,
		MaxHeaderBytes: MaxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(orDiscard(log).Handler(), slog.LevelWarn),
	}
}

func orDiscard(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
