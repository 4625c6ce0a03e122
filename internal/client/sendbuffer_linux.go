package client

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// nearSendBuffer is the size, in bytes, of the socket's buffer for what is sent to a server on this machine. The kernel would let it
// grow to MiB, and what waits there is no longer in the processor's cache when the server receives it
// (docs/performance.md). A longer way, such as a delay that is set up for tests, needs more.
const (
	nearSendBuffer = 128 << 10
	nearRoundTrip  = time.Millisecond
)

// boundSendBuffer has little wait in the socket of a new connection that stays on this machine, if the kernel was answered at
// once when it connected. An error only leaves the buffer as it is; that of a broken connection shows in the request.
func boundSendBuffer(tcp *net.TCPConn) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && time.Duration(info.Rtt)*time.Microsecond < nearRoundTrip {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, nearSendBuffer)
		}
	})
}
