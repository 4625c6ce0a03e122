// Package presign makes the URLs through which anybody may upload or download one object for
// a while (docs/contract.md, "Presigned URLs").
//
// It is pure: no network, no clock, no environment. The same input always gives the same URL.
package presign

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// The lifetimes that a URL can be signed for: whole seconds, both ends included (Amazon S3 API
// Reference, "Authenticating Requests: Using Query Parameters", X-Amz-Expires).
const (
	MinLifetime = 1 * time.Second
	MaxLifetime = 604800 * time.Second // seven days
)

// Why credentials cannot sign.
var (
	ErrNoCredentials      = errors.New("no credentials to sign with")
	ErrCredentialsExpired = errors.New("the credentials have expired")
)

// LifetimeError says that a URL cannot live that long, or that short. Nothing was signed.
type LifetimeError struct {
	Lifetime time.Duration // what was asked for
}

func (e *LifetimeError) Error() string {
	return fmt.Sprintf("URL lifetime %v is not a whole number of seconds from %d to %d",
		e.Lifetime, MinLifetime/time.Second, MaxLifetime/time.Second)
}

// InputError says which input no URL can be made of. Nothing was signed.
type InputError struct {
	Field  string // the input's name: "bucket", "key", "size" ...
	Value  string
	Reason string
}

func (e *InputError) Error() string { return fmt.Sprintf("%s %q %s", e.Field, e.Value, e.Reason) }

// Credentials is the pair of keys that signs. A URL tells everybody who sees it the
// AccessKeyID and the SessionToken, never the SecretAccessKey.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	SessionToken    string    // of temporary credentials; else empty
	Expires         time.Time // when the service stops to accept them; zero: never
}

// Signer makes the URLs of one bucket.
type Signer struct {
	// Endpoint is the URL of an S3 server other than AWS: scheme (http or https), host, port
	// and base path. Empty: AWS's host for Region.
	Endpoint    string
	Region      string
	Bucket      string
	Credentials Credentials
}

// URL is a presigned URL and what its user must know of it.
type URL struct {
	URL string
	// Expires is the true end of life, UTC: the lifetime counts from the second in which the
	// URL was signed, and a URL dies with the credentials that signed it.
	Expires time.Time
	// Header is what the sender must send along, nil for nothing. Content-Length is in it where
	// the size is limited, although most HTTP clients set it from the body.
	Header http.Header
}

// Put returns the URL to upload the object key with a PUT request, signed at the time at
// (fractions of a second are dropped). Without limits it accepts any body of any type.
//
// It fails with [*LifetimeError], [*InputError], [ErrNoCredentials] or [ErrCredentialsExpired].
func (s Signer) Put(key string, at time.Time, lifetime time.Duration, limits Limits) (URL, error) {
	return s.sign(http.MethodPut, key, url.Values{}, limits, at, lifetime)
}

// Get returns the URL to download the object key, signed at the time at (fractions of a second
// are dropped). The answer will carry the header Content-Disposition of [ContentDisposition]
// for name, and mimeType as Content-Type. Of a mimeType with parameters only the type is
// taken; one that is no MIME type becomes application/octet-stream; the empty one stays empty,
// as the API does it.
//
// It fails with [*LifetimeError], [*InputError], [ErrNoCredentials] or [ErrCredentialsExpired].
func (s Signer) Get(key, name, mimeType string, at time.Time, lifetime time.Duration) (URL, error) {
	query := url.Values{
		"response-content-disposition": {ContentDisposition(name)},
		"response-content-type":        {responseType(mimeType)},
	}
	return s.sign(http.MethodGet, key, query, Limits{}, at, lifetime)
}

