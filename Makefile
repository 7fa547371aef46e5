# Every target is bounded in time, runs on loopback only and cleans up.
GO        ?= go
BIN       := bin
PACKAGES  := ./...
GOLANGCI  := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULN    := golang.org/x/vuln/cmd/govulncheck@v1.9.0
FUZZTIME  ?= 10s

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

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

.PHONY: demo
demo: ## a protected route on this machine, to try
	$(GO) run ./cmd/tokenkit-authz demo

.PHONY: check
check: lint test ## what should pass before a commit
