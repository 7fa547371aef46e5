// Attacks runs the tests that docs/security.md names, and says for each line of
// its table whether the attack was stopped:
//
//	go run ./internal/attacks
//	go run ./internal/attacks -short
//
// The last line of its output is "attacks=N open=M": N lines whose tests ran
// and passed, and M lines of which a test failed, was skipped or does not
// exist. It fails unless M is 0.
package main
