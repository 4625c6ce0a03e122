package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/pflag"

	"github.com/designfultech/filestore/internal/records"
)

// maxSegments is more than any table of files needs: each is a connection and a megabyte or two.
const maxSegments = 256

// scanFlags say how a command reads the whole table.
type scanFlags struct {
	segments int
	maxRCU   float64
}

func (f *scanFlags) register(flags *pflag.FlagSet) {
	flags.IntVar(&f.segments, "segments", 0, "read `N` parts of the table at once (default: 8; a local store has one reader)")
	flags.Float64Var(&f.maxRCU, "max-rcu", 0, "read at most `N` capacity units a second (default: no limit)")
}

// meter checks the flags and returns what counts the reads.
func (f *scanFlags) meter() (*records.Meter, error) {
	if f.segments < 0 || f.segments > maxSegments {
		return nil, usagef("", "--segments must be from 1 to %d", maxSegments)
	}
	if f.maxRCU < 0 || math.IsNaN(f.maxRCU) || math.IsInf(f.maxRCU, 0) {
		return nil, usagef("", "--max-rcu must be a number of units a second, or 0 for no limit")
	}
	return records.NewMeter(f.maxRCU), nil
}

// noteReads tells a person what reading the table has cost.
func (a *app) noteReads(fs *filestore, reads *records.Meter) {
	a.note("%s", describeReads(fs.local != nil, reads.Total()))
}

func describeReads(local bool, c records.Cost) string {
	if local {
		return "scanned the local store"
	}
	line := fmt.Sprintf("scanned %s in %s", thousandsOf(c.Records, "record", "records"), thousandsOf(c.Requests, "request", "requests"))
	if c.Units > 0 {
		// Units come in halves.
		line += ", " + thousands(strconv.FormatFloat(c.Units, 'f', -1, 64)) + " read units"
	}
	return line
}

// showReads says every 10 seconds how far the reading of the table is, until the caller calls stop.
func (a *app) showReads(ctx context.Context, reads *records.Meter) (stop func()) {
	if a.flags.quiet {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(plainInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				a.message("progress", "read: %s", thousandsOf(reads.Total().Records, "record", "records"))
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}
