package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/presign"
)

type presignOptions struct {
	expires duration
	urlOnly bool
	name    string
	args    []string
}

func newPresignCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "presign",
		Short: "Make URLs for uploads and downloads by others",
		Long: `Make URLs through which anybody who has them can upload or download one file until they
end, with no credentials and any HTTP client.`,
		Example: `  filestore presign put --url report.pdf
  filestore presign get --url 3p1xk0s9d2mfa7qz`,
		RunE: runGroup,
	}
	cmd.AddCommand(newPresignPutCmd(a), newPresignGetCmd(a))
	return cmd
}

func newPresignPutCmd(a *app) *cobra.Command {
	opts := &presignOptions{}
	cmd := &cobra.Command{
		Use:   "put NAME",
		Short: "Make a URL to upload a file of that name",
		Long: `Make the record of a file and the URL to upload it with a PUT request. The columns are the
id, the URL and its end of life. "store" then makes the file permanent; a file that is not
uploaded or not stored is removed by "expire".`,
		Example: `  url=$(filestore presign put --url report.pdf) && curl -T report.pdf "$url"
  read -r id url expires < <(filestore presign put report.pdf)`,
		Args: oneArg("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.name = args[0]
			return runPresignPut(cmd.Context(), a, opts)
		},
	}
	opts.register(cmd, "1s to --url-expiration")
	return cmd
}

func newPresignGetCmd(a *app) *cobra.Command {
	opts := &presignOptions{}
	cmd := &cobra.Command{
		Use:   "get ID...",
		Short: "Make URLs to download stored files",
		Long: `Make the URLs to download files. Only stored files get one. The columns are the id, the URL
and its end of life. With "-" ids are read from standard input, one a line.`,
		Example: `  curl -OJ "$(filestore presign get --url 3p1xk0s9d2mfa7qz)"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.args = args
			return runPresignGet(cmd.Context(), a, opts)
		},
	}
	opts.register(cmd, "1s to 7d")
	return cmd
}

func (o *presignOptions) register(cmd *cobra.Command, limits string) {
	cmd.Flags().Var(&o.expires, "expires", "lifetime of the URL, "+limits+" (default: --url-expiration)")
	cmd.Flags().BoolVar(&o.urlOnly, "url", false, "print the URL alone")
}

// presignedJSON is a URL in JSON (docs/output.md).
type presignedJSON struct {
	ID      string            `json:"id"`
	Name    string            `json:"name"`
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Expires string            `json:"url_expires_at"`
	Headers map[string]string `json:"headers,omitempty"` // that must be sent along
}

func (a *app) printURL(id, name, method string, u presign.URL, urlOnly bool) {
	if urlOnly && !a.flags.json && !a.flags.quiet {
		a.out.line(u.URL)
		return
	}
	headers := make(map[string]string, len(u.Header))
	for k := range u.Header {
		headers[k] = u.Header.Get(k)
	}
	a.out.add(result{
		id:    id,
		cells: []cell{text(id), text(u.URL), moment(u.Expires)},
		json: presignedJSON{
			ID: id, Name: name, Method: method, URL: u.URL,
			Expires: u.Expires.UTC().Format(time.RFC3339), Headers: headers,
		},
	})
}

// openServed opens the filestore for URLs that must work after this process has ended.
func (a *app) openServed(ctx context.Context) (*filestore, error) {
	store, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	if store.local != nil && !store.local.Served() {
		return nil, errors.Join(usagef(`start "filestore serve --local" first, and leave it running`,
			"nobody serves this local store, so that a URL would lead nowhere"), store.close())
	}
	return store, nil
}

func runPresignPut(ctx context.Context, a *app, opts *presignOptions) (err error) {
	if opts.name == "" {
		return usagef("", "NAME is empty")
	}
	lifetime, err := a.lifetime(opts.expires)
	if err != nil {
		return err
	}
	store, err := a.openServed(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	a.out.columns("ID", "URL", "URL EXPIRES")
	id, url, err := store.PresignPut(ctx, opts.name, nil, lifetime, presign.Limits{})
	if err != nil {
		return err
	}
	a.printURL(id, opts.name, http.MethodPut, url, opts.urlOnly)
	return nil
}

func runPresignGet(ctx context.Context, a *app, opts *presignOptions) (err error) {
	lifetime, err := a.lifetime(opts.expires)
	if err != nil {
		return err
	}
	ids, err := a.readIDs(ctx, opts.args)
	if err != nil {
		return err
	}
	store, err := a.openServed(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	a.out.columns("ID", "URL", "URL EXPIRES")
	var t tally
	for r := range store.Info(ctx, ids, client.InfoOptions{Expires: lifetime}) {
		if r.Err != nil {
			t.fail(r.Err)
			a.out.fail(r.ID, "", r.Err)
			continue
		}
		t.ok()
		a.printURL(r.ID, r.Value.Name, http.MethodGet, r.Value.URL, opts.urlOnly)
	}
	return t.result()
}

// oneArg is cobra.ExactArgs(1) with an error that names what is missing.
func oneArg(name string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) == 0:
			return usagef("", "%s is missing", name)
		case len(args) > 1:
			return usagef("quote a name that has spaces in it", "one %s is taken, %d are given", name, len(args))
		}
		return nil
	}
}
