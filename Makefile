# Every target but demo is bounded in time; all run on loopback only and clean up. SHORT=1 makes the long ones end within 50
# seconds, with the same checks and fewer rounds.
GO        ?= go
BIN       := bin
PACKAGES  := ./...
GORELEASER := github.com/goreleaser/goreleaser/v2@v2.14.3
GOLANGCI  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
FUZZTIME  ?= 10s
BENCHTIME ?= 1s
COUNT     ?= 1
FIGURES   := .ci/figures
LONG       = $(GO) test -count=1 -timeout 120m -v

# rounds SHORT,LONG
rounds = $(if $(SHORT),$(1),$(2))

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.PHONY: build
build: ## build the program into bin/
	$(GO) build -trimpath -o $(BIN)/tokenkit-authz ./cmd/tokenkit-authz

.PHONY: test
test: ## run all tests
	$(GO) test $(PACKAGES)

.PHONY: race
race: ## run all tests with the race detector
	$(GO) test -race $(PACKAGES)

.PHONY: lint
lint: ## vet and lint
	$(GO) vet $(PACKAGES)
	$(GO) run $(GOLANGCI) run

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME
	@set -e; log=$$(mktemp); trap 'rm -f $$log' EXIT; for package in $$($(GO) list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.Dir}}{{end}}' $(PACKAGES)); do \
		for target in $$(cd $$package && grep -hoE '^func Fuzz[A-Za-z]+' *_test.go 2>/dev/null | sed 's/func //'); do \
			echo "$$target"; (cd $$package && $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) . >$$log 2>&1 && tail -2 $$log) || { cat $$log; exit 1; }; \
		done; \
	done

.PHONY: timing
timing: ## how far apart refusals are in time: unknown, deleted and malformed keys, users and nobody
	@log=$$(mktemp); status=0; { $(GO) test -run '^$$' -bench Refusals -benchtime $(call rounds,2000,100000)x ./cmd/tokenkit-authz && \
		$(GO) test -run '^$$' -bench WrongPassword -benchtime $(call rounds,50,500)x ./admin; } >$$log 2>&1 || status=$$?; \
	if [ $$status = 0 ]; then grep '^Benchmark' $$log; else cat $$log; fi; rm -f $$log; exit $$status

.PHONY: bench
bench: build ## what a Check costs, through the real Envoy, beside other ways
	@$(GO) run ./internal/bench $(if $(SHORT),-short) $(if $(WHAT),-what $(WHAT)) -program $(BIN)/tokenkit-authz

.PHONY: microbench
microbench: ## run the benchmarks of each room; COUNT=10 makes them fit for benchstat
	@log=$$(mktemp); status=0; $(GO) test -run '^$$' -bench . -benchmem -short -benchtime $(BENCHTIME) -count $(COUNT) $(PACKAGES) >$$log 2>&1 || status=$$?; \
	if [ $$status = 0 ]; then grep -E '^(goos|goarch|pkg|cpu|Benchmark|ok)' $$log; else cat $$log; fi; rm -f $$log; exit $$status

.PHONY: e2e
e2e: ## the conformance table and the documented promises, through the real Envoy and the stand-in
	@log=$$(mktemp); status=0; TOKENKIT_REQUIRE=1 TOKENKIT_CLUSTER=short $(GO) test -count=1 -v -run 'TestConformance|TestDocumentedCommands|TestDeleteIsImmediate|TestExactLimit|TestBrowser' \
		./cmd/tokenkit-authz >$$log 2>&1 || { status=$$?; cat $$log; }; \
	grep -E '^--- ' $$log; grep -E '^[0-9]+ passed, [0-9]+ failed$$' $$log | tail -1; rm -f $$log; exit $$status

.PHONY: configs
configs: ## render and validate every configuration: by Envoy, systemd, promtool and published schemas
	@log=$$(mktemp); status=0; TOKENKIT_REQUIRE=1 $(GO) test -count=1 -v . ./envoy ./examples/... \
		-run 'TestDefaultConfiguration|TestEnvoyAccepts|TestIstioMesh|TestEveryMesh|TestFile|TestRoutesRepeat|TestEnvoyConfig|TestUnits|TestManifests|TestPod|TestKustomize|TestDockerfile|TestReleaseFlags|TestQueries|TestAlerts|TestDashboard|TestPromtool' \
		>$$log 2>&1 || { status=$$?; cat $$log; }; \
	grep -E '^ *--- ' $$log; echo "$$(grep -cE '^ *--- PASS' $$log) passed, $$(grep -cE '^ *--- FAIL' $$log) failed"; rm -f $$log; exit $$status

