// Package api is the HTTP API of a filestore (docs/contract.md, "The HTTP API").
package api

import (
	"log/slog"
	"net/http"

	"github.com/designfultech/filestore/internal/client"
)

// Options are what a handler needs.
type Options struct {
	Client *client.Client
	// Keys are accepted as x-api-key on /files. nil: nobody is asked for one, since the API Gateway before it
	// has asked already.
	Keys []string
	// TokenKey signs the tokens with which a browser may take back what it has uploaded.
	TokenKey []byte
	// Log gets a line for each request. May be nil.
	Log *slog.Logger
}

// New returns the API's handler.
func New(opts Options) http.Handler { return http.NotFoundHandler() }
