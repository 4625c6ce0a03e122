package policy

import (
	"slices"

	"github.com/designfultech/filestore/internal/records/dynamo"
)

// The services, as the SDK names them.
const (
	S3       = "S3"
	DynamoDB = "DynamoDB"
)

// resource is what an action is allowed on.
type resource int

const (
	theBucket resource = iota
	theObjects
	theTable
	theIndex
)

// arn returns the ARN of r.
func (r resource) arn(s Scope) string {
	switch r {
	case theBucket:
		return "arn:" + s.Partition + ":s3:::" + s.Bucket
	case theObjects:
		return theBucket.arn(s) + "/*" // the keys are the ids
	case theTable:
		return "arn:" + s.Partition + ":dynamodb:" + anyIfEmpty(s.Region) + ":" + anyIfEmpty(s.Account) + ":table/" + s.Table
	case theIndex:
		return theTable.arn(s) + "/index/" + dynamo.PendingIndex
	}
	return ""
}

func anyIfEmpty(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

// grant is an action and what it must be allowed on.
type grant struct {
	action string
	on     resource
}

// operation is one that the code calls, with the actions that the caller must be allowed, and the
// roles whose commands call it. Administrators may call all.
type operation struct {
	service, name string
	grants        []grant
	roles         []Role
}

// operations returns every operation that the code calls, and no other. Which action an operation
// needs is told by the Service Authorization Reference, "Actions, resources, and condition keys
// for Amazon S3" and "… for Amazon DynamoDB"; for S3 also by the Amazon S3 User Guide, "Required
// permissions for Amazon S3 API operations".
//
// Two tests keep it true: TestOperations compares it with the calls in the code, and
// TestPolicies of cmd/filestore the roles with the requests that their commands make.
func operations() []operation {
	// Who may read objects but not list the bucket is told 403 of a key that is not there, and not
	// 404 (Amazon S3 API Reference, "HeadObject"): that could not be told from a real refusal.
	read := func(more ...grant) []grant {
		return append([]grant{{"s3:GetObject", theObjects}, {"s3:ListBucket", theBucket}}, more...)
	}
	one := func(action string, on resource) []grant { return []grant{{action, on}} }
	return []operation{
		// Objects.
		{S3, "PutObject", one("s3:PutObject", theObjects), []Role{Uploader, API}},
		{S3, "CreateMultipartUpload", one("s3:PutObject", theObjects), []Role{Uploader}},
		{S3, "UploadPart", one("s3:PutObject", theObjects), []Role{Uploader}},
		{S3, "CompleteMultipartUpload", one("s3:PutObject", theObjects), []Role{Uploader}},
		{S3, "AbortMultipartUpload", one("s3:AbortMultipartUpload", theObjects), []Role{Uploader, Sweeper}},
		{S3, "ListParts", one("s3:ListMultipartUploadParts", theObjects), []Role{Uploader, Sweeper}},
		{S3, "ListMultipartUploads", one("s3:ListBucketMultipartUploads", theBucket), []Role{Uploader, Sweeper}},
		{S3, "HeadObject", read(), []Role{Uploader, Reader, Sweeper, API, Notifications}},
		{S3, "GetObject", read(), []Role{Reader, Sweeper, API}}, // verify --deep
		{S3, "GetObjectAttributes", read(grant{"s3:GetObjectAttributes", theObjects}), []Role{Reader, Sweeper}},
		{S3, "DeleteObject", one("s3:DeleteObject", theObjects), []Role{Uploader, Sweeper, API, Notifications}}, // uploads are undone
		{S3, "DeleteObjects", one("s3:DeleteObject", theObjects), []Role{Sweeper, API}},

		// The bucket.
		{S3, "ListObjectsV2", one("s3:ListBucket", theBucket), []Role{Sweeper}},
		{S3, "HeadBucket", one("s3:ListBucket", theBucket), nil},
		{S3, "CreateBucket", one("s3:CreateBucket", theBucket), nil},
		{S3, "GetPublicAccessBlock", one("s3:GetBucketPublicAccessBlock", theBucket), nil},
		{S3, "PutPublicAccessBlock", one("s3:PutBucketPublicAccessBlock", theBucket), nil},
		{S3, "GetBucketCors", one("s3:GetBucketCORS", theBucket), nil},
		{S3, "PutBucketCors", one("s3:PutBucketCORS", theBucket), nil},
		{S3, "GetBucketLifecycleConfiguration", one("s3:GetLifecycleConfiguration", theBucket), nil},
		{S3, "PutBucketLifecycleConfiguration", one("s3:PutLifecycleConfiguration", theBucket), nil},

		// Records. On DynamoDB an action has the name of its operation.
		{DynamoDB, "PutItem", one("dynamodb:PutItem", theTable), []Role{Uploader, API}},
		{DynamoDB, "UpdateItem", one("dynamodb:UpdateItem", theTable), []Role{Uploader, Sweeper, API, Notifications}},
		{DynamoDB, "DeleteItem", one("dynamodb:DeleteItem", theTable), []Role{Uploader, API}}, // uploads are undone
		{DynamoDB, "GetItem", one("dynamodb:GetItem", theTable), []Role{Uploader, Sweeper, API, Notifications}},
		{DynamoDB, "BatchGetItem", one("dynamodb:BatchGetItem", theTable), []Role{Uploader, Reader, Sweeper, API, Notifications}},
		// Many writes in one request, each an INSERT or an UPDATE. Where that is not allowed, each is a
		// request of its own.
		{DynamoDB, "BatchExecuteStatement", []grant{{"dynamodb:PartiQLInsert", theTable}, {"dynamodb:PartiQLUpdate", theTable}}, []Role{Uploader}},
		{DynamoDB, "BatchExecuteStatement", one("dynamodb:PartiQLUpdate", theTable), []Role{Sweeper, API}},
		{DynamoDB, "Scan", one("dynamodb:Scan", theTable), []Role{Sweeper}},
		// A sweep asks for the index first, whether there is one or not.
		{DynamoDB, "Query", one("dynamodb:Query", theIndex), []Role{Sweeper}},

		// The table.
		{DynamoDB, "DescribeTable", one("dynamodb:DescribeTable", theTable), nil},
		{DynamoDB, "CreateTable", one("dynamodb:CreateTable", theTable), nil},
		{DynamoDB, "UpdateTable", one("dynamodb:UpdateTable", theTable), nil}, // its index is made and removed
	}
}

// allows reports whether commands of the role call the operation.
func (o operation) allows(role Role) bool { return role == Admin || slices.Contains(o.roles, role) }
