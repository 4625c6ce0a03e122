package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/local"
	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/records/dynamo"
	"github.com/designfultech/filestore/internal/records/sqlite"
	"github.com/designfultech/filestore/internal/transfer"
)

// globalFlags are those of every command. A flag wins over its FILESTORE_ variable, which wins
// over the default; the rest of the configuration is the SDK's own.
type globalFlags struct {
	bucket            string
	table             string
	local             string
	profile           string
	region            string
	endpointURL       string
	urlExpiration     duration
	temporaryLifetime duration
	stallTimeout      duration
	timeout           duration
	bwlimit           byteRate
	storeOnLoad       bool
	json              bool
	quiet             bool
	logFormat         logFormat

	changed func(flag string) bool
}

func (f *globalFlags) register(root *cobra.Command) {
	f.urlExpiration = duration(client.DefaultURLLifetime)
	f.temporaryLifetime = duration(client.DefaultTemporaryLifetime)
	f.stallTimeout = duration(client.DefaultStallTimeout)
	f.logFormat = logText
	flags := root.PersistentFlags()
	flags.Var((*optionalDir)(&f.local), "local", "keep everything in a directory on this disk; without `[=DIR]` in the user's data directory [FILESTORE_LOCAL]")
	flags.Lookup("local").NoOptDefVal = "true"
	flags.StringVar(&f.bucket, "bucket", "", "the S3 bucket [FILESTORE_BUCKET]")
	flags.StringVar(&f.table, "table", client.DefaultTable, "the DynamoDB table [FILESTORE_TABLE]")
	flags.StringVar(&f.profile, "profile", "", "profile of the AWS configuration [AWS_PROFILE]")
	flags.StringVar(&f.region, "region", "", "AWS region [AWS_REGION]")
	flags.StringVar(&f.endpointURL, "endpoint-url", "", "`URL` of both services, if not AWS [AWS_ENDPOINT_URL, ..._S3, ..._DYNAMODB]")
	flags.Var(&f.urlExpiration, "url-expiration", "lifetime of presigned URLs, 1s to 7d [FILESTORE_URL_EXPIRATION]")
	flags.Var(&f.temporaryLifetime, "temporary-lifetime", "how long files that nobody stores are kept [FILESTORE_TEMPORARY_LIFETIME]")
	flags.BoolVar(&f.storeOnLoad, "store-on-load", false, "files are stored the moment they are uploaded [FILESTORE_STORE_ON_LOAD]")
	flags.Var(&f.stallTimeout, "stall-timeout", "give up a connection that moves no byte for so long")
	flags.Var(&f.timeout, "timeout", "give up a command that takes so long (default: none) [FILESTORE_TIMEOUT]")
	flags.Var(&f.bwlimit, "bwlimit", "bytes a second of all connections together, up and down counted alike, such as 8M or 500K (default: no limit) [FILESTORE_BWLIMIT]")
	flags.BoolVar(&f.json, "json", false, "print JSON Lines, one object a file")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print ids only, and no progress")
	flags.Var(&f.logFormat, "log-format", "how messages are written to standard error: `text`, or json for one object a line [FILESTORE_LOG_FORMAT]")
}

// optionalDir is the value of --local: a directory, or a switch.
type optionalDir string

// Set implements pflag.Value.
func (d *optionalDir) Set(s string) error { *d = optionalDir(s); return nil }

func (d *optionalDir) String() string { return string(*d) }

// Type implements pflag.Value. A "bool" is shown without the value that it has by itself.
func (d *optionalDir) Type() string { return "bool" }

func (f *globalFlags) check() error {
	if f.json && f.quiet {
		return usagef("", "--json and --quiet exclude each other")
	}
	return nil
}

// settings is the configuration as it holds for one command.
type settings struct {
	client.Settings
	place
	// bandwidth is in bytes a second; 0: no limit.
	bandwidth int64
}

// place is where a filestore is, and how it is reached. What is empty of an account is configured
// elsewhere, where the SDK looks for it.
type place struct {
	bucket      string
	table       string
	profile     string
	region      string
	endpointURL string // of both services
	local       bool
	dir         string // of the local store; empty: the default
}

