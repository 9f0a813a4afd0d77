# SPDX-License-Identifier: Apache-2.0

# The default target prints the others. Everything that is built or fetched
# goes to bin/, except for what `make install` is told. What is longer than some
# lines is a script in hack/.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

BIN := $(CURDIR)/bin
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PKG := github.com/nsqueue/nsqueue
LDFLAGS := -s -w -X $(PKG)/daemon/api.version=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"

DESTDIR :=
PREFIX := /usr/local
CNI_BIN_DIR := /opt/cni/bin
# Where the unit goes, such as /etc/systemd/system; empty installs none.
SYSTEMD_UNIT_DIR :=
# Headers that `make kmod` builds the module for.
KDIR := /lib/modules/$(shell uname -r)/build

# What `make test-busy` makes, and how often.
BUSY := test
ROUNDS := 3

.PHONY: help
help: ## print the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build nsqueue, nsqueued and nsqueuectl into bin/
	@echo 'building nsqueue, nsqueued, nsqueuectl into bin/'
	@$(GOBUILD) -o $(BIN)/nsqueue ./plugin
	@$(GOBUILD) -o $(BIN)/nsqueued ./daemon
	@$(GOBUILD) -o $(BIN)/nsqueuectl ./ctl

.PHONY: build-tests
build-tests: build
	@echo 'building what the tests run into bin/test/'
	@CGO_ENABLED=0 go build -tags faultpoints -o $(BIN)/test/nsqueued-faults ./daemon
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(BIN)/test/ \
		./test/damage/stamper ./test/runtimes/recorder ./test/runtimes/podtool

.PHONY: cni-plugins
cni-plugins:
	@hack/fetch.sh cni

.PHONY: demo
demo: cni-plugins build ## show the problem and its end on this machine (root)
	@hack/need.sh demo
	@go build -o $(BIN)/test/demo ./test/demo
	@bin/test/demo

# The tests of a tier have its name as their build tag. What has no tag needs no
# privilege, and no program but Go.
.PHONY: test test-all test-busy
test: ## run the tiers unit, netns, e2e and damage (root, some minutes)
	@MAKE='$(MAKE)' hack/tiers.sh test

test-all: ## run all tiers: those of test, runtimes and vm (root)
	@MAKE='$(MAKE)' hack/tiers.sh test-all

test-busy: ## run BUSY (test) ROUNDS times (3) on a machine that is kept busy (root)
	@MAKE='$(MAKE)' hack/busy.sh '$(BUSY)' '$(ROUNDS)'

.PHONY: test-unit test-netns test-e2e test-damage test-runtimes test-vm
test-unit: ## run the tests that need no privilege, with the race detector
	@hack/need.sh unit
	@hack/fetch.sh promtool
	@hack/timed.sh $@ go test -timeout 60m -race -p 2 -tags promtool ./...

test-netns: ## run the tests that need network namespaces
	@hack/need.sh netns
	@hack/timed.sh $@ hack/gotest.sh netns $$(hack/tagged.sh netns)

test-e2e: cni-plugins build-tests ## run the built programs in a real CNI chain (root)
	@hack/need.sh e2e
	@hack/timed.sh $@ hack/gotest.sh e2e $$(hack/tagged.sh e2e | grep -v damage)

test-damage: cni-plugins build-tests ## damage the built programs while packets flow (root)
	@hack/need.sh e2e
	@hack/timed.sh $@ hack/gotest.sh e2e ./test/damage

test-runtimes: cni-plugins build-tests ## run it under containerd 1.6 and 2, flanneld, podman (root)
	@hack/need.sh runtimes
	@hack/fetch.sh runtimes
	@hack/timed.sh $@ hack/filtered.sh runtimes '^ *--- |@@ |FAIL|^(ok|panic)' \
		hack/gotest.sh runtimes -v ./test/runtimes

test-vm: cni-plugins build-tests ## try the module in Debian's kernels, in QEMU
	@hack/need.sh vm
	@hack/timed.sh $@ hack/filtered.sh vm \
		'^\[[^]]+\] (--- |@@ run|image|guest)|FAIL|^(ok|panic)' \
		hack/gotest.sh vm -v -run TestKernel ./test/vm

.PHONY: lint
lint: ## check style, dependencies, scripts, the module
	@hack/need.sh lint
	@hack/fetch.sh golangci-lint
	@hack/timed.sh $@ hack/lint.sh

.PHONY: kmod deb-dkms
kmod: ## build nsqueue.ko for the running kernel, or for the headers in KDIR
	@$(MAKE) -C kmod KDIR=$(KDIR)

deb-dkms: ## make the Debian package that builds the module on each node
	@$(MAKE) -C kmod deb-dkms

BENCH = $(BIN)/test/bench --bin $(BIN)

.PHONY: bench bench-smoke bench-docs bench-build
bench: bench-build ## measure nsqueued beside other readers (root, 9 minutes, quiet machine)
	@hack/timed.sh $@ $(BENCH) $(BENCHFLAGS)

bench-smoke: bench-build ## run every part of the benchmark once, shortly (root)
	@hack/timed.sh $@ $(BENCH) --quick --json $(BIN)/test/bench-smoke.json
	@$(BIN)/test/bench-plot --json $(BIN)/test/bench-smoke.json --svg $(BIN)/test/bench-smoke.svg

bench-docs: bench-build ## run the benchmark and write docs/performance.{md,svg} from it (root)
	@hack/timed.sh $@ $(BENCH) --json $(BIN)/test/bench.json $(BENCHFLAGS)
	@$(BIN)/test/bench-plot --json $(BIN)/test/bench.json \
		--svg docs/performance.svg --markdown docs/performance.md

bench-build: build
	@hack/need.sh bench
	@hack/bench-build.sh

.PHONY: docs
docs: ## write the pages and the picture that are made of the code and of docs/*.dot
	@hack/need.sh docs
	@hack/docs.sh

.PHONY: install
install: ## install what is built below DESTDIR (PREFIX, CNI_BIN_DIR, SYSTEMD_UNIT_DIR)
	@missing=; for p in nsqueue nsqueued nsqueuectl; do \
		[ -x $(BIN)/$$p ] || missing+=" bin/$$p"; done; \
	if [ -n "$$missing" ]; then command -v go >/dev/null || { \
		echo "make install: there is no$$missing, and PATH has no go to build with:" \
			"run make build first, as a user whose PATH has it" >&2; exit 1; }; \
		$(MAKE) build; fi
	@install -d "$(DESTDIR)$(CNI_BIN_DIR)" "$(DESTDIR)$(PREFIX)/sbin" "$(DESTDIR)$(PREFIX)/bin"
	@install -m 755 $(BIN)/nsqueue "$(DESTDIR)$(CNI_BIN_DIR)/nsqueue"
	@install -m 755 $(BIN)/nsqueued "$(DESTDIR)$(PREFIX)/sbin/nsqueued"
	@install -m 755 $(BIN)/nsqueuectl "$(DESTDIR)$(PREFIX)/bin/nsqueuectl"
	@[ -z "$(SYSTEMD_UNIT_DIR)" ] || { install -d "$(DESTDIR)$(SYSTEMD_UNIT_DIR)" && \
		sed 's,/usr/local/sbin/,$(PREFIX)/sbin/,' deploy/systemd/nsqueued.service \
			>"$(DESTDIR)$(SYSTEMD_UNIT_DIR)/nsqueued.service"; }

.PHONY: clean
clean: ## remove everything that was built or fetched
	@rm -rf $(BIN) kmod/build
