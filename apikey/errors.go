package apikey

import "errors"

// ErrNotFound says that no such key exists. Stores return it wrapped; no other
// error means that a key does not exist.
var ErrNotFound = errors.New("not found")
