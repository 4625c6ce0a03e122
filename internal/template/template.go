// Package template renders the resources of a filestore as an AWS CloudFormation template. It
// describes nothing itself: each resource comes from the code that needs it, as the request with
// which "init" would create it, and is only put into CloudFormation's words here.
package template

import (
	"bytes"
	"encoding/json"
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
	// API adds the HTTP API, as functions of AWS Lambda behind an Amazon API Gateway.
	API *API
}

// Document is a template; as JSON it is what CloudFormation takes (AWS CloudFormation User Guide,
// "CloudFormation template sections").
type Document struct {
	FormatVersion string             `json:"AWSTemplateFormatVersion"`
	Description   string             `json:"Description"`
	Parameters    section[parameter] `json:"Parameters"`
	Conditions    section[any]       `json:"Conditions,omitempty"`
	Resources     section[*resource] `json:"Resources"`
	Outputs       section[output]    `json:"Outputs"`
}

// section is a part of a template: what is in it by name, in the order in which people should read it.
type section[V any] []named[V]

type named[V any] struct {
	name  string
	value V
}

func (s *section[V]) add(name string, value V) { *s = append(*s, named[V]{name, value}) }

// MarshalJSON implements json.Marshaler.
func (s section[V]) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	for i, n := range s {
		name, err := json.Marshal(n.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(n.value)
		if err != nil {
			return nil, err
		}
		out.WriteByte("{,"[min(i, 1)])
		out.Write(name)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

type parameter struct {
	Type           string   `json:"Type"`
	Description    string   `json:"Description"`
	Default        string   `json:"Default,omitempty"`
	NoEcho         bool     `json:"NoEcho,omitempty"`
	AllowedPattern string   `json:"AllowedPattern,omitempty"`
	AllowedValues  []string `json:"AllowedValues,omitempty"`
}

type resource struct {
	Type                string   `json:"Type"`
	Condition           string   `json:"Condition,omitempty"`
	DependsOn           []string `json:"DependsOn,omitempty"`
	DeletionPolicy      string   `json:"DeletionPolicy,omitempty"`
	UpdateReplacePolicy string   `json:"UpdateReplacePolicy,omitempty"`
	Properties          any      `json:"Properties"`
}

// retained is a resource that outlives its stack: who deletes that, or has it replace the resource, loses no file.
func retained(kind string, properties any) *resource {
	return &resource{Type: kind, DeletionPolicy: "Retain", UpdateReplacePolicy: "Retain", Properties: properties}
}

type bucket struct {
	BucketName        ref               `json:"BucketName"`
	PublicAccessBlock publicAccessBlock `json:"PublicAccessBlockConfiguration"`
	CORS              cors              `json:"CorsConfiguration"`
	Lifecycle         lifecycle         `json:"LifecycleConfiguration"`
	Notifications     *notifications    `json:"NotificationConfiguration,omitempty"`
}

type notifications struct {
	Functions []notification `json:"LambdaConfigurations"`
}

type notification struct {
	Event    s3types.Event `json:"Event"`
	Function getAtt        `json:"Function"`
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

type output struct {
	Description string `json:"Description"`
	Value       any    `json:"Value"` // a function of the template language
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
	}
	d.Parameters.add("BucketName", parameter{
		Type: "String", Description: "The S3 bucket.", Default: opts.Bucket, AllowedPattern: BucketPattern,
	})
	d.Parameters.add("TableName", parameter{
		Type: "String", Description: "The DynamoDB table.", Default: opts.Table, AllowedPattern: TablePattern,
	})
	d.Parameters.add("PointInTimeRecovery", parameter{
		Type: "String", Description: "Whether the table can be restored to any second of the last 35 days, which costs by its size.",
		Default: "false", AllowedValues: []string{"true", "false"},
	})
	theBucket := retained("AWS::S3::Bucket", &b)
	d.Resources.add("Bucket", theBucket)
	d.Resources.add("Table", retained("AWS::DynamoDB::Table", t))
	d.Outputs.add("BucketName", output{"For --bucket or FILESTORE_BUCKET.", ref{"Bucket"}})
	d.Outputs.add("BucketArn", output{"The ARN of the bucket.", getAtt{[2]string{"Bucket", "Arn"}}})
	d.Outputs.add("TableName", output{"For --table or FILESTORE_TABLE.", ref{"Table"}})
	d.Outputs.add("TableArn", output{"The ARN of the table.", getAtt{[2]string{"Table", "Arn"}}})
	if opts.Index {
		d.Outputs.add("IndexArn", output{"The ARN of the index for sweeps.", sub{"${Table.Arn}/index/" + dynamo.PendingIndex}})
	}
	if opts.API != nil {
		// S3 tries whether it may tell the function when it is asked to.
		theBucket.DependsOn = []string{notificationPermission}
		b.Notifications = &notifications{[]notification{{s3types.Event("s3:ObjectCreated:*"), arnOf(notificationFunction)}}}
		if err := addAPI(&d, *opts.API); err != nil {
			return Document{}, fmt.Errorf("describe the API: %w", err)
		}
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
