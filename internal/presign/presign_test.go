package presign_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/presign"
)

const (
	key    = "abcdefghij012345"
	secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
)

// now is when the tests sign.
func now() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

// signer is the signer that the tests start from.
func signer() presign.Signer {
	return presign.Signer{
		Region: "eu-west-1",
		Bucket: "filestore-project",
		Credentials: presign.Credentials{
			AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: secret,
		},
	}
}

// parts is a URL taken apart for comparison: the order of the parameters is free.
type parts struct {
	Scheme, Host, Path string // the path as it stands, percent-encoded
	Parameters         []string
}

func take(t *testing.T, raw string) parts {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return parts{u.Scheme, u.Host, u.EscapedPath(), slices.Sorted(strings.SplitSeq(u.RawQuery, "&"))}
}

// TestVectors reproduces URLs that the API made.
func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/presign-vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); count++ {
		var v struct {
			Endpoint     string    `json:"endpoint"`
			Region       string    `json:"region"`
			Bucket       string    `json:"bucket"`
			AccessKeyID  string    `json:"access_key_id"`
			SecretKey    string    `json:"secret_access_key"`
			SessionToken string    `json:"session_token"`
			Time         time.Time `json:"time"`
			Method       string    `json:"method"`
			Key          string    `json:"key"`
			Expires      string    `json:"expires"`
			Name         string    `json:"name"`
			Type         string    `json:"type"`
			URL          string    `json:"url"`
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatalf("vector %d: %v", count+1, err)
		}
		seconds, err := strconv.Atoi(v.Expires)
		if err != nil {
			t.Fatalf("vector %d: %v", count+1, err)
		}
		lifetime := time.Duration(seconds) * time.Second
		s := presign.Signer{
			Endpoint: v.Endpoint, Region: v.Region, Bucket: v.Bucket,
			Credentials: presign.Credentials{
				AccessKeyID: v.AccessKeyID, SecretAccessKey: v.SecretKey, SessionToken: v.SessionToken,
			},
		}

		var got presign.URL
		switch v.Method {
		case http.MethodPut:
			got, err = s.Put(v.Key, v.Time, lifetime, presign.Limits{})
		case http.MethodGet:
			got, err = s.Get(v.Key, v.Name, v.Type, v.Time, lifetime)
		default:
			t.Fatalf("vector %d: method %q", count+1, v.Method)
		}
		if err != nil {
			t.Errorf("vector %d: %v", count+1, err)
			continue
		}
		if diff := cmp.Diff(take(t, v.URL), take(t, got.URL)); diff != "" {
			t.Errorf("vector %d (-API +here):\n%s", count+1, diff)
		}
		if want := v.Time.Add(lifetime); !got.Expires.Equal(want) || got.Header != nil {
			t.Errorf("vector %d: Expires %v, Header %v; want %v and none", count+1, got.Expires, got.Header, want)
		}
	}
	if count < 30 {
		t.Errorf("only %d vectors", count)
	}
}

