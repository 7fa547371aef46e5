// Package dashboard is the web page by which people manage their API keys: one
// HTML shell, its style sheets and its ES modules, all embedded.
//
//	board, err := dashboard.New(dashboard.Options{APIURL: "https://api.example.io"})
//	a, err := admin.New(admin.Options{Store: cached, Dashboard: board})
//
// The page holds no data: it calls the public API of the same origin, as any
// program may, with the cookie of its session. It loads nothing from elsewhere
// and runs nothing that is not in a file of its own, which its
// Content-Security-Policy enforces.
//
// Style sheets and modules are served under an address that holds a hash of
// all of them, so that browsers keep them for good and an upgrade never mixes
// two versions. Pico CSS and uPlot are embedded as published, with their
// licences beside them.
package dashboard
