// Command filestore manages a filestore: files in an S3 bucket, one metadata record each in a
// DynamoDB table, or both on this disk.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/term"

	_ "github.com/designfultech/filestore/internal/gcpercent" // before anything is made
	_ "github.com/designfultech/filestore/internal/hugepages" // before that
)

func main() { os.Exit(run(asLambda(os.Args[0], os.LookupEnv, os.Args[1:]))) }

// run runs the command line on the process's own streams and returns the exit status.
func run(args []string) int { return runOn(args, os.Stdout, os.Stderr) }

// runOn is run with other writers in front of the process's streams.
func runOn(args []string, stdout, stderr io.Writer) int {
	stops := []os.Signal{syscall.SIGTERM}
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup, and shells that run this in the background
			stops = append(stops, s)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), stops...)
	defer stop()
	// The first signal stops cleanly. From then on the default holds again: the second one ends
	// the process at once.
	context.AfterFunc(ctx, stop)
	// A closed pipe is an error of the write that met it, not the end of the process: uploads in
	// flight must be undone.
	signal.Ignore(syscall.SIGPIPE)

	a := &app{
		stdin: os.Stdin, stdout: stdout, stderr: stderr,
		stdoutTTY: term.IsTerminal(int(os.Stdout.Fd())),
		stderrTTY: term.IsTerminal(int(os.Stderr.Fd())),
		columns:   terminalColumns,
		lookupEnv: os.LookupEnv,
		runBy:     thisInvoker,
		release:   stop,
	}
	return a.main(ctx, args)
}

// invoker is who runs the program, as far as the system tells.
type invoker struct {
	user, host string
	pid        int
}

func thisInvoker() invoker {
	p := invoker{user: strconv.Itoa(os.Getuid()), pid: os.Getpid()} // a container's user may have no name
	if u, err := user.Current(); err == nil {
		p.user = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		p.host = host
	}
	return p
}

// terminalColumns is how wide the terminal on standard output is, as far as it tells.
func terminalColumns() int {
	width, _, err := term.GetSize(int(os.Stdout.Fd()))
	if err != nil || width <= 0 {
		return 80
	}
	return width
}
