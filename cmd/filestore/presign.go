package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
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
	limits  uploadLimits
}

// uploadLimits are the flags that bind an upload URL to what may be sent.
type uploadLimits struct {
	size        byteSize
	contentType string
	checksum    checksumFlag
	noOverwrite bool
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
uploaded or not stored is removed by "expire".

Whoever has the URL can upload anything through it, as often as they like, until it ends.
--size, --type, --checksum and --no-overwrite narrow that: the server refuses every other
upload. They are signed into the URL as headers, which the upload must then send along; they
are told in a column more, as JSON, and with --url on standard error. MinIO does not refuse
copies of objects whose ids are known: see SECURITY.md.`,
		Example: `  url=$(filestore presign put --url report.pdf) && curl -T report.pdf "$url"
  read -r id url expires < <(filestore presign put report.pdf)
  filestore presign put --size 11 --type text/plain --no-overwrite report.txt`,
		Args: oneArg("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.name = args[0]
			return runPresignPut(cmd.Context(), a, opts)
		},
	}
	opts.register(cmd, "1s to --url-expiration")
	l, flags := &opts.limits, cmd.Flags()
	flags.Var(&l.size, "size", "take nothing but a body of exactly so many bytes, such as 11 or 8M")
	flags.StringVar(&l.contentType, "type", "", "take nothing but a body of this `MIME` type")
	flags.Var(&l.checksum, "checksum", "take nothing but the body with this checksum: SHA256: or CRC64NVME: and its base64 or hexadecimal digits")
	flags.BoolVar(&l.noOverwrite, "no-overwrite", false, "take one upload, and none once the object is there")
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

// printURL writes a URL and, where its user must send headers along, what these are.
func (a *app) printURL(id, name, method string, u presign.URL, urlOnly bool) {
	if urlOnly && !a.flags.json && !a.flags.quiet {
		a.out.line(u.URL)
		if len(u.Header) > 0 {
			a.remark(subject{}, "the upload must send %s", headerList(u.Header))
		}
		return
	}
	headers := make(map[string]string, len(u.Header))
	for k := range u.Header {
		headers[k] = u.Header.Get(k)
	}
	cells := []cell{text(id), text(u.URL), moment(u.Expires)}
	if len(headers) > 0 {
		object, _ := jsonText(headers) // strings can always be marshalled
		cells = append(cells, text(object))
	}
	a.out.add(result{
		id:    id,
		cells: cells,
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
	limits, err := opts.limits.of(a)
	if err != nil {
		return err
	}
	store, err := a.openServed(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	a.out.columns("ID", "URL", "URL EXPIRES")
	id, url, err := store.PresignPut(ctx, opts.name, nil, lifetime, limits)
	if err != nil {
		return err
	}
	if len(url.Header) > 0 {
		a.out.columns("ID", "URL", "URL EXPIRES", "HEADERS")
	}
	a.printURL(id, opts.name, http.MethodPut, url, opts.urlOnly)
	return nil
}

// of is what the flags say that are given. A size of zero is one, too.
func (l *uploadLimits) of(a *app) (presign.Limits, error) {
	limits := presign.Limits{
		ContentType: l.contentType, Checksum: presign.Checksum(l.checksum), IfNoneMatch: l.noOverwrite,
	}
	if a.flags.changed("size") {
		limits.Size = new(int64(l.size))
	}
	if a.flags.changed("type") && l.contentType == "" {
		return limits, usagef("", "--type is empty")
	}
	return limits, nil
}

// checksumFlag is a checksum that a body must have, as "info --checksum" prints it, or with the digits that
// tools such as sha256sum print.
type checksumFlag presign.Checksum

// Set implements pflag.Value.
func (c *checksumFlag) Set(s string) error {
	algorithm, value, ok := strings.Cut(s, ":")
	if !ok {
		return fmt.Errorf("%q is not a checksum such as %s:rosUhgp5mIg=", s, presign.CRC64NVME)
	}
	sum := presign.Checksum{Algorithm: presign.Algorithm(strings.ToUpper(algorithm)), Value: value}
	// Base64 of one of these is of another length: there is no text that is both.
	if size := sum.Algorithm.Size(); len(value) == hex.EncodedLen(size) {
		if digits, err := hex.DecodeString(value); err == nil {
			sum.Value = base64.StdEncoding.EncodeToString(digits)
		}
	}
	if err := sum.Check(); err != nil {
		return err
	}
	*c = checksumFlag(sum)
	return nil
}

func (c *checksumFlag) String() string {
	if *c == (checksumFlag{}) {
		return ""
	}
	return string(c.Algorithm) + ":" + c.Value
}

// Type implements pflag.Value.
func (c *checksumFlag) Type() string { return "checksum" }

// headerList is the headers for people, in a fixed order.
func headerList(header http.Header) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(header)) {
		list = append(list, name+": "+header.Get(name))
	}
	return strings.Join(list, ", ")
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
