package api_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/designfultech/filestore/internal/api"
)

func TestForwarded(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::1/128")}
	for name, test := range map[string]struct {
		from   string
		header []string // its lines
		want   string
	}{
		"one proxy":                     {"10.0.0.1:1000", []string{"203.0.113.7"}, "203.0.113.7"},
		"two proxies":                   {"10.0.0.1:1000", []string{"203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"without spaces":                {"10.0.0.1:1000", []string{"203.0.113.7,10.0.0.2"}, "203.0.113.7"},
		"a proxy by IPv6":               {"[2001:db8:ffff::1]:1000", []string{"203.0.113.7"}, "203.0.113.7"},
		"a proxy by a mapped address":   {"[::ffff:10.0.0.1]:1000", []string{"203.0.113.7"}, "203.0.113.7"},
		"a mapped client":               {"10.0.0.1:1000", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		"a client by IPv6":              {"10.0.0.1:1000", []string{"2001:db8::1"}, "2001:db8::1"},
		"with a zone":                   {"10.0.0.1:1000", []string{"fe80::1%eth0"}, "fe80::1"},
		"with a port":                   {"10.0.0.1:1000", []string{"203.0.113.7:2000"}, "203.0.113.7"},
		"in brackets":                   {"10.0.0.1:1000", []string{"[2001:db8::1]"}, "2001:db8::1"},
		"in brackets, with a port":      {"10.0.0.1:1000", []string{"[2001:db8::1]:2000"}, "2001:db8::1"},
		"no header":                     {"10.0.0.1:1000", nil, "10.0.0.1"},
		"an empty one":                  {"10.0.0.1:1000", []string{""}, "10.0.0.1"},
		"no proxy":                      {"192.0.2.1:1000", []string{"203.0.113.7"}, "192.0.2.1:1000"},
		"no address":                    {"@", []string{"203.0.113.7"}, "@"},
		"the client has sent one":       {"10.0.0.1:1000", []string{"198.51.100.1, 203.0.113.7"}, "203.0.113.7"},
		"the client has sent a proxy's": {"10.0.0.1:1000", []string{"198.51.100.1, 10.0.0.9, 203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		"the client has sent a line":    {"10.0.0.1:1000", []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		"no client but proxies":         {"10.0.0.1:1000", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"a name":                        {"10.0.0.1:1000", []string{"203.0.113.7, unknown"}, "10.0.0.1"},
		"a name behind a proxy":         {"10.0.0.1:1000", []string{"203.0.113.7, _hidden, 10.0.0.2"}, "10.0.0.2"},
		"nothing behind a proxy":        {"10.0.0.1:1000", []string{"203.0.113.7, , 10.0.0.2"}, "10.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: test.from, Header: http.Header{"X-Forwarded-For": test.header, "X-Real-Ip": {"198.51.100.9"}}}
			if got := api.Forwarded("x-forwarded-for", proxies)(r); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
