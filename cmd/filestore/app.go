package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	runBy     func() invoker // for the audit
	release   func()         // has signals end the process at once

	flags   globalFlags
	secrets secrets
	out     *output
	log     *slog.Logger            // of messages; nil: they are lines of text
	end     context.CancelCauseFunc // ends the context of the command
	cause   func() error            // why that context has ended, nil while it has not
	// bandwidth bounds all connections together; nil until one is opened, and where there is no limit.
	bandwidth *client.Bandwidth
	reserve   sync.Once // see expect

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
	cmd, err := root.ExecuteContextC(ctx)
	if a.out == nil && err != nil {
		a.startLogOf(args, cmd)
	}
	err = errors.Join(err, help.err)
	if a.out != nil {
		err = errors.Join(err, a.out.close())
	}
	if err == nil || ctx.Err() == nil {
		return a.report(err)
	}
	for _, e := range besideItems(err) {
		if reasonOf(e) != client.Interrupted || leavesTraces(e) {
			a.fail(subject{}, e)
		}
	}
	last, reason, status := "interrupted", client.Interrupted, a.statusOf(err)
	if over := a.timeOver(); over != nil {
		last, reason = over.Error(), client.Retry
	}
	a.say(message{kind: "error", text: last, attrs: []slog.Attr{slog.String("reason", string(reason)), slog.Int("status", status)}})
	return status
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
			a.flags.changed = func(name string) bool { return cmd.Flags().Changed(name) }
			if err := a.startLog(cmd); err != nil {
				return err
			}
			if err := a.flags.check(); err != nil || cmd.Hidden {
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
		{"admin", newIndexCmd(a)},
		{"admin", newStatsCmd(a)},
		{"admin", newVerifyCmd(a)},
		{"admin", newCopyCmd(a)},
		{"admin", newInitCmd(a)},
		{"admin", newTemplateCmd(a)},
		{"admin", newPolicyCmd(a)},
		{"admin", newServeCmd(a)},
		{"admin", newLambdaCmd(a)},
		{"", newVersionCmd(a)},
		{"", newServerCmd(a)},
	} {
		c.cmd.GroupID = c.group
		root.AddCommand(c.cmd)
	}
	addCompletion(root)
	addVersionFlag(root)
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
	a.say(message{kind: kind, text: fmt.Sprintf(format, args...)})
}

// say writes one message to stderr: a line of text, and its hint as another one, or a record of
// the log.
func (a *app) say(m message) {
	// Joined errors come with line breaks.
	m.text = a.secrets.hide(strings.ReplaceAll(m.text, "\n", "; "))
	m.hint, m.id, m.path = a.secrets.hide(m.hint), a.secrets.hide(m.id), a.secrets.hide(m.path)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bar != nil {
		a.bar.clear()
	}
	if a.log != nil {
		m.log(a.log)
		return
	}
	text := m.text
	if what := cmp.Or(m.path, m.id); what != "" {
		text = fmt.Sprintf("%q: %s", what, text)
	}
	a.line(m.kind, text)
	a.hintLine(m.hint)
}

// line writes a line of text to stderr, with everything escaped that is not printable.
func (a *app) line(kind, text string) {
	// Nobody is left to be told that stderr is gone.
	_, _ = fmt.Fprintf(a.stderr, "filestore: %s: %s\n", kind, printable(text))
}

// hintLine writes a hint as a line of text, once for all messages with the same one.
func (a *app) hintLine(hint string) {
	if hint == "" || a.hints[hint] {
		return
	}
	if a.hints == nil {
		a.hints = make(map[string]bool)
	}
	a.hints[hint] = true
	a.line("hint", hint)
}

// fail reports the failure of one file, or of the whole command, with what can be done about it.
func (a *app) fail(about subject, err error, attrs ...slog.Attr) {
	a.say(message{kind: "error", subject: about, text: describe(err), hint: hintFor(err),
		attrs: append([]slog.Attr{slog.String("reason", string(reasonOf(err)))}, attrs...)})
}

// warn writes a warning about one file.
func (a *app) warn(about subject, format string, args ...any) {
	a.say(message{kind: "warning", subject: about, text: fmt.Sprintf(format, args...)})
}

// hint writes a hint by itself, once.
func (a *app) hint(hint string) {
	if a.log != nil {
		a.say(message{kind: "hint", text: hint})
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.bar != nil {
		a.bar.clear()
	}
	a.hintLine(hint)
}

// remark writes a note about one file also where no person is at the terminal: a log should have it.
func (a *app) remark(about subject, format string, args ...any) {
	if !a.flags.quiet {
		a.say(message{kind: "note", subject: about, text: fmt.Sprintf(format, args...)})
	}
}

// note tells a person at the terminal something that is no failure.
func (a *app) note(format string, args ...any) {
	if a.stderrTTY && !a.flags.quiet {
		a.message("note", format, args...)
	}
}
