//go:build linux || darwin || freebsd

package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// serveGrace is how long requests of other processes may go on after Serve was told to stop.
const serveGrace = 5 * time.Second

// served is what a serving process tells others, in the file that it holds locked.
type served struct {
	URL string `json:"url"`
}

// Serve runs the S3 server of the store on addr until ctx is done, for this and other
// programs: a [Store.Endpoint] of any process on the same directory uses it meanwhile. Ready is
// called once with the endpoint's URL, when requests are answered. After ctx is done, requests
// that are running get 5 s to end.
//
// The address is an IP address and a port, and must be of the loopback interface; port 0 picks
// one. Errors are [*ListenError], [*ServedError] when another process serves the directory, and
// an error when the server ends by itself. It returns nil when ctx is done. The methods of the store
// work after it too, with another server.
func (s *Store) Serve(ctx context.Context, addr string, ready func(url string)) error {
	listen, err := netip.ParseAddrPort(addr)
	if err != nil {
		return &ListenError{Addr: addr, Reason: "an IP address and a port are needed, such as " + DefaultListen}
	}
	if !listen.Addr().IsLoopback() {
		return &ListenError{Addr: addr, Reason: "it is not an address of the loopback interface"}
	}

	// Two locks: this one decides who serves; the one on the published file tells that the address
	// in it is good. Both end with the process, however it ends.
	lock, err := lockNow(s.path(serveLockFile))
	if errors.Is(err, unix.EWOULDBLOCK) {
		url, _ := s.served()
		return &ServedError{Dir: s.dir, URL: url}
	}
	if err != nil {
		return fmt.Errorf("serve local store: %w", err)
	}
	defer lock.Close()

	child, err := s.startChild(ctx, listen.String(), serveGrace, s.Created)
	if err != nil {
		return err
	}
	defer func() {
		_ = child.stop() // killed at the latest after some seconds
		s.forget(child.url)
	}()
	withdraw, err := s.publish(child.url)
	if err != nil {
		return fmt.Errorf("serve local store: %w", err)
	}
	defer withdraw() // before the server stops, so that nobody comes any more
	ready(child.url)

	select {
	case <-ctx.Done():
		return nil
	case <-child.done:
		return fmt.Errorf("the local S3 server died: %w", child.withLastWords(child.died()))
	}
}

// forget has [Store.Endpoint] look for a server again, after the one at url has ended.
func (s *Store) forget(url string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoint.URL == url {
		s.endpoint = Endpoint{}
	}
}

// publish makes url known to [Store.served]. The file is locked before it gets its name, so
// that whoever sees it unlocked knows that its writer is gone.
func (s *Store) publish(url string) (withdraw func(), err error) {
	name := s.path(servedFile)
	f, err := lockWait(name + ".new") // left by one that was killed, or new
	if err != nil {
		return nil, err
	}
	err = f.Truncate(0)
	if err == nil {
		err = json.NewEncoder(f).Encode(served{URL: url})
	}
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		_ = os.Remove(name) // where it fails, the lock says the same
		_ = f.Close()
	}, nil
}

// served returns the endpoint that another process serves, if one does. Whatever is wrong with
// the file counts as no: a server of one's own always works.
func (s *Store) served() (url string, ok bool) {
	f, err := os.Open(s.path(servedFile))
	if err != nil {
		return "", false
	}
	defer f.Close()
	if err := flock(f, unix.LOCK_SH|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		return "", false
	}
	var v served
	if err := json.NewDecoder(io.LimitReader(f, 4096)).Decode(&v); err != nil || v.URL == "" {
		return "", false
	}
	return v.URL, true
}
