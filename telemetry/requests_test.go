package telemetry

import (
	"testing"
	"time"
)

func TestRequests(t *testing.T) {
	r := NewRequests()
	for range 3 {
		r.Served("GET /api/keys", 200, 2*time.Millisecond)
	}
	r.Served("GET /api/keys", 500, time.Hour)
	got := gather(t, r)
	for name, want := range map[string]float64{
		"admin_requests_total route=GET /api/keys status=200": 3,
		"admin_requests_total route=GET /api/keys status=500": 1,
	} {
		if n := got.counter(name); n != want {
			t.Errorf("%s: %v, want %v", name, n, want)
		}
	}
	h := got[namespace+"admin_request_duration_seconds route=GET /api/keys"].GetHistogram()
	if h.GetSampleCount() != 4 || h.GetBucket()[0].GetCumulativeCount() != 0 || h.GetBucket()[1].GetCumulativeCount() != 3 {
		t.Errorf("durations %v", h)
	}
	if n := len(r.bounds); n > maxBounds {
		t.Errorf("%d bounds do not fit", n)
	}
}

func TestLogins(t *testing.T) {
	r := NewRequests()
	for _, s := range []struct {
		route  string
		status int
	}{
		{"POST /api/users/auth/login", 200}, {"POST /api/users/auth/login/cookie", 200},
		{"POST /api/users/auth/login", 401}, {"POST /api/users/auth/login", 429}, {"POST /api/users/auth/login", 400},
		{"POST /api/users/auth/logout", 200}, {"GET /api/users/auth/login", 405},
	} {
		r.Served(s.route, s.status, 0)
	}
	got := gather(t, r)
	for result, want := range map[string]float64{"ok": 2, "refused": 1, "throttled": 1, "failed": 1} {
		if n := got.counter("admin_logins_total result=" + result); n != want {
			t.Errorf("%s: %v, want %v", result, n, want)
		}
	}
	if n := gather(t, NewRequests()).counter("admin_logins_total result=refused"); n != 0 {
		t.Errorf("before the first: %v, want 0", n)
	}
}
