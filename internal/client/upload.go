package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/state"
	"github.com/designfultech/filestore/internal/transfer"
)

// UploadRequest is one file to be uploaded: its content is in File or, of unknown length, in
// Stream.
type UploadRequest struct {
	Name     string
	Type     string            // MIME type; empty: application/octet-stream
	Meta     map[string]string // nil: the record gets none
	Store    bool              // store at once; the setting StoreOnLoad does it for every file
	File     transfer.File
	Stream   io.Reader
	Progress transfer.Progress

	// Journal remembers an upload of File in parts, so that another process can go on with it. After a
	// success the caller removes it, once it has told the id: whoever goes on before that finds the file
	// to be there. It may be nil.
	Journal *state.Upload
	// Resume goes on with what the Journal remembers. After a failure everything is kept to be gone on with
	// once more, and the error is a [*KeptError].
	Resume bool
	// Resumed is told what is gone on with: the size of its parts, and how many bytes are there. It may be
	// nil.
	Resumed func(partSize, there int64)
	// Anew is told why what the Journal remembers can't be gone on with. It may be nil.
	Anew func(why error)
}

// idAttempts is how often another id is tried. Two equal random ids are not expected in the
// life of a deployment.
const idAttempts = 3

// Upload carries out "create" and "uploaded" (docs/contract.md, "The transitions") with the
// transfer between them: a placeholder, so that a sweep finds what a killed upload leaves; the
// object; and only when S3 has confirmed it, the record says uploaded.
//
// After an error nothing is left: the object and the multipart upload are removed and the
// placeholder is discarded. Only where it cannot be known whether S3 still writes the object is
// the record kept, as deleted, so that sweeps delete the object once more should it appear.
func (c *Client) Upload(ctx context.Context, req UploadRequest) (records.Record, error) {
	if err := ctx.Err(); err != nil {
		return records.Record{}, failed("", err)
	}
	mime := baseType(req.Type)
	if req.File != nil && req.Journal != nil {
		return c.uploadJournaled(ctx, req, mime)
	}
	var stream *transfer.Stream
	if req.File == nil {
		var err error
		if stream, err = c.Transfer.OpenStream(req.Stream); err != nil {
			return records.Record{}, failed("", err)
		}
	}
	id, err := c.create(ctx, req.Name, req.Meta)
	if err != nil {
		return records.Record{}, err
	}
	object, err := c.send(ctx, id, mime, req, stream)
	if err != nil {
		outcome := transfer.NotWritten
		if upload, ok := errors.AsType[*transfer.UploadError](err); ok {
			outcome = upload.Outcome
		}
		return records.Record{}, failed(id, c.undo(ctx, id, outcome, err))
	}
	storing := req.Store || c.Settings.StoreOnLoad
	record, err := c.Records.Uploaded(ctx, id, records.Upload{At: c.stamp(), Type: mime, Size: object.Size, Store: storing})
	switch {
	case err == nil:
		return record, nil
	case errors.Is(err, records.ErrDeleted), errors.Is(err, records.ErrNotFound):
		// The contract: "if it was deleted meanwhile: delete the object again".
		ctx, cancel := transfer.Cleanup(ctx)
		defer cancel()
		return records.Record{}, failed(id, errors.Join(
			fmt.Errorf("the file was deleted while it was being uploaded: %w", err), c.deleteObject(ctx, id)))
	default:
		// Whether the write took place is not known.
		return records.Record{}, failed(id, perhapsStored(c.undo(ctx, id, transfer.Unknown, err), storing))
	}
}

// create carries out "create": a placeholder under an id that nobody has.
func (c *Client) create(ctx context.Context, name string, meta map[string]string) (string, error) {
	return c.createIntended(ctx, name, meta, func(string) error { return nil })
}

