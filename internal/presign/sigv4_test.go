package presign_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// checkSignature does what a server does with a presigned request: it works out the signature
// from nothing but what came over the wire and the secret key, and compares (Amazon S3 API
// Reference, "Authenticating Requests: Using Query Parameters"). It takes the path and the
// query as they stand, so that it also fails when they are not in canonical encoding.
func checkSignature(t *testing.T, method, presigned string, sent http.Header, secret string) bool {
	t.Helper()
	u, err := url.Parse(presigned)
	if err != nil {
		t.Fatal(err)
	}
	hash := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	query := u.Query()

	var pairs []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if !strings.HasPrefix(pair, "X-Amz-Signature=") {
			pairs = append(pairs, pair)
		}
	}
	slices.Sort(pairs)

	_, afterScheme, _ := strings.Cut(presigned, "://")
	pathAndQuery := afterScheme[strings.Index(afterScheme, "/"):]
	path, _, _ := strings.Cut(pathAndQuery, "?")

	var headers strings.Builder
	for name := range strings.SplitSeq(query.Get("X-Amz-SignedHeaders"), ";") {
		value := sent.Get(name)
		if name == "host" {
			value = u.Host
		}
		headers.WriteString(name + ":" + value + "\n")
	}
	canonical := strings.Join([]string{
		method, path, strings.Join(pairs, "&"), headers.String(),
		query.Get("X-Amz-SignedHeaders"), "UNSIGNED-PAYLOAD",
	}, "\n")
	digest := sha256.Sum256([]byte(canonical))

	_, scope, _ := strings.Cut(query.Get("X-Amz-Credential"), "/")
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(scope, "/") { // date, region, service, "aws4_request"
		key = hash(key, part)
	}
	toSign := strings.Join([]string{
		"AWS4-HMAC-SHA256", query.Get("X-Amz-Date"), scope, hex.EncodeToString(digest[:]),
	}, "\n")
	return hex.EncodeToString(hash(key, toSign)) == query.Get("X-Amz-Signature")
}

// The tests below rely on checkSignature, and this one on the example that AWS's page works out.
func TestCheckSignature(t *testing.T) {
	const example = "https://examplebucket.s3.amazonaws.com/test.txt" +
		"?X-Amz-Algorithm=AWS4-HMAC-SHA256" +
		"&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" +
		"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
	const secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

	if !checkSignature(t, http.MethodGet, example, nil, secret) {
		t.Error("the example's signature was not found to be right")
	}
	for what, changed := range map[string]string{
		"path":     strings.Replace(example, "test.txt", "best.txt", 1),
		"host":     strings.Replace(example, "examplebucket", "otherbucket", 1),
		"lifetime": strings.Replace(example, "86400", "86401", 1),
		"added":    example + "&x=y",
	} {
		if checkSignature(t, http.MethodGet, changed, nil, secret) {
			t.Errorf("%s changed: the signature still holds", what)
		}
	}
	if checkSignature(t, http.MethodPut, example, nil, secret) {
		t.Error("method changed: the signature still holds")
	}
}