// TestAddress shows which host and path a URL gets, and that the signature is for just these.
func TestAddress(t *testing.T) {
	for _, test := range []struct {
		endpoint, region, bucket, key string
		want                          string
	}{
		{"", "us-east-1", "b", "k", "https://s3.amazonaws.com/b/k"},
		{"", "eu-central-1", "b", "k", "https://s3.eu-central-1.amazonaws.com/b/k"},
		{"", "us-gov-west-1", "b", "k", "https://s3.us-gov-west-1.amazonaws.com/b/k"},
		{"", "cn-north-1", "b", "k", "https://s3.cn-north-1.amazonaws.com.cn/b/k"},
		{"", "us-east-1", "with.dots", "k", "https://s3.amazonaws.com/with.dots/k"},

		{"http://localhost:9000", "us-east-1", "b", "k", "http://localhost:9000/b/k"},
		{"http://localhost:9000/", "us-east-1", "b", "k", "http://localhost:9000/b/k"},
		{"https://example.org/storage/v1/s3/", "us-east-1", "b", "k", "https://example.org/storage/v1/s3/b/k"},
		{"https://example.org/a%20b", "us-east-1", "b", "k", "https://example.org/a%20b/b/k"},
		{"http://[::1]:9000", "us-east-1", "b", "k", "http://[::1]:9000/b/k"},
		// Clients differ in whether they send these as they stand, so they are made equal.
		{"HTTP://LocalHost:9000", "us-east-1", "b", "k", "http://localhost:9000/b/k"},
		{"http://example.org:80", "us-east-1", "b", "k", "http://example.org/b/k"},
		{"https://example.org:443/base", "us-east-1", "b", "k", "https://example.org/base/b/k"},
		{"https://example.org:80", "us-east-1", "b", "k", "https://example.org:80/b/k"},
		{"https://example.org:", "us-east-1", "b", "k", "https://example.org/b/k"},
		{"http://[::1]:80", "us-east-1", "b", "k", "http://[::1]/b/k"},

		{"", "us-east-1", "b", "a/b//c", "https://s3.amazonaws.com/b/a/b//c"},
		{"", "us-east-1", "b", "/a/", "https://s3.amazonaws.com/b//a/"},
		{"", "us-east-1", "b", "../../x", "https://s3.amazonaws.com/b/../../x"},
		{"", "us-east-1", "b", "//evil.example/x", "https://s3.amazonaws.com/b///evil.example/x"},
		{"", "us-east-1", "b", "@evil.example:1/?a=b#c", "https://s3.amazonaws.com/b/%40evil.example%3A1/%3Fa%3Db%23c"},
		{"", "us-east-1", "b", "a b+c%20d", "https://s3.amazonaws.com/b/a%20b%2Bc%2520d"},
		{"", "us-east-1", "b", "日本\n\x00\xff", "https://s3.amazonaws.com/b/%E6%97%A5%E6%9C%AC%0A%00%FF"},
	} {
		s := signer()
		s.Endpoint, s.Region, s.Bucket = test.endpoint, test.region, test.bucket
		got, err := s.Put(test.key, now(), time.Hour, presign.Limits{})
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		if address, _, _ := strings.Cut(got.URL, "?"); address != test.want {
			t.Errorf("%+v: got %s", test, address)
		}
		if !checkSignature(t, http.MethodPut, got.URL, nil, secret) {
			t.Errorf("%+v: wrong signature: %s", test, got.URL)
		}
	}
}

