package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/client"
)

// app is what commands share: the streams, the environment, and what the global flags say.
type app struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	// Whether the stream is a terminal: people get tables and progress bars, programs do not.
	stdoutTTY bool
	stderrTTY bool
	// columns is how wide the terminal of stdout is.
	columns   func() int
	lookupEnv func(string) (string, bool)
	release   func() // has signals end the process at once

	flags globalFlags
	out   *output
	end   context.CancelCauseFunc // ends the context of the command
	cause func() error            // why that context has ended, nil while it has not

	mu    sync.Mutex // guards stderr and what follows
	bar   *progress  // is wiped before a message, and drawn again by its next step
	hints map[string]bool
}

// main runs one command line and returns the exit status.
func (a *app) main(ctx context.Context, args []string) int {
	ctx, a.end = context.WithCancelCause(ctx)
	defer a.end(nil)
	a.cause = func() error { return context.Cause(ctx) }
	a.stdout = &patientWriter{ctx: ctx, w: a.stdout}
	defer context.AfterFunc(ctx, a.cleaningUp)()
	root := a.newRootCmd()
	root.SetArgs(args)
	root.SetIn(a.stdin)
	help := &errorKeeper{w: a.stdout}
	root.SetOut(help)
	root.SetErr(a.stderr)
	err := errors.Join(root.ExecuteContext(ctx), help.err)
	if a.out != nil {
		err = errors.Join(err, a.out.close())
	}
	if err == nil || ctx.Err() == nil {
		return a.report(err)
	}
	for _, e := range besideItems(err) {
		if reasonOf(e) != client.Interrupted || leavesTraces(e) {
			a.fail("", e)
		}
	}
	if over := a.timeOver(); over != nil {
		a.message("error", "%s", over)
		return exitRetry
	}
	a.message("error", "interrupted")
	return exitInterrupted
}

// timeLimitError is the cause for which the context of a command ends when its --timeout is over.
// All that knows contexts takes it for a cancellation: whatever was begun is undone as after an
// interrupt.
type timeLimitError struct{ limit time.Duration }

func (e *timeLimitError) Error() string {
	return fmt.Sprintf("the time limit of %s is over", shortDuration(e.limit))
}

// Unwrap makes it a cancellation for errors.Is too, where a call returns the cause.
func (e *timeLimitError) Unwrap() error { return context.Canceled }

// limitTime ends the command's context once --timeout is over. The command has until then to end
// by itself, and as long as after an interrupt to leave nothing behind.
func (a *app) limitTime() error {
	limit, err := a.durationSetting("timeout", a.flags.timeout, "FILESTORE_TIMEOUT")
	switch {
	case err != nil:
		return err
	case limit < 0:
		return usagef("0 is no limit", "--timeout must not be negative")
	case limit > 0:
		time.AfterFunc(limit, func() {
			a.end(&timeLimitError{limit})
			// As after a first signal: who sends one now does not want to wait for the cleaning up.
			a.release()
		})
	}
	return nil
}

// timeOver returns the time limit if it is what has ended the command.
func (a *app) timeOver() *timeLimitError {
	over, _ := errors.AsType[*timeLimitError](a.cause())
	return over
}

// cleaningUp tells a person who has interrupted why the program is still there, if it is.
func (a *app) cleaningUp() {
	time.AfterFunc(time.Second, func() { a.note("cleaning up; Ctrl-C ends it at once") })
}

// errorKeeper keeps the first error of writing. Cobra drops those of its help.
type errorKeeper struct {
	w   io.Writer
	err error
}

func (k *errorKeeper) Write(p []byte) (int, error) {
	n, err := k.w.Write(p)
	if err != nil && k.err == nil {
		k.err = fmt.Errorf("write the help: %w", err)
	}
	return n, err
}

