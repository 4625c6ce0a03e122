package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/designfultech/filestore/internal/api"
)

// withoutStore is an API of which the tests ask for nothing but what needs neither table nor bucket.
func withoutStore(t *testing.T, opts api.Options) *fixture {
	f := newFixture(t, nil, emptyBucket())
	f.serve(opts)
	return f
}

func TestKeys(t *testing.T) {
	for _, test := range []struct {
		name string
		keys []string // of the configuration
		sent []string // headers
		want int
	}{
		{"the right one", []string{key}, []string{"x-api-key: " + key}, 200},
		{"the name in capitals", []string{key}, []string{"X-API-KEY: " + key}, 200},
		{"the second of two", []string{otherKey, key}, []string{"x-api-key: " + key}, 200},
		{"none", []string{key}, nil, 403},
		{"an empty one", []string{key}, []string{"x-api-key: "}, 403},
		{"an empty one, and one in the configuration", []string{"", key}, []string{"x-api-key: "}, 403},
		{"none, and an empty one in the configuration", []string{"", key}, nil, 403},
		{"the beginning of it", []string{key}, []string{"x-api-key: " + key[:len(key)-1]}, 403},
		{"more than it", []string{key}, []string{"x-api-key: " + key + "x"}, 403},
		{"in capitals", []string{key}, []string{"x-api-key: KEY-OF-THE-BACKEND"}, 403},
		{"two in one", []string{otherKey, key}, []string{"x-api-key: " + otherKey + "," + key}, 403},
		{"in another header", []string{key}, []string{"Authorization: Bearer " + key}, 403},
		{"no key is accepted", []string{}, []string{"x-api-key: " + key}, 403},
		{"no key is asked for", nil, nil, 200},
		{"no key is asked for, and one sent", nil, []string{"x-api-key: x"}, 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := withoutStore(t, api.Options{Keys: test.keys})
			for _, path := range []string{"/files", "/files/"} {
				for _, method := range []string{"PUT", "POST", "DELETE"} {
					a := f.send(method, path, `[]`, test.sent...)
					if a.status != test.want {
						t.Errorf("%s %s: %d, want %d", method, path, a.status, test.want)
					}
					if test.want == 403 {
						a.want(t, 403, `{"message": "Forbidden"}`)
					}
				}
			}
		})
	}
}

// Ten a second, and twenty at once, for each key by itself; a refused request counts for nothing.
func TestRateOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := withoutStore(t, api.Options{Keys: []string{key, otherKey}})
		send := func(key string) answer { return f.send("POST", "/files", `[]`, "X-Api-Key: "+key) }
		for i := range api.DefaultBurst {
			if a := send(key); a.status != 200 {
				t.Fatalf("request %d: %d", i, a.status)
			}
		}
		for range 3 {
			a := send(key)
			a.want(t, 429, `{"message": "Too Many Requests"}`)
			if after := a.header.Get("Retry-After"); after != "1" {
				t.Errorf("Retry-After: %q", after)
			}
		}
		send(otherKey).want(t, 200, `[]`)
		time.Sleep(100 * time.Millisecond)
		send(key).want(t, 200, `[]`)
		send(key).want(t, 429, `{"message": "Too Many Requests"}`)
		time.Sleep(time.Second)
		for range api.DefaultRate {
			send(key).want(t, 200, `[]`)
		}
		send(key).want(t, 429, `{"message": "Too Many Requests"}`)
	})
}

// A thousand a month, by the clock of the client.
func TestQuota(t *testing.T) {
	f := withoutStore(t, api.Options{Keys: []string{key, otherKey}, PerKey: api.Limit{Rate: -1}})
	f.clock.at = time.Date(2026, 1, 31, 23, 59, 0, 0, time.UTC)
	send := func(key string) answer { return f.send("POST", "/files", `[]`, "X-Api-Key: "+key) }
	for range api.DefaultQuota {
		if a := send(key); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	a := send(key)
	a.want(t, 429, `{"message": "Limit Exceeded"}`)
	if after := a.header.Get("Retry-After"); after != "60" {
		t.Errorf("Retry-After: %q", after)
	}
	send(otherKey).want(t, 200, `[]`)
	f.clock.advance(time.Minute)
	send(key).want(t, 200, `[]`)
}

func TestLimitsAreSettable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := withoutStore(t, api.Options{Keys: []string{key}, PerKey: api.Limit{Rate: 0.5, Burst: 2}, Quota: 4})
		for i, want := range []int{200, 200, 429, 429} {
			a := f.keyed("POST", "/files", `[]`)
			if a.status != want || want == 429 && a.header.Get("Retry-After") != "2" {
				t.Errorf("request %d: %d %v, want %d", i, a.status, a.header, want)
			}
		}
		time.Sleep(4 * time.Second)
		for i, want := range []string{`[]`, `[]`, `{"message":"Limit Exceeded"}`} {
			f.keyed("POST", "/files", `[]`).want(t, map[bool]int{true: 200, false: 429}[i < 2], want)
		}
		// Without keys somebody else has asked for them, and has limits.
		f = withoutStore(t, api.Options{PerKey: api.Limit{Rate: 1, Burst: 1}, Quota: 1, PerAddress: api.Limit{Rate: 1, Burst: 1}})
		for range 100 {
			f.send("POST", "/files", `[]`).want(t, 200, `[]`)
			f.send("POST", "/file", `{}`).wantMessage(t, 400, "name")
		}
	})
}

