package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/api"
	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/page"
	"github.com/designfultech/filestore/internal/records"
	"github.com/designfultech/filestore/internal/records/dynamo"
)

const (
	// defaultListen is where the API listens: beside the S3 endpoint of a local store.
	defaultListen = "127.0.0.1:9481"

	// localSweepEvery is how often a local store is swept while it is served.
	localSweepEvery = 30 * time.Minute

	// requestGrace is how long requests may go on after the command was told to stop.
	requestGrace = 5 * time.Second
	// settleGrace is how long what was uploaded until then may take to be recorded.
	settleGrace = 10 * time.Second

	// defaultAddressHeader is where proxies tell whom they forward a request for.
	defaultAddressHeader = "X-Forwarded-For"

	// anonymousFactor is how many times more calls without a key there may be of all addresses together than of
	// one, as it is of the API's defaults.
	anonymousFactor = api.DefaultAnonymousRate / api.DefaultRate
)

type serveOptions struct {
	listen        string
	s3Listen      string
	sweepEvery    duration
	rate          float64
	burst         int
	quota         int
	trustProxy    []string
	addressHeader string
	audit         string
	formAction    string

	proxies []netip.Prefix // trustProxy, read
}

func newServeCmd(a *app) *cobra.Command {
	opts := &serveOptions{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the HTTP API with its upload page, and a local store",
		Long: `Serve the HTTP API of the filestore, and beside it the upload page for browsers, until Ctrl-C,
or for the time of --timeout.

Of a local store the S3 endpoint is served too, on a fixed port, so that presigned URLs work; what
is uploaded through them is recorded by itself, and a sweep runs every 30 minutes. Other commands
may work on the store meanwhile.

Who lists, stores or deletes files through the API needs a key. FILESTORE_API_KEYS has them,
separated by commas; a local store has one by itself, in the file "api-key" of its directory.
FILESTORE_TOKEN_KEY, a random text, is the same for all servers of one filestore: with it they
know the tokens that others handed out, with which a browser takes back what it has uploaded.`,
		Example: `  filestore serve --local
  filestore serve --local=/srv/files --listen 127.0.0.1:8080 --s3-listen 127.0.0.1:9500
  FILESTORE_API_KEYS="$(cat keys)" filestore serve --bucket my-files --listen 0.0.0.0:8080`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runServe(cmd.Context(), a, opts) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.listen, "listen", defaultListen, "`HOST:PORT` of the API")
	flags.StringVar(&opts.s3Listen, "s3-listen", local.DefaultListen, "address of the S3 endpoint of a local store, on the loopback interface")
	flags.Var(&opts.sweepEvery, "sweep-every", "remove what is due as often, as \"expire\" does; 0: never (default: 30m of a local store, unless files are stored on load)")
	flags.Float64Var(&opts.rate, "rate", api.DefaultRate, "requests a second of each key, and of each address without one; 0: any")
	flags.IntVar(&opts.burst, "burst", api.DefaultBurst, "requests that may come at once after a while without any")
	flags.IntVar(&opts.quota, "quota", api.DefaultQuota, "requests a month of each key, counted while this runs; 0: any")
	flags.StringSliceVar(&opts.trustProxy, "trust-proxy", nil, "`CIDR,...` of proxies that tell where requests come from, each a network such as 10.0.0.0/8 or an address")
	flags.StringVar(&opts.addressHeader, "address-header", defaultAddressHeader, "`NAME` of the header in which the proxies of --trust-proxy do")
	flags.StringVar(&opts.formAction, "form-action", "", "`URL` of a backend that gets the ids of what was uploaded on the page, and answers on its own origin (default: the page shows the command that stores them)")
	registerAudit(flags, &opts.audit)
	return cmd
}

func runServe(ctx context.Context, a *app, opts *serveOptions) (err error) {
	if err := opts.check(a); err != nil {
		return err
	}
	store, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	s := &service{app: a, store: store, opts: opts, log: slog.New(&serverLog{app: a})}
	if s.keys, err = s.apiKeys(); err != nil {
		return err
	}
	if s.tokenKey, err = s.newTokenKey(); err != nil {
		return err
	}
	if err := a.audit(store, opts.audit, "serve"); err != nil {
		return err
	}
	if table, ok := store.Records.(*dynamo.Table); ok {
		table.Unbatched()
	}
	if store.local == nil {
		err = s.run(ctx)
	} else {
		err = s.runLocal(ctx)
	}
	if over := a.timeOver(); over != nil && err == nil {
		a.note("%s", over)
	}
	return err
}

