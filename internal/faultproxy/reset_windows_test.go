package faultproxy_test

import (
	"errors"

	"golang.org/x/sys/windows"
)

// isReset reports whether a read failed because the peer reset the connection.
func isReset(err error) bool { return errors.Is(err, windows.WSAECONNRESET) }
