package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/state"
	"github.com/designfultech/filestore/internal/transfer"
)

// Reason classifies a failure by what can be done about it. The texts are part of the JSON
// output (docs/output.md).
type Reason string

// The reasons.
const (
	Failed      Reason = "failed"       // anything else
	Usage       Reason = "usage"        // the request or the configuration is wrong
	NotFound    Reason = "not_found"    // there is no such file
	Expired     Reason = "expired"      // it was temporary and its time ran out
	Deleted     Reason = "deleted"      // somebody deleted it
	NotUploaded Reason = "not_uploaded" // the record is there, the object is not yet
	NotStored   Reason = "not_stored"   // temporary, and only stored files were asked for
	Permission  Reason = "permission"   // credentials are missing, wrong, or not allowed to
	Conflict    Reason = "conflict"     // something is there already, or changed meanwhile
	Retry       Reason = "retry"        // throttled, no network, no answer: worth another try
	Interrupted Reason = "interrupted"  // the caller's context ended
)

// FileError is why an operation on one file failed.
type FileError struct {
	ID     string
	Reason Reason
	Err    error
}

func (e *FileError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *FileError) Unwrap() error { return e.Err }

// ErrStoreOnLoad is the answer to store where every file is stored at once.
var ErrStoreOnLoad = errors.New("configured to store files at the time of upload")

// ErrObjectMissing says that there is a record but no object.
var ErrObjectMissing = errors.New("the record is there, but its object is not in the bucket")

func fileError(id string, reason Reason, format string, args ...any) *FileError {
	return &FileError{ID: id, Reason: reason, Err: fmt.Errorf(format, args...)}
}

// failed turns err into a *FileError for id, classified by [ReasonOf]. nil stays nil.
func failed(id string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*FileError](err); ok {
		return err
	}
	return &FileError{ID: id, Reason: ReasonOf(err), Err: err}
}

// ReasonOf classifies an error of this package, of the packages below it, or of the SDK.
func ReasonOf(err error) Reason {
	if fe, ok := errors.AsType[*FileError](err); ok {
		return fe.Reason
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, records.ErrNotFound), errors.Is(err, ErrObjectMissing):
		return NotFound
	case errors.Is(err, records.ErrDeleted):
		return Deleted
	case errors.Is(err, records.ErrNotUploaded):
		return NotUploaded
	case errors.Is(err, records.ErrStored), errors.Is(err, records.ErrUploaded), errors.Is(err, records.ErrExists), errors.Is(err, records.ErrChanged),
		errors.Is(err, transfer.ErrChanged), errors.Is(err, state.ErrLocked):
		return Conflict
	case errors.Is(err, ErrStoreOnLoad):
		return Usage
	case errors.Is(err, ErrNoCredentials), errors.Is(err, presign.ErrNoCredentials), errors.Is(err, presign.ErrCredentialsExpired):
		return Permission
	case errors.Is(err, records.ErrBusy), errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.ErrUnexpectedEOF):
		return Retry
	}
	if _, ok := errors.AsType[*presign.LifetimeError](err); ok {
		return Usage
	}
	if _, ok := errors.AsType[*presign.InputError](err); ok {
		return Usage
	}
	if _, ok := errors.AsType[*UploadLifetimeError](err); ok {
		return Usage
	}
	if reason, ok := reasonOfAPI(err); ok {
		return reason
	}
	if transfer.IsWrongTLS(err) {
		return Usage
	}
	if isNetwork(err) || retry.NewStandard().IsErrorRetryable(err) {
		return Retry
	}
	return Failed
}

// isNetwork reports whether err comes of the network. net.Error would take every error of a
// system call for one.
func isNetwork(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	_, ok := errors.AsType[*smithyhttp.RequestSendError](err)
	return ok
}

// isUnsent reports whether it is certain that a request changed nothing: it did not reach the
// service, or was refused for what it is or whom it comes from.
func isUnsent(err error) bool {
	if transfer.IsUnconnected(err) || transfer.IsWrongTLS(err) || errors.Is(err, records.ErrBusy) {
		return true
	}
	reason, ok := reasonOfAPI(err)
	return ok && (reason == Usage || reason == Permission)
}

// reasonOfAPI classifies what a service answered, by its code (Amazon S3 API Reference, "Error
// responses"; Amazon DynamoDB Developer Guide, "Error handling with DynamoDB") and, where the
// answer to a HEAD request carries none, by its status.
func reasonOfAPI(err error) (Reason, bool) {
	api, isAPI := errors.AsType[smithy.APIError](err)
	if isAPI {
		switch code := api.ErrorCode(); code {
		case "AccessDenied", "AccessDeniedException", "AllAccessDisabled", "AccountProblem", "Forbidden",
			"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSignatureException", "UnrecognizedClientException",
			"InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken",
			"MissingAuthenticationToken", "MissingAuthenticationTokenException", "IncompleteSignature",
			"RequestTimeTooSkewed", "XAdminUserNotFound", "NotSignedUp":
			return Permission, true
		case "NoSuchBucket", "ResourceNotFoundException", "InvalidBucketName", "PermanentRedirect",
			"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "ValidationException":
			return Usage, true
		case "NoSuchKey", "NotFound":
			return NotFound, true
		case "PreconditionFailed", "NoSuchUpload", "BucketAlreadyExists", "ResourceInUseException", "OperationAborted":
			return Conflict, true
		case "SlowDown", "BadDigest", "InternalError", "InternalServerError", "ServiceUnavailable", "RequestTimeout":
			return Retry, true
		default:
			if strings.Contains(code, "Throttl") || strings.Contains(code, "LimitExceeded") || strings.Contains(code, "ThroughputExceeded") {
				return Retry, true
			}
		}
	}
	switch status := transfer.StatusOf(err); {
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return Permission, true
	case status == http.StatusNotFound:
		// Without a code it is not the service's: something before it has no backend just now.
		return "", false
	case IsElsewhere(err):
		return Usage, true
	case status == http.StatusNotImplemented, status == http.StatusInsufficientStorage:
		return "", false
	case status == http.StatusTooManyRequests, status >= 500:
		return Retry, true
	}
	return "", false
}

// IsElsewhere reports whether S3 answered that the bucket is in another region.
func IsElsewhere(err error) bool {
	return transfer.StatusOf(err) == http.StatusMovedPermanently
}

// isMissing reports whether S3 answered that there is no such object.
func isMissing(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && (api.ErrorCode() == "NotFound" || api.ErrorCode() == "NoSuchKey")
}
