// Package template renders the resources of a filestore as an AWS CloudFormation template. It
// describes nothing itself: each resource comes from the code that needs it, as the request with
// which "init" would create it, and is only put into CloudFormation's words here.
package template

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/aws/aws-sdk-go-v2/aws"
	dynamotypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records/dynamo"
)

// Options say what the template is for.
type Options struct {
	Bucket string // default of the parameter BucketName; empty: it has none
	Table  string // default of the parameter TableName
	Index  bool   // with the index for sweeps, dynamo.PendingIndex
}

// Document is a template; as JSON it is what CloudFormation takes (AWS CloudFormation User Guide,
// "CloudFormation template sections").
type Document struct {
	FormatVersion string     `json:"AWSTemplateFormatVersion"`
	Description   string     `json:"Description"`
	Parameters    parameters `json:"Parameters"`
	Resources     resources  `json:"Resources"`
	Outputs       outputs    `json:"Outputs"`
}

type parameters struct {
	BucketName          parameter `json:"BucketName"`
	TableName           parameter `json:"TableName"`
	PointInTimeRecovery parameter `json:"PointInTimeRecovery"`
}

type parameter struct {
	Type           string   `json:"Type"`
	Description    string   `json:"Description"`
	Default        string   `json:"Default,omitempty"`
	AllowedPattern string   `json:"AllowedPattern,omitempty"`
	AllowedValues  []string `json:"AllowedValues,omitempty"`
}

type resources struct {
	Bucket resource[bucket] `json:"Bucket"`
	Table  resource[table]  `json:"Table"`
}

// resource outlives its stack: who deletes that, or has it replace the resource, loses no file.
type resource[P any] struct {
	Type                string `json:"Type"`
	DeletionPolicy      string `json:"DeletionPolicy"`
	UpdateReplacePolicy string `json:"UpdateReplacePolicy"`
	Properties          P      `json:"Properties"`
}

func retained[P any](kind string, properties P) resource[P] {
	return resource[P]{Type: kind, DeletionPolicy: "Retain", UpdateReplacePolicy: "Retain", Properties: properties}
}

type bucket struct {
	BucketName        ref               `json:"BucketName"`
	PublicAccessBlock publicAccessBlock `json:"PublicAccessBlockConfiguration"`
	CORS              cors              `json:"CorsConfiguration"`
	Lifecycle         lifecycle         `json:"LifecycleConfiguration"`
}

type publicAccessBlock struct {
	BlockPublicAcls       bool `json:"BlockPublicAcls"`
	BlockPublicPolicy     bool `json:"BlockPublicPolicy"`
	IgnorePublicAcls      bool `json:"IgnorePublicAcls"`
	RestrictPublicBuckets bool `json:"RestrictPublicBuckets"`
}

type cors struct {
	Rules []corsRule `json:"CorsRules"`
}

type corsRule struct {
	AllowedOrigins []string `json:"AllowedOrigins"`
	AllowedMethods []string `json:"AllowedMethods"`
	AllowedHeaders []string `json:"AllowedHeaders,omitempty"`
}

type lifecycle struct {
	Rules []lifecycleRule `json:"Rules"`
}

type lifecycleRule struct {
	ID     string                         `json:"Id"`
	Status s3types.ExpirationStatus       `json:"Status"`
	Prefix string                         `json:"Prefix,omitempty"` // empty: all keys
	Abort  abortIncompleteMultipartUpload `json:"AbortIncompleteMultipartUpload"`
}

type abortIncompleteMultipartUpload struct {
	Days int32 `json:"DaysAfterInitiation"`
}

type table struct {
	TableName   ref                     `json:"TableName"`
	BillingMode dynamotypes.BillingMode `json:"BillingMode"`
	Attributes  []attribute             `json:"AttributeDefinitions"`
	Key         []keyElement            `json:"KeySchema"`
	Indexes     []index                 `json:"GlobalSecondaryIndexes,omitempty"`
	Recovery    recovery                `json:"PointInTimeRecoverySpecification"`
}

