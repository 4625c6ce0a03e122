package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
)

// readIDs returns the ids of a command line, in order. The argument "-" stands for the ids on
// standard input, one a line; what follows a tab is ignored, so that the output of one command
// can be the input of another, and so are empty lines.
func (a *app) readIDs(ctx context.Context, args []string) ([]string, error) {
	if len(args) == 0 {
		return nil, usagef(`"-" reads ids from standard input, one a line`, "no id is given")
	}
	var ids []string
	stdinRead := false
	for _, arg := range args {
		if arg != "-" {
			ids = append(ids, arg)
			continue
		}
		if stdinRead {
			return nil, usagef("", `"-" is given twice`)
		}
		stdinRead = true
		fromStdin, err := readLines(interruptible(ctx, a.stdin))
		if err != nil {
			return nil, fmt.Errorf("read ids from standard input: %w", err)
		}
		ids = append(ids, fromStdin...)
	}
	return ids, nil
}

// openWithIDs reads the ids first, so that nothing is opened while somebody still types them.
func (a *app) openWithIDs(ctx context.Context, args []string) (*filestore, []string, error) {
	ids, err := a.readIDs(ctx, args)
	if err != nil {
		return nil, nil, err
	}
	fs, err := a.open(ctx)
	return fs, ids, err
}

func readLines(r io.Reader) ([]string, error) {
	var lines []string
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		id, _, _ := strings.Cut(scanner.Text(), "\t")
		if id = strings.TrimSpace(id); id != "" {
			lines = append(lines, id)
		}
	}
	return lines, scanner.Err()
}
