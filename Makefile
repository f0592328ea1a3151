# What one does with this repository. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
GO ?= go

# What programs say that they are: here as in the images of this source (test/images), so that they know that they match.
VERSION ?= v0.0.0-test

# The race detector needs a C compiler; without one the tests run all the same, and say so.
CC := $(shell $(GO) env CC)
RACE ?= $(if $(shell command -v $(CC) 2>/dev/null),-race)

# A program with the race detector sleeps for a second before it ends, lest a report be cut off: of many tests, and of the
# many commands that they run, that is most of the time. A test fails by what was found while it ran.
export GORACE ?= atexit_sleep_ms=50

# What takes longest begins first, so that nothing long is left over at the end. It mostly waits, so one package more runs
# than there are processors, and yet another beside the first, which does nothing but wait.
SLOW := ./test/idle ./test/live ./test/wire ./policy ./test/roles ./test/outage ./translator ./test/mtls ./test/admission ./cmd/heddle ./demo ./sidecar ./kube
AT_ONCE ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 2)))

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/heddle and bin/heddle-sidecar
	@$(GO) build -ldflags '-X github.com/heddle-mesh/heddle/buildinfo.version=$(VERSION)' -o bin/ ./cmd/...

.PHONY: demo
demo: build ## three services, real Envoys, live numbers; no Kubernetes, no root (ARGS="--for 20s -o json")
	@bin/heddle demo $(ARGS)

.PHONY: test
test: ## every test, with the race detector; sets itself up once (PKG=./policy/... for a part)
	@[ -n "$(RACE)" ] || echo "make test: no C compiler ($(CC)), so without the race detector; apt-get install gcc adds it"
	$(GO) run ./test/setup
	$(GO) test $(RACE) -count 1 -timeout 9m -p $(AT_ONCE) $(or $(PKG),$(SLOW) ./...)

.PHONY: soak
soak: ## 200 requests a second for a minute, while the root rotates, while a killed control plane and API server are away; wants an idle machine
	$(GO) run ./test/setup
	HEDDLE_OUTAGE_LOAD=60s $(GO) test -count 1 -v -run '^TestNoRequestFailsWhileTheRootRotatesUnderLeavesOfTenSeconds$$' ./test/outage
	HEDDLE_OUTAGE_LOAD=60s $(GO) test -count 1 -v -parallel 1 -run '^TestNoRequestFailsWhileAn?.*ThatWasKilledIsAway' ./test/live

.PHONY: images
images: ## heddle and heddle-proxy and those of the first walk, as bin/images/*.tar, without Docker
	@rm -rf bin/images && mkdir -p bin/images && cp $$($(GO) run ./test/cluster/ctl images) bin/images/ && ls bin/images/*.tar

# Without root and Linux this fails, rather than passing with nothing run; KUBECONFIG=... uses a cluster that is there.
E2E = $(GO) test -tags e2e -count 1 -timeout 40m -p 1
.PHONY: e2e
e2e: ## redirected pods, and real pods on a real Kubernetes that it starts (root, Linux), or KUBECONFIG=... (RUN=TestName for some)
	$(if $(KUBECONFIG),,$(GO) run ./test/cluster/ctl prepare)
	$(if $(KUBECONFIG)$(RUN),,$(E2E) ./injector/redirect ./test/redirect)
	$(if $(KUBECONFIG)$(RUN),,$(E2E) -run '^TestAddon' ./deploy)
	$(E2E) -v $(if $(RUN),-run '$(RUN)' ./test/e2e,./test/e2e $(if $(KUBECONFIG),,./test/cluster))

.PHONY: cluster-up
cluster-up: ## a Kubernetes on this machine that stays, with our images in it (root, Linux; NAME=dev)
	$(GO) run ./test/cluster/ctl up --name $(or $(NAME),dev)

.PHONY: cluster-load
cluster-load: ## make our images anew, and load them into it (IMAGES=heddle,heddle-proxy for some)
	$(GO) run ./test/cluster/ctl load --name $(or $(NAME),dev) $(if $(IMAGES),--images $(IMAGES))

.PHONY: cluster-down
cluster-down: ## end it, and remove all that it made
	$(GO) run ./test/cluster/ctl down --name $(or $(NAME),dev)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, who may import whom, size marks
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	$(GO) vet -tags e2e ./...
	$(GO) tool -modfile=tools/go.mod staticcheck -tags e2e ./...
	$(GO) test ./test/house

.PHONY: bench
bench: ## the figures of docs/benchmarks.md
	$(GO) test -run '^$$' -bench . -benchmem ./mesh ./policy ./kube ./identity ./controlplane
	$(GO) test -run '^$$' -bench . -benchtime 3x ./identity/service
	$(GO) test -run '^$$' -bench . -benchtime 1x ./cmd/heddle-sidecar ./test/hop
	$(GO) test -run '^$$' -bench . ./test/live
	$(GO) run ./test/bench
