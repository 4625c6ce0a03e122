package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

// storeFiles is PUT /files: files are made permanent.
func (h *handler) storeFiles(r request) (any, error) {
	if h.client.Settings.StoreOnLoad {
		return nil, refuse(http.StatusBadRequest, "Configured to store files at the time of upload.")
	}
	ids, err := readIDs(r.body, MaxIDs, "store")
	if err != nil {
		return nil, err
	}
	return all("stored", h.client.Store(r.Context(), ids))
}

// deleteFiles is DELETE /files: files are deleted for good.
func (h *handler) deleteFiles(r request) (any, error) {
	ids, err := readIDs(r.body, MaxDeleted, "delete")
	if err != nil {
		return nil, err
	}
	return all("deleted", h.client.Delete(r.Context(), ids))
}

// all answers with the ids, if it was done for all of them. Else the answer is a failure that names those for
// which it was, and of the others why not: who looks at the status alone must not take it for done.
func all(done string, results iter.Seq[client.Result[records.Record]]) (any, error) {
	ids := []string{}
	f := &failure{}
	var texts []string
	var causes []error
	for r := range results {
		if r.Err == nil {
			ids = append(ids, r.ID)
			continue
		}
		one := failureOf(r.Err)
		f.Failed = append(f.Failed, fileFailed{ID: r.ID, Reason: client.ReasonOf(r.Err), Message: one.Message})
		f.status = together(f.status, one.status)
		f.retryAfter = max(f.retryAfter, one.retryAfter)
		texts = append(texts, fmt.Sprintf("%q: %s", r.ID, one.Message))
		if one.cause != nil {
			causes = append(causes, fmt.Errorf("%q: %w", r.ID, one.cause))
		}
	}
	if f.Failed == nil {
		return ids, nil
	}
	const shown = 10
	if more := len(texts) - shown; more > 0 {
		texts = append(texts[:shown], fmt.Sprintf("and %d more", more))
	}
	f.Message = fmt.Sprintf("%d of %d files were not %s: %s", len(f.Failed), len(f.Failed)+len(ids), done, strings.Join(texts, "; "))
	f.Done, f.cause = ids, errors.Join(causes...)
	return nil, f
}

// together is the status of several failures, the worst: 500 before 503, which trying again may mend, both before what
// the caller can mend, and 409 where that is of different kinds. 0 stands for none so far.
func together(a, b int) int {
	const internal = http.StatusInternalServerError
	switch {
	case a == 0 || a == b:
		return b
	case a >= internal && b >= internal:
		return internal
	case a >= internal || b >= internal:
		return max(a, b)
	}
	return http.StatusConflict
}

// fileAnswer is a file in the answer of POST /files: what the contract names, as it stands in the record. What is not
// set is left out.
type fileAnswer struct {
	ID         string          `json:"id"`
	UploadedAt records.Stamp   `json:"uploaded_at,omitempty"`
	StoredAt   records.Stamp   `json:"stored_at,omitempty"`
	DeletedAt  records.Stamp   `json:"deleted_at,omitempty"`
	Name       string          `json:"name,omitempty"`
	Type       string          `json:"type,omitempty"`
	Size       *int64          `json:"size,omitempty"` // bytes
	Meta       json.RawMessage `json:"meta,omitempty"`
	URL        string          `json:"url,omitempty"`
	// Malformed names the attributes that break the contract; not in the contract's answer.
	Malformed []string `json:"malformed,omitempty"`
}

// fileAnswerOf returns what is answered of a file.
func fileAnswerOf(f client.FileInfo) fileAnswer {
	shown := fileAnswer{
		ID: f.ID, UploadedAt: f.UploadedAt, StoredAt: f.StoredAt, DeletedAt: f.DeletedAt,
		Name: f.Name, Type: f.Type, Meta: f.MetaJSON(), URL: f.URL.URL, Malformed: f.Malformed(),
	}
	if f.Size >= 0 {
		shown.Size = &f.Size
	}
	return shown
}

// showFiles is POST /files: info. A file that is not there, or is not asked for, is left out; where one could not be
// looked at, there is no answer, since it would say that it is not there.
func (h *handler) showFiles(r request) (any, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the query can't be read")
	}
	ids, err := readIDs(r.body, MaxIDs, "info")
	if err != nil {
		return nil, err
	}
	files := []fileAnswer{}
	for result := range h.client.Info(r.Context(), ids, client.InfoOptions{
		Deleted: query.Get("deleted") == "yes", NonStored: query.Get("nonstored") == "yes", Settle: true,
	}) {
		if result.Err == nil {
			files = append(files, fileAnswerOf(result.Value))
			continue
		}
		switch client.ReasonOf(result.Err) {
		case client.NotFound, client.Expired, client.Deleted, client.NotUploaded, client.NotStored:
		case client.Conflict: // it was written again and again while it was looked at, which is not the caller's mistake
			return nil, tryAgain(result.Err)
		case client.Failed, client.Usage, client.Permission, client.Retry, client.Interrupted:
			return nil, result.Err
		}
	}
	return files, nil
}
