//go:build !(linux || darwin || freebsd)

package local

import (
	"context"
	"io"
	"net"
)

// Store is an open local store. There are none on this platform.
type Store struct {
	// Executable is the program that is started with [ServerCommand] as its only argument.
	Executable string
	// Created is told of objects that were written.
	Created func(key string)
}

// Open fails with [ErrUnsupported].
func Open(string) (*Store, error) { return nil, ErrUnsupported }

// RunServer fails with [ErrUnsupported].
func RunServer(io.Reader, io.Writer) error { return ErrUnsupported }

// Dir returns "".
func (*Store) Dir() string { return "" }

// Records returns "".
func (*Store) Records() string { return "" }

// Credentials returns none.
func (*Store) Credentials() Credentials { return Credentials{} }

// APIKey fails with [ErrUnsupported].
func (*Store) APIKey() (key, file string, err error) { return "", "", ErrUnsupported }

// TokenKey fails with [ErrUnsupported].
func (*Store) TokenKey() ([]byte, error) { return nil, ErrUnsupported }

// Endpoint fails with [ErrUnsupported].
func (*Store) Endpoint(context.Context) (Endpoint, error) { return Endpoint{}, ErrUnsupported }

// Serve fails with [ErrUnsupported].
func (*Store) Serve(context.Context, string, func(string)) error { return ErrUnsupported }

// Close does nothing.
func (*Store) Close() error { return nil }

// PublicURL has no address to give.
func (*Store) PublicURL() string { return "" }

// Served is always false.
func (*Store) Served() bool { return false }

// Dial fails with [ErrUnsupported].
func (*Store) Dial(context.Context, string, string) (net.Conn, error) { return nil, ErrUnsupported }
