//go:build !linux

package testserver

import "syscall"

// dieWithParent does nothing: there is no such thing here.
func dieWithParent() *syscall.SysProcAttr { return nil }
