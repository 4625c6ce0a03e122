package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
)

// metadataTimeout is how long the instance metadata service may take. Outside of EC2 nothing
// answers there; on it, the answer takes milliseconds.
const metadataTimeout = 1500 * time.Millisecond

// signInTimeout is how long any other provider may take: a process may wait for a person.
const signInTimeout = 5 * time.Minute

// ErrNoCredentials says that nothing was found to sign requests with.
var ErrNoCredentials = errors.New("no AWS credentials were found")

// Credentials fetches the credentials. A command does so before it asks for anything with them,
// so that without any it fails at once and clearly, and not after every retry of its first
// request.
//
// It fails with [ErrNoCredentials] where there are none, and with the provider's own
// error where those that are configured can't be had.
func Credentials(ctx context.Context, provider aws.CredentialsProvider) (aws.Credentials, error) {
	// The SDK's chain ends with the metadata service: it is asked where nothing is configured.
	last := aws.IsCredentialsProvider(provider, (*ec2rolecreds.Provider)(nil))
	timeout := signInTimeout
	if last {
		timeout = metadataTimeout
	}
	fetchCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	creds, err := provider.Retrieve(fetchCtx)
	switch {
	case err == nil:
		return creds, nil
	case ctx.Err() != nil:
		return aws.Credentials{}, ctx.Err()
	case last:
		return aws.Credentials{}, ErrNoCredentials
	}
	err = fmt.Errorf("fetch the AWS credentials: %w", err)
	if isNetwork(err) || errors.Is(err, context.DeadlineExceeded) {
		return aws.Credentials{}, &FileError{Reason: Retry, Err: err}
	}
	return aws.Credentials{}, &FileError{Reason: Permission, Err: err}
}
