# Targets for people; `make help` lists them.
SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build

GO         ?= go
BIN        := bin
AGENT      := $(BIN)/mini-kubelet
VERSION    ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
RACE       ?= 0
STATICCHECK_VERSION := 2026.2.2
IMAGE      ?= mini-kubelet:$(VERSION)
# Time that all integration tests together may take.
TEST_TIMEOUT ?= 20m
# Tests that wait in parallel; they mostly wait for Docker and for grace periods.
TEST_PARALLEL ?= 8
# Arguments for the test binary or the benchmark, e.g. ARGS='-run TestReset'.
ARGS ?=

RACEFLAG := $(if $(filter 1,$(RACE)),-race,)
# The installed staticcheck when it is the pinned version, else the pinned one.
STATICCHECK := $(shell staticcheck -version 2>/dev/null | grep -qw '$(STATICCHECK_VERSION)' \
	&& echo staticcheck || echo '$(GO) run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)')

.PHONY: build
build: ## build bin/mini-kubelet
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o $(AGENT) ./cmd/mini-kubelet

.PHONY: run
run: build demo-image ## run the pods of manifests/ on this machine's Docker (needs root)
	exec $(AGENT) --config config/kubelet.yaml --pod-manifest-path '$(CURDIR)/manifests' --show-pods $(ARGS)

.PHONY: demo-image
demo-image:
	$(GO) run ./cmd/demo-image

.PHONY: test
test: build ## unit tests, then integration tests against real Docker (RACE=1: with the race detector)
	$(GO) build -o $(BIN)/summary ./test/summary
	{ $(GO) test -json $(RACEFLAG) ./pkg/... ./cmd/... ./test/harness/... ./test/summary/... || echo "FAIL: go test of the units: exit $$?"; \
	  MINI_KUBELET='$(CURDIR)/$(AGENT)' $(GO) test -json -p 1 -count=1 -timeout $(TEST_TIMEOUT) -parallel $(TEST_PARALLEL) \
		./test/cri/... ./test/integration/... $(ARGS) || echo "FAIL: go test of test/cri and test/integration: exit $$?"; \
	} | $(BIN)/summary -verbose test/integration,test/cri

.PHONY: unit
unit: ## unit tests only
	$(GO) test $(RACEFLAG) ./pkg/... ./cmd/... ./test/harness/... ./test/summary/...

.PHONY: integration
integration: build ## integration tests only; ARGS='-run TestReset' picks
	MINI_KUBELET='$(CURDIR)/$(AGENT)' $(GO) test -v -count=1 -timeout $(TEST_TIMEOUT) -parallel $(TEST_PARALLEL) ./test/integration/... $(ARGS)

.PHONY: cri
cri: build ## the CRI suite only, against the dockershim and containerd; ARGS='-run TestDockershim/log' picks
	MINI_KUBELET='$(CURDIR)/$(AGENT)' $(GO) test -v -count=1 -timeout $(TEST_TIMEOUT) -parallel $(TEST_PARALLEL) ./test/cri/... $(ARGS)

.PHONY: bench
bench: build ## measure against bare Docker; table, and JSON in bin/bench.json
	MINI_KUBELET='$(CURDIR)/$(AGENT)' $(GO) run ./test/bench -json $(BIN)/bench.json $(ARGS)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l cmd pkg test); if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(STATICCHECK) ./...
	@echo "lint: gofmt, go vet and staticcheck found nothing"

.PHONY: image
image: ## build the agent's own image
	test/image.sh '$(IMAGE)'

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
