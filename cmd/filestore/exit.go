package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/transfer"
)

// The exit statuses (docs/output.md, "Exit status").
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitPartial     = 3
	exitNotFound    = 4
	exitPermission  = 5
	exitConflict    = 6
	exitRetry       = 7
	exitInterrupted = 130
)

// exitStatuses are all of them.
func exitStatuses() []int {
	return []int{exitOK, exitFailed, exitUsage, exitPartial, exitNotFound, exitPermission, exitConflict, exitRetry, exitInterrupted}
}

// exitStatusHelp ends the help of every command.
const exitStatusHelp = `
EXIT STATUS
  0  done
  1  other failure
  2  usage or configuration
  3  some items failed, the others are done
  4  not found, expired, deleted or not uploaded
  5  credentials or permission
  6  conflict: something is there already, or changed meanwhile
  7  worth retrying: throttled, network, timeout
  130  interrupted
`

// usageError is a command line or a configuration that can't be right.
type usageError struct {
	err  error
	hint string
}

func usagef(hint, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), hint: hint}
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// itemsError says that some or all items failed. Each has been reported already.
type itemsError struct{ status, failed, done int }

func (e *itemsError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

// tally counts what became of the items of one command.
type tally struct {
	done   int
	failed int
	status int // of all failures where they agree, else exitPartial
}

func (t *tally) ok() { t.done++ }

func (t *tally) fail(err error) {
	status := exitStatus(err)
	if t.failed++; t.failed == 1 {
		t.status = status
	} else if t.status != status {
		t.status = exitPartial
	}
}

// result is nil where nothing failed. Where everything failed for one reason, the exit status is
// of that reason.
func (t *tally) result() error {
	switch {
	case t.failed == 0:
		return nil
	case t.done > 0:
		return &itemsError{exitPartial, t.failed, t.done}
	default:
		return &itemsError{t.status, t.failed, t.done}
	}
}

// report prints an error, unless its items have been reported, and returns the exit status.
func (a *app) report(err error) int {
	if err == nil {
		return exitOK
	}
	items, ok := errors.AsType[*itemsError](err)
	if !ok {
		status := exitStatus(err)
		a.fail(subject{}, err, slog.Int("status", status))
		return status
	}
	for _, e := range besideItems(err) {
		a.fail(subject{}, e)
	}
	a.logEnd(items)
	return items.status
}

// statusOf is the exit status of a command that ends with err now.
func (a *app) statusOf(err error) int {
	if err == nil {
		return exitOK
	}
	if a.cause() != nil {
		if a.timeOver() != nil {
			return exitRetry
		}
		return exitInterrupted
	}
	if items, ok := errors.AsType[*itemsError](err); ok {
		return items.status
	}
	return exitStatus(err)
}

// besideItems finds what has been joined to an *itemsError and not been reported yet.
func besideItems(err error) []error {
	if _, ok := errors.AsType[*itemsError](err); !ok {
		return []error{err}
	}
	var found []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			found = append(found, besideItems(e)...)
		}
	}
	return found
}

// exitStatus maps an error to the exit status.
func exitStatus(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*existsError](err); ok {
		return exitConflict
	}
	if _, ok := errors.AsType[*local.ServedError](err); ok {
		return exitConflict
	}
	if _, ok := errors.AsType[*local.ListenError](err); ok {
		return exitConflict
	}
	if isLocalConfiguration(err) || isCobraUsage(err) {
		return exitUsage
	}
	if _, ok := errors.AsType[*unfinishedError](err); ok {
		return exitRetry
	}
	switch client.ReasonOf(err) {
	case client.Usage:
		return exitUsage
	case client.NotFound, client.Expired, client.Deleted, client.NotUploaded, client.NotStored:
		return exitNotFound
	case client.Permission:
		return exitPermission
	case client.Conflict:
		return exitConflict
	case client.Retry:
		return exitRetry
	case client.Interrupted:
		return exitInterrupted
	case client.Failed:
	}
	return exitFailed
}

func isLocalConfiguration(err error) bool {
	if errors.Is(err, local.ErrUnsupported) {
		return true
	}
	if _, ok := errors.AsType[*local.NotStoreError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*local.UnsafeError](err); ok {
		return true
	}
	_, ok := errors.AsType[*local.VersionError](err)
	return ok
}

