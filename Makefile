# Everything here needs Go, make and git only: the tools are built from tools/go.mod.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BUILD := $(CURDIR)/.build
BIN := $(BUILD)/bin
TOOLS := $(BIN)/.tools
export PATH := $(BIN):$(PATH)

MODULE := github.com/onecall-dev/onecall

# The platforms besides this one for which everything must compile, tests included.
PLATFORMS := windows/amd64 darwin/arm64 linux/386

# Modules besides this one for users: packages that they import, and the command.
LIBRARIES := telemetry/prometheus telemetry/otel framework/spiffe cmd/onecall

# Folders of committed generated Go.
GENERATED := proto examples/auth/proto internal/testproto

.PHONY: help
help: ## Print the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Serve, find and call an API: an embedded etcd, two instances of auth and a caller
	@mkdir -p $(BIN)
	go build -o $(BIN) ./examples/auth/service ./examples/auth/demo
	$(BIN)/demo

# Most tests wait for something, an etcd above all, and use little CPU meanwhile.
PARALLEL := 16
TESTPKGS ?= ./...
TESTFLAGS ?=

.PHONY: test
test: ## Run the tests of every module, or of TESTPKGS alone, with TESTFLAGS
	go test -parallel $(PARALLEL) $(TESTFLAGS) $(TESTPKGS)
ifeq ($(TESTPKGS),./...)
	for module in bench $(LIBRARIES); do (cd $$module && go test $(TESTFLAGS) ./...); done
endif

# Pages whose commands are run, each page in an empty folder.
PAGES := docs/tutorial.md docs/command.md docs/how-to/your-own-module.md docs/how-to/reflection-and-grpcurl.md

.PHONY: tutorial
tutorial: $(TOOLS) ## Run the commands of the tutorial and of PAGES, and compare what they print
	go build -o $(BIN)/pages ./internal/pages/run
	cd cmd/onecall && go run ./internal/installed $(BIN)/pages $(PAGES)

.PHONY: test-process
test-process: ## Run the tests of framework with calls that leave the network out, with the race detector
	go test -race -parallel $(PARALLEL) ./framework -way process

.PHONY: test-busy
test-busy: ## Run the tests N times (default 10) beside two busy loops a core, and say what failed
	TESTPKGS="$(TESTPKGS)" TESTFLAGS="$(TESTFLAGS)" .ci/test-busy $(or $(N),10)

.PHONY: soak
soak: ## Print figures that need a quiet machine: outages of OUTAGE (default 60s), flaps, a frozen instance
	go test -run '^$$' -bench '^BenchmarkSoak' -benchtime 1x -timeout 1h ./discovery/etcd
	go test -run '^$$' -bench '^BenchmarkSoak' -benchtime 1x -timeout 1h ./framework -args -outage $(or $(OUTAGE),60s)

.PHONY: race
race: ## Run the tests with the race detector
	go test -race -parallel $(PARALLEL) $(TESTPKGS)
ifeq ($(TESTPKGS),./...)
	cd bench && go test -race ./internal/...
	for module in $(LIBRARIES); do (cd $$module && go test -race ./...); done
endif

.PHONY: lint
lint: $(TOOLS) ## Run the linters on Go and .proto files
	golangci-lint run --allow-parallel-runners ./...
	for module in bench $(LIBRARIES); do (cd $$module && golangci-lint run --allow-parallel-runners --config $(CURDIR)/.golangci.yml ./...); done
	buf lint
	for dir in $(GENERATED); do buf format --diff --exit-code $$dir; done

.PHONY: vet-platforms
vet-platforms: ## Vet every module for users for Windows, macOS and 32 bits: all must compile there
	for platform in $(PLATFORMS); do for module in . $(LIBRARIES); do \
	  echo "go vet in $$module for $$platform"; \
	  (cd $$module && CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} go vet ./...); \
	done; done

.PHONY: generate
generate: $(TOOLS) ## Generate Go from the .proto files
	find $(GENERATED) -name '*.pb.go' -delete
	go build -o $(BIN) ./cmd/protoc-gen-onecall
	buf generate

.PHONY: check-generate
check-generate: generate ## Fail when committed generated Go is not what the .proto files say
	@changed=$$(git status --porcelain -- $(GENERATED)); if [ -n "$$changed" ]; then \
	  echo "generated Go is stale: run 'make generate' and commit the result:"; echo "$$changed"; exit 1; fi

.PHONY: command-reference
command-reference: ## Write the reference of the command into docs/command.md
	cd cmd/onecall && go test -count=1 -run '^TestThePageHasTheReferenceOfAllCommands$$' . -args -update

.PHONY: breaking
breaking: $(TOOLS) ## Fail when proto/ breaks the baseline in proto/baseline.binpb
	buf build proto -o $(BUILD)/proto.binpb
	buf breaking $(BUILD)/proto.binpb --against proto/baseline.binpb

.PHONY: baseline
baseline: $(TOOLS) ## Make proto/ as it stands the baseline: once a release
	buf build proto --exclude-source-info -o proto/baseline.binpb

.PHONY: bench
bench: ## Measure a call on a bus against plain grpc-go, by turns
	cd bench && go run . $(BENCHFLAGS)

.PHONY: bench-gate
bench-gate: ## Fail when a call allocates more or less than is committed, or needs 15 % more CPU (UPDATE=1 commits)
	cd bench && go run . -gate gate.json -cpu $(if $(UPDATE),-update)

