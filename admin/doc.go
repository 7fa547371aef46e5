// Package admin is the HTTP API by which people and programs sign in and
// manage API keys, and the operator API behind the command line.
//
// One [Admin] serves both over one store:
//
//	a, err := admin.New(admin.Options{Store: cached, Logger: logger})
//	public := admin.NewServer(a.Handler(), logger)
//	go a.Run(ctx) // sweeps sessions that ended
//	err = public.Serve(listener)
//
// The public API asks for a password, then for the token of a session. The
// operator API asks for nothing: whoever can open its socket, a file of mode
// 0600 in the data folder, has the authority of the file's owner.
//
//	operator := admin.NewServer(a.Operator(), logger)
//	err = operator.Serve(unixListener)
//
// [NewOperatorClient] speaks to that socket; [NewLocalOperatorClient] calls the
// same API in-process, over a store that nobody serves:
//
//	client := admin.NewOperatorClient("data/control.sock")
//	user, err := client.AddUser(ctx, admin.NewUser{Name: "ada", Password: password})
//
// Every refusal is a [Problem] (RFC 9457) with a stable code. Nothing here
// logs a password, a key or a session's token.
package admin
