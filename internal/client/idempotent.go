package client

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/transfer"
)

const (
	// MaxIdempotencyKey is the length of the longest idempotency key, in bytes.
	MaxIdempotencyKey = 1024

	// idempotencyLabel begins what ids are derived from, so that they are derived from nothing else.
	idempotencyLabel = "filestore idempotency key 1\n"

	// The generations of a key are read a few at a time, since most keys have one, and then more.
	firstGenerations, mostGenerations = 4, 100
	// maxGenerations is how often a key can be renewed.
	maxGenerations = 1000

	// lookAgain is how often the records of a key are read where somebody changes them meanwhile:
	// makes the record that was missing, or deletes the file.
	lookAgain = 3
)

// Idempotent is the file of an idempotency key.
type Idempotent struct {
	records.Record
	// Existing says that the file was there already, and nothing was sent.
	Existing bool
	// Differs names the attributes for which the request had another value than the record. They
	// were not changed.
	Differs []string
}

// RenewError says that the file of an idempotency key has expired or was deleted. Gone tells which
// file, and of the two.
type RenewError struct{ Gone *FileError }

func (e *RenewError) Error() string {
	return fmt.Sprintf("the file of this idempotency key, %q, is gone: %v", e.Gone.ID, e.Gone)
}

// Unwrap returns the *FileError, which has the reason.
func (e *RenewError) Unwrap() error { return e.Gone }

// DerivedID returns the id of a generation, counted from 0, of an idempotency key: the same on
// every machine ("Idempotent uploads", docs/contract.md). It is no secret: whoever knows the key
// knows the id.
func DerivedID(key string, generation int) string {
	input := []byte(idempotencyLabel)
	input = binary.BigEndian.AppendUint64(input, uint64(len(key)))
	input = append(input, key...)
	input = binary.BigEndian.AppendUint64(input, uint64(generation))
	var block uint64
	return idFrom(func() []byte {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(input, block))
		block++
		return sum[:]
	})
}

// UploadIdempotent uploads a file under an idempotency key, of 1 to [MaxIdempotencyKey] bytes
// ("Idempotent uploads", docs/contract.md). The first run makes the file, all others with the same
// key and content find it: they send nothing and return it. It is no error if they have another
// name, type or metadata; see [Idempotent]. With req.Store the file is stored, if it is not.
//
// Another content is a Conflict. Where the file has expired or was deleted it is a [*RenewError],
// and with renew there is a new file. To a file that is alive, renew does nothing.
//
// A run that fails leaves its placeholder, which a run at the same time may be filling, and which
// the next one takes up.
func (c *Client) UploadIdempotent(ctx context.Context, req UploadRequest, key string, renew bool) (Idempotent, error) {
	if key == "" || len(key) > MaxIdempotencyKey {
		return Idempotent{}, fileError("", Usage, "an idempotency key has 1 to %d bytes", MaxIdempotencyKey)
	}
	if req.File == nil {
		return Idempotent{}, fileError("", Usage, "an idempotent upload needs a file, which can be read twice")
	}
	content, err := c.Transfer.ContentOf(ctx, req.File)
	if err != nil {
		return Idempotent{}, failed("", err)
	}
	var id string
	for range lookAgain {
		var result Idempotent
		var found bool
		if id, result.Record, found, err = c.generation(ctx, key, renew); err != nil {
			break
		}
		if !found {
			if result.Record, err = c.createAs(ctx, id, req, content); errors.Is(err, records.ErrExists) {
				continue // a run at the same time was first
			}
			if err != nil {
				break
			}
		}
		if result.Fingerprint != content.String() {
			return Idempotent{}, fileError(id, Conflict, "file %q has this idempotency key, and other content", id)
		}
		if found {
			result.Differs = differing(result.Record, req)
		}
		if result.State() == records.Placeholder {
			if result.Record, err = c.fill(ctx, id, req, content); err != nil {
				break
			}
			return result, nil
		}
		result.Existing = true
		if result.Record, err = c.confirm(ctx, result.Record, req, content); err == nil {
			return result, nil
		}
		if !errors.Is(err, records.ErrDeleted) && !errors.Is(err, ErrObjectMissing) {
			break
		}
		// A sweep or a delete may have claimed the record since it was read.
	}
	return Idempotent{}, failed(id, err)
}

// generation finds the file of a key: the id of its first generation that is not deleted. found is
// false where that has no record yet, and may be made.
//
// A placeholder that was deleted was never a file, and nobody was told its id. The next generation
// needs no renewal for it.
func (c *Client) generation(ctx context.Context, key string, renew bool) (id string, r records.Record, found bool, err error) {
	var gone *FileError // the last file that the key had
	for first, n := 0, firstGenerations; first < maxGenerations; first, n = first+n, min(2*n, mostGenerations) {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = DerivedID(key, first+i)
		}
		known, err := c.Records.Get(ctx, ids)
		if err != nil {
			return "", records.Record{}, false, err
		}
		for _, id := range ids {
			switch r, ok := known[id]; {
			case !ok && gone != nil && !renew:
				return "", records.Record{}, false, &RenewError{Gone: gone}
			case !ok:
				return id, records.Record{}, false, nil
			case r.State() != records.Deleted:
				return id, r, true, nil
			case r.UploadedAt.IsSet() || r.StoredAt.IsSet():
				gone = c.gone(r)
			}
		}
	}
	return "", records.Record{}, false, fmt.Errorf("the idempotency key was renewed more than %d times", maxGenerations)
}

