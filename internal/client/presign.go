package client

import (
	"context"
	"fmt"
	"time"

	"github.com/designfultech/filestore/internal/presign"
	"github.com/designfultech/filestore/internal/transfer"
)

// UploadLifetimeError says that an upload URL was asked to live longer than the setting URLLifetime,
// which is Limit. Nothing was signed, and no record made.
type UploadLifetimeError struct{ Limit time.Duration }

func (e *UploadLifetimeError) Error() string {
	return fmt.Sprintf("an upload URL may live %v at most, the lifetime of URLs here: sweeps would take its file for abandoned", e.Limit)
}

// PresignPut makes the placeholder of a file and the URL through which anybody may upload it,
// as the API's POST /file does. lifetime 0 is the setting URLLifetime, which no upload URL may
// outlive ([*UploadLifetimeError]): sweeps count on it when they take a placeholder for abandoned.
func (c *Client) PresignPut(ctx context.Context, name string, meta map[string]string, lifetime time.Duration, limits presign.Limits) (string, presign.URL, error) {
	if lifetime == 0 {
		lifetime = c.Settings.URLLifetime
	}
	if lifetime > c.Settings.URLLifetime {
		return "", presign.URL{}, &UploadLifetimeError{Limit: c.Settings.URLLifetime}
	}
	signer, err := c.Signer(ctx)
	if err != nil {
		return "", presign.URL{}, err
	}
	// Signed before the record is made, with an id of the same form: what can't be signed must
	// not leave a record behind.
	if _, err := signer.Put(c.NewID(), c.Now(), lifetime, limits); err != nil {
		return "", presign.URL{}, err
	}
	id, err := c.create(ctx, name, meta)
	if err != nil {
		return "", presign.URL{}, err
	}
	url, err := signer.Put(id, c.Now(), lifetime, limits)
	if err != nil {
		return "", presign.URL{}, c.undo(ctx, id, transfer.NotWritten, err)
	}
	return id, url, nil
}
