// Package standin is a small proxy for machines without Envoy. It is not
// Envoy: it does, for the configuration that package envoy renders, what an
// HTTP/1.1 client can tell apart, and asks the same gRPC Check. Use it to try
// things out, never in production.
//
//	proxy, err := standin.Start(envoy.Options{Upstream: upstream.Address()})
//	defer proxy.Close()
//	fmt.Println(standin.Notice)
//
// The conformance table of package conformance holds for both.
package standin
