package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"unicode/utf8"

	"github.com/designfultech/filestore/internal/client"
)

// maxDepth is how deep a body may be nested. What is asked for has two levels.
const maxDepth = 16

// readBody reads the body of a request, at most [MaxBody] bytes of it.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	tooLarge := &failure{
		status: http.StatusRequestEntityTooLarge, hangUp: true,
		Message: fmt.Sprintf("the body has more than %d bytes", MaxBody),
	}
	if r.ContentLength > MaxBody {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
	if err == nil {
		return body, nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, &failure{status: http.StatusRequestTimeout, hangUp: true, Message: "the body did not come in time"}
	}
	return nil, &failure{status: http.StatusBadRequest, hangUp: true, Message: "the body could not be read"}
}

// checkJSON refuses what encoding/json would take in one way, and another reader in another: text that is not UTF-8, a
// member that is there twice; and what is nested deeper than anything that is asked for.
func checkJSON(body []byte) error {
	switch {
	case !utf8.Valid(body):
		return refuse(http.StatusBadRequest, "the body is not UTF-8")
	case !json.Valid(body):
		return refuse(http.StatusBadRequest, "the body is not JSON")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // any number is one
	// One for each array or object that is open: the members of an object, nil for an array. A token is the name
	// of a member where one is expected.
	var open []map[string]bool
	expectsName := false
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return refuse(http.StatusBadRequest, "the body is not JSON")
		}
		switch token {
		case json.Delim('{'):
			open = append(open, map[string]bool{})
		case json.Delim('['):
			open = append(open, nil)
		case json.Delim('}'), json.Delim(']'):
			open = open[:len(open)-1]
		default:
			if expectsName {
				members, name := open[len(open)-1], token.(string)
				if members[name] {
					return refuse(http.StatusBadRequest, fmt.Sprintf("the member %.100q is there twice", name))
				}
				members[name], expectsName = true, false
				continue
			}
		}
		if len(open) > maxDepth {
			return refuse(http.StatusBadRequest, fmt.Sprintf("the body is nested deeper than %d levels", maxDepth))
		}
		// After a value or a bracket: in an object comes a name, or its end.
		expectsName = len(open) > 0 && open[len(open)-1] != nil
	}
}

// readIDs reads a body that is an array of ids, at most so many, for what is done with them.
func readIDs(body []byte, most int, what string) ([]string, error) {
	if err := checkJSON(body); err != nil {
		return nil, err
	}
	var values []any
	if err := json.Unmarshal(body, &values); err != nil || values == nil {
		return nil, refuse(http.StatusBadRequest, "the body must be an array of ids")
	}
	if len(values) > most {
		return nil, refuse(http.StatusBadRequest, fmt.Sprintf("%d ids are given, and one request to %s takes at most %d", len(values), what, most))
	}
	ids := make([]string, len(values))
	for i, v := range values {
		id, ok := v.(string)
		if !ok {
			return nil, refuse(http.StatusBadRequest, fmt.Sprintf("element %d of the body is not a string: the body must be an array of ids", i+1))
		}
		if !client.ValidID(id) {
			return nil, refuse(http.StatusBadRequest, fmt.Sprintf("%.40q is not an id, which is 16 characters of a-z0-9", id))
		}
		ids[i] = id
	}
	return ids, nil
}

// newFileRequest is the body of POST /file.
type newFileRequest struct {
	name string
	meta map[string]string
}

// readNewFile reads the body of POST /file. Other members than name and meta are passed over.
func readNewFile(body []byte) (newFileRequest, error) {
	var req newFileRequest
	if err := checkJSON(body); err != nil {
		return req, err
	}
	// A map, since a struct would take "NAME" for "name".
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil || members == nil {
		return req, refuse(http.StatusBadRequest, `the body must be an object: {"name": "..."}`)
	}
	var name any
	if raw, ok := members["name"]; ok {
		if err := json.Unmarshal(raw, &name); err != nil {
			return req, refuse(http.StatusBadRequest, `"name" can't be read`)
		}
	}
	req.name, _ = name.(string)
	switch {
	case req.name == "":
		return req, refuse(http.StatusBadRequest, `"name" must be a string that is not empty`)
	case len(req.name) > MaxName:
		return req, refuse(http.StatusBadRequest, fmt.Sprintf(`"name" has %d bytes, and may have %d`, len(req.name), MaxName))
	}
	raw, ok := members["meta"]
	if !ok {
		return req, nil
	}
	if len(raw) > MaxMeta {
		return req, refuse(http.StatusBadRequest, fmt.Sprintf(`"meta" has %d bytes, and may have %d`, len(raw), MaxMeta))
	}
	// Pointers, since null would pass for an empty string.
	var meta map[string]*string
	err := json.Unmarshal(raw, &meta)
	if err != nil || meta == nil {
		return req, refuse(http.StatusBadRequest, `"meta" must be an object whose members are strings`)
	}
	req.meta = make(map[string]string, len(meta))
	for k, v := range meta {
		if v == nil {
			return req, refuse(http.StatusBadRequest, `"meta" must be an object whose members are strings`)
		}
		req.meta[k] = *v
	}
	return req, nil
}
