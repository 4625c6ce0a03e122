package presign_test

import (
	"errors"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/designfultech/filestore/internal/presign"
)

// hostile are names, types and keys that somebody might try.
func hostile() []string {
	return []string{
		"", " ", "a.txt", `a"; filename=b`, `a"; filename*=UTF-8''b`, `a\b`, `\"`, `../../etc/passwd`,
		"日本語.txt", "🎉", "a\u202etxt.exe", "a\r\nSet-Cookie: x=y\r\n\r\n<html>", "a\tb", "a\x00b", "\x7f",
		"\xff\xfe", "a%0d%0ab", "a&X-Amz-Expires=1", "a#b?c=d", "//evil.example/", "@evil.example", "; x=y",
		"text/html; charset=utf-7", "a/b", "a/b\n", "filename*0*=UTF-8''a", "*", strings.Repeat("é", 300),
	}
}

// FuzzGet: whatever a record holds as name and type, the URL asks for one harmless file name,
// one harmless type, and nothing else.
func FuzzGet(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s, "text/plain")
		f.Add("a.txt", s)
	}
	f.Fuzz(func(t *testing.T, name, mimeType string) {
		got, err := signer().Get(key, name, mimeType, now(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(got.URL)
		if err != nil {
			t.Fatal(err)
		}
		if want := "https://s3.eu-west-1.amazonaws.com/filestore-project/" + key + "?" + u.RawQuery; got.URL != want {
			t.Errorf("got %s, want %s", got.URL, want)
		}
		query, err := url.ParseQuery(u.RawQuery)
		if err != nil {
			t.Fatal(err)
		}
		want := append(signatureParameters(), "response-content-disposition", "response-content-type")
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(query))); diff != "" {
			t.Errorf("parameters (-want +got):\n%s", diff)
		}
		for parameter, values := range query {
			if len(values) != 1 {
				t.Errorf("parameter %s: %q", parameter, values)
			}
		}
		checkDisposition(t, name, query.Get("response-content-disposition"))
		checkType(t, mimeType, query.Get("response-content-type"))
		if got.Header != nil {
			t.Errorf("headers to send: %v", got.Header)
		}
		if !checkSignature(t, http.MethodGet, got.URL, nil, secret) {
			t.Errorf("wrong signature: %s", got.URL)
		}
	})
}

// checkType fails unless got is a MIME type without parameters that mimeType has at its
// beginning, or application/octet-stream. The empty type is kept.
func checkType(t *testing.T, mimeType, got string) {
	t.Helper()
	if mimeType == "" && got == "" {
		return
	}
	_, parameters, err := mime.ParseMediaType(got)
	if err != nil || len(parameters) != 0 || strings.Count(got, "/") != 1 || strings.ContainsAny(got, " \t\r\n;,") {
		t.Errorf("type %q became %q", mimeType, got)
	}
	if got != "application/octet-stream" && !strings.HasPrefix(strings.TrimLeft(mimeType, " \t"), got) {
		t.Errorf("type %q became %q", mimeType, got)
	}
}

// FuzzPut: whatever key, bucket and region are, the URL leads to just this object on just this
// host, or there is none.
func FuzzPut(f *testing.F) {
	for _, s := range hostile() {
		f.Add("eu-west-1", "bucket", s)
		f.Add("eu-west-1", s, key)
		f.Add(s, "bucket", key)
	}
	f.Fuzz(func(t *testing.T, region, bucket, key string) {
		for endpoint, prefix := range map[string]string{
			"":                            "https://s3." + region + ".amazonaws.com/",
			"http://localhost:9000/base/": "http://localhost:9000/base/",
		} {
			if endpoint == "" && (region == "us-east-1" || strings.HasPrefix(region, "cn-")) {
				continue // their hosts are of another form: see TestAddress
			}
			s := signer()
			s.Endpoint, s.Region, s.Bucket = endpoint, region, bucket
			got, err := s.Put(key, now(), time.Hour, presign.Limits{})
			if _, ok := errors.AsType[*presign.InputError](err); ok {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			path, ok := strings.CutPrefix(got.URL, prefix)
			if !ok {
				t.Fatalf("%s does not begin with %s", got.URL, prefix)
			}
			path, rawQuery, _ := strings.Cut(path, "?")
			if decoded, err := url.PathUnescape(path); err != nil || decoded != bucket+"/"+key || strings.Contains(bucket, "/") {
				t.Errorf("bucket %q, key %q: path %q, error %v", bucket, key, path, err)
			}
			for _, r := range strings.ReplaceAll(path, "/", "") {
				if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~%", r) {
					t.Errorf("%q is not encoded in %s", r, path)
				}
			}
			u, err := url.Parse(got.URL)
			if err != nil || prefix != u.Scheme+"://"+u.Host+strings.TrimSuffix(u.EscapedPath(), path) {
				t.Errorf("%s was read as host %q, path %q, error %v", got.URL, u.Host, u.EscapedPath(), err)
			}
			query, err := url.ParseQuery(rawQuery)
			if diff := cmp.Diff(signatureParameters(), slices.Sorted(maps.Keys(query))); err != nil || diff != "" {
				t.Errorf("error %v, parameters (-want +got):\n%s", err, diff)
			}
			if !checkSignature(t, http.MethodPut, got.URL, nil, secret) {
				t.Errorf("wrong signature: %s", got.URL)
			}
		}
	})
}

// FuzzContentType: what is signed in as the content type is one header line, or nothing.
func FuzzContentType(f *testing.F) {
	for _, s := range hostile() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, contentType string) {
		got, err := signer().Put(key, now(), time.Hour, presign.Limits{ContentType: contentType})
		if err != nil {
			if _, ok := errors.AsType[*presign.InputError](err); !ok {
				t.Fatal(err)
			}
			return
		}
		if value := got.Header.Get("Content-Type"); value != contentType || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("content type %q became %q", contentType, value)
		}
		if !checkSignature(t, http.MethodPut, got.URL, got.Header, secret) {
			t.Errorf("wrong signature: %s", got.URL)
		}
	})
}
