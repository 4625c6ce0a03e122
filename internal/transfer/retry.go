package transfer

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
)

// WorthRetrying reports whether a request that failed may succeed when it is sent again as it is.
// It asks the SDK's classifier, which it corrects: a body that arrived damaged or too slowly, and
// every answer that asks for fewer requests, are worth it; whom one can't speak TLS with stays so.
func WorthRetrying(err error) bool {
	if errors.Is(err, ErrChanged) || IsWrongTLS(err) {
		return false
	}
	if throttled(err) || errors.Is(err, errEmptyAnswer) {
		return true
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		switch api.ErrorCode() {
		case "BadDigest", "XAmzContentChecksumMismatch", "RequestTimeout", "IncompleteBody":
			return true
		}
	}
	return retry.NewStandard().IsErrorRetryable(err)
}

// throttled reports whether the service asks for fewer requests (Amazon S3 API Reference, "Error
// responses": SlowDown, a 503; other servers answer 429).
func throttled(err error) bool {
	status := StatusOf(err)
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

// IsWrongTLS reports whether a server was reached, but none to be spoken with: its certificate is
// not trusted, or it does not speak TLS. Nothing was sent to it.
func IsWrongTLS(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok || errors.Is(err, http.ErrSchemeMismatch)
}

// IsUnconnected reports whether there was no connection at all, so that nothing was sent.
func IsUnconnected(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}
