package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/designfultech/filestore/internal/audit"
	"github.com/designfultech/filestore/internal/client"
)

// registerAudit adds the flag of commands that delete.
func registerAudit(flags *pflag.FlagSet, path *string) {
	flags.StringVar(path, "audit", "", "append a line to `FILE` before an object is deleted [FILESTORE_AUDIT]")
}

// audit has fs write a line to the file that path or FILESTORE_AUDIT names before it deletes an
// object; for neither nothing.
func (a *app) audit(fs *filestore, path, command string) error {
	if path = a.setting("audit", path, "FILESTORE_AUDIT"); path == "" {
		return nil
	}
	by := a.runBy()
	origin := audit.Origin{Bucket: fs.Bucket, Table: fs.tableName, Command: command, User: by.user, Host: by.host, PID: by.pid}
	if fs.local != nil {
		origin.Bucket, origin.Local = "", fs.directory
	}
	log, err := audit.Open(path, origin, jsonText, fs.Now)
	if err != nil {
		return fmt.Errorf("open the audit file: %w", err)
	}
	// Clocks of machines that share the file differ.
	known := fs.CleanSince(fs.Now()).Add(-time.Hour)
	fs.Audit = func(ctx context.Context, files []client.Deletion) error {
		entries := make([]audit.Entry, 0, len(files))
		for _, f := range files {
			e := audit.Entry{ID: f.ID, Name: f.Name, Type: f.Type, Action: string(f.Action), Outcome: audit.Begun}
			if f.Size >= 0 {
				e.Size = &f.Size
			}
			switch {
			case f.Err != nil:
				e.Outcome, e.Error = audit.Failed, a.secrets.hide(describe(f.Err))
			case f.Action == client.ActionClean:
				// Every sweep of a day cleans again, and nearly always nothing is there any more. What matters
				// is that no object goes without a line.
				has, err := log.Has(f.ID, known)
				if err != nil {
					return err
				}
				if has {
					continue
				}
			}
			entries = append(entries, e)
		}
		return log.Append(ctx, entries)
	}
	return nil
}
