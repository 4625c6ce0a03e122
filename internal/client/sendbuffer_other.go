//go:build !linux

package client

import "net"

// boundSendBuffer does nothing: what it is good for was measured on Linux only.
func boundSendBuffer(*net.TCPConn) {}
