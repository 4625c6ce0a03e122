package main

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"sync"

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
	return meter("max-rcu", f.maxRCU)
}

// meter returns what counts capacity units and keeps to the limit of a flag.
func meter(flag string, unitsPerSecond float64) (*records.Meter, error) {
	if unitsPerSecond < 0 || math.IsNaN(unitsPerSecond) || math.IsInf(unitsPerSecond, 0) {
		return nil, usagef("", "--%s must be a number of units a second, or 0 for no limit", flag)
	}
	return records.NewMeter(unitsPerSecond), nil
}

// noteReads tells a person what reading the table has cost.
func (a *app) noteReads(fs *filestore, reads *records.Meter) {
	a.note("%s", describeReads(fs.local != nil, reads.Total()))
}

func describeReads(local bool, c records.Cost) string {
	if local {
		return "scanned the local store"
	}
	return describeUnits(fmt.Sprintf("scanned %s in %s", thousandsOf(c.Records, "record", "records"), thousandsOf(c.Requests, "request", "requests")), c)
}

// describeIndexed is describeReads where the index was read.
func describeIndexed(local bool, c records.Cost) string {
	if local {
		return "read the index of the local store"
	}
	return describeUnits(fmt.Sprintf("read %s of the index in %s", thousandsOf(c.Records, "record", "records"), thousandsOf(c.Requests, "request", "requests")), c)
}

func describeUnits(line string, c records.Cost) string {
	if c.Units > 0 {
		// Units come in halves.
		line += ", " + thousands(strconv.FormatFloat(c.Units, 'f', -1, 64)) + " read units"
	}
	return line
}

// noteWrites tells a person what the writes of a sweep have cost, where there were any.
func (a *app) noteWrites(fs *filestore, writes *records.Meter) {
	if c := writes.Total(); fs.local == nil && c.Requests > 0 {
		a.note("%s", describeWrites(c))
	}
}

func describeWrites(c records.Cost) string {
	line := fmt.Sprintf("asked for %s in %s", thousandsOf(c.Records, "write", "writes"), thousandsOf(c.Requests, "request", "requests"))
	if c.Units > 0 {
		line += ", " + thousands(strconv.FormatFloat(c.Units, 'f', -1, 64)) + " write units"
	}
	return line
}

// showReads says every 10 seconds how far the reading of the table is, until the caller calls stop.
func (a *app) showReads(ctx context.Context, reads *records.Meter) (stop func()) {
	return a.showEvery(ctx, func() string { return "read: " + thousandsOf(reads.Total().Records, "record", "records") })
}

// showEvery says every 10 seconds how far long work is, until the caller calls stop.
func (a *app) showEvery(ctx context.Context, describe func() string) (stop func()) {
	if a.flags.quiet {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		every(ctx, plainInterval, func() { a.message("progress", "%s", describe()) })
	})
	return func() {
		cancel()
		running.Wait()
	}
}
