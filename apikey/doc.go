// Package apikey is the domain of API keys: what a key is, how its secret is
// made and recognized, and which rule allows or denies a request.
//
// A secret is made once, shown once and kept only as a hash:
//
//	secret, err := apikey.NewSecret(rand.Reader)
//	key := apikey.Key{Name: "indexer-cron", Hash: secret.Hash()}
//	fmt.Println(secret.Reveal()) // the only way to print it
//
// A request names its secret as text. [ParseSecret] refuses text that cannot
// be a secret before anything is looked up; [Decide] then applies the rules of
// one key to one request:
//
//	decision := apikey.Decide(&key, &apikey.Request{Address: addr})
//	if decision.Allowed() { ... }
//
// The package is pure: it reads no clock, opens no file and logs nothing.
package apikey
