package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/state"
	"github.com/designfultech/filestore/internal/transfer"
)

// KeptError is an upload that failed and can be gone on with: the record of ID is kept as a
// placeholder, and what was sent with it.
type KeptError struct {
	ID  string
	Err error
}

func (e *KeptError) Error() string { return e.Err.Error() }

// Unwrap returns the failure itself.
func (e *KeptError) Unwrap() error { return e.Err }

// Why an upload can't be gone on with, for errors.Is.
var (
	ErrRecordGone    = errors.New("its record was deleted, by a sweep or by somebody")
	ErrOtherUploaded = errors.New("what was uploaded under its id is not this file")
)

// journaled is an upload of a file that a journal remembers. The order of its writes is that of Upload,
// and before each that makes something, the journal has what is needed to find it again:
//
//  1. the id, before the record is created;
//  2. the multipart upload, before the first part is sent;
//  3. the same still, once the record says uploaded, until the caller has told the id.
//
// Killed at any time, it leaves what [Client.Upload] with Resume goes on with.
type journaled struct {
	*Client
	req   UploadRequest
	mime  string
	entry state.UploadEntry
}

func (c *Client) uploadJournaled(ctx context.Context, req UploadRequest, mime string) (records.Record, error) {
	info, err := req.File.Stat()
	if err != nil {
		return records.Record{}, failed("", err)
	}
	u := &journaled{Client: c, req: req, mime: mime}
	// A journal that names no id is damaged. What it leads to must not be deleted.
	if entry, found := req.Journal.Entry(); found && req.Resume && ValidID(entry.ID) {
		changed := info.Size() != entry.Size || !info.ModTime().Equal(entry.ModTime)
		u.entry = entry
		if record, ended, err := u.resume(ctx, changed); ended || err != nil {
			return record, failed(entry.ID, err)
		}
	}
	if !c.Transfer.InParts(info.Size()) {
		req.Journal = nil // one request: there is nothing to go on with
		return c.Upload(ctx, req)
	}
	_, err = c.createIntended(ctx, req.Name, req.Meta, func(id string) error {
		u.entry = state.UploadEntry{Size: info.Size(), ModTime: info.ModTime(), ID: id, Begun: c.Now().UTC(), Type: mime}
		return u.save()
	})
	if err != nil {
		if _, left := errors.AsType[*UndoError](err); !left {
			u.forget()
		}
		return records.Record{}, err
	}
	return u.fill(ctx, transfer.Checkpoint{})
}

// save remembers u.entry. An upload that nobody has asked to be resumable goes on without.
func (u *journaled) save() error {
	err := u.req.Journal.Save(u.entry)
	if err != nil && u.req.Resume {
		return fmt.Errorf("remember the upload: %w", err)
	}
	return nil
}

// forget removes the entry. One that stays is found to be done with by whoever reads it.
func (u *journaled) forget() { _ = u.req.Journal.Remove() }

func (u *journaled) moved(n int64) {
	if u.req.Progress != nil {
		u.req.Progress(n)
	}
}

func (u *journaled) begunAnew(why error) {
	if u.req.Anew != nil {
		u.req.Anew(why)
	}
}

// resume goes on with what the journal remembers. ended is false where that can't be gone on with, nothing
// of it is left, and the file is to be uploaded as if it had never been.
func (u *journaled) resume(ctx context.Context, changed bool) (record records.Record, ended bool, err error) {
	found, err := u.Records.Get(ctx, []string{u.entry.ID})
	if err != nil {
		return records.Record{}, false, err
	}
	record, ok := found[u.entry.ID]
	switch {
	case !ok || record.State() == records.Deleted:
		// The record was discarded or deleted; or the process was killed before it made one.
		if err := u.removeTraces(ctx); err != nil {
			return records.Record{}, false, err
		}
		if ok || u.entry.UploadID != "" {
			u.begunAnew(ErrRecordGone)
		}
	case record.State() == records.Placeholder && !changed:
		record, err := u.goOn(ctx)
		return record, true, err
	case record.State() == records.Placeholder:
		if err := u.removeTraces(ctx); err != nil {
			return records.Record{}, false, err
		}
		if err := u.discard(ctx); err != nil {
			return records.Record{}, false, err
		}
		u.begunAnew(transfer.ErrChanged)
	case changed: // since it was uploaded
		u.begunAnew(transfer.ErrChanged)
	default:
		_, same, err := u.Transfer.Holds(ctx, record.ID, u.req.File, u.checkpoint())
		if err != nil {
			return records.Record{}, false, err
		}
		if same {
			record, err := u.again(ctx, record)
			return record, true, err
		}
		if err := u.abort(ctx); err != nil {
			return records.Record{}, false, err
		}
		u.begunAnew(ErrOtherUploaded)
	}
	return records.Record{}, false, u.req.Journal.Remove()
}

// removeTraces removes what an upload may have left in the bucket that no record will tell of.
func (u *journaled) removeTraces(ctx context.Context) error {
	if err := u.abort(ctx); err != nil {
		return err
	}
	return u.deleteObject(ctx, u.entry.ID)
}

// abort aborts the multipart upload, which may have been begun although the process was killed before
// the journal knew of it.
func (u *journaled) abort(ctx context.Context) error {
	if u.entry.UploadID == "" {
		return u.abortUploads(ctx, u.entry.ID)
	}
	return u.Transfer.AbortUpload(ctx, u.entry.ID, u.entry.UploadID)
}