type attribute struct {
	Name string                          `json:"AttributeName"`
	Type dynamotypes.ScalarAttributeType `json:"AttributeType"`
}

type keyElement struct {
	Name string              `json:"AttributeName"`
	Type dynamotypes.KeyType `json:"KeyType"`
}

type index struct {
	Name       string       `json:"IndexName"`
	Key        []keyElement `json:"KeySchema"`
	Projection projection   `json:"Projection"`
}

type projection struct {
	Type       dynamotypes.ProjectionType `json:"ProjectionType"`
	Attributes []string                   `json:"NonKeyAttributes,omitempty"`
}

type recovery struct {
	Enabled ref `json:"PointInTimeRecoveryEnabled"`
}

type outputs struct {
	BucketName output[ref]    `json:"BucketName"`
	BucketARN  output[getAtt] `json:"BucketArn"`
	TableName  output[ref]    `json:"TableName"`
	TableARN   output[getAtt] `json:"TableArn"`
	IndexARN   *output[sub]   `json:"IndexArn,omitempty"`
}

type output[V any] struct {
	Description string `json:"Description"`
	Value       V      `json:"Value"`
}

// The functions of the template language.
type (
	ref struct {
		Name string `json:"Ref"`
	}
	getAtt struct {
		Path [2]string `json:"Fn::GetAtt"`
	}
	sub struct {
		Text string `json:"Fn::Sub"`
	}
)

// The patterns of names: S3's for general purpose buckets and DynamoDB's for tables (Amazon S3
// User Guide, "General purpose bucket naming rules"; Amazon DynamoDB Developer Guide, "Naming
// rules").
const (
	BucketPattern = `^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`
	TablePattern  = `^[a-zA-Z0-9_.-]{3,255}$`
)

// CloudFormation returns the template for the bucket and the table of a filestore ("The parts",
// docs/contract.md). It fails where a resource has come to need something that is not put into
// CloudFormation's words here: nothing is left out silently.
func CloudFormation(opts Options) (Document, error) {
	b, err := newBucket()
	if err != nil {
		return Document{}, fmt.Errorf("describe the bucket: %w", err)
	}
	t, err := newTable(opts.Index)
	if err != nil {
		return Document{}, fmt.Errorf("describe the table: %w", err)
	}
	d := Document{
		FormatVersion: "2010-09-09",
		Description:   "A filestore: a private bucket for the files, and a table with a record for each of them.",
		Parameters: parameters{
			BucketName: parameter{
				Type: "String", Description: "The S3 bucket.", Default: opts.Bucket, AllowedPattern: BucketPattern,
			},
			TableName: parameter{
				Type: "String", Description: "The DynamoDB table.", Default: opts.Table, AllowedPattern: TablePattern,
			},
			PointInTimeRecovery: parameter{
				Type: "String", Description: "Whether the table can be restored to any second of the last 35 days, which costs by its size.",
				Default: "false", AllowedValues: []string{"true", "false"},
			},
		},
		Resources: resources{
			Bucket: retained("AWS::S3::Bucket", b),
			Table:  retained("AWS::DynamoDB::Table", t),
		},
		Outputs: outputs{
			BucketName: output[ref]{"For --bucket or FILESTORE_BUCKET.", ref{"Bucket"}},
			BucketARN:  output[getAtt]{"The ARN of the bucket.", getAtt{[2]string{"Bucket", "Arn"}}},
			TableName:  output[ref]{"For --table or FILESTORE_TABLE.", ref{"Table"}},
			TableARN:   output[getAtt]{"The ARN of the table.", getAtt{[2]string{"Table", "Arn"}}},
		},
	}
	if opts.Index {
		d.Outputs.IndexARN = &output[sub]{"The ARN of the index for sweeps.", sub{"${Table.Arn}/index/" + dynamo.PendingIndex}}
	}
	return d, nil
}

