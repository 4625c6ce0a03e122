package main

import (
	"regexp"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/template"
)

type templateOptions struct {
	index bool
	api   bool
}

func newTemplateCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "template",
		Short: "Print the bucket and the table as a template",
		Long: `Print the bucket and the table of a filestore as a template, for those who create what they
have on AWS from templates, and not with "init".`,
		Example: `  filestore template cloudformation > filestore.json`,
		RunE:    runGroup,
	}
	cmd.AddCommand(newTemplateCloudFormationCmd(a))
	return cmd
}

func newTemplateCloudFormationCmd(a *app) *cobra.Command {
	opts := &templateOptions{}
	cmd := &cobra.Command{
		Use:   "cloudformation",
		Short: "Print an AWS CloudFormation template",
		Long: `Print an AWS CloudFormation template, in JSON, of the same bucket and table that "init"
creates. Both outlive the stack. Its parameters are BucketName and TableName, which --bucket
and --table give a default, and PointInTimeRecovery. Its outputs are the names and the ARNs.

With --api it is also of the HTTP API: this program as functions of AWS Lambda, for requests, for
notifications of S3 and for sweeps, behind a REST API with a key and a usage plan. Its further
parameters are where the code is, the settings (which --store-on-load, --url-expiration and
--temporary-lifetime give a default) and the limits; its further outputs ApiUrl and ApiKeyId.

Nothing is asked for on the network, and no credentials are needed.`,
		Example: `  filestore template cloudformation > filestore.json
  aws cloudformation deploy --stack-name filestore --template-file filestore.json \
    --parameter-overrides BucketName=my-files PointInTimeRecovery=true
  filestore template cloudformation --api --bucket my-files > api.json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runTemplateCloudFormation(a, opts) },
	}
	cmd.Flags().BoolVar(&opts.api, "api", false, "with the HTTP API, on AWS Lambda")
	cmd.Flags().BoolVar(&opts.index, "index", false, "with an index of the records that sweeps look at")
	return cmd
}

func runTemplateCloudFormation(a *app, opts *templateOptions) error {
	bucket, table, err := a.names()
	if err != nil {
		return err
	}
	what := template.Options{Bucket: bucket, Table: table, Index: opts.index}
	if opts.api {
		var s settings
		if err := a.storeSettings(&s); err != nil {
			return err
		}
		what.API = &template.API{
			StoreOnLoad: s.StoreOnLoad, URLExpiration: shortDuration(s.URLLifetime), TemporaryLifetime: shortDuration(s.TemporaryLifetime),
		}
	}
	doc, err := template.CloudFormation(what)
	if err != nil {
		return err
	}
	a.out.document(doc)
	return nil
}

// names returns the names of the bucket, "" where none is configured, and of the table, for
// commands that print something about them and open neither. They end up in documents in which a
// wildcard would mean more than one of them.
func (a *app) names() (bucket, table string, err error) {
	bucket = a.setting("bucket", a.flags.bucket, "FILESTORE_BUCKET")
	table = a.setting("table", a.flags.table, "FILESTORE_TABLE")
	if bucket != "" && !regexp.MustCompile(template.BucketPattern).MatchString(bucket) {
		return "", "", usagef("", "%q cannot be the name of a bucket", bucket)
	}
	if !regexp.MustCompile(template.TablePattern).MatchString(table) {
		return "", "", usagef("", "%q cannot be the name of a table", table)
	}
	return bucket, table, nil
}