func TestBadInput(t *testing.T) {
	type input struct {
		presign.Signer
		presign.Limits
		key string
	}
	for _, test := range []struct {
		field, value string
		change       func(*input)
	}{
		{"key", "", func(in *input) { in.key = "" }},
		{"bucket", "", func(in *input) { in.Bucket = "" }},
		{"bucket", "..", func(in *input) { in.Bucket = ".." }},
		{"bucket", "a/b", func(in *input) { in.Bucket = "a/b" }},
		{"bucket", "b\r\nX: y", func(in *input) { in.Bucket = "b\r\nX: y" }},
		{"bucket", "é", func(in *input) { in.Bucket = "é" }},
		{"region", "", func(in *input) { in.Region = "" }},
		{"region", "evil.example/", func(in *input) { in.Region = "evil.example/" }},
		{"endpoint", "localhost:9000", func(in *input) { in.Endpoint = "localhost:9000" }},
		{"endpoint", "localhost", func(in *input) { in.Endpoint = "localhost" }},
		{"endpoint", "ftp://h", func(in *input) { in.Endpoint = "ftp://h" }},
		{"endpoint", "http://", func(in *input) { in.Endpoint = "http://" }},
		{"endpoint", "http://:80", func(in *input) { in.Endpoint = "http://:80" }},
		{"endpoint", "", func(in *input) { in.Endpoint = "http://h:port" }},
		{"endpoint", "http://hé", func(in *input) { in.Endpoint = "http://hé" }},
		{"endpoint", "http://h?x=y", func(in *input) { in.Endpoint = "http://h?x=y" }},
		{"endpoint", "http://h#x", func(in *input) { in.Endpoint = "http://h#x" }},
		// A password is not repeated in the message.
		{"endpoint", "http://u:xxxxx@h", func(in *input) { in.Endpoint = "http://u:pw@h" }},
		{"size", "-1", func(in *input) { in.Size = new(int64(-1)) }},
		{"size", "5368709121", func(in *input) { in.Size = new(int64(presign.MaxUpload + 1)) }},
		{"content type", "text", func(in *input) { in.ContentType = "text" }},
		{"content type", " text/plain", func(in *input) { in.ContentType = " text/plain" }},
		{"content type", "text/plain\r\nX: y", func(in *input) { in.ContentType = "text/plain\r\nX: y" }},
		{"content type", "text/plain;  a=b", func(in *input) { in.ContentType = "text/plain;  a=b" }},
		{"checksum algorithm", "MD5", func(in *input) {
			in.Checksum = presign.Checksum{Algorithm: "MD5", Value: "1B2M2Y8AsgTpgAmY7PhCfg=="}
		}},
		{"checksum algorithm", "", func(in *input) { in.Checksum.Value = "AAAAAAAAAAA=" }},
		{"checksum", "", func(in *input) { in.Checksum.Algorithm = presign.SHA256 }},
		{"checksum", "AAAAAAAAAAA=", func(in *input) {
			in.Checksum = presign.Checksum{Algorithm: presign.SHA256, Value: "AAAAAAAAAAA="}
		}},
		{"checksum", "AAAAAAAA\nAAA=", func(in *input) {
			in.Checksum = presign.Checksum{Algorithm: presign.CRC64NVME, Value: "AAAAAAAA\nAAA="}
		}},
	} {
		in := input{Signer: signer(), key: key}
		test.change(&in)
		got, err := in.Put(in.key, now(), time.Hour, in.Limits)
		bad, ok := errors.AsType[*presign.InputError](err)
		if !ok || bad.Field != test.field || bad.Value != test.value {
			t.Errorf("%s %q: got error %v", test.field, test.value, err)
		}
		if got.URL != "" {
			t.Errorf("%s %q: signed all the same: %s", test.field, test.value, got.URL)
		}
	}
}

func TestLifetime(t *testing.T) {
	for _, good := range []time.Duration{presign.MinLifetime, time.Hour, presign.MaxLifetime} {
		got, err := signer().Put(key, now(), good, presign.Limits{})
		if err != nil {
			t.Errorf("%v: %v", good, err)
		}
		if want := now().Add(good); !got.Expires.Equal(want) {
			t.Errorf("%v: expires %v, want %v", good, got.Expires, want)
		}
	}
	for _, bad := range []time.Duration{
		-time.Second, 0, time.Second - 1, time.Second + time.Millisecond,
		presign.MaxLifetime + 1, presign.MaxLifetime + time.Second,
	} {
		for method, sign := range map[string]func() (presign.URL, error){
			"PUT": func() (presign.URL, error) { return signer().Put(key, now(), bad, presign.Limits{}) },
			"GET": func() (presign.URL, error) { return signer().Get(key, "a", "text/plain", now(), bad) },
		} {
			got, err := sign()
			if e, ok := errors.AsType[*presign.LifetimeError](err); !ok || e.Lifetime != bad || got.URL != "" {
				t.Errorf("%s %v: got %q, error %v", method, bad, got.URL, err)
			}
		}
	}
}