func (opts *serveOptions) check(a *app) error {
	switch {
	case opts.sweepEvery < 0:
		return usagef("0 is never", "--sweep-every must not be negative")
	case !(opts.rate >= 0): // nor NaN
		return usagef("0 is no limit", "--rate must not be negative")
	case opts.burst < 1:
		return usagef("", "--burst must be at least 1")
	case opts.quota < 0:
		return usagef("0 is no limit", "--quota must not be negative")
	}
	if err := opts.checkProxies(a); err != nil {
		return err
	}
	if opts.formAction != "" {
		if u, err := url.Parse(opts.formAction); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return usagef("such as https://www.example.com/report", "--form-action %q is no URL of a backend", opts.formAction)
		}
	}
	host, _, err := net.SplitHostPort(opts.listen)
	if err != nil {
		return usagef("such as "+defaultListen, "--listen %q is no host with a port", opts.listen)
	}
	if isLoopback(host) {
		return nil
	}
	if keys, err := a.configuredKeys(); err != nil || len(keys) > 0 {
		return err
	}
	return usagef(keysHint, "other computers could reach --listen %s, and FILESTORE_API_KEYS is not set", opts.listen)
}

// checkProxies reads the proxies. All addresses would be none: then every client says itself where it is.
func (opts *serveOptions) checkProxies(a *app) error {
	for _, text := range opts.trustProxy {
		text = strings.TrimSpace(text)
		network, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			network, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil || network.Addr().Is4In6() || network.Addr().Zone() != "" {
			return usagef("such as 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32", "--trust-proxy %q is no network", text)
		}
		if network.Bits() == 0 {
			return usagef("name those that stand before this server", "--trust-proxy %s would believe everybody", text)
		}
		opts.proxies = append(opts.proxies, network)
	}
	switch {
	case len(opts.proxies) == 0 && a.flags.changed("address-header"):
		return usagef("--trust-proxy CIDR names it", "--address-header %s is believed of a proxy only", opts.addressHeader)
	case !regexp.MustCompile(`^[A-Za-z0-9-]+$`).MatchString(opts.addressHeader) || strings.EqualFold(opts.addressHeader, "Forwarded"):
		return usagef("such as X-Forwarded-For or X-Real-IP", "--address-header %q is no header that has addresses alone", opts.addressHeader)
	}
	return nil
}

const keysHint = `export FILESTORE_API_KEYS="$(openssl rand -hex 32)" makes a key`

// isLoopback reports whether only programs on this machine reach host.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// service is what one "serve" serves.
type service struct {
	app      *app
	store    *filestore
	opts     *serveOptions
	log      *slog.Logger
	keys     []string
	keyFile  string // that the key is in; empty where it was configured
	tokenKey []byte
	s3       string // the URL of the S3 endpoint of a local store
}

// apiKeys returns the keys that the API accepts. There is always one: a page of any origin may ask
// a server on this machine, and must not delete files.
func (s *service) apiKeys() ([]string, error) {
	keys, err := s.app.configuredKeys()
	switch {
	case err != nil || keys != nil:
		return keys, err
	case s.store.local == nil:
		return nil, usagef(keysHint, "FILESTORE_API_KEYS is not set")
	}
	key, file, err := s.store.local.APIKey()
	s.keyFile = file
	s.app.secrets.add(key)
	return []string{key}, err
}

// newTokenKey returns the key that signs tokens.
func (s *service) newTokenKey() ([]byte, error) {
	key, err := s.app.configuredTokenKey()
	switch {
	case err != nil || key != nil:
		return key, err
	case s.store.local != nil:
		return s.store.local.TokenKey()
	}
	s.app.note("tokens to take uploads back are good until this ends, and here only; FILESTORE_TOKEN_KEY makes them last")
	key = make([]byte, 32)
	_, _ = rand.Read(key) // documented never to fail
	return key, nil
}

// run serves the API until ctx is done.
func (s *service) run(ctx context.Context) error {
	listener, err := s.listen()
	if err != nil {
		return err
	}
	return s.serve(ctx, listener)
}

// runLocal serves the S3 endpoint, and the API over it. The endpoint lives longer than the API, whose requests and
// sweeps need it.
func (s *service) runLocal(ctx context.Context) (err error) {
	created := newAnnouncements(
		func(ctx context.Context, key string) error {
			_, _, err := s.store.ObjectCreated(ctx, key)
			return err
		},
		func(key string, err error) {
			s.app.warn(subject{id: key}, "its upload was not recorded, and will be when somebody asks for it: %s", describe(err))
		})
	s.store.local.Created = created.add
	s3ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() { ended <- s.store.local.Serve(s3ctx, s.opts.s3Listen, func(url string) { ready <- url }) }()
	select {
	case s.s3 = <-ready:
	case err := <-ended:
		return err
	case <-ctx.Done():
		stop()
		err := <-ended
		created.drain(settleGrace)
		return err
	}
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
		created.drain(settleGrace)
	}()

	listener, err := s.listen()
	if err != nil {
		return err
	}
	apiCtx, died := context.WithCancel(ctx)
	defer died()
	go func() {
		err := <-ended
		died()
		ended <- err
	}()
	s.app.out.line(s.s3)
	return s.serve(apiCtx, listener)
}

// listen opens the address of the API.
func (s *service) listen() (net.Listener, error) {
	listener, err := net.Listen("tcp", s.opts.listen)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return nil, &local.ListenError{Addr: s.opts.listen, InUse: errors.Is(err, syscall.EADDRINUSE), Reason: op.Err.Error()}
	}
	return listener, err
}

