// Package policy makes IAM policies with the least privilege for what filestore does: for each
// role the actions of exactly those operations that its commands call, on one bucket and table.
package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Role is a kind of user of a filestore.
type Role string

// The roles. Each has a policy of its own; who is in two has both.
const (
	// Uploader uploads and stores: upload, uploads, store, info, presign put, and copy at the destination. That a file which others
	// have uploaded can be stored, it must be able to read the objects too.
	Uploader Role = "uploader"
	// Reader reads: info, download, presign get, and copy by ids at the source.
	Reader Role = "reader"
	// Sweeper runs what reads the whole table: expire, list, stats, index backfill, and verify, but for the
	// repair of orphans.
	Sweeper Role = "sweeper"
	// API answers the requests of the HTTP API: it is for serve, which has Sweeper too where it sweeps, and for a function.
	API Role = "api"
	// Notifications records the uploads that S3 tells of.
	Notifications Role = "notifications"
	// Admin runs every command. Nobody else is to run delete, init, and index but for its backfill; but all who undo uploads
	// or sweep, which are all but Reader, have the rights to delete files.
	Admin Role = "admin"
)

// Roles returns all roles.
func Roles() []Role { return []Role{Uploader, Reader, Sweeper, API, Notifications, Admin} }

// Scope is what a policy is for.
type Scope struct {
	Partition string // "aws", "aws-cn" or "aws-us-gov"
	Region    string // of the table; empty: any
	Account   string // of the table, 12 digits; empty: any
	Bucket    string
	Table     string
}

// Document is an IAM policy; as JSON it is what IAM takes (IAM User Guide, "IAM JSON policy
// element reference").
type Document struct {
	Version   string      `json:"Version"`
	Statement []Statement `json:"Statement"`
}

// Statement allows actions on one resource.
type Statement struct {
	Sid      string   `json:"Sid"`
	Effect   string   `json:"Effect"`
	Action   []string `json:"Action"`
	Resource string   `json:"Resource"`
}

// For returns the policy of a role. It has no conditions: none can be tried out where there is no
// AWS, and one that is never met would refuse everything.
func For(role Role, scope Scope) Document {
	return newDocument(scope, slices.DeleteFunc(operations(), func(o operation) bool { return !o.allows(role) }))
}

func newDocument(scope Scope, allowed []operation) Document {
	d := Document{Version: "2012-10-17"}
	for _, s := range []struct {
		sid string
		on  resource
	}{{"Bucket", theBucket}, {"Objects", theObjects}, {"Table", theTable}, {"Index", theIndex}} {
		actions := make(map[string]bool)
		for _, o := range allowed {
			for _, g := range o.grants {
				if g.on == s.on {
					actions[g.action] = true
				}
			}
		}
		if len(actions) > 0 {
			d.Statement = append(d.Statement, Statement{
				Sid: s.sid, Effect: "Allow", Action: slices.Sorted(maps.Keys(actions)), Resource: s.on.arn(scope),
			})
		}
	}
	return d
}

// Need is an action that an operation needs, and the ARN of what it is on.
type Need struct{ Action, Resource string }

// Needs returns what must be allowed to whoever calls an operation in the role, with "*" for the key
// of an object. known is false for one that no command of the role calls.
func Needs(service, name string, role Role, scope Scope) (needs []Need, known bool) {
	for _, o := range operations() {
		if o.service != service || o.name != name || !o.allows(role) {
			continue
		}
		for _, g := range o.grants {
			needs = append(needs, Need{g.action, g.on.arn(scope)})
		}
		return needs, true
	}
	return nil, false
}

// Called returns the operations that commands of the role call, each as "SERVICE OPERATION".
func Called(role Role) []string {
	var out []string
	for _, o := range operations() {
		if op := o.service + " " + o.name; o.allows(role) && !slices.Contains(out, op) {
			out = append(out, op)
		}
	}
	return out
}

// PartitionOf returns the partition of a region ("AWS Regions and Endpoints"): "aws" where the
// region does not tell another.
func PartitionOf(region string) string {
	for _, p := range []string{"cn", "us-gov"} {
		if strings.HasPrefix(region, p+"-") {
			return "aws-" + p
		}
	}
	return "aws"
}

// ParseRole returns the role of that name.
func ParseRole(name string) (Role, error) {
	role := Role(name)
	if !slices.Contains(Roles(), role) {
		return "", fmt.Errorf("%q is none of the roles uploader, reader, sweeper, api, notifications and admin", name)
	}
	return role, nil
}
