package envoytest_test

import (
	"net/http"
	"testing"

	"github.com/tokenkithq/authz/envoy"
	"github.com/tokenkithq/authz/envoy/echo"
	"github.com/tokenkithq/authz/envoy/envoytest"
)

// With no authorization service to ask, a front lets nothing pass but what is
// for the admin API.
func TestFailsClosed(t *testing.T) {
	upstream := echo.Start(t)
	front := envoytest.Start(t, envoy.Options{
		Authz: []string{"unix:" + t.TempDir() + "/none"}, Upstream: upstream.Address(), AdminAPI: upstream.Address(),
	})
	for _, c := range []struct {
		path           string
		status, arrive int
	}{
		{"/api/tokens/", http.StatusServiceUnavailable, 0},
		{"/", http.StatusServiceUnavailable, 0},
		{envoy.AdminPrefix + "login/", http.StatusOK, 1},
		{envoy.AdminPrefix + "../../tokens/", http.StatusServiceUnavailable, 1},
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, front.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.status || upstream.Count() != c.arrive {
			t.Errorf("%s: status %d and %d requests upstream, want %d and %d", c.path, response.StatusCode, upstream.Count(), c.status, c.arrive)
		}
	}
}