// What needs no key has a limit for each address, and for all of them.
func TestRateOfAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := ""
		f := withoutStore(t, api.Options{
			Keys: []string{key}, PerAddress: api.Limit{Rate: 1, Burst: 2}, Anonymous: api.Limit{Rate: 10, Burst: 10},
			Address: func(*http.Request) string { return from },
		})
		send := func(address string) int {
			from = address
			return f.send("POST", "/file", `{}`).status // refused, but for that
		}
		for i, test := range []struct {
			from string
			want int
		}{
			{"192.0.2.1:1000", 400}, {"192.0.2.1:1001", 400}, {"192.0.2.1:1002", 429},
			{"[::ffff:192.0.2.1]:1000", 429}, {"192.0.2.1", 429},
			{"192.0.2.2:1000", 400}, {"192.0.2.2:1000", 400}, {"192.0.2.2:1000", 429},
			{"[2001:db8::1]:1000", 400}, {"[2001:db8::2%eth0]:1000", 400}, {"[2001:db8::ffff:0:0:1]:1000", 429}, {"[2001:db8:0:1::1]:1000", 400},
			{"", 400}, {"", 400}, {"", 429}, {"@", 400},
			{"192.0.2.3:1000", 429}, // the eleventh that would pass
		} {
			if got := send(test.from); got != test.want {
				t.Errorf("request %d, from %q: %d, want %d", i, test.from, got, test.want)
			}
		}
		if a := f.send("DELETE", "/file/0123456789abcdef", ""); a.status != 429 {
			t.Errorf("guessing tokens: %d", a.status)
		}
		if a := f.send("POST", "/files", `[]`, "X-Api-Key: "+otherKey); a.status != 429 {
			t.Errorf("guessing keys: %d", a.status)
		}
		f.keyed("POST", "/files", `[]`).want(t, 200, `[]`)
		f.send("GET", "/healthz", "").want(t, 200, `{"status": "ok"}`)
		time.Sleep(time.Second)
		if got := send("192.0.2.1:1"); got != 400 {
			t.Errorf("a second later: %d", got)
		}
		from = "192.0.2.4:1"
		for i, want := range []int{403, 403, 429} {
			if a := f.send("POST", "/files", `[]`, "X-Api-Key: "+otherKey); a.status != want {
				t.Errorf("wrong key %d: %d, want %d", i, a.status, want)
			}
		}
	})
}

// Many addresses do not fill the memory, and one that goes on is not forgotten meanwhile.
func TestManyAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := ""
		f := withoutStore(t, api.Options{
			Keys: []string{key}, PerAddress: api.Limit{Rate: 0.0001, Burst: 1}, Anonymous: api.Limit{Rate: -1},
			Address: func(*http.Request) string { return from },
		})
		for i := range 25_000 {
			from = fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255)
			r := f.quick("POST", "/file", `{}`)
			if r != 400 {
				t.Fatalf("address %d: %d", i, r)
			}
			if i%5000 != 0 {
				continue
			}
			from = "192.0.2.1:1"
			if r := f.quick("POST", "/file", `{}`); (r == 429) != (i > 0) {
				t.Errorf("the same one after %d others: %d", i, r)
			}
		}
	})
}

func TestCORS(t *testing.T) {
	f := withoutStore(t, api.Options{Keys: []string{key}, TokenKey: []byte("0123456789abcdef")})
	for path, methods := range map[string]string{
		"/file": "POST,OPTIONS", "/file/0123456789abcdef": "DELETE,OPTIONS",
		"/files": "DELETE,POST,PUT,OPTIONS", "/files/": "DELETE,POST,PUT,OPTIONS",
		"/healthz": "GET,HEAD,OPTIONS", "/openapi.json": "GET,HEAD,OPTIONS",
	} {
		a := f.send("OPTIONS", path, "", "Origin: https://example.com", "Access-Control-Request-Method: PUT")
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin":  "*",
			"Access-Control-Allow-Methods": methods,
			"Access-Control-Allow-Headers": "Content-Type,X-Amz-Date,Authorization,X-Api-Key",
			"Allow":                        methods,
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("OPTIONS %s: %s: %q, want %q", path, name, got, want)
			}
		}
		if a.status != 204 {
			t.Errorf("OPTIONS %s: %d", path, a.status)
		}
	}
	// Every other answer allows any origin as well, refusals too: [fixture.send] looks.
	f.send("OPTIONS", "/nothing", "").want(t, 404, `{"message": "Not Found"}`)
	f.send("PUT", "/files", "[]").want(t, 403, `{"message": "Forbidden"}`)
	f.send("PATCH", "/files", "[]").want(t, 405, `{"message": "Method Not Allowed"}`)
	f.keyed("PUT", "/files", "{").wantMessage(t, 400, "not JSON")
}

// Without a key to sign them there are no tokens, and none is accepted.
func TestNoTokens(t *testing.T) {
	f := newFixture(t, openSQLite(t), emptyBucket())
	signed := f.newFile()
	f.serve(api.Options{})
	if u := f.newFile(); u.Token != "" {
		t.Errorf("%+v", u)
	}
	f.send("DELETE", "/file/"+signed.ID, "", "Authorization: Bearer "+signed.Token).want(t, 403, `{"message": "Forbidden"}`)
	// Another key has signed it.
	f.serve(api.Options{TokenKey: []byte("fedcba9876543210")})
	f.send("DELETE", "/file/"+signed.ID, "", "Authorization: Bearer "+signed.Token).want(t, 403, `{"message": "Forbidden"}`)
	if r := f.record(signed.ID); r.DeletedAt.IsSet() {
		t.Errorf("%+v", r)
	}
}
