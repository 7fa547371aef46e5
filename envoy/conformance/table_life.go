package conformance

// keyPath is where one key is shown and changed.
const keyPath = "/api/users/auth/api-keys/{id}/"

// change changes a key.
func change(body string) Step { return admin("PATCH "+keyPath, body, 200, `"id":{id}`) }

// rotate gives a key another secret, which later steps call {new}.
func rotate(body string) Step {
	s := admin("POST "+keyPath+"rotate/", body, 200, `"key":"tk_`)
	s.Keep = "{new}"
	return s
}

// lifeCases are what becomes of a key after it was made.
func lifeCases() []Case {
	const withNew = "api-key: {new}"
	return []Case{
		{Name: "pause", Keys: []string{`{}`}, Steps: []Step{
			ok(withKey), change(`{"enabled": false}`), denied(403, "key_disabled", withKey), change(`{"enabled": true}`), ok(withKey),
		}},
		{Name: "an expiry that is far away", Keys: []string{`{"expires_at": "2999-12-31T00:00:00Z"}`}, Steps: []Step{ok(withKey)}},
		{Name: "other origins", Keys: []string{`{"allowed_origins": ["https://app.example.io"]}`}, Steps: []Step{
			ok(withKey, "Origin: "+appOrigin), change(`{"allowed_origins": ["https://other.example"]}`),
			denied(403, "origin_not_allowed", withKey, "Origin: "+appOrigin), ok(withKey, "Origin: https://other.example"),
			change(`{"allowed_origins": null}`), ok(withKey, "Origin: "+appOrigin),
		}},
		{Name: "other addresses", Keys: []string{`{}`}, Steps: []Step{
			ok(withKey), change(`{"allowed_ips": ["203.0.113.10"]}`), denied(403, "address_not_allowed", withKey),
			change(`{"allowed_ips": ["{address}"]}`), ok(withKey),
		}},
		{Name: "strict from now on", Keys: []string{`{"allowed_ips": ["203.0.113.10"]}`}, Steps: []Step{
			ok(withKey, "Origin: "+appOrigin), change(`{"strict": true}`), denied(403, "address_not_allowed", withKey, "Origin: "+appOrigin),
		}},
		{Name: "a lower limit counts what was spent", Promise: promiseLimit, Keys: []string{`{"rate_limit_per_hour": 5}`}, Steps: []Step{
			times(3, ok(withKey)), change(`{"rate_limit_per_hour": 3}`), denied(403, "rate_limited", withKey),
			change(`{"rate_limit_per_hour": 4}`), ok(withKey), denied(403, "rate_limited", withKey),
			change(`{"rate_limit_per_hour": null}`), ok(withKey),
		}},
		{Name: "rotation at once", Keys: []string{`{}`}, Steps: []Step{
			ok(withKey), rotate(`{"grace_seconds": 0}`), denied(401, "invalid_key", withKey), upstream(ok(withNew), "x-api-key-id: {id}"),
		}},
		{Name: "rotation with a grace shares one limit", Promise: promiseLimit, Keys: []string{`{"rate_limit_per_hour": 4}`}, Steps: []Step{
			ok(withKey), rotate(`{"grace_seconds": 3600}`), ok(withKey), times(2, ok(withNew)),
			denied(403, "rate_limited", withKey), denied(403, "rate_limited", withNew),
		}},
		{Name: "rotating again ends the grace", Keys: []string{`{}`}, Steps: []Step{
			rotate(`{"grace_seconds": 3600}`), ok(withKey), rotate(`{"grace_seconds": 3600}`), denied(401, "invalid_key", withKey), ok(withNew),
		}},
		{Name: "deleting a rotated key ends both secrets", Promise: promiseDeleted, Keys: []string{`{}`}, Steps: []Step{
			rotate(`{"grace_seconds": 3600}`), ok(withKey), ok(withNew), deleteKey("{id}"),
			denied(401, "invalid_key", withKey), denied(401, "invalid_key", withNew),
		}},
	}
}

// scopeCases are what a key may be used for.
func scopeCases() []Case {
	refused := denied(403, "scope_not_allowed", withKey)
	return []Case{
		{Name: "paths", Keys: []string{`{"scopes": ["/v1/", "/v2/tokens"]}`}, Steps: []Step{
			to("GET /v1/a?b=c", ok(withKey)), to("GET /v2/tokens", ok(withKey)), to("GET /v2/tokens/a", ok(withKey)),
			to("GET /v1", refused), to("GET /v2/tokens2", refused), to("GET /", refused), to("GET /V1/a", refused),
		}},
		{Name: "methods", Keys: []string{`{"scopes": ["GET,HEAD /v1/", "POST /v1/orders"]}`}, Steps: []Step{
			to("GET /v1/a", ok(withKey)), to("POST /v1/orders", ok(withKey)), to("POST /v1/a", refused), to("DELETE /v1/orders", refused),
			to("POST /v1/a", denied(403, "scope_not_allowed", withKey, "X-HTTP-Method-Override: GET")),
		}},
		{Name: "no way out of a path", Keys: []string{`{"scopes": ["/v1/"]}`}, Steps: []Step{
			to("GET /v1/../admin", refused), to("GET /v1/..;x/admin", refused), to("GET /v1/%2e%2e;x/admin", refused),
			to("GET /v1/%252e%252e/admin", refused), to("GET /v1/%252fadmin", refused),
		}},
		{Name: "a name is for routes that ask for it", Keys: []string{`{"scopes": ["reports:read"]}`}, Steps: []Step{refused}},
		{Name: "a path does not help an origin", Keys: []string{`{"scopes": ["/v1/"], "allowed_origins": ["https://app.example.io"]}`}, Steps: []Step{
			to("GET /v1/a", ok(withKey, "Origin: "+appOrigin)), to("GET /v1/a", denied(403, "origin_not_allowed", withKey, "Origin: "+evilOrigin)),
		}},
	}
}

// metadataCases are what the upstream learns of a key.
func metadataCases() []Case {
	const header = `x-api-key-metadata: plan="pro", team="caf%C3%A9 %22x%22"`
	return []Case{
		{Name: "metadata for the upstream", Keys: []string{`{"metadata": {"team": "café \"x\"", "plan": "pro"}}`}, Steps: []Step{
			client(upstream(ok(withKey), header), "!x-api-key-metadata"),
			upstream(ok(withKey, `x-api-key-metadata: plan="free"`), header),
		}},
		{Name: "none is removed", Keys: []string{`{}`}, Steps: []Step{upstream(ok(withKey, `x-api-key-metadata: plan="pro"`), "!x-api-key-metadata")}},
		{Name: "a line break is refused", Steps: []Step{
			admin("POST "+createPath, `{"name": "a", "metadata": {"plan": "a\r\nx-api-key-owner: root"}}`, 422, `body\.metadata\.plan`),
			admin("POST "+createPath, `{"name": "a", "metadata": {"a b": "c"}}`, 422, `body\.metadata`),
		}},
	}
}