// discard removes the placeholder. Where a sweep has just found the object and recorded it as uploaded, the
// object is gone by now.
func (u *journaled) discard(ctx context.Context) error {
	err := u.Records.Discard(ctx, u.entry.ID)
	switch {
	case errors.Is(err, records.ErrUploaded), errors.Is(err, records.ErrStored):
		_, err = u.Records.Delete(ctx, u.entry.ID, u.stamp())
	case errors.Is(err, records.ErrNotFound), errors.Is(err, records.ErrDeleted):
		return nil
	}
	return err
}

// again is the answer for a file that was uploaded already.
func (u *journaled) again(ctx context.Context, record records.Record) (records.Record, error) {
	if record.State() == records.Temporary && (u.req.Store || u.Settings.StoreOnLoad) {
		stored, err := u.Records.Store(ctx, record.ID, u.stamp(), nil)
		if err != nil {
			return records.Record{}, u.explain(record.ID, err)
		}
		record = stored
	}
	u.moved(record.Size)
	return record, nil
}

// goOn fills a placeholder that is there.
func (u *journaled) goOn(ctx context.Context) (records.Record, error) {
	u.mime = u.entry.Type
	if u.entry.UploadID == "" {
		if err := u.abort(ctx); err != nil {
			return records.Record{}, u.kept(err)
		}
		return u.fill(ctx, transfer.Checkpoint{})
	}
	record, err := u.fill(ctx, u.checkpoint())
	if !errors.Is(err, transfer.ErrUploadGone) {
		return record, err
	}
	// It was completed, and the process killed before it heard of it or wrote it down; or it was aborted.
	object, same, holdsErr := u.Transfer.Holds(ctx, u.entry.ID, u.req.File, u.checkpoint())
	if holdsErr != nil {
		return records.Record{}, u.kept(holdsErr)
	}
	if same && object.Verified != "" {
		u.moved(object.Size)
		return u.uploaded(ctx, object)
	}
	u.begunAnew(transfer.ErrUploadGone)
	u.entry.UploadID = ""
	if err := u.save(); err != nil {
		return records.Record{}, err
	}
	return u.fill(ctx, transfer.Checkpoint{})
}

func (u *journaled) checkpoint() transfer.Checkpoint {
	from := transfer.Checkpoint{UploadID: u.entry.UploadID, PartSize: u.entry.PartSize, Checksum: u.entry.Checksum}
	for _, p := range u.entry.Parts {
		from.Sent = append(from.Sent, transfer.SentPart(p))
	}
	return from
}

// fill sends the object of a placeholder, from a checkpoint on, and records it as uploaded.
func (u *journaled) fill(ctx context.Context, from transfer.Checkpoint) (records.Record, error) {
	object, err := u.Transfer.UploadTracked(ctx, u.entry.ID, u.mime, u.req.File, transfer.Tracking{
		From: from,
		Begun: func(begun transfer.Checkpoint) error {
			u.entry.UploadID, u.entry.PartSize, u.entry.Checksum, u.entry.Parts = begun.UploadID, begun.PartSize, begun.Checksum, nil
			return u.save()
		},
		Resumed: func(there int64) {
			if u.req.Resumed != nil {
				u.req.Resumed(from.PartSize, there)
			}
		},
		// A part that can't be remembered is listed by the server, or else sent again.
		Sent: func(p transfer.SentPart) { _ = u.req.Journal.AddPart(state.UploadedPart(p)) },
		Keep: u.req.Resume,
	}, u.req.Progress)
	if err != nil {
		outcome := transfer.NotWritten
		if upload, ok := errors.AsType[*transfer.UploadError](err); ok {
			outcome = upload.Outcome
		}
		return records.Record{}, u.fails(ctx, outcome, err)
	}
	return u.uploaded(ctx, object)
}

// uploaded carries out "uploaded".
func (u *journaled) uploaded(ctx context.Context, object transfer.Object) (records.Record, error) {
	id := u.entry.ID
	record, err := u.Records.Uploaded(ctx, id, records.Upload{
		At: u.stamp(), Type: u.mime, Size: object.Size, Store: u.req.Store || u.Settings.StoreOnLoad,
	})
	switch {
	case err == nil:
		return record, nil
	case errors.Is(err, records.ErrDeleted), errors.Is(err, records.ErrNotFound):
		// The contract: "if it was deleted meanwhile: delete the object again".
		ctx, cancel := transfer.Cleanup(ctx)
		defer cancel()
		deleteErr := u.deleteObject(ctx, id)
		if deleteErr == nil {
			u.forget()
		}
		return records.Record{}, failed(id, errors.Join(
			fmt.Errorf("the file was deleted while it was being uploaded: %w", err), deleteErr))
	default:
		return records.Record{}, perhapsStored(u.fails(ctx, transfer.Unknown, err), u.req.Store || u.Settings.StoreOnLoad)
	}
}

// fails keeps what was sent where somebody wants to go on with it, and undoes it otherwise. What was sent of
// a file that has changed is of no use to anybody.
func (u *journaled) fails(ctx context.Context, outcome transfer.Outcome, cause error) error {
	if u.req.Resume && !errors.Is(cause, transfer.ErrChanged) {
		return u.kept(cause)
	}
	if u.req.Resume { // the engine has left it
		cleanup, cancel := transfer.Cleanup(ctx)
		defer cancel()
		if err := u.abort(cleanup); err != nil {
			return u.kept(errors.Join(cause, err))
		}
	}
	err := u.undo(ctx, u.entry.ID, outcome, cause)
	upload, _ := errors.AsType[*transfer.UploadError](cause)
	if _, left := errors.AsType[*UndoError](err); !left && (upload == nil || upload.Leftover == nil) {
		u.forget()
	}
	return failed(u.entry.ID, err)
}

func (u *journaled) kept(err error) error {
	return failed(u.entry.ID, &KeptError{ID: u.entry.ID, Err: err})
}