# The other frameworks are dependencies of this module alone, and it is not part of ci.
.PHONY: bench-peers
bench-peers: $(TOOLS) ## Measure a call beside grpc-go, go-zero, Kratos and connect-go, and write docs/performance.md and its chart
	cd bench/peers && golangci-lint run --allow-parallel-runners --config ../../.golangci.yml ./... && go test -count=1 ./... && go run . -page ../../docs/performance.md -chart ../../docs/peers.svg $(BENCHFLAGS)

.PHONY: bench-discovery
bench-discovery: ## Measure discovery on etcd: events, memory, starts, idle programs, a fleet of 1,000
	cd bench && go run ./discovery $(BENCHFLAGS)

.PHONY: torture
torture: ## Restart, kill and replay for 60 s, or FOR: no call runs twice and no outcome is false
	cd bench && go run ./torture -for $(or $(FOR),60s)
	cd bench && go run ./torture -own -for $(or $(FOR),60s)

.PHONY: rolling
rolling: ## Restart 3 instances in turn, ROUNDS times (default 20), during calls: none fails, none runs twice
	cd bench && go run ./rolling -rounds $(or $(ROUNDS),20)
	cd bench && go run ./rolling -rounds $(or $(ROUNDS),5) -late 500ms

.PHONY: overload
overload: ## Call a service that serves 100 calls at once with 5,000 callers: it still serves 80 % of its capacity
	cd bench && go run ./overload $(OVERLOADFLAGS)

# These two need much that nothing else does, the libraries of Kubernetes and Prometheus
# and a browser, and so are not part of ci.
.PHONY: check-deploy
check-deploy: $(TOOLS) ## Test and lint deploy/: the manifest, the unit, and the dashboard and alerts on Prometheus' own engine
	cd deploy && golangci-lint run --allow-parallel-runners --config ../.golangci.yml ./... && go test -count=1 ./...

.PHONY: browser
browser: $(TOOLS) ## Test the status page in Chromium without a window, and write a picture of it to SCREENSHOT
	@command -v chromium >/dev/null || { echo "make browser needs Debian's package chromium: apt-get install chromium" >&2; exit 1; }
	cd internal/browsertest && golangci-lint run --allow-parallel-runners --config ../../.golangci.yml ./... && go test -count=1 ./... $(if $(SCREENSHOT),-args -screenshot $(abspath $(SCREENSHOT)))

.PHONY: mutants
mutants: ## Break the promise on purpose, in each of its parts: a test must fail each time (WAY=process: of calls that take it)
	go run ./internal/faulty/mutants $(if $(WAY),-way '$(WAY)')

.PHONY: fuzz
fuzz: ## Fuzz what parses bytes from outside, FUZZTIME each (default 20s)
	go test ./discovery/etcd -run '^$$' -fuzz '^FuzzDecodeInstance$$' -fuzztime $(or $(FUZZTIME),20s)
	go test ./interceptors/atmostonce -run '^$$' -fuzz '^FuzzParseIdentity$$' -fuzztime $(or $(FUZZTIME),20s)
	go test ./interceptors/atmostonce/server -run '^$$' -fuzz '^FuzzWindow$$' -fuzztime $(or $(FUZZTIME),20s)
	go test ./internal/protoargs -run '^$$' -fuzz '^FuzzEncode$$' -fuzztime $(or $(FUZZTIME),20s)
	go test ./internal/protoargs/encode -run '^$$' -fuzz '^FuzzSplitName$$' -fuzztime $(or $(FUZZTIME),20s)
	# Descriptors are large: without a bound the time goes into making each find smaller.
	go test ./internal/schema -run '^$$' -fuzz '^FuzzUnpack$$' -fuzztime $(or $(FUZZTIME),20s) -fuzzminimizetime 1x

.PHONY: scaffold
scaffold: ## Install the command from a module proxy in a folder, make a project with it, and run its targets
	cd cmd/onecall && go run ./internal/installed

# The command's go.mod has no replace, because go install refuses one: go.work has it, and
# neither go mod tidy nor go get reads that.
.PHONY: tidy
tidy: ## Run go mod tidy in the module of the command
	cd cmd/onecall && go mod edit -replace $(MODULE)=../.. && \
	  { go mod tidy && failed=0 || failed=1; go mod edit -dropreplace $(MODULE); exit $$failed; }

.PHONY: release
release: ## Set VERSION, such as v1.2.3, in all modules, and print what is left to do
	@[[ "$(VERSION)" =~ ^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$$ ]] || { echo "write make release VERSION=v1.2.3" >&2; exit 1; }
	for mod in $$(git grep -l '$(MODULE) v' -- '*/go.mod'); do go mod edit -require $(MODULE)@$(VERSION) $$mod; done
	@echo "After make ci:"
	@echo "  git commit -a -m 'release: $(VERSION)'"
	@for tag in $(VERSION) $(LIBRARIES:%=%/$(VERSION)); do echo "  git tag $$tag"; done
	@echo "  git push --atomic origin HEAD $(VERSION) $(LIBRARIES:%=%/$(VERSION))"

.PHONY: ci
ci: lint vet-platforms check-generate breaking race test test-process bench-gate demo scaffold tutorial ## All that must pass before a change lands

$(TOOLS): tools/go.mod tools/go.sum
	cd tools && GOBIN=$(BIN) go install tool
	@touch $@
