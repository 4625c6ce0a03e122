//go:build linux || darwin || freebsd

package local

import (
	"context"
	"fmt"
	"net"
	"net/url"
)

// PublicURL returns the endpoint that URLs for others are signed for: where the store is
// being served, or else where it will be, if [Store.Serve] is given [DefaultListen].
func (s *Store) PublicURL() string {
	if u, ok := s.served(); ok {
		return u
	}
	return "http://" + DefaultListen
}

// Served reports whether a [Store.Serve] of any process runs on the directory.
func (s *Store) Served() bool {
	_, ok := s.served()
	return ok
}

// Dial opens a connection to the S3 server of the store, whatever address is asked for, and
// starts a server of our own with the first connection where none is running. A client can so be
// made, and sign for [Store.PublicURL], before it is known that a server is needed at all.
//
// It is a net.Dialer's DialContext for an http.Transport; errors are those of [Store.Endpoint].
func (s *Store) Dial(ctx context.Context, network, _ string) (net.Conn, error) {
	endpoint, err := s.Endpoint(ctx)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(endpoint.URL)
	if err != nil {
		return nil, fmt.Errorf("address of the local S3 server: %w", err)
	}
	return new(net.Dialer).DialContext(ctx, network, u.Host)
}
