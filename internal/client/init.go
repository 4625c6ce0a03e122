package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/designfultech/filestore/internal/transfer"
)

// SetupState is what [Client.InitBucket] found or did.
type SetupState string

// The states of one part of a deployment.
const (
	SetupCreated     SetupState = "created"
	SetupExists      SetupState = "exists"
	SetupWouldCreate SetupState = "would create" // dry run
	SetupUnsupported SetupState = "not supported by this server"
)

// SetupStep is one part of a deployment and its state.
type SetupStep struct {
	Part  string // "bucket", "public access block", "CORS", "lifecycle rule"
	Name  string
	State SetupState
}

// PublicAccessBlock returns what blocks all public access to the bucket ("The parts",
// docs/contract.md). As the next two it is what [Client.InitBucket] asks for, and what the
// CloudFormation template is built from.
func PublicAccessBlock() *types.PublicAccessBlockConfiguration {
	return &types.PublicAccessBlockConfiguration{
		BlockPublicAcls: aws.Bool(true), BlockPublicPolicy: aws.Bool(true),
		IgnorePublicAcls: aws.Bool(true), RestrictPublicBuckets: aws.Bool(true),
	}
}

// CORS returns the rule that lets browsers use presigned URLs ("The parts", docs/contract.md).
func CORS() *types.CORSConfiguration {
	return &types.CORSConfiguration{CORSRules: []types.CORSRule{{
		AllowedOrigins: []string{"*"},
		AllowedHeaders: []string{"*"},
		AllowedMethods: []string{http.MethodPut, http.MethodPost, http.MethodGet},
	}}}
}

// Lifecycle returns the rule that removes multipart uploads which nobody completed. Sweeps do it
// after a day; this is for deployments in which none runs.
func Lifecycle() *types.BucketLifecycleConfiguration {
	return &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{{
		ID: aws.String("abort-incomplete-multipart-uploads"), Status: types.ExpirationStatusEnabled,
		Filter:                         &types.LifecycleRuleFilter{Prefix: aws.String("")}, // all keys
		AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(7)},
	}}}
}

// InitBucket makes what is missing of the bucket ("The parts", docs/contract.md): the bucket
// itself, all public access blocked, CORS for browsers, and a rule that removes multipart uploads
// which nobody completed. What is there already is left as it is. report is told of each part
// once it is done. A part that the server does not know (501) is reported and passed over.
func (c *Client) InitBucket(ctx context.Context, region string, dryRun bool, report func(SetupStep)) error {
	b := &bucketSetup{client: c, region: region, dryRun: dryRun}
	for _, part := range []struct {
		name   string
		exists func(context.Context) error // NoSuch…: not there
		create func(context.Context) error
	}{
		{"bucket", b.bucketExists, b.createBucket},
		{"public access block", b.publicAccessBlocked, b.blockPublicAccess},
		{"CORS", b.corsExists, b.createCORS},
		{"lifecycle rule", b.lifecycleExists, b.createLifecycle},
	} {
		state, err := b.step(ctx, part.exists, part.create)
		if err != nil {
			return fmt.Errorf("%s of %q: %w", part.name, c.Bucket, err)
		}
		report(SetupStep{Part: part.name, Name: c.Bucket, State: state})
	}
	return nil
}

type bucketSetup struct {
	client  *Client
	region  string
	dryRun  bool
	missing bool // the bucket itself, in a dry run: nothing in it can be asked for
}

func (b *bucketSetup) step(ctx context.Context, exists, create func(context.Context) error) (SetupState, error) {
	if b.missing {
		return SetupWouldCreate, nil
	}
	err := exists(ctx)
	switch {
	case err == nil:
		return SetupExists, nil
	case isNotImplemented(err):
		return SetupUnsupported, nil
	case !isNotThere(err):
		return "", err
	case b.dryRun:
		return SetupWouldCreate, nil
	}
	switch err := create(ctx); {
	case isNotImplemented(err):
		return SetupUnsupported, nil
	case err != nil:
		return "", err
	}
	return SetupCreated, nil
}

func (b *bucketSetup) bucketExists(ctx context.Context) error {
	_, err := b.client.S3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.client.Bucket})
	b.missing = b.dryRun && isNotThere(err)
	return err
}

func (b *bucketSetup) createBucket(ctx context.Context) error {
	in := &s3.CreateBucketInput{Bucket: &b.client.Bucket}
	if b.region != "us-east-1" && b.region != "" {
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{
			LocationConstraint: types.BucketLocationConstraint(b.region),
		}
	}
	_, err := b.client.S3.CreateBucket(ctx, in)
	return err
}

func (b *bucketSetup) publicAccessBlocked(ctx context.Context) error {
	out, err := b.client.S3.GetPublicAccessBlock(ctx, &s3.GetPublicAccessBlockInput{Bucket: &b.client.Bucket})
	if err != nil {
		return err
	}
	if p := out.PublicAccessBlockConfiguration; p == nil || !aws.ToBool(p.BlockPublicAcls) || !aws.ToBool(p.BlockPublicPolicy) ||
		!aws.ToBool(p.IgnorePublicAcls) || !aws.ToBool(p.RestrictPublicBuckets) {
		return errIncomplete
	}
	return nil
}

func (b *bucketSetup) blockPublicAccess(ctx context.Context) error {
	_, err := b.client.S3.PutPublicAccessBlock(ctx, &s3.PutPublicAccessBlockInput{
		Bucket: &b.client.Bucket, PublicAccessBlockConfiguration: PublicAccessBlock(),
	})
	return err
}

func (b *bucketSetup) corsExists(ctx context.Context) error {
	_, err := b.client.S3.GetBucketCors(ctx, &s3.GetBucketCorsInput{Bucket: &b.client.Bucket})
	return err
}

func (b *bucketSetup) createCORS(ctx context.Context) error {
	_, err := b.client.S3.PutBucketCors(ctx, &s3.PutBucketCorsInput{Bucket: &b.client.Bucket, CORSConfiguration: CORS()})
	return err
}

func (b *bucketSetup) lifecycleExists(ctx context.Context) error {
	_, err := b.client.S3.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &b.client.Bucket})
	return err
}

func (b *bucketSetup) createLifecycle(ctx context.Context) error {
	_, err := b.client.S3.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
		Bucket: &b.client.Bucket, LifecycleConfiguration: Lifecycle(),
	})
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() == "InvalidArgument" {
		// MinIO knows lifecycle rules, but not this one.
		return errors.Join(errNotImplemented, err)
	}
	return err
}

// errIncomplete says that a part is there but does not do what the contract wants.
var errIncomplete = errors.New("incomplete")

func isNotThere(err error) bool {
	if errors.Is(err, errIncomplete) || isMissing(err) {
		return true
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return false
	}
	switch api.ErrorCode() {
	case "NoSuchBucket", "NoSuchPublicAccessBlockConfiguration", "NoSuchCORSConfiguration", "NoSuchLifecycleConfiguration":
		return true
	}
	return false
}

// errNotImplemented says that the server does not know a part of a call.
var errNotImplemented = errors.New("not implemented by this server")

func isNotImplemented(err error) bool {
	return errors.Is(err, errNotImplemented) || transfer.StatusOf(err) == http.StatusNotImplemented
}