// settings resolves flags and variables.
func (a *app) settings() (settings, error) {
	f := &a.flags
	s := settings{place: place{
		bucket:  a.setting("bucket", f.bucket, "FILESTORE_BUCKET"),
		table:   a.setting("table", f.table, "FILESTORE_TABLE"),
		profile: f.profile, region: f.region, endpointURL: f.endpointURL,
	}}
	if err := a.storeSettings(&s); err != nil {
		return s, err
	}
	if f.stallTimeout <= 0 {
		return s, usagef("", "--stall-timeout must be more than zero")
	}
	bandwidth := f.bwlimit
	if text, ok := a.lookupEnv("FILESTORE_BWLIMIT"); ok && text != "" && !f.changed("bwlimit") {
		if err := bandwidth.Set(text); err != nil {
			return s, usagef("", "FILESTORE_BWLIMIT: %w", err)
		}
	}
	if s.bandwidth = int64(bandwidth); s.bandwidth > 0 && s.bandwidth < client.MinBandwidth {
		return s, usagef("0 is no limit", "the bandwidth is %d bytes a second, and must be at least %s", s.bandwidth, iecSize(client.MinBandwidth))
	}
	return s, a.localSetting(&s)
}

// storeSettings resolves the settings that all clients of a filestore should have alike.
func (a *app) storeSettings(s *settings) (err error) {
	f := &a.flags
	if s.URLLifetime, err = a.durationSetting("url-expiration", f.urlExpiration, "FILESTORE_URL_EXPIRATION"); err != nil {
		return err
	}
	if s.URLLifetime < presign.MinLifetime || s.URLLifetime > presign.MaxLifetime {
		return usagef("", "the lifetime of URLs is %s, and must be from 1s to 7d", shortDuration(s.URLLifetime))
	}
	if s.TemporaryLifetime, err = a.durationSetting("temporary-lifetime", f.temporaryLifetime, "FILESTORE_TEMPORARY_LIFETIME"); err != nil {
		return err
	}
	if s.TemporaryLifetime <= 0 {
		return usagef("", "the temporary lifetime is %s, and must be more than zero", shortDuration(s.TemporaryLifetime))
	}
	s.StoreOnLoad = f.storeOnLoad
	if text, ok := a.lookupEnv("FILESTORE_STORE_ON_LOAD"); ok && text != "" && !f.changed("store-on-load") {
		if s.StoreOnLoad, err = parseBool(text); err != nil {
			return usagef("", "FILESTORE_STORE_ON_LOAD: %w", err)
		}
	}
	return nil
}

// setting returns the value of a flag, of its variable where only that is set, or the default.
func (a *app) setting(flag, value, variable string) string {
	if text, ok := a.lookupEnv(variable); ok && text != "" && !a.flags.changed(flag) {
		return text
	}
	return value
}

func (a *app) durationSetting(flag string, value duration, variable string) (time.Duration, error) {
	text, ok := a.lookupEnv(variable)
	if !ok || text == "" || a.flags.changed(flag) {
		return time.Duration(value), nil
	}
	d, err := parseDuration(text)
	if err != nil {
		return 0, usagef("", "%s: %w", variable, err)
	}
	return d, nil
}

// parseBool reads a switch. Unlike strconv's it knows yes, no, on and off.
func parseBool(text string) (bool, error) {
	switch text {
	case "yes", "on":
		return true, nil
	case "no", "off":
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%q is neither true nor false", text)
	}
	return b, nil
}

// localSetting decides between AWS and this disk. Local is used only where somebody said so.
func (a *app) localSetting(s *settings) error {
	fromFlag := a.flags.changed("local")
	text := a.flags.local
	if !fromFlag {
		text, _ = a.lookupEnv("FILESTORE_LOCAL")
	}
	on, err := parseBool(text)
	switch {
	case text == "":
		on = fromFlag // --local= is --local
	case err != nil:
		on, s.dir = true, text
	}
	if on && a.flags.changed("bucket") {
		if fromFlag {
			return usagef("", "--local and --bucket exclude each other")
		}
		on = false // the flag wins over the variable
	}
	if bucket, ok := a.lookupEnv("FILESTORE_BUCKET"); ok && bucket != "" && on && !fromFlag {
		return usagef("unset one of them, or say --local or --bucket",
			"both FILESTORE_LOCAL and FILESTORE_BUCKET are set")
	}
	s.local = on
	if !on && s.bucket == "" {
		return usagef("for AWS, name the bucket: --bucket NAME or FILESTORE_BUCKET; without an account, try --local",
			"no filestore is configured")
	}
	return nil
}

