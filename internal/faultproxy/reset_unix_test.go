//go:build unix

package faultproxy_test

import (
	"errors"
	"syscall"
)

// isReset reports whether a read failed because the peer reset the connection.
func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }
