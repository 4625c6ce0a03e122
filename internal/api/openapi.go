package api

import (
	_ "embed" // of the description
)

// The description of the API (OpenAPI Specification 3.0.3). The tests hold every answer against it.
//
//go:embed openapi.json
var openAPI []byte

// describe is GET /openapi.json.
func describe(request) (any, error) { return rawJSON(openAPI), nil }

// healthy is GET /healthz: the process answers. It asks neither bucket nor table, since anybody may call it.
func healthy(request) (any, error) {
	return struct {
		Status string `json:"status"`
	}{"ok"}, nil
}
