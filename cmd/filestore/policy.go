package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/policy"
)

type policyOptions struct {
	role      string
	account   string
	partition string
}

func newPolicyCmd(a *app) *cobra.Command {
	opts := &policyOptions{}
	cmd := &cobra.Command{
		Use:   "policy --role ROLE",
		Short: "Print an IAM policy for a role",
		Long: `Print an IAM policy, in JSON, that allows exactly what the commands of a role ask for:

  uploader  upload, uploads, store, info, presign put; copy, at the destination
  reader    info, download, presign get; copy of files by their ids, at the source
  sweeper   expire, list, stats, index backfill, verify (but for the repair of orphans)
  api       serve, which with --sweep-every needs sweeper too; the HTTP API on AWS Lambda
  notifications  what S3 tells of objects that were written
  admin     every command; delete, init and the rest of index are for it alone

To undo an upload or to sweep takes the rights with which files can be deleted, stored ones
too. So all roles but reader can do that, though delete is no command of theirs.

It is for the one bucket and table that are configured. Without --region or AWS_REGION the
table may be in any region, without --account in any account.

Nothing is asked for on the network, and no credentials are needed.`,
		Example: `  filestore policy --role uploader --bucket my-files --region eu-central-1 --account 123456789012
  filestore policy --role sweeper --bucket my-files > policy.json
  aws iam create-policy --policy-name filestore-sweeper --policy-document file://policy.json`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runPolicy(a, opts) },
	}
	flags := cmd.Flags()
	flags.StringVar(&opts.role, "role", "", "uploader, reader, sweeper, api, notifications or admin")
	flags.StringVar(&opts.account, "account", "", "the account of the table, 12 `digits` (default: any)")
	flags.StringVar(&opts.partition, "partition", "", "aws, aws-cn or aws-us-gov (default: the region's)")
	return cmd
}

func runPolicy(a *app, opts *policyOptions) error {
	if opts.role == "" {
		return usagef("--role uploader, reader, sweeper, api, notifications or admin", "no role is given")
	}
	role, err := policy.ParseRole(opts.role)
	if err != nil {
		return &usageError{err: err}
	}
	scope, err := opts.scope(a)
	if err != nil {
		return err
	}
	a.out.document(policy.For(role, scope))
	return nil
}

// scope looks at all that gets into an ARN: what could be a wildcard there would allow too much,
// and what is wrong would allow nothing.
func (o *policyOptions) scope(a *app) (policy.Scope, error) {
	bucket, table, err := a.names()
	if err != nil {
		return policy.Scope{}, err
	}
	s := policy.Scope{
		Bucket: bucket, Table: table, Account: o.account, Partition: o.partition,
		Region: a.setting("region", a.flags.region, "AWS_REGION"),
	}
	if s.Bucket == "" {
		return s, usagef("--bucket NAME or FILESTORE_BUCKET", "no bucket is named that the policy is for")
	}
	if s.Region != "" && !regexp.MustCompile(`^[a-z]{2,4}(-[a-z0-9]+)+$`).MatchString(s.Region) {
		return s, usagef("such as eu-central-1", "%q cannot be the name of a region", s.Region)
	}
	if s.Account != "" && !regexp.MustCompile(`^[0-9]{12}$`).MatchString(s.Account) {
		return s, usagef("it is the number, without hyphens", "--account %q is not 12 digits", s.Account)
	}
	own := policy.PartitionOf(s.Region)
	switch {
	case s.Partition == "":
		s.Partition = own
	case !slices.Contains(partitions(), s.Partition):
		return s, usagef("", "--partition %q is none of %s", s.Partition, strings.Join(partitions(), ", "))
	case s.Region != "" && s.Partition != own:
		return s, usagef("leave --partition away, or say another --region", "region %q is not in partition %q", s.Region, s.Partition)
	}
	return s, nil
}

// partitions are the parts of AWS that know nothing of each other.
func partitions() []string { return []string{"aws", "aws-cn", "aws-us-gov"} }