// filestore is an open filestore: the client, and what belongs to the place where it is.
type filestore struct {
	*client.Client
	place     place
	region    string
	table     *dynamo.Table // nil for a local store
	tableName string
	local     *local.Store // nil for AWS
	directory string       // of a local store, absolute
	// identity tells this filestore from every other, in the program's own state.
	identity string
	close    func() error
}

// identityOf is the identity of the filestore that has all of these.
func identityOf(parts ...string) string {
	text, _ := json.Marshal(parts) // strings can always be marshalled
	return string(text)
}

// open connects to the configured filestore. The caller closes it.
func (a *app) open(ctx context.Context) (*filestore, error) {
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	return a.openAt(ctx, s)
}

// openAt connects to the filestore of s.
func (a *app) openAt(ctx context.Context, s settings) (*filestore, error) {
	if s.local {
		return a.openLocal(ctx, s)
	}
	return a.openAWS(ctx, s)
}

func (a *app) openAWS(ctx context.Context, s settings) (*filestore, error) {
	http := a.httpClient(ctx, s, nil)
	options := []func(*config.LoadOptions) error{
		config.WithHTTPClient(http), config.WithRetryer(client.NewRetryer),
		// What the SDK would write to stderr by itself is in its errors, or of no use to the user.
		config.WithLogger(logging.Nop{}),
	}
	if s.profile != "" {
		options = append(options, config.WithSharedConfigProfile(s.profile))
	}
	if s.region != "" {
		options = append(options, config.WithRegion(s.region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("AWS configuration: %w", err)}
	}
	// The other modes (AWS_DEFAULTS_MODE) have the SDK open the connections, which then neither stall nor
	// keep to a bandwidth.
	cfg.DefaultsMode = aws.DefaultsModeLegacy
	var c *client.Client
	database := dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
		o.Region, o.BaseEndpoint = s.service(o.Region, o.BaseEndpoint)
		o.Retryer = client.TellThrottled(client.NewRetryer(), func() { c.Throttled() })
	})
	api := client.NewS3(cfg, func(o *s3.Options) { o.Region, o.BaseEndpoint = s.service(o.Region, o.BaseEndpoint) })
	region, endpoint := api.Options().Region, aws.ToString(api.Options().BaseEndpoint)
	if region == "" || database.Options().Region == "" {
		return nil, usagef("set AWS_REGION, or say --region", "no AWS region is configured")
	}
	if !isEndpoint(endpoint) || !isEndpoint(aws.ToString(database.Options().BaseEndpoint)) {
		return nil, usagef("such as http://127.0.0.1:9000", "an endpoint is not a URL") // it may hold a password
	}
	if _, err := a.credentials(ctx, cfg.Credentials); err != nil {
		return nil, err
	}
	c = a.newClient(s, s.bucket, api, func(ctx context.Context) (presign.Signer, error) {
		creds, err := a.credentials(ctx, cfg.Credentials)
		if err != nil {
			return presign.Signer{}, err
		}
		signer := presign.Signer{Endpoint: endpoint, Region: region, Bucket: s.bucket, Credentials: presign.Credentials{
			AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey, SessionToken: creds.SessionToken,
		}}
		if creds.CanExpire {
			signer.Credentials.Expires = creds.Expires
		}
		return signer, nil
	})
	table := dynamo.New(database, s.table)
	c.Records = table
	return &filestore{Client: c, place: s.place, region: region, table: table, tableName: s.table,
		identity: identityOf(endpoint, region, s.bucket, s.table),
		close:    func() error { return nil }}, nil
}

// credentials fetches the credentials, and keeps them out of messages.
func (a *app) credentials(ctx context.Context, provider aws.CredentialsProvider) (aws.Credentials, error) {
	creds, err := client.Credentials(ctx, provider)
	a.secrets.add(creds.SecretAccessKey, creds.SessionToken)
	return creds, err
}

