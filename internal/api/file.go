package api

import (
	"net/http"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/presign"
)

// newFileAnswer is the answer of POST /file.
type newFileAnswer struct {
	ID    string `json:"id"`
	URL   string `json:"url"`
	Token string `json:"token,omitempty"` // to take the upload back; not in the contract's answer
}

// newFile is POST /file: the placeholder of a file, and the URL to upload it.
func (h *handler) newFile(r request) (any, error) {
	req, err := readNewFile(r.body)
	if err != nil {
		return nil, err
	}
	id, url, err := h.client.PresignPut(r.Context(), req.name, req.meta, 0, presign.Limits{})
	if err != nil {
		return nil, err
	}
	answer := newFileAnswer{ID: id, URL: url.URL}
	if len(h.tokenKey) > 0 {
		answer.Token = h.token(id, h.tokenEnd())
	}
	return answer, nil
}

// revertFile is DELETE /file/ID: whoever has uploaded a file takes it back, as long as nobody has stored it.
func (h *handler) revertFile(r request) (any, error) {
	if !client.ValidID(r.id) {
		return nil, refuse(http.StatusNotFound, "Not Found")
	}
	if !h.accepts(r.id, bearer(r.Request)) {
		return nil, refuse(http.StatusForbidden, "Forbidden")
	}
	_, err := h.client.Revert(r.Context(), r.id)
	return nil, err
}