// describe returns the text of an error for the user. What the SDK says of a failed call begins
// with three layers of its own; kept are the service, the operation, and why it failed.
func describe(err error) string {
	text := err.Error()
	// Cobra puts what may have been meant by an unknown command on lines of their own.
	if said, names, ok := strings.Cut(text, "\n\nDid you mean this?\n\t"); ok && isCobraUsage(err) {
		return said + "; did you mean " + strings.Join(strings.Fields(names), " or ") + "?"
	}
	for _, op := range operationErrors(err) {
		cause := op.Unwrap()
		if api, ok := errors.AsType[smithy.APIError](cause); ok {
			cause = fmt.Errorf("%s: %s", api.ErrorCode(), cmp.Or(api.ErrorMessage(), "no message"))
		} else if sent, ok := errors.AsType[*smithyhttp.RequestSendError](cause); ok {
			cause = sent.Err
		}
		text = strings.ReplaceAll(text, op.Error(), fmt.Sprintf("%s %s: %v", op.Service(), op.Operation(), cause))
	}
	return text
}

// operationErrors finds the failed calls in the tree of err.
func operationErrors(err error) []*smithy.OperationError {
	switch e := err.(type) { //nolint:errorlint // the tree is walked here
	case *smithy.OperationError:
		return []*smithy.OperationError{e}
	// Two errors whose text tells more than what they unwrap to.
	case *client.UndoError:
		return append(operationErrors(e.Err), operationErrors(e.Undo)...)
	case *transfer.UploadError:
		return append(operationErrors(e.Err), operationErrors(e.Leftover)...)
	case interface{ Unwrap() []error }:
		var found []*smithy.OperationError
		for _, inner := range e.Unwrap() {
			found = append(found, operationErrors(inner)...)
		}
		return found
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return operationErrors(inner)
		}
	}
	return nil
}

// isCobraUsage recognizes the errors that cobra makes without a type of their own.
func isCobraUsage(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "unknown command ") || strings.HasPrefix(text, "required flag(s) ") ||
		strings.HasPrefix(text, "if any flags in the group ")
}

// hintFor tells what can be done about an error, "" where that is plain or unknown.
func hintFor(err error) string {
	if usage, ok := errors.AsType[*usageError](err); ok {
		return usage.hint
	}
	if existing, ok := errors.AsType[*existsError](err); ok {
		return fmt.Sprintf("--force overwrites %q", existing.path)
	}
	if _, ok := errors.AsType[*client.RenewError](err); ok {
		return "--renew uploads it as a new file"
	}
	if resumable, ok := errors.AsType[*resumableError](err); ok {
		return resumable.hint()
	}
	if kept, ok := errors.AsType[*keptError](err); ok {
		return kept.hint()
	}
	if _, ok := errors.AsType[*client.UploadLifetimeError](err); ok {
		return "--url-expiration raises it; set it for every client, sweeps included"
	}
	if _, ok := errors.AsType[*unfinishedError](err); ok {
		return "run it again: it goes through the table in another order each time"
	}
	if audit, ok := errors.AsType[*client.AuditError](err); ok && audit.Left > 0 {
		return "the next sweep deletes what is marked"
	}
	if errors.Is(err, client.ErrNoCredentials) {
		return "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; or try --local, which needs no account"
	}
	if _, ok := errors.AsType[*local.NotStoreError](err); ok {
		return "name a directory that is empty or does not exist yet: --local=DIR"
	}
	if unsafe, ok := errors.AsType[*local.UnsafeError](err); ok && unsafe.Mend != "" {
		return unsafe.Mend + " " + shellWord(unsafe.Path)
	}
	if undo, ok := errors.AsType[*client.UndoError](err); ok && undo.PerhapsStored {
		return fmt.Sprintf(`"filestore delete %s" removes what is left`, undo.ID)
	}
	if errors.Is(err, context.Canceled) {
		return ""
	}
	if isCobraUsage(err) {
		return `see "filestore --help"`
	}
	switch client.ReasonOf(err) {
	case client.NotStored:
		return `keep it with "filestore store ID", or show temporary files with --nonstored`
	case client.NotUploaded:
		return "an upload that has just ended may take some seconds to show"
	case client.Usage:
		if isMissingResource(err) {
			return `"filestore init" creates the bucket and the table`
		}
		if transfer.IsWrongTLS(err) {
			return "AWS_CA_BUNDLE names a file with the certificates of an authority of your own; an endpoint may need http instead of https"
		}
		if client.IsElsewhere(err) {
			return "the bucket is in another region; --region names it"
		}
	case client.Retry:
		return "trying again may help"
	case client.Permission:
		return "check the credentials and what they allow"
	case client.NotFound, client.Expired, client.Deleted, client.Conflict, client.Failed, client.Interrupted:
	}
	return ""
}
