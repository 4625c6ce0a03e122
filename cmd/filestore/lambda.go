package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/api"
	"github.com/designfultech/filestore/internal/lambda"
)

func newLambdaCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "lambda",
		Short: "Handle the events of an AWS Lambda function",
		Long: `Handle the events of an AWS Lambda function: requests of an API Gateway, notifications of S3
that an object was written, and scheduled events, for which it sweeps. Lambda starts this program
under the name bootstrap, which is the same as this command.

The settings come from the environment, as everywhere. FILESTORE_TOKEN_KEY signs the tokens with
which a file can be taken back. A REST API checks keys itself; whoever comes by another way must
know one of FILESTORE_API_KEYS, which are separated by commas.

"template cloudformation --api" prints all that belongs to it.`,
		Example: `  GOOS=linux GOARCH=arm64 go build -o bootstrap ./cmd/filestore && zip filestore.zip bootstrap`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runLambda(cmd.Context(), a) },
	}
}

// asLambda returns the arguments of a program that is called as that: Lambda gives none.
func asLambda(program string, lookupEnv func(string) (string, bool), args []string) []string {
	if _, ok := lookupEnv(lambda.RuntimeAPI); ok && len(args) == 0 && filepath.Base(program) == lambda.Bootstrap {
		return []string{"lambda"}
	}
	return args
}

func runLambda(ctx context.Context, a *app) (err error) {
	if address, ok := a.lookupEnv(lambda.RuntimeAPI); !ok || address == "" {
		return usagef("", "this is not an AWS Lambda function: %s is not set", lambda.RuntimeAPI)
	}
	tokenKey, err := a.tokenKey()
	if err != nil {
		return err
	}
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	log := slog.New(lambda.WithRequestID(slog.NewJSONHandler(plainJSON{a.stderr}, &slog.HandlerOptions{ReplaceAttr: logTime})))
	lambda.Serve(ctx, a.newFunction(store, tokenKey, log), plainJSON{a.stderr})
	return ctx.Err()
}

func (a *app) newFunction(store *filestore, tokenKey []byte, log *slog.Logger) *lambda.Function {
	opts := api.Options{Client: store.Client, TokenKey: tokenKey, Log: log}
	f := &lambda.Function{Client: store.Client, Log: log, Trusted: api.New(opts)}
	opts.Keys = a.apiKeys()
	f.Asking = api.New(opts)
	return f
}

// minTokenKey is how many bytes a key of tokens has at least: as many as it is of use to have (RFC 2104, "Keys").
const minTokenKey = 32

// tokenKey is what signs tokens; empty: none is configured.
func (a *app) tokenKey() ([]byte, error) {
	key, _ := a.lookupEnv("FILESTORE_TOKEN_KEY")
	if key != "" && len(key) < minTokenKey {
		return nil, usagef("", "FILESTORE_TOKEN_KEY has %d bytes, and must have %d or more", len(key), minTokenKey)
	}
	return []byte(key), nil
}

// apiKeys are those of the HTTP API, never nil: where none are configured, none is right.
func (a *app) apiKeys() []string {
	keys := []string{}
	text, _ := a.lookupEnv("FILESTORE_API_KEYS")
	for key := range strings.SplitSeq(text, ",") {
		if key = strings.TrimSpace(key); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}