func newBucket() (bucket, error) {
	access := client.PublicAccessBlock()
	b := bucket{
		BucketName: ref{"BucketName"},
		PublicAccessBlock: publicAccessBlock{
			BlockPublicAcls: aws.ToBool(access.BlockPublicAcls), BlockPublicPolicy: aws.ToBool(access.BlockPublicPolicy),
			IgnorePublicAcls: aws.ToBool(access.IgnorePublicAcls), RestrictPublicBuckets: aws.ToBool(access.RestrictPublicBuckets),
		},
	}
	for _, rule := range client.CORS().CORSRules {
		r := corsRule{AllowedOrigins: rule.AllowedOrigins, AllowedMethods: rule.AllowedMethods, AllowedHeaders: rule.AllowedHeaders}
		rule.AllowedOrigins, rule.AllowedMethods, rule.AllowedHeaders = nil, nil, nil
		if err := nothingLeft("CORS rule", rule); err != nil {
			return b, err
		}
		b.CORS.Rules = append(b.CORS.Rules, r)
	}
	for _, rule := range client.Lifecycle().Rules {
		if rule.AbortIncompleteMultipartUpload == nil {
			return b, errors.New("a lifecycle rule does something other than abort multipart uploads")
		}
		r := lifecycleRule{
			ID: aws.ToString(rule.ID), Status: rule.Status,
			Abort: abortIncompleteMultipartUpload{aws.ToInt32(rule.AbortIncompleteMultipartUpload.DaysAfterInitiation)},
		}
		if rule.Filter != nil {
			filter := *rule.Filter
			r.Prefix, filter.Prefix = aws.ToString(filter.Prefix), nil
			if err := nothingLeft("filter of a lifecycle rule", filter); err != nil {
				return b, err
			}
		}
		rule.ID, rule.Status, rule.Filter, rule.AbortIncompleteMultipartUpload = nil, "", nil, nil
		if err := nothingLeft("lifecycle rule", rule); err != nil {
			return b, err
		}
		b.Lifecycle.Rules = append(b.Lifecycle.Rules, r)
	}
	return b, nil
}

func newTable(withIndex bool) (table, error) {
	schema := *dynamo.Schema("")
	t := table{
		TableName: ref{"TableName"}, BillingMode: schema.BillingMode,
		Attributes: newAttributes(schema.AttributeDefinitions), Key: newKey(schema.KeySchema),
		Recovery: recovery{ref{"PointInTimeRecovery"}},
	}
	schema.TableName, schema.BillingMode, schema.AttributeDefinitions, schema.KeySchema = nil, "", nil, nil
	if err := nothingLeft("table", schema); err != nil {
		return t, err
	}
	if !withIndex {
		return t, nil
	}
	pending, attributes := dynamo.PendingIndexSchema()
	t.Attributes = append(t.Attributes, newAttributes(attributes)...)
	t.Indexes = []index{{
		Name: aws.ToString(pending.IndexName), Key: newKey(pending.KeySchema),
		Projection: projection{Type: pending.Projection.ProjectionType, Attributes: pending.Projection.NonKeyAttributes},
	}}
	pending.IndexName, pending.KeySchema, pending.Projection = nil, nil, nil
	return t, nothingLeft("index", pending)
}

func newAttributes(definitions []dynamotypes.AttributeDefinition) []attribute {
	var out []attribute
	for _, d := range definitions {
		out = append(out, attribute{aws.ToString(d.AttributeName), d.AttributeType})
	}
	return out
}

func newKey(elements []dynamotypes.KeySchemaElement) []keyElement {
	var out []keyElement
	for _, e := range elements {
		out = append(out, keyElement{aws.ToString(e.AttributeName), e.KeyType})
	}
	return out
}

// nothingLeft fails unless all of v has been put into the template, and been set to zero.
func nothingLeft[T any](what string, v T) error {
	if !reflect.ValueOf(v).IsZero() {
		return fmt.Errorf("the template does not know all of a %s: %+v", what, v)
	}
	return nil
}
