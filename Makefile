# What one does with this repository. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
GO ?= go

# The race detector needs a C compiler; without one the tests run all the same, and say so.
CC := $(shell $(GO) env CC)
RACE ?= $(if $(shell command -v $(CC) 2>/dev/null),-race)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/heddle and bin/heddle-sidecar
	$(GO) build -o bin/ ./cmd/...

.PHONY: demo
demo: build ## three services, real Envoys, live numbers; no Kubernetes, no root (ARGS="--for 20s -o json")
	bin/heddle demo $(ARGS)

.PHONY: test
test: ## every test, with the race detector; sets itself up once (PKG=./policy/... for a part)
	@[ -n "$(RACE)" ] || echo "make test: no C compiler ($(CC)), so without the race detector; apt-get install gcc adds it"
	$(GO) run ./test/setup
	$(GO) test $(RACE) -count 1 -timeout 9m $(or $(PKG),./...)

.PHONY: soak
soak: ## 200 requests a second for a minute, leaves of 10 s, a new root in the middle; wants an idle machine
	$(GO) run ./test/setup
	HEDDLE_OUTAGE_LOAD=60s $(GO) test -count 1 -v -run '^TestNoRequestFailsWhileTheRootRotatesUnderLeavesOfTenSeconds$$' ./test/outage

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, who may import whom, size marks
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool -modfile=tools/go.mod staticcheck ./...
	$(GO) test ./test/house

.PHONY: bench
bench: ## the figures of docs/benchmarks.md
	$(GO) test -run '^$$' -bench . -benchmem ./mesh ./policy ./kube ./identity ./controlplane
	$(GO) test -run '^$$' -bench . -benchtime 3x ./identity/service
	$(GO) test -run '^$$' -bench . -benchtime 1x ./cmd/heddle-sidecar ./test/hop
	$(GO) test -run '^$$' -bench . ./test/live
	$(GO) run ./test/bench