// serve answers requests until ctx is done, and says so. Requests that are running then may end, and
// a sweep is over, when it returns.
func (s *service) serve(ctx context.Context, listener net.Listener) error {
	handler, err := s.handler(ctx)
	if err != nil {
		_ = listener.Close()
		return err
	}
	server := api.Server(handler, s.log)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	s.app.out.line("http://" + listener.Addr().String())
	s.tell(listener)

	sweepCtx, stopSweeps := context.WithCancel(ctx)
	var sweeps sync.WaitGroup
	if every := s.sweepEvery(); every > 0 {
		sweeps.Go(func() { s.sweep(sweepCtx, every) })
	}
	defer sweeps.Wait()
	defer stopSweeps()
	select {
	case err := <-ended:
		return fmt.Errorf("serve the API: %w", err)
	case <-ctx.Done():
	}
	graceCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestGrace)
	defer cancel()
	if err := server.Shutdown(graceCtx); err != nil {
		_ = server.Close() // what still runs is cut off
	}
	return nil
}

// tell tells a person what is served, and what is needed to use it.
func (s *service) tell(listener net.Listener) {
	what := s.store.Bucket
	if s.store.local != nil {
		what = s.store.local.Dir()
	}
	s.app.note("serving %s; Ctrl-C ends it", what)
	if s.keyFile != "" {
		s.app.note("the key of the API is in %s", s.keyFile)
	}
	if addr, err := netip.ParseAddrPort(listener.Addr().String()); s.store.local != nil && err == nil && !addr.Addr().IsLoopback() {
		s.app.message("warning", "files are uploaded to and downloaded from %s, which only this computer reaches", s.s3)
	}
}

// handler answers every path: the page and its parts, and the API.
func (s *service) handler(ctx context.Context) (http.Handler, error) {
	signer, err := s.store.Signer(ctx)
	if err != nil {
		return nil, err
	}
	server, err := signer.Server()
	if err != nil {
		return nil, err
	}
	upload := page.Handler(page.Options{
		S3: server.String(), Action: s.opts.formAction,
		URLLifetime: s.store.Settings.URLLifetime, TemporaryLifetime: s.store.Settings.TemporaryLifetime,
		StoreOnLoad: s.store.Settings.StoreOnLoad,
	})
	// To the API 0 is the default, and less than that no limit.
	limit := api.Limit{Rate: cmp.Or(s.opts.rate, -1), Burst: s.opts.burst}
	calls := api.New(api.Options{
		Client: s.store.Client, Keys: s.keys, TokenKey: s.tokenKey, Log: s.log,
		Address: api.Forwarded(s.opts.addressHeader, s.opts.proxies),
		PerKey:  limit, PerAddress: limit,
		Anonymous: api.Limit{Rate: anonymousFactor * limit.Rate, Burst: anonymousFactor * limit.Burst},
		Quota:     cmp.Or(s.opts.quota, -1),
	})
	// Not by a ServeMux: it would redirect paths with ".." in them before the API can refuse them.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" || strings.HasPrefix(r.URL.Path, "/assets/") {
			upload.ServeHTTP(w, r)
			return
		}
		calls.ServeHTTP(w, r)
	}), nil
}

// sweepEvery is how often to sweep, 0 for never.
func (s *service) sweepEvery() time.Duration {
	if s.app.flags.changed("sweep-every") {
		return time.Duration(s.opts.sweepEvery)
	}
	// In an account another program sweeps, on a schedule; and what is stored on load does not expire.
	if s.store.local == nil || s.store.Settings.StoreOnLoad {
		return 0
	}
	return localSweepEvery
}

// sweep removes what is due, now and then again and again, until ctx is done.
func (s *service) sweep(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.sweepOnce(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// sweepOnce sweeps, and tells what was done, or why not. A sweep that the end of the command ends has failed at nothing:
// the next one goes on.
func (s *service) sweepOnce(ctx context.Context) {
	run := sweepRun{begun: time.Now(), reads: records.NewMeter(0), writes: records.NewMeter(0)}
	var err error
	run.summary, err = s.store.Expire(ctx, client.ExpireOptions{
		Reads: run.reads, Writes: run.writes,
		Report: func(f client.Swept) {
			if f.Err != nil {
				s.app.failItem(subject{id: f.ID}, f.Err)
			}
		},
	})
	if err != nil && ctx.Err() != nil {
		return
	}
	s.app.warnSwept(run.summary)
	if err != nil {
		s.app.fail(subject{}, fmt.Errorf("sweep: %w", err))
		return
	}
	sum := run.summary
	done := sum.Expired + sum.Abandoned + sum.Settled + sum.Aborted + sum.Failed
	if s.app.flags.quiet || done == 0 && s.app.log == nil {
		return
	}
	s.app.say(message{kind: "note", text: "sweep: " + describeSweep(sum, false), attrs: run.attrs()})
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
