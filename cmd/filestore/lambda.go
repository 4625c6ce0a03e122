package main

import (
	"context"
	"log/slog"
	"path/filepath"

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
		Example: `  filestore template cloudformation --api > stack.json`,
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

// runLambda does not return once it has begun to handle events: the process ends with it, and nothing is closed.
func runLambda(ctx context.Context, a *app) (err error) {
	if address, ok := a.lookupEnv(lambda.RuntimeAPI); !ok || address == "" {
		return usagef("", "this is not an AWS Lambda function: %s is not set", lambda.RuntimeAPI)
	}
	opts := api.Options{}
	if opts.TokenKey, err = a.configuredTokenKey(); err != nil {
		return err
	}
	if opts.Keys, err = a.configuredKeys(); err != nil {
		return err
	}
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	stderr := plainJSON{a.stderr, a.secrets.hide}
	log := slog.New(lambda.WithRequestID(slog.NewJSONHandler(stderr, &slog.HandlerOptions{ReplaceAttr: logTime})))
	opts.Client, opts.Log = store.Client, log
	lambda.Serve(ctx, newFunction(opts), stderr)
	return nil
}

// newFunction returns what answers events: those of a REST API that has checked a key, and others, which must have one of
// opts.Keys.
func newFunction(opts api.Options) *lambda.Function {
	trusted, asking := opts, opts
	trusted.Keys = nil
	asking.Keys = append([]string{}, opts.Keys...) // never nil: where none are configured, none is right
	return &lambda.Function{Client: opts.Client, Log: opts.Log, Trusted: api.New(trusted), Asking: api.New(asking)}
}