// createAs carries out "create" under an id that is given.
func (c *Client) createAs(ctx context.Context, id string, req UploadRequest, content transfer.Content) (records.Record, error) {
	r, err := newRecord(req.Name, req.Meta, c.stamp())
	if err != nil {
		return records.Record{}, err
	}
	r.ID, r.Fingerprint = id, content.String()
	return r, c.Records.Create(ctx, r)
}

// fill uploads the content of a placeholder, also of one that another run has made and may be
// filling: the bytes are the same.
func (c *Client) fill(ctx context.Context, id string, req UploadRequest, content transfer.Content) (records.Record, error) {
	mime := baseType(req.Type)
	object, err := c.Transfer.UploadContent(ctx, id, mime, req.File, content, req.Progress)
	if err != nil {
		return records.Record{}, errors.Join(err, c.removeWrong(ctx, id, content, err))
	}
	record, err := c.markFilled(ctx, id, records.Upload{
		At: c.stamp(), Type: mime, Size: object.Size, Store: req.Store || c.Settings.StoreOnLoad,
	})
	if errors.Is(err, records.ErrDeleted) || errors.Is(err, records.ErrNotFound) {
		// "If it was deleted meanwhile: delete the object again." Nobody's is hit: deleted is final.
		ctx, cancel := transfer.Cleanup(ctx)
		defer cancel()
		return records.Record{}, errors.Join(
			fmt.Errorf("the file was deleted while it was being uploaded: %w", err), c.deleteObject(ctx, id))
	}
	return record, err
}

// markFilled carries out "uploaded" where another run may have done so since: then its time stays, which
// somebody was told, and who asks for the file to be stored has it stored. The type becomes that of the
// object, which is from the run that has written it last.
func (c *Client) markFilled(ctx context.Context, id string, upload records.Upload) (records.Record, error) {
	r, err := c.Records.Correct(ctx, id, "", upload)
	first, ok := errors.AsType[*records.TransitionError](err)
	if !ok || !errors.Is(first, records.ErrChanged) {
		return r, err
	}
	if r = first.Current; r.Type != upload.Type {
		if r, err = c.Records.Correct(ctx, id, r.UploadedAt, upload); err != nil {
			return r, err
		}
	}
	if upload.Store && !r.StoredAt.IsSet() {
		return c.Records.Store(ctx, id, upload.At, nil)
	}
	return r, nil
}

// removeWrong deletes the object that a failed upload has written, if the file changed meanwhile
// and the object can't be shown to be the content. (That takes a server which compares no
// checksums.)
func (c *Client) removeWrong(ctx context.Context, id string, content transfer.Content, cause error) error {
	upload, ok := errors.AsType[*transfer.UploadError](cause)
	if !ok || upload.Outcome == transfer.NotWritten || !errors.Is(cause, transfer.ErrChanged) {
		return nil
	}
	ctx, cancel := transfer.Cleanup(ctx)
	defer cancel()
	held, err := c.Transfer.Head(ctx, id)
	if isMissing(err) {
		return nil
	}
	if err == nil {
		if verified, err := content.Compare(held); err == nil && verified {
			return nil
		}
	}
	return c.deleteObject(ctx, id)
}

// confirm looks whether the object of a file is the content, and stores the file if that is asked
// for.
func (c *Client) confirm(ctx context.Context, r records.Record, req UploadRequest, content transfer.Content) (records.Record, error) {
	held, err := c.Transfer.Head(ctx, r.ID)
	if isMissing(err) {
		err = ErrObjectMissing
	}
	if err == nil {
		_, err = content.Compare(held)
	}
	if err != nil {
		return records.Record{}, fmt.Errorf("look at file %q: %w", r.ID, err)
	}
	if (req.Store || c.Settings.StoreOnLoad) && !r.StoredAt.IsSet() {
		return c.Records.Store(ctx, r.ID, c.stamp(), nil)
	}
	return r, nil
}

// differing names the attributes that a record has and a request would have made otherwise.
func differing(r records.Record, req UploadRequest) []string {
	var names []string
	if r.Name != strings.ToValidUTF8(req.Name, "\uFFFD") {
		names = append(names, "name")
	}
	if r.State() != records.Placeholder && r.Type != baseType(req.Type) {
		names = append(names, "type")
	}
	if want, err := newRecord(req.Name, req.Meta, r.CreatedAt); err != nil || !sameMeta(r.Meta, want.Meta) {
		names = append(names, "meta")
	}
	return names
}

// sameMeta compares metadata. The order of its keys does not count; what can't be read is another.
func sameMeta(a, b string) bool {
	if a == b {
		return true
	}
	var object [2]map[string]string
	for i, text := range []string{a, b} {
		if text != "" && json.Unmarshal([]byte(text), &object[i]) != nil {
			return false
		}
	}
	return maps.Equal(object[0], object[1])
}
