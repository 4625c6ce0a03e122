package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Route is a path of the API, with a method that it has.
type Route struct {
	Path   string // with parameters, such as /file/{id}
	Method string // in capitals
	Key    bool   // the caller must have a key
}

// Routes returns the routes of the API by path and method, as its description has them, for what stands before the
// API and must know them. OPTIONS, which all paths have, is not among them.
func Routes() ([]Route, error) {
	var description struct {
		Paths map[string]map[string]struct {
			Security []map[string][]string
		}
	}
	if err := json.Unmarshal(openAPI, &description); err != nil {
		return nil, fmt.Errorf("read the description of the API: %w", err)
	}
	var routes []Route
	for path, methods := range description.Paths {
		for method, operation := range methods {
			routes = append(routes, Route{path, strings.ToUpper(method), slices.ContainsFunc(operation.Security, func(s map[string][]string) bool {
				_, ok := s["key"]
				return ok
			})})
		}
	}
	slices.SortFunc(routes, func(a, b Route) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method)) })
	return routes, nil
}
