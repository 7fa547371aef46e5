package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tokenkithq/authz/apikey"
	"github.com/tokenkithq/authz/internal/secretfile"
	"github.com/tokenkithq/authz/store"
)

// hasher reads the peppers, if there are any.
func (s *settings) hasher() (apikey.Hasher, error) {
	if s.keyPepperFile == "" {
		return apikey.Hasher{}, nil
	}
	text, err := secretfile.Read(s.keyPepperFile)
	if err != nil {
		return apikey.Hasher{}, fmt.Errorf("key_pepper_file: %w", err)
	}
	hasher, err := apikey.ParsePeppers(text)
	if err != nil {
		return apikey.Hasher{}, fmt.Errorf("key_pepper_file: %s: %w", s.keyPepperFile, err)
	}
	return hasher, nil
}

// keysChecked is how many keys are looked at where there is no pepper: nearly
// everybody has none, and should not wait for all keys to be read. Where there
// are more, the newest ones are looked at as well.
const keysChecked = 10_000

// openHasher reads the peppers and makes sure that they are those of the keys:
// with others every key would be denied in silence.
func (v *service) openHasher(ctx context.Context) (err error) {
	if v.hasher, err = v.settings.hasher(); err != nil {
		return err
	}
	most := 0
	if v.settings.keyPepperFile == "" {
		most = keysChecked
	}
	made, err := store.CheckHashes(ctx, v.keys, v.hasher, time.Now(), most)
	if err == nil && most > 0 && made[0] >= most {
		err = store.CheckNewestHashes(ctx, v.keys, v.hasher, time.Now())
	}
	switch {
	case errors.Is(err, store.ErrPepper) && v.settings.keyPepperFile == "":
		return fmt.Errorf("key_pepper_file: expected the file with the pepper that keys were made with: %w", err)
	case errors.Is(err, store.ErrPepper):
		return fmt.Errorf("key_pepper_file: %s: expected a line for every pepper that keys were made with, and none where they were made without: %w", v.settings.keyPepperFile, err)
	case err != nil:
		return err
	}
	if v.settings.keyPepperFile != "" {
		for way, n := range made {
			v.logger.Info("pepper read", "line", way+1, "values_of_keys", n)
		}
	}
	return nil
}
