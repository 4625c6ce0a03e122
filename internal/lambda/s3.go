package lambda

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/designfultech/filestore/internal/client"
	"github.com/designfultech/filestore/internal/records"
)

// atOnce is how many notifications of one event are handled at the same time. S3 mostly sends one.
const atOnce = 8

// notification is a record of an event of S3 (Amazon S3 User Guide, "Event message structure"), as far as it is of use.
type notification struct {
	Source string `json:"eventSource"`
	Name   string `json:"eventName"` // with or without "s3:" before it
	S3     struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key string `json:"key"` // as in the query of a URL: a space is "+"
		} `json:"object"`
	} `json:"s3"`
}

// notified records the uploads that S3 tells of ("uploaded", docs/contract.md, "The transitions"). All of them are
// tried; where one fails, the event fails, and Lambda tries it again: those that succeeded are
// then as they are.
func (f *Function) notified(ctx context.Context, notifications []notification) error {
	var failures []error
	var keys []string
	seen := make(map[string]bool)
	for _, n := range notifications {
		key, err := f.created(n)
		switch {
		case err != nil:
			failures = append(failures, err)
		case !seen[key]:
			seen[key] = true
			keys = append(keys, key)
		}
	}
	type result struct {
		record records.Record
		known  bool
		err    error
	}
	i := 0
	for r := range client.InOrder(ctx, keys, atOnce, func(ctx context.Context, key string) result {
		record, known, err := f.Client.ObjectCreated(ctx, key)
		return result{record, known, err}
	}) {
		key := keys[i]
		i++
		switch {
		case r.err != nil:
			failures = append(failures, r.err)
		case !r.known:
			f.Log.InfoContext(ctx, "an object without a record is left alone", "key", key)
		default:
			f.Log.InfoContext(ctx, "an object was written", "id", key, "state", string(r.record.State()), "size", r.record.Size)
		}
	}
	if len(failures) == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d notifications failed: %w", len(failures), len(notifications), errors.Join(failures...))
}

// created returns the key of an object that was written.
func (f *Function) created(n notification) (string, error) {
	if n.Source != "aws:s3" {
		return "", &UnknownEventError{fmt.Sprintf("of %q", n.Source)}
	}
	if name := strings.TrimPrefix(n.Name, "s3:"); !strings.HasPrefix(name, "ObjectCreated:") {
		return "", &UnknownEventError{fmt.Sprintf("of S3, named %q", n.Name)}
	}
	if err := f.ownBucket(n.S3.Bucket.Name); err != nil {
		return "", err
	}
	if n.S3.Object.Key == "" {
		return "", &UnknownEventError{"of S3, without a key"}
	}
	key, err := url.QueryUnescape(n.S3.Object.Key)
	if err != nil {
		return "", fmt.Errorf("key %q: %w", n.S3.Object.Key, err)
	}
	return key, nil
}
