package lambda

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/designfultech/filestore/internal/client"
)

// mostLeft is how much of its time a sweep leaves at most, to finish what is under way and to say what it did. Of a
// short time it leaves a quarter.
const mostLeft = 30 * time.Second

// sweep removes what is due ("expire", docs/contract.md, "The transitions"). It fails where a file failed, or where
// its time was over first: then Lambda runs it again, and it takes the parts of the table in another order.
func (f *Function) sweep(ctx context.Context) error {
	begun := time.Now()
	var opts client.ExpireOptions
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		opts.MaxDuration = left - min(left/4, mostLeft)
		if opts.MaxDuration <= 0 {
			return context.DeadlineExceeded
		}
	}
	opts.Report = func(s client.Swept) {
		if s.Err != nil {
			f.Log.ErrorContext(ctx, "a file can't be swept", "id", s.ID, "action", string(s.Action), "error", s.Err.Error())
		}
	}
	s, err := f.Client.Expire(ctx, opts)
	f.Log.InfoContext(ctx, "swept",
		"expired", s.Expired, "abandoned", s.Abandoned, "settled", s.Settled, "cleaned", s.Cleaned, "aborted", s.Aborted,
		"failed", s.Failed, "unreadable", s.Unreadable, "left", s.Left, "indexed", s.Indexed, "seconds", time.Since(begun).Seconds())
	for what, why := range map[string]error{
		"multipart uploads were left alone, since they can't be listed":             s.Unlisted,
		"all records were read, since the index of those that are pending can't be": s.Unindexed,
	} {
		if why != nil {
			f.Log.WarnContext(ctx, what, "error", why.Error())
		}
	}
	switch {
	case err != nil:
		return err
	case s.Unfinished:
		return errors.Join(failedError(s.Failed), errors.New("the time was over before all records were looked at: more files may be due"))
	}
	return failedError(s.Failed)
}

func failedError(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("files that can't be swept: %d", n)
}