.PHONY: browser
browser: ## every flow of the dashboard in Chromium, with axe-core on every page, light and dark, wide and narrow
	@TOKENKIT_REQUIRE=1 TOKENKIT_BROWSER=$(call rounds,short,long) $(FIGURES) flows= $(LONG) -run 'TestDashboard' ./cmd/tokenkit-authz

.PHONY: model
model: ## limiter and blocker against exact logs of all calls
	@TOKENKIT_MODEL_STEPS=$(call rounds,60000,1000000) $(FIGURES) steps= $(LONG) -run 'TestModel' ./extauthz/limit ./extauthz/limit/lease ./extauthz/block

.PHONY: crash
crash: ## kill -9 the real program during changes and Checks
	@TOKENKIT_ROUNDS=$(call rounds,30,1000) $(FIGURES) kills= $(LONG) -run 'TestCrash$$' ./cmd/tokenkit-authz

.PHONY: powerloss
powerloss: ## every state that a power loss may leave the files in
	@TOKENKIT_REQUIRE_FUSE=1 TOKENKIT_ROUNDS=$(call rounds,500,10000) $(FIGURES) images= $(LONG) -run 'TestPowerLoss$$' ./internal/boltfile ./store/bolt ./extauthz/statefile ./usage/usagefile

.PHONY: corrupt
corrupt: ## flipped bytes, stale and swapped pages, truncations
	@TOKENKIT_ROUNDS=$(call rounds,1000,10000) $(FIGURES) damaged= $(LONG) -run 'TestDamage$$' ./internal/boltfile ./store/bolt ./extauthz/statefile ./usage/usagefile

.PHONY: restart
restart: ## restart two instances in turn under load through the real Envoy
	@TOKENKIT_REQUIRE=1 TOKENKIT_ROUNDS=$(call rounds,20000,200000) $(FIGURES) requests= $(LONG) -run 'TestRestart$$' ./cmd/tokenkit-authz

.PHONY: cluster
cluster: ## three replicas with etcd and Redis behind the real Envoy, while faults befall them
	@TOKENKIT_REQUIRE=1 TOKENKIT_CLUSTER=$(call rounds,short,long) $(FIGURES) over_limit= $(LONG) -run 'TestCluster' ./cmd/tokenkit-authz

.PHONY: scale
scale: ## simulate 1 to 1,000 replicas that share the limits of 10,000,000 keys
	@TOKENKIT_SCALE=$(call rounds,short,long) $(FIGURES) over_limit= $(LONG) -run 'TestScale$$' ./internal/scale

.PHONY: openapi
openapi: ## requests made from the served OpenAPI description, and every answer checked against it
	@TOKENKIT_REQUIRE=1 TOKENKIT_CASES=$(call rounds,short,5000) $(FIGURES) cases= $(LONG) -run 'TestServedOpenAPI$$' ./cmd/tokenkit-authz

.PHONY: attacks
attacks: ## the attacks of docs/security.md, each by its test
	@$(GO) run ./internal/attacks $(if $(SHORT),-short)

.PHONY: reproducible
reproducible: ## build the last commit twice, in two folders, and compare; VERSION=v1.2.3 for that of a release
	@.ci/reproducible $(VERSION)

.PHONY: sbom
sbom: build ## write bin/tokenkit-authz.cdx.json, what the program is made of (CycloneDX)
	@.ci/sbom $(BIN)/tokenkit-authz.cdx.json $(VERSION)

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities in what the program calls; needs the Go vulnerability database
	@.ci/vulncheck

.PHONY: release-check
release-check: ## check .goreleaser.yaml, and build for this machine as a release is built
	$(GO) run $(GORELEASER) check
	$(GO) run $(GORELEASER) build --snapshot --single-target --clean

.PHONY: demo
demo: ## a protected route on this machine, to try
	$(GO) run ./cmd/tokenkit-authz demo

.PHONY: check
check: lint test ## what should pass before a commit