// createIntended is create, and tells intend each id before a record of it is made.
func (c *Client) createIntended(ctx context.Context, name string, meta map[string]string, intend func(id string) error) (string, error) {
	r, err := newRecord(name, meta, c.stamp())
	if err != nil {
		return "", err
	}
	for range idAttempts {
		r.ID = c.NewID()
		if err := intend(r.ID); err != nil {
			return "", err
		}
		createCtx, cancel := transfer.Outlive(ctx)
		err = c.Records.Create(createCtx, r)
		cancel()
		if err == nil {
			return r.ID, nil
		}
		if isUnsent(err) {
			return "", failed("", err)
		}
		if !errors.Is(err, records.ErrExists) {
			// The write may have taken place although its answer was lost.
			return "", failed("", c.undo(ctx, r.ID, transfer.NotWritten, err))
		}
	}
	return "", fmt.Errorf("no free id found: %w", err)
}

// newRecord is a placeholder without an id.
func newRecord(name string, meta map[string]string, at records.Stamp) (records.Record, error) {
	r := records.Record{Name: name, CreatedAt: at, Size: -1}
	if len(meta) > 0 {
		text, err := json.Marshal(meta)
		if err != nil {
			return records.Record{}, err
		}
		r.Meta = string(text)
	}
	return r, nil
}

func (c *Client) send(ctx context.Context, id, mime string, req UploadRequest, stream *transfer.Stream) (transfer.Object, error) {
	if req.File != nil {
		return c.Transfer.UploadFile(ctx, id, mime, req.File, req.Progress)
	}
	return c.Transfer.UploadStream(ctx, id, mime, stream, req.Progress)
}

// undo removes what a failed upload has left and returns its error, together with those of the
// removal. It works on after ctx has ended.
//
// The order makes sure that a crash in between leaves nothing that no sweep finds: while an
// object may be there, so is a record of its id.
func (c *Client) undo(ctx context.Context, id string, outcome transfer.Outcome, cause error) error {
	ctx, cancel := transfer.Cleanup(ctx)
	defer cancel()
	var err error
	switch outcome {
	case transfer.Unknown:
		if _, err = c.Records.Delete(ctx, id, c.stamp()); err == nil {
			err = c.deleteObject(ctx, id)
		}
	case transfer.Written:
		if err = c.deleteObject(ctx, id); err == nil {
			err = c.Records.Discard(ctx, id)
			if errors.Is(err, records.ErrUploaded) || errors.Is(err, records.ErrStored) {
				// A notification of the object came first.
				_, err = c.Records.Delete(ctx, id, c.stamp())
			}
		} else {
			_, deleteErr := c.Records.Delete(ctx, id, c.stamp())
			err = errors.Join(err, deleteErr)
		}
	case transfer.NotWritten:
		err = c.Records.Discard(ctx, id)
	}
	// Where somebody deleted the file meanwhile, nothing is left either.
	if err == nil || errors.Is(err, records.ErrNotFound) || errors.Is(err, records.ErrDeleted) {
		return cause
	}
	return &UndoError{ID: id, Err: cause, Undo: err}
}

// UndoError is a failure whose traces could not be removed either: the record of ID, and maybe
// an object, are left for the sweeps.
type UndoError struct {
	ID   string
	Err  error // the failure itself
	Undo error // why something is left
	// PerhapsStored says that the record may say stored: then no sweep removes it.
	PerhapsStored bool
}

// perhapsStored notes in the error of an undo what a last write that may have taken place has asked for.
func perhapsStored(err error, storing bool) error {
	if undo, ok := errors.AsType[*UndoError](err); ok {
		undo.PerhapsStored = storing
	}
	return err
}

func (e *UndoError) Error() string {
	if e.PerhapsStored {
		return fmt.Sprintf("%v (and file %q is left, perhaps as a stored one, which no sweep removes: %v)", e.Err, e.ID, e.Undo)
	}
	return fmt.Sprintf("%v (and file %q is left for a sweep: %v)", e.Err, e.ID, e.Undo)
}

// Unwrap returns the failure itself: it decides the exit status.
func (e *UndoError) Unwrap() error { return e.Err }

func (c *Client) deleteObject(ctx context.Context, id string) error {
	_, err := c.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &c.Bucket, Key: &id})
	return err
}

// baseType returns a MIME type without its parameters: "the text before the first ;"
// (docs/contract.md, "The record").
func baseType(mime string) string {
	mime, _, _ = strings.Cut(mime, ";")
	if mime = strings.TrimSpace(mime); mime == "" {
		return "application/octet-stream"
	}
	return mime
}
