package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/metrics"
	"github.com/designfultech/filestore/internal/records"
)

// sweepRun is what is measured of one run of expire, as far as it came.
type sweepRun struct {
	begun         time.Time
	summary       client.Summary
	whole         bool           // all records were looked at
	reads, writes *records.Meter // nil: it did not come to them
}

// writeMetrics writes the metrics of a run that ends with an exit status (docs/output.md, "Metrics of
// a sweep").
func (a *app) writeMetrics(path string, run *sweepRun, status int) error {
	f, err := metrics.Open(path, a.storeLabels()...)
	if err != nil {
		return fmt.Errorf("read the metrics file: %w", err)
	}
	ended := time.Now()
	f.Gauge("filestore_expire_last_run_timestamp_seconds", "When the last run ended, in Unix time.", unixSeconds(ended))
	const success, successHelp = "filestore_expire_last_success_timestamp_seconds", "When the last run with the exit status 0 ended, in Unix time; 0 if none has."
	if status == exitOK {
		f.Gauge(success, successHelp, unixSeconds(ended))
	} else {
		f.Keep(success, successHelp)
	}
	f.Gauge("filestore_expire_last_run_duration_seconds", "How long the last run took.", ended.Sub(run.begun).Seconds())
	f.Gauge("filestore_expire_last_run_status", "Exit status of the last run.", float64(status))
	f.Gauge("filestore_expire_last_run_whole", "1 if the last run looked at all records, else 0.", oneIf(run.whole))
	for _, s := range exitStatuses() {
		f.Counter("filestore_expire_runs_total", "Runs that ended, by exit status.", oneIf(s == status), metrics.Label{Name: "status", Value: strconv.Itoa(s)})
	}
	for _, swept := range []struct {
		action client.Action
		n      int
	}{
		{client.ActionExpire, run.summary.Expired},
		{client.ActionAbandon, run.summary.Abandoned},
		{client.ActionSettle, run.summary.Settled},
		{client.ActionClean, run.summary.Cleaned},
		{client.ActionAbort, run.summary.Aborted},
	} {
		f.Counter("filestore_expire_files_total", "Files that were acted on, by action.", float64(swept.n),
			metrics.Label{Name: "action", Value: string(swept.action)})
	}
	f.Counter("filestore_expire_failures_total", "Files that failed.", float64(run.summary.Failed))
	f.Gauge("filestore_expire_unreadable_records", "Records that the last run left alone, since their ids or times can't be read.", float64(run.summary.Unreadable))
	f.Gauge("filestore_expire_backlog_files", "Files that the last run saw to be due, and left to the next.", float64(run.summary.Left))
	age := 0.0
	if !run.summary.LeftSince.IsZero() {
		age = ended.Sub(run.summary.LeftSince).Seconds()
	}
	f.Gauge("filestore_expire_backlog_oldest_age_seconds", "Age of the oldest file of the backlog, 0 if it is empty.", age)
	reads, writes := run.reads.Total(), run.writes.Total()
	f.Counter("filestore_expire_read_records_total", "Records that were read.", float64(reads.Records))
	for _, kind := range []struct {
		name string
		cost records.Cost
	}{{"read", reads}, {"write", writes}} {
		f.Counter("filestore_expire_table_requests_total", "Requests to the table, by kind.", float64(kind.cost.Requests),
			metrics.Label{Name: "kind", Value: kind.name})
	}
	f.Counter("filestore_expire_read_capacity_units_total", "Read capacity units that were consumed.", reads.Units)
	f.Counter("filestore_expire_write_capacity_units_total", "Write capacity units that were consumed.", writes.Units)
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the metrics file: %w", err)
	}
	return nil
}

// storeLabels name the filestore, as far as the configuration is right: one collector may read the files
// of several.
func (a *app) storeLabels() []metrics.Label {
	s, _ := a.settings() // what is wrong with it was told
	if !s.local {
		return []metrics.Label{{Name: "bucket", Value: s.bucket}, {Name: "table", Value: s.table}}
	}
	dir, _ := s.localDir()
	if absolute, err := filepath.Abs(dir); err == nil {
		dir = absolute
	}
	return []metrics.Label{{Name: "local", Value: dir}}
}

// unixSeconds is t in seconds, with milliseconds.
func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