// isEndpoint reports whether s can be the address of a service, or is empty. No user name belongs there: requests
// are signed, and what tells a filestore from others, which the state directory keeps, has the endpoint in it.
func isEndpoint(s string) bool {
	u, err := url.Parse(s)
	return s == "" || err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

// service returns the region and the endpoint of a service. --endpoint-url is for both services, also
// where a variable names another for one of them. A server that is not AWS, and for which no region
// is configured, gets the one that such servers expect.
func (p place) service(region string, endpoint *string) (string, *string) {
	if p.endpointURL != "" {
		endpoint = &p.endpointURL
	}
	if region == "" && aws.ToString(endpoint) != "" {
		region = "us-east-1"
	}
	return region, endpoint
}

// localDir returns the directory of the local store.
func (p place) localDir() (string, error) {
	if p.dir != "" {
		return p.dir, nil
	}
	dir, err := local.DefaultDir()
	if err != nil {
		return "", &usageError{err: err, hint: "name a directory: --local=DIR"}
	}
	return dir, nil
}

func (a *app) openLocal(ctx context.Context, s settings) (*filestore, error) {
	dir, err := s.localDir()
	if err != nil {
		return nil, err
	}
	store, err := local.Open(dir)
	if err != nil {
		return nil, err
	}
	table, err := sqlite.Open(ctx, store.Records())
	if err != nil {
		return nil, errors.Join(err, store.Close())
	}
	creds := store.Credentials()
	a.secrets.add(creds.SecretAccessKey)
	s3Client := client.NewS3(aws.Config{
		Region:      local.Region,
		HTTPClient:  a.httpClient(ctx, s, store.Dial),
		Credentials: credentials.NewStaticCredentialsProvider(creds.AccessKeyID, creds.SecretAccessKey, ""),
	}, func(o *s3.Options) {
		// Signed for the address at which "serve" publishes; Dial finds whichever server runs.
		o.BaseEndpoint = aws.String(store.PublicURL())
	})
	c := a.newClient(s, local.Bucket, s3Client, func(context.Context) (presign.Signer, error) {
		return presign.Signer{
			Endpoint: store.PublicURL(), Region: local.Region, Bucket: local.Bucket,
			Credentials: presign.Credentials{AccessKeyID: creds.AccessKeyID, SecretAccessKey: creds.SecretAccessKey},
		}, nil
	})
	c.Records, c.OnlyWriter = table, true
	absolute, err := filepath.Abs(dir)
	if err != nil {
		absolute = dir
	}
	return &filestore{Client: c, place: s.place, region: local.Region, local: store, directory: absolute, identity: identityOf(absolute), close: func() error {
		return errors.Join(table.Close(), store.Close())
	}}, nil
}

func (a *app) newClient(s settings, bucket string, api *s3.Client, signer func(context.Context) (presign.Signer, error)) *client.Client {
	return &client.Client{
		S3: api, Bucket: bucket,
		Transfer: &transfer.Engine{S3: api, Bucket: bucket, Bandwidth: s.bandwidth},
		Claims:   client.NewClaims(),
		Signer:   signer,
		Settings: s.Settings,
		Now:      time.Now,
		NewID:    client.NewID,
	}
}

// httpClient makes the client of all connections of a filestore, which are opened by dial. They share
// the bandwidth with those of another.
func (a *app) httpClient(ctx context.Context, s settings, dial client.DialFunc) *awshttp.BuildableClient {
	stall := time.Duration(a.flags.stallTimeout)
	c := client.HTTPClient(stall, dial)
	if s.bandwidth == 0 {
		return c
	}
	if a.bandwidth == nil {
		a.bandwidth = client.NewBandwidth(ctx, s.bandwidth)
	}
	return a.bandwidth.Limit(c, stall)
}

// isMissingResource reports whether the bucket or the table is not there.
func isMissingResource(err error) bool {
	api, ok := errors.AsType[smithy.APIError](err)
	return ok && (api.ErrorCode() == "NoSuchBucket" || api.ErrorCode() == "ResourceNotFoundException")
}
