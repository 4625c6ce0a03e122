# The programs that tests run against; bump their versions here.
VERSITYGW := github.com/versity/versitygw/cmd/versitygw@v1.8.0
MINIO     := github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

BIN      := $(CURDIR)/.tools/bin
DYNALITE := .tools/node_modules/.package-lock.json
LINT     := go tool -modfile=tools/go.mod golangci-lint

FUZZTIME := 60s

.PHONY: help build tools fetch test race lint fuzz reference bench soak ci always

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

build: ## Build ./filestore
	go build -o filestore ./cmd/filestore

tools: $(DYNALITE) $(BIN)/versitygw $(BIN)/minio ## Install what the tests run against, into .tools

fetch: ## Fetch what "make tools" builds, and build nothing
	go install -n $(VERSITYGW)
	go install -n $(MINIO)

test: tools ## Run all tests, installing what they need
	go test -timeout 20m ./...

race: tools ## Run all tests with the race detector
	go test -race -timeout 20m ./...

lint: ## Check the style
	$(LINT) run

reference: ## Write manual pages, completions and docs/commands.md anew
	go test ./cmd/filestore -run TestReference -update

fuzz: ## Run each fuzz target for FUZZTIME, a minute
	bash .ci/fuzz $(FUZZTIME)

bench: ## Time it beside other S3 clients, on Linux (bench/README.md)
	bash bench/run

soak: tools ## Work on two stores for half an hour, and kill and break what works (docs/reliability.md)
	FILESTORE_SOAK=30m go test -run TestSoak -count 1 -timeout 2h -v ./internal/soak

ci: ## Run everything that CI runs
	CI=true bash .ci/run

# npm writes this file when it has installed everything. Install scripts are not needed: the
# one package that has one brings its binaries along.
$(DYNALITE): tools/package.json tools/package-lock.json
	mkdir -p .tools
	cp tools/package.json tools/package-lock.json .tools/
	npm ci --prefix .tools --ignore-scripts --no-audit --no-fund

# Which version is there, the program itself says: the time of its file does not.
there = go version -m $(BIN)/$(1) 2>/dev/null | grep -qF '	$(lastword $(subst @, ,$(2)))	'

$(BIN)/versitygw: always
	@$(call there,versitygw,$(VERSITYGW)) || { \
		echo "building $(VERSITYGW): about a minute the first time"; GOBIN=$(BIN) go install $(VERSITYGW); }

$(BIN)/minio: always
	@$(call there,minio,$(MINIO)) || { \
		echo "building $(MINIO): a few minutes the first time"; GOBIN=$(BIN) go install $(MINIO); }