// TestEndOfLife shows when a URL really ends: with its lifetime or with its credentials.
func TestEndOfLife(t *testing.T) {
	at := now()
	berlin := time.FixedZone("CET", 3600)
	for _, test := range []struct {
		what        string
		at, expires time.Time
		want        time.Time
	}{
		{"keys that last", at, time.Time{}, at.Add(time.Hour)},
		{"the URL ends first", at, at.Add(2 * time.Hour), at.Add(time.Hour)},
		{"the credentials end first", at, at.Add(10 * time.Minute), at.Add(10 * time.Minute)},
		{"both at once", at, at.Add(time.Hour), at.Add(time.Hour)},
		{"credentials' time with a zone", at, at.Add(time.Minute).In(berlin), at.Add(time.Minute)},
		{"signed with a zone", at.In(berlin), time.Time{}, at.Add(time.Hour)},
		{"signed within a second", at.Add(999 * time.Millisecond), time.Time{}, at.Add(time.Hour)},
	} {
		s := signer()
		s.Credentials.SessionToken = "IQoJ/+=="
		s.Credentials.Expires = test.expires
		got, err := s.Get(key, "a.txt", "text/plain", test.at, time.Hour)
		if err != nil {
			t.Errorf("%s: %v", test.what, err)
			continue
		}
		if got.Expires != test.want { // not Equal: it has to be UTC too
			t.Errorf("%s: expires %v, want %v", test.what, got.Expires, test.want)
		}
		query := take(t, got.URL).Parameters
		for _, want := range []string{
			"X-Amz-Date=20260102T030405Z", "X-Amz-Expires=3600", "X-Amz-Security-Token=IQoJ%2F%2B%3D%3D",
		} {
			if !slices.Contains(query, want) {
				t.Errorf("%s: no %s in %s", test.what, want, got.URL)
			}
		}
		if !checkSignature(t, http.MethodGet, got.URL, nil, secret) {
			t.Errorf("%s: wrong signature: %s", test.what, got.URL)
		}
	}
}

func TestUnusableCredentials(t *testing.T) {
	for _, test := range []struct {
		what        string
		credentials presign.Credentials
		want        error
	}{
		{"none", presign.Credentials{}, presign.ErrNoCredentials},
		{"no secret", presign.Credentials{AccessKeyID: "AKIA"}, presign.ErrNoCredentials},
		{"no id", presign.Credentials{SecretAccessKey: secret}, presign.ErrNoCredentials},
		{
			"expired just now",
			presign.Credentials{AccessKeyID: "AKIA", SecretAccessKey: secret, SessionToken: "t", Expires: now()},
			presign.ErrCredentialsExpired,
		},
	} {
		s := signer()
		s.Credentials = test.credentials
		got, err := s.Put(key, now(), time.Hour, presign.Limits{})
		if !errors.Is(err, test.want) || got.URL != "" {
			t.Errorf("%s: got %q, error %v, want %v", test.what, got.URL, err, test.want)
		}
	}
}

