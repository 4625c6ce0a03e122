package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Forwarded returns an [Options.Address] for a server behind proxies, each of which adds the address that it was asked from
// to a header, such as X-Forwarded-For, or replaces the header by it.
//
// What a client has written into that header is to the left of what the proxies have. So it is read from the right, over
// the addresses of proxies, and the first one that is not of a proxy counts: the proxy before it has seen it. The header is
// not looked at in a request that does not come from a proxy. Where what follows is no address, the last proxy counts.
// Whatever a client sends, it can't choose what it is taken for.
func Forwarded(header string, proxies []netip.Prefix) func(*http.Request) string {
	isProxy := func(ip netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(ip) })
	}
	return func(r *http.Request) string {
		from, ok := parseAddress(r.RemoteAddr)
		if !ok || !isProxy(from) {
			return r.RemoteAddr
		}
		// All lines of the header are one list (RFC 9110, "Field Order"), of which a client may have sent the first.
		list := strings.Split(strings.Join(r.Header.Values(header), ","), ",")
		for _, element := range slices.Backward(list) {
			before, ok := parseAddress(strings.TrimSpace(element))
			if !ok {
				break
			}
			if from = before; !isProxy(from) {
				break
			}
		}
		return from.String()
	}
}

// parseAddress reads an IP address, with a port or without. One of IPv4 that was mapped to IPv6 is the former, and zones
// say nothing to others.
func parseAddress(text string) (ip netip.Addr, ok bool) {
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"))
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return netip.Addr{}, false
		}
		ip = withPort.Addr()
	}
	return ip.Unmap().WithZone(""), true
}
