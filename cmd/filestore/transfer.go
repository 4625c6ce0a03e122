package main

import (
	"github.com/spf13/cobra"

	"github.com/designfultech/filestore/internal/hugepages"
	"github.com/designfultech/filestore/internal/transfer"
)

// transferOptions are the flags of commands that move large files.
type transferOptions struct {
	partSize    byteSize
	concurrency int
}

func (o *transferOptions) register(cmd *cobra.Command) {
	cmd.Flags().Var(&o.partSize, "part-size", "size of the parts of large files, 5M to 5G (default: 16M, and more above 156 GiB)")
	cmd.Flags().IntVar(&o.concurrency, "concurrency", 0, "requests in flight, parts and files counted alike (default: adapted to the connection and the service)")
}

// apply checks the flags and sets up the engine.
func (o *transferOptions) apply(a *app, e *transfer.Engine) error {
	if a.flags.changed("part-size") && (o.partSize < transfer.MinPartSize || o.partSize > transfer.MaxPartSize) {
		return usagef("", "--part-size must be from 5M to 5G")
	}
	if a.flags.changed("concurrency") && (o.concurrency < 1 || o.concurrency > maxConcurrency) {
		return usagef("", "--concurrency must be from 1 to %d", maxConcurrency)
	}
	e.PartSize, e.Concurrency = int64(o.partSize), o.concurrency
	return nil
}

// Files and bytes, from which on the memory that is reserved saves more than it costs.
const (
	manyFiles = 16
	manyBytes = 16 << 20
)

// expect prepares for so many files and bytes; below 0 they are not known.
func (a *app) expect(files int, size int64) {
	if few := files >= 0 && files < manyFiles && size >= 0 && size < manyBytes; !few {
		a.reserve.Do(hugepages.Reserve)
	}
}

// maxConcurrency is how many connections a command may be told to take.
const maxConcurrency = 256