// sign makes the URL. query gets the signature's parameters added.
func (s Signer) sign(method, key string, query url.Values, limits Limits, at time.Time, lifetime time.Duration) (URL, error) {
	if lifetime < MinLifetime || lifetime > MaxLifetime || lifetime%time.Second != 0 {
		return URL{}, &LifetimeError{Lifetime: lifetime}
	}
	expires := at.UTC().Truncate(time.Second).Add(lifetime)
	if end := s.Credentials.Expires; !end.IsZero() {
		if !at.Before(end) {
			return URL{}, fmt.Errorf("%w at %s", ErrCredentialsExpired, end.UTC().Format(time.RFC3339))
		}
		if end.Before(expires) {
			expires = end.UTC()
		}
	}
	if s.Credentials.AccessKeyID == "" || s.Credentials.SecretAccessKey == "" {
		return URL{}, ErrNoCredentials
	}
	target, err := s.object(key)
	if err != nil {
		return URL{}, err
	}
	length, header, err := limits.header()
	if err != nil {
		return URL{}, err
	}

	query.Set("X-Amz-Expires", strconv.FormatInt(int64(lifetime/time.Second), 10))
	target.RawQuery = query.Encode()
	request := &http.Request{
		Method: method, URL: target, Host: target.Host, Header: header, ContentLength: length,
	}
	credentials := aws.Credentials{
		AccessKeyID:     s.Credentials.AccessKeyID,
		SecretAccessKey: s.Credentials.SecretAccessKey,
		SessionToken:    s.Credentials.SessionToken,
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) {
		// S3 signs the path as it stands in the URL; every other service escapes it once more.
		o.DisableURIPathEscaping = true
		// What must be sent as a header must not also become a parameter.
		o.DisableHeaderHoisting = true
	})
	signed, _, err := signer.PresignHTTP(context.Background(), credentials, request,
		"UNSIGNED-PAYLOAD", "s3", s.Region, at)
	if err != nil {
		return URL{}, fmt.Errorf("sign the URL of %q: %w", key, err)
	}
	return URL{URL: signed, Expires: expires, Header: header}, nil
}

// object returns the address of the object, path style, without a query.
func (s Signer) object(key string) (*url.URL, error) {
	// The region becomes a part of the host, and the bucket the first element of the path:
	// neither may reach into anything else.
	if s.Region == "" || strings.ContainsFunc(s.Region, notIn("-_")) {
		return nil, &InputError{"region", s.Region, "is not a region's name"}
	}
	if strings.Trim(s.Bucket, ".") == "" || strings.ContainsFunc(s.Bucket, notIn("-_.")) {
		return nil, &InputError{"bucket", s.Bucket, "is not a bucket's name"}
	}
	if key == "" {
		return nil, &InputError{"key", key, "is empty"}
	}
	base, err := s.Server()
	if err != nil {
		return nil, err
	}
	path := strings.TrimRight(base.Path, "/") + "/" + s.Bucket + "/" + key
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: path, RawPath: escapePath(path)}, nil
}

// Server returns the address of the S3 service, to which all URLs lead: scheme, host and base path. Errors are those of an
// Endpoint that is none, an [*InputError].
func (s Signer) Server() (*url.URL, error) {
	if s.Endpoint == "" {
		return &url.URL{Scheme: "https", Host: awsHost(s.Region)}, nil
	}
	u, err := url.Parse(s.Endpoint)
	switch {
	case err != nil:
		return nil, &InputError{"endpoint", "", "is not a URL"} // it may hold a password
	case u.User != nil:
		return nil, &InputError{"endpoint", u.Redacted(), "has a user name in it"}
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, &InputError{"endpoint", s.Endpoint, "does not begin with http:// or https://"}
	case u.Hostname() == "" || strings.ContainsFunc(u.Hostname(), notIn("-_.:")):
		return nil, &InputError{"endpoint", s.Endpoint, "has no valid host"}
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, &InputError{"endpoint", s.Endpoint, "has a query or a fragment"}
	}
	// The host is signed, so it has to be the one that every client will send: some put the
	// host in lower case and leave a default port away, some send what the URL says.
	host, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme]:
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return &url.URL{Scheme: u.Scheme, Host: host, Path: u.Path}, nil
}

// awsHost returns the host of S3 in region (docs/contract.md, "Presigned URLs").
func awsHost(region string) string {
	switch {
	case region == "us-east-1":
		return "s3.amazonaws.com"
	case strings.HasPrefix(region, "cn-"):
		return "s3." + region + ".amazonaws.com.cn"
	default:
		return "s3." + region + ".amazonaws.com"
	}
}

// escape percent-encodes everything but A-Za-z0-9-_.~, byte by byte (Amazon S3 API Reference,
// "Authenticating Requests: Using Query Parameters", UriEncode).
func escape(s string) string {
	// The one character that url.QueryEscape treats in its own way is the space; a plus sign of
	// s itself is %2B already.
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}

// escapePath is escape, but for the slashes.
func escapePath(s string) string { return strings.ReplaceAll(escape(s), "%2F", "/") }

// notIn returns a function that finds what is neither an ASCII letter nor a digit nor in extra.
func notIn(extra string) func(rune) bool {
	return func(r rune) bool {
		letterOrDigit := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letterOrDigit && !strings.ContainsRune(extra, r)
	}
}