func (a *app) newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "filestore",
		Short: "Manage the files of a filestore: S3 objects with a record each",
		Long: `Manage the files of a filestore: objects in an S3 bucket, with one record each in a
DynamoDB table. A file is uploaded as temporary, becomes permanent with "store", and
otherwise is removed by "expire" an hour later.

Without an AWS account, --local keeps everything in a directory on this disk.`,
		Example: `  filestore --local upload report.pdf
  filestore --local store 3p1xk0s9d2mfa7qz
  filestore --bucket my-files upload --store dist/*.tar.gz`,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			a.out = newOutput(a)
			if err := a.flags.check(cmd); err != nil || cmd.Hidden {
				return err // the server of a local store ends with its parent
			}
			return a.limitTime()
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err: err, hint: fmt.Sprintf("see %q", cmd.CommandPath()+" --help")}
	})
	a.flags.register(root)
	root.AddGroup(&cobra.Group{ID: "files", Title: "Files:"}, &cobra.Group{ID: "admin", Title: "Administration:"})
	for _, c := range []struct {
		group string
		cmd   *cobra.Command
	}{
		{"files", newUploadCmd(a)},
		{"files", newUploadsCmd(a)},
		{"files", newStoreCmd(a)},
		{"files", newInfoCmd(a)},
		{"files", newListCmd(a)},
		{"files", newDownloadCmd(a)},
		{"files", newDeleteCmd(a)},
		{"files", newPresignCmd(a)},
		{"admin", newExpireCmd(a)},
		{"admin", newStatsCmd(a)},
		{"admin", newInitCmd(a)},
		{"admin", newTemplateCmd(a)},
		{"admin", newPolicyCmd(a)},
		{"admin", newServeCmd(a)},
		{"", newVersionCmd(a)},
		{"", newServerCmd(a)},
	} {
		c.cmd.GroupID = c.group
		root.AddCommand(c.cmd)
	}
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.RunE = runGroup
		completion.Example = `  filestore completion zsh > ~/.zfunc/_filestore`
		for _, shell := range completion.Commands() {
			shell.Example = "  filestore completion " + shell.Name()
		}
	}
	root.SetUsageTemplate(root.UsageTemplate() + exitStatusHelp)
	return root
}

// runGroup is what a command does that only holds others: cobra would take the misspelt name of
// one for a wish to see the help, and succeed.
func runGroup(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(fmt.Sprintf("see %q", cmd.CommandPath()+" --help"), "unknown command %q for %q", args[0], cmd.CommandPath())
	}
	return cmd.Help()
}

// withoutBar calls write while no progress bar is on the screen.
func (a *app) withoutBar(write func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bar != nil {
		a.bar.clear()
	}
	write()
}

// message writes one line to stderr, without disturbing a progress bar.
func (a *app) message(kind, format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.messageLocked(kind, format, args...)
}

func (a *app) messageLocked(kind, format string, args ...any) {
	if a.bar != nil {
		a.bar.clear()
	}
	// Joined errors come with line breaks; everything else that is not printable is escaped.
	text := printable(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
	// Nobody is left to be told that stderr is gone.
	_, _ = fmt.Fprintf(a.stderr, "filestore: %s: %s\n", kind, text)
}

// fail reports the failure of one file, with a hint once for all files with the same one.
func (a *app) fail(what string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if what == "" {
		a.messageLocked("error", "%s", describe(err))
	} else {
		a.messageLocked("error", "%q: %s", what, describe(err))
	}
	a.hintLocked(hintFor(err))
}

func (a *app) hintLocked(hint string) {
	if hint == "" || a.hints[hint] {
		return
	}
	if a.hints == nil {
		a.hints = make(map[string]bool)
	}
	a.hints[hint] = true
	a.messageLocked("hint", "%s", hint)
}

// hint writes a hint, once.
func (a *app) hint(hint string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hintLocked(hint)
}

// remark writes a note also where no person is at the terminal: a log should have it.
func (a *app) remark(format string, args ...any) {
	if !a.flags.quiet {
		a.message("note", format, args...)
	}
}

// note tells a person at the terminal something that is no failure.
func (a *app) note(format string, args ...any) {
	if a.stderrTTY && !a.flags.quiet {
		a.message("note", format, args...)
	}
}