// TestLimits shows which headers an upload URL can be bound to. The server's side of it: the
// signature holds for just these headers, and breaks when one is changed or left away.
func TestLimits(t *testing.T) {
	crc := presign.Checksum{Algorithm: presign.CRC64NVME, Value: "rosUhgp5mIg="} // of "123456789"
	sha := presign.Checksum{Algorithm: presign.SHA256, Value: "FeKw09L+Z7plkDrkQkhoIF7XdGlvIlhCprPFMjPUjKk="}
	for _, test := range []struct {
		what   string
		limits presign.Limits
		signed string
		want   map[string]string
	}{
		{"size", presign.Limits{Size: new(int64(9))}, "content-length;host", map[string]string{
			"Content-Length": "9",
		}},
		{"type", presign.Limits{ContentType: "text/plain; charset=utf-8"}, "content-type;host", map[string]string{
			"Content-Type": "text/plain; charset=utf-8",
		}},
		{"CRC64NVME", presign.Limits{Checksum: crc}, "host;x-amz-checksum-crc64nvme", map[string]string{
			"X-Amz-Checksum-Crc64nvme": "rosUhgp5mIg=",
		}},
		{"SHA256", presign.Limits{Checksum: sha}, "host;x-amz-checksum-sha256", map[string]string{
			"X-Amz-Checksum-Sha256": "FeKw09L+Z7plkDrkQkhoIF7XdGlvIlhCprPFMjPUjKk=",
		}},
		{"if-none-match", presign.Limits{IfNoneMatch: true}, "host;if-none-match", map[string]string{
			"If-None-Match": "*",
		}},
		{
			"all",
			presign.Limits{Size: new(int64(9)), ContentType: "text/plain", Checksum: crc, IfNoneMatch: true},
			"content-length;content-type;host;if-none-match;x-amz-checksum-crc64nvme",
			map[string]string{
				"Content-Length":           "9",
				"Content-Type":             "text/plain",
				"If-None-Match":            "*",
				"X-Amz-Checksum-Crc64nvme": "rosUhgp5mIg=",
			},
		},
	} {
		t.Run(test.what, func(t *testing.T) {
			got, err := signer().Put(key, now(), time.Hour, test.limits)
			if err != nil {
				t.Fatal(err)
			}
			want := http.Header{}
			for name, value := range test.want {
				want.Set(name, value)
			}
			if diff := cmp.Diff(want, got.Header); diff != "" {
				t.Errorf("headers to send (-want +got):\n%s", diff)
			}
			u, err := url.Parse(got.URL)
			if err != nil {
				t.Fatal(err)
			}
			if signed := u.Query().Get("X-Amz-SignedHeaders"); signed != test.signed {
				t.Errorf("signed headers %q, want %q", signed, test.signed)
			}
			if diff := cmp.Diff(signatureParameters(), slices.Sorted(maps.Keys(u.Query()))); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
			if !checkSignature(t, http.MethodPut, got.URL, got.Header, secret) {
				t.Error("wrong signature")
			}
			for name := range got.Header {
				for _, value := range []string{"", "8"} {
					changed := got.Header.Clone()
					changed.Set(name, value)
					if checkSignature(t, http.MethodPut, got.URL, changed, secret) {
						t.Errorf("%s %q instead of %q: the signature still holds", name, value, got.Header.Get(name))
					}
				}
			}
		})
	}
}

// An empty file is bound by its checksum, because no signer signs a Content-Length of zero.
func TestLimitToEmptyFile(t *testing.T) {
	got, err := signer().Put(key, now(), time.Hour, presign.Limits{Size: new(int64(0))})
	if err != nil {
		t.Fatal(err)
	}
	want := http.Header{
		"Content-Length":        {"0"},
		"X-Amz-Checksum-Sha256": {"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Errorf("headers to send (-want +got):\n%s", diff)
	}
	if want := "X-Amz-SignedHeaders=host%3Bx-amz-checksum-sha256"; !slices.Contains(take(t, got.URL).Parameters, want) {
		t.Errorf("no %s in %s", want, got.URL)
	}
	if !checkSignature(t, http.MethodPut, got.URL, got.Header, secret) {
		t.Error("wrong signature")
	}
}

// TestResponseType shows what becomes of a record's type.
func TestResponseType(t *testing.T) {
	for mimeType, want := range map[string]string{
		"":                          "",
		"text/plain":                "text/plain",
		"Image/SVG+xml":             "Image/SVG+xml",
		"text/html; charset=utf-7":  "text/html",
		"text/plain ;":              "text/plain",
		"text":                      "application/octet-stream",
		"text/":                     "application/octet-stream",
		"/plain":                    "application/octet-stream",
		"a/b/c":                     "application/octet-stream",
		";charset=utf-8":            "application/octet-stream",
		" ":                         "application/octet-stream",
		"text/plain\r\nX-Evil: yes": "application/octet-stream",
		"text/plain\n":              "application/octet-stream",
		"text/plain, text/html":     "application/octet-stream",
		"text/pläin":                "application/octet-stream",
		"text/pl\x00in":             "application/octet-stream",
		"text/plain&x=y":            "application/octet-stream",
	} {
		got, err := signer().Get(key, "a", mimeType, now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(got.URL)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.Query().Get("response-content-type"); got != want {
			t.Errorf("%q: got %q, want %q", mimeType, got, want)
		}
	}
}

// signatureParameters are the parameters that every presigned URL has, in order.
func signatureParameters() []string {
	return []string{
		"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
		"X-Amz-Signature", "X-Amz-SignedHeaders",
	}
}
