package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNewDocument has operations of every kind in one policy: a statement for each resource, with
// each action once.
func TestNewDocument(t *testing.T) {
	got := newDocument(Scope{Partition: "aws-cn", Region: "cn-north-1", Account: "123456789012", Bucket: "my-files", Table: "Files"},
		[]operation{
			{S3, "HeadObject", []grant{{"s3:GetObject", theObjects}, {"s3:ListBucket", theBucket}}, nil},
			{S3, "ListObjectsV2", []grant{{"s3:ListBucket", theBucket}}, nil},
			{DynamoDB, "Scan", []grant{{"dynamodb:Scan", theTable}}, nil},
			{DynamoDB, "GetItem", []grant{{"dynamodb:GetItem", theTable}}, nil},
			{DynamoDB, "Query", []grant{{"dynamodb:Query", theIndex}}, nil},
		})
	want := Document{Version: "2012-10-17", Statement: []Statement{
		{"Bucket", "Allow", []string{"s3:ListBucket"}, "arn:aws-cn:s3:::my-files"},
		{"Objects", "Allow", []string{"s3:GetObject"}, "arn:aws-cn:s3:::my-files/*"},
		{"Table", "Allow", []string{"dynamodb:GetItem", "dynamodb:Scan"}, "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/Files"},
		{"Index", "Allow", []string{"dynamodb:Query"}, "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/Files/index/pending"},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("- want + got\n%s", diff)
	}
}
