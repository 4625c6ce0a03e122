package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/local"
)

type serveOptions struct {
	s3Listen string
}

func newServeCmd(a *app) *cobra.Command {
	opts := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve a local store, so that presigned URLs work",
		Long: `Serve the S3 endpoint of a local store on a fixed port until Ctrl-C, or for the time of
--timeout. While it runs, presigned URLs of the store work, and commands started meanwhile
use it.`,
		Example: `  filestore --local serve
  filestore serve --local=/srv/files --s3-listen 127.0.0.1:9500`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), a, opts) },
	}
	cmd.Flags().StringVar(&opts.s3Listen, "s3-listen", local.DefaultListen, "address of the S3 endpoint, on the loopback interface")
	return cmd
}

func runServe(ctx context.Context, a *app, opts *serveOptions) (err error) {
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	if store.local == nil {
		return usagef("serve --local", "only a local store can be served")
	}
	err = store.local.Serve(ctx, opts.s3Listen, func(url string) {
		a.out.line(url)
		a.note("serving %s; Ctrl-C ends it", store.local.Dir())
	})
	if over := a.timeOver(); over != nil && err == nil {
		a.note("%s", over)
	}
	return err
}

// newServerCmd is the S3 server itself: this program starts itself with it.
func newServerCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:    local.ServerCommand,
		Short:  "The S3 server of a local store, started by other commands",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return local.RunServer(a.stdin, a.stdout) },
	}
}
