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
# Release 2026.2.2, by its module version: the proxy has it by no other name.
STATICCHECK_VERSION := v0.8.2
GOVULNCHECK_VERSION := v1.9.0
IMAGE      ?= mini-kubelet:$(VERSION)
# Time that all integration tests together may take.
TEST_TIMEOUT ?= 30m
# Tests in parallel. They wait for Docker and for grace periods, but with more of them
# two cores start a container in 7 s, and back-offs are not seen to be what they are.
TEST_PARALLEL ?= 6
# How long `make attack` goes on with each of its two attacks.
TIME ?= 10m
# Release of the control plane: v1.37.2, or v1.36.3, the one before.
KUBERNETES ?= v1.37.2
export MINI_KUBELET_KUBERNETES := $(KUBERNETES)
# Arguments for the test binary or the benchmark, e.g. ARGS='-run TestReset'.
ARGS ?=

CLUSTERCTL := $(GO) run ./test/clusterctl

RACEFLAG := $(if $(filter 1,$(RACE)),-race,)
# The installed staticcheck when it is the pinned version, else the pinned one.
STATICCHECK := $(shell staticcheck -version 2>/dev/null | grep -qF "$(patsubst v%,(%),$(STATICCHECK_VERSION))" \
	&& echo staticcheck || echo '$(GO) run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)')

.PHONY: build
build: ## build bin/mini-kubelet
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w' -o $(AGENT) ./cmd/mini-kubelet

.PHONY: run
run: build demo-image ## run the pods of manifests/ on this machine's Docker (needs root)
	exec $(AGENT) --config config/kubelet.yaml --pod-manifest-path '$(CURDIR)/manifests' --show-pods --image-gc-high-threshold 100 $(ARGS)

.PHONY: demo-image
demo-image:
	$(GO) run ./cmd/demo-image

.PHONY: test
test: build cluster-build promql ## unit tests, then those against real Docker and a real control plane (RACE=1: with the race detector)
	$(GO) build -o $(BIN)/summary ./test/summary
	{ $(GO) test -json $(RACEFLAG) ./pkg/... ./cmd/... ./test/harness/... ./test/summary/... ./test/architecture/... || echo "FAIL: go test of the units: exit $$?"; \
	  MINI_KUBELET='$(CURDIR)/$(AGENT)' MINI_KUBELET_E2E=1 $(GO) test -json -p 1 -count=1 -timeout $(TEST_TIMEOUT) -parallel $(TEST_PARALLEL) \
		./test/attack/... ./test/cri/... ./test/integration/... ./test/e2e/... ./test/pods/... $(ARGS) || echo "FAIL: go test of the suites: exit $$?"; \
	} | $(BIN)/summary -verbose test/attack,test/integration,test/cri,test/e2e,test/pods

.PHONY: unit
unit: ## unit tests only
	$(GO) test $(RACEFLAG) ./pkg/... ./cmd/... ./test/harness/... ./test/summary/... ./test/architecture/...

.PHONY: integration
integration: build ## integration tests only; ARGS='-run TestReset' picks
	MINI_KUBELET='$(CURDIR)/$(AGENT)' $(GO) test -v -count=1 -timeout $(TEST_TIMEOUT) -parallel $(TEST_PARALLEL) ./test/integration/... $(ARGS)

.PHONY: cri
cri: build ## the CRI suite only, against the dockershim and containerd; ARGS='-run TestDockershim/log' picks
	MINI_KUBELET='$(CURDIR)/$(AGENT)' $(GO) test -v -count=1 -timeout $(TEST_TIMEOUT) -parallel $(TEST_PARALLEL) ./test/cri/... $(ARGS)

.PHONY: e2e
e2e: build cluster-build promql ## end-to-end tests only, as a node of a real control plane of release KUBERNETES; ARGS='-run TestKubectl' picks
	MINI_KUBELET='$(CURDIR)/$(AGENT)' MINI_KUBELET_E2E=1 $(GO) test -v -count=1 -timeout $(TEST_TIMEOUT) -parallel $(TEST_PARALLEL) ./test/e2e/... $(ARGS)

.PHONY: pods
pods: build cluster-build ## the table of test/pods only, standalone and in a cluster; ARGS='-run /env$$' picks
	MINI_KUBELET='$(CURDIR)/$(AGENT)' MINI_KUBELET_E2E=1 $(GO) test -v -count=1 -timeout $(TEST_TIMEOUT) -parallel $(TEST_PARALLEL) ./test/pods/... $(ARGS)

.PHONY: attack
attack: build ## hostile inputs for TIME=10m, and as long for all fuzz targets together (a minute of it is part of make test)
	MINI_KUBELET='$(CURDIR)/$(AGENT)' MINI_KUBELET_ATTACK='$(TIME)' $(GO) test -v -count=1 -timeout 0 ./test/attack/... $(ARGS)

.PHONY: cluster-build
cluster-build: ## build kube-apiserver and the others, once (five minutes)
	@$(CLUSTERCTL) build

# Prometheus as a module of its own, like the control plane.
.PHONY: promql
promql:
	@cd test/promql && CGO_ENABLED=0 GOFLAGS=-buildvcs=false $(GO) build -trimpath -ldflags '-s -w' -o '$(CURDIR)/$(BIN)/promql' .

.PHONY: cluster-up
cluster-up: cluster-build ## run a real control plane on this machine; says how to use it
	@$(CLUSTERCTL) up

.PHONY: join
join: build ## make this machine a node of that control plane, by kubeadm (needs root)
	@$(CLUSTERCTL) join

.PHONY: cluster-down
cluster-down: ## undo join and cluster-up
	@$(CLUSTERCTL) down

.PHONY: bench
bench: build cluster-build ## measure against bare Docker; table, and JSON in bin/bench.json
	MINI_KUBELET='$(CURDIR)/$(AGENT)' $(GO) run ./test/bench -json $(BIN)/bench.json $(ARGS)

.PHONY: lint
lint: ## gofmt, go vet, staticcheck, govulncheck
	@unformatted=$$(gofmt -l cmd pkg test); if [ -n "$$unformatted" ]; then echo "not gofmt'ed:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	cd test/promql && $(GO) vet .
	$(STATICCHECK) ./...
	GO='$(GO)' test/vulnerabilities.sh $(GOVULNCHECK_VERSION) $(BIN)
	@echo "lint: nothing found"

.PHONY: image
image: ## build the agent's own image
	test/image.sh '$(IMAGE)'

.PHONY: clean
clean: ## remove what was built; the control plane of cluster-up goes with cluster-down
	rm -f $(AGENT) $(BIN)/promql $(BIN)/summary $(BIN)/govulncheck $(BIN)/bench.json
	rmdir --ignore-fail-on-non-empty $(BIN) 2>/dev/null || true

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
