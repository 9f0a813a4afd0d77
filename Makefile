# SPDX-License-Identifier: Apache-2.0

# The default target prints the others. Everything that is built or fetched
# goes to bin/, except for what `make install` is told.

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
# Kernels that the module is tested in.
KERNELS := 6.1 6.12

# Pinned versions of what the tests and the demo run.
CNI_PLUGINS := github.com/containernetworking/plugins/plugins
CNI_PLUGINS_VERSION := v1.9.1
FLANNEL_VERSION := v0.9.1
CONTAINERD_VERSION := v2.4.2
FLANNELD_VERSION := v0.26.7
GOLANGCI_VERSION := v2.15.0

# Two processors are what the smallest CI machine has; packages of the netns
# tests share its kernel and run one after the other.
TESTFLAGS := -count=1
# The tests of a tier have its name as their build tag. What has no tag needs no
# privilege, and no program but Go.
TAGS := netns e2e runtimes vm vmguest promtool
tagged = $(sort $(dir $(shell grep -rlE --include='*_test.go' '^//go:build $(1)( |$$$$)' \
	$(addprefix ./,$(wildcard conflist ctl daemon docs internal plugin test)))))

# timed runs a command and prints how long it took, whether it worked or not.
timed = start=$$(date +%s); rc=0; ( $(1) ) || rc=$$?; \
	echo "==> $@: $$(($$(date +%s) - start)) s"; exit $$rc

.PHONY: help
help: ## print the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build nsqueue, nsqueued and nsqueuectl into bin/
	@echo 'building nsqueue, nsqueued, nsqueuectl into bin/'
	@$(GOBUILD) -o $(BIN)/nsqueue ./plugin
	@$(GOBUILD) -o $(BIN)/nsqueued ./daemon
	@$(GOBUILD) -o $(BIN)/nsqueuectl ./ctl

.PHONY: demo
demo: need-demo cni-plugins build ## show the problem and its end on this machine (root)
	@go build -o $(BIN)/test/demo ./test/demo
	@bin/test/demo

.PHONY: test
test: test-unit test-netns test-e2e test-runtimes test-vm ## run all tests

.PHONY: test-unit
test-unit: promtool ## run the tests that need no privilege, with the race detector
	@$(call timed,go test -race -p 2 -tags promtool ./...)

.PHONY: test-netns
test-netns: need-netns ## run the tests that need network namespaces
	@$(call timed,go test $(TESTFLAGS) -p 1 -tags netns $(call tagged,netns))

.PHONY: test-e2e
test-e2e: need-e2e cni-plugins build faults ## run the built programs in a real CNI chain, and damage them (root)
	@CGO_ENABLED=0 go build -o $(BIN)/test/stamper ./test/damage/stamper
	@$(call timed,NSQUEUE_BIN=$(BIN) go test $(TESTFLAGS) -p 1 -tags e2e $(call tagged,e2e))

.PHONY: faults
faults:
	@mkdir -p $(BIN)/test
	@CGO_ENABLED=0 go build -tags faultpoints -o $(BIN)/test/nsqueued-faults ./daemon

# As with the guests below, the terminal gets what shows the progress.
.PHONY: test-runtimes
test-runtimes: need-runtimes cni-plugins runtimes build ## run it under containerd 1.6 and 2, flanneld, podman (root)
	@mkdir -p $(BIN)/test
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o $(BIN)/test/ \
		./test/runtimes/recorder ./test/runtimes/podtool
	@$(call timed,NSQUEUE_BIN=$(BIN) go test $(TESTFLAGS) -tags runtimes -v ./test/runtimes 2>&1 \
		| tee $(BIN)/test/runtimes.log | grep --line-buffered -E '^ *--- |@@ |FAIL|^(ok|panic)' \
		|| { tail -n 200 $(BIN)/test/runtimes.log; echo 'all of it: $(BIN)/test/runtimes.log'; false; })

# The guests' lines go to a file; the terminal gets what shows the progress.
.PHONY: test-vm
test-vm: need-vm cni-plugins build faults ## try the module in Debian's kernels, in QEMU
	@mkdir -p $(BIN)/test
	@$(call timed,go test $(TESTFLAGS) -timeout 20m -tags vm -v -run TestKernel ./test/vm 2>&1 \
		| tee $(BIN)/test/vm.log \
		| grep --line-buffered -E '^\[[^]]+\] (--- |@@ run|image|guest)|FAIL|^(ok|panic)' \
		|| { tail -n 200 $(BIN)/test/vm.log; echo 'all of it: $(BIN)/test/vm.log'; false; })

.PHONY: kmod
kmod: ## build nsqueue.ko for the running kernel, or for the headers in KDIR
	@$(MAKE) -C kmod KDIR=$(KDIR)

.PHONY: deb-dkms
deb-dkms: ## make the Debian package that builds the module on each node
	@$(MAKE) -C kmod deb-dkms

BENCH_C := classic mmsg traffic
BENCH_CFLAGS := -O2 -Wall -Wextra -Werror

.PHONY: bench
bench: bench-build ## measure nsqueued beside other readers (root, 9 minutes, quiet machine)
	@$(call timed,$(BIN)/test/bench --bin $(BIN) $(BENCHFLAGS))

.PHONY: bench-smoke
bench-smoke: bench-build ## run every part of the benchmark once, shortly (root)
	@$(call timed,$(BIN)/test/bench --bin $(BIN) --quick --json $(BIN)/test/bench-smoke.json && \
		$(BIN)/test/bench-plot --json $(BIN)/test/bench-smoke.json --svg $(BIN)/test/bench-smoke.svg)

.PHONY: bench-docs
bench-docs: bench-build ## run the benchmark and write docs/performance.{md,svg} from it (root)
	@$(call timed,$(BIN)/test/bench --bin $(BIN) --json $(BIN)/test/bench.json $(BENCHFLAGS) && \
		$(BIN)/test/bench-plot --json $(BIN)/test/bench.json \
			--svg docs/performance.svg --markdown docs/performance.md)

# The picture names its source, so that a test finds one that is older.
.PHONY: docs
docs: need-docs ## write the pages and the picture that are made of the code and of docs/*.dot
	@cd docs/gen && go generate
	@sum=$$(sha256sum docs/architecture.dot | cut -d ' ' -f 1); dot -Tsvg docs/architecture.dot \
		| sed "s,^<svg ,<!-- architecture.dot has the SHA-256 $$sum -->\n&," >docs/architecture.svg.new
	@mv docs/architecture.svg.new docs/architecture.svg

.PHONY: bench-build
bench-build: need-bench build
	@mkdir -p $(BIN)/test
	@go build -o $(BIN)/test/bench ./test/bench
	@CGO_ENABLED=0 go build -o $(BIN)/test/bench-gonfqueue ./test/bench/gonfqueue
	@go build -o $(BIN)/test/bench-plot ./test/bench/plot
	@for p in $(BENCH_C); do libs=; [ $$p != classic ] || libs=-lnetfilter_queue; \
		gcc $(BENCH_CFLAGS) -o $(BIN)/test/bench-$$p test/bench/c/$$p.c $$libs; done

# Libraries stay synchronous: only these, and tests, start goroutines and join
# them.
GO_ALLOWED := ^(daemon/main\.go|daemon/(node|api|internal/(registry|netns|supervise))/|(.*/)?[a-z]*test/)

.PHONY: lint
lint: $(BIN)/tools/.golangci-lint-$(GOLANGCI_VERSION) need-lint ## check style, dependencies, the module
	@$(call timed,$(MAKE) lint-steps lint-kmod)

.PHONY: lint-kmod
lint-kmod:
	@$(MAKE) -C kmod style CLANG_FORMAT=clang-format-14
	@for k in $(KERNELS); do \
		kdir=$$(test/vm/fetch.sh $$k | awk -v k=$$k '$$1 == k {print $$2}'); \
		$(MAKE) -s -C kmod check KDIR="$$kdir"; done

.PHONY: lint-steps
lint-steps:
	@go mod tidy -diff
	@go vet ./...
	@go vet -tags '$(TAGS)' ./...
	@$(BIN)/tools/golangci-lint run --build-tags '$(TAGS)' ./...
	@$(BIN)/tools/golangci-lint fmt --diff ./...
	@if git ls-files --cached --others --exclude-standard '*.go' | grep -v '_test\.go$$' \
		| grep -Ev '$(GO_ALLOWED)' | xargs -r grep -nE '^[[:space:]]*go [a-zA-Z]+.*\(' ; then \
		echo 'lint: libraries start no goroutine; let the caller do it'; exit 1; fi
	@git ls-files --cached --others --exclude-standard '*.go' Makefile '*.sh' '*.c' '*.h' \
		| xargs -r grep -L 'SPDX-License-Identifier' | sed 's/$$/: no SPDX line/' \
		| { ! grep . ; }

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

# What the other targets need. Everything below is quiet when it is there.

.PHONY: cni-plugins
cni-plugins: $(BIN)/cni/.plugins-$(CNI_PLUGINS_VERSION) $(BIN)/cni/.flannel-$(FLANNEL_VERSION)

$(BIN)/cni/.plugins-$(CNI_PLUGINS_VERSION):
	@echo 'installing the CNI plugins $(CNI_PLUGINS_VERSION) into bin/cni'
	@mkdir -p $(@D)
	@for p in main/bridge main/loopback ipam/host-local meta/portmap; do \
		CGO_ENABLED=0 GOBIN=$(@D) go install -trimpath $(CNI_PLUGINS)/$$p@$(CNI_PLUGINS_VERSION); \
	done
	@touch $@

$(BIN)/cni/.flannel-$(FLANNEL_VERSION):
	@echo 'installing the flannel CNI plugin $(FLANNEL_VERSION) into bin/cni'
	@mkdir -p $(@D)
	@CGO_ENABLED=0 GOBIN=$(@D) go install -trimpath $(CNI_PLUGINS)/meta/flannel@$(FLANNEL_VERSION)
	@touch $@

# What a node of the runtimes' tests runs beside nsqueue: Debian's programs, and
# newer ones. flanneld's udp backend, which nothing here uses, needs a C compiler.
RUNTIMES := $(BIN)/runtimes/bin/.containerd-$(CONTAINERD_VERSION) \
	$(BIN)/runtimes/bin/.flanneld-$(FLANNELD_VERSION) \
	$(BIN)/cni/.runtimes-$(CNI_PLUGINS_VERSION) $(BIN)/runtimes/debian/.complete

.PHONY: runtimes
runtimes: $(RUNTIMES)

$(BIN)/runtimes/debian/.complete:
	@test/runtimes/fetch.sh $(@D)

$(BIN)/runtimes/bin/.containerd-$(CONTAINERD_VERSION):
	@echo 'installing containerd $(CONTAINERD_VERSION) into bin/runtimes (minutes, once)'
	@mkdir -p $(@D)
	@CGO_ENABLED=0 GOBIN=$(@D) go install -trimpath $(foreach c,containerd containerd-shim-runc-v2 ctr,\
		github.com/containerd/containerd/v2/cmd/$(c)@$(CONTAINERD_VERSION))
	@touch $@

$(BIN)/runtimes/bin/.flanneld-$(FLANNELD_VERSION):
	@echo 'installing flanneld $(FLANNELD_VERSION) into bin/runtimes (minutes, once)'
	@mkdir -p $(@D)
	@CGO_ENABLED=1 GOBIN=$(@D) go install -trimpath github.com/flannel-io/flannel@$(FLANNELD_VERSION)
	@touch $@

$(BIN)/cni/.runtimes-$(CNI_PLUGINS_VERSION):
	@echo 'installing more CNI plugins $(CNI_PLUGINS_VERSION) into bin/cni'
	@mkdir -p $(@D)
	@for p in bandwidth firewall tuning; do \
		CGO_ENABLED=0 GOBIN=$(@D) go install -trimpath $(CNI_PLUGINS)/meta/$$p@$(CNI_PLUGINS_VERSION); \
	done
	@touch $@

$(BIN)/tools/.golangci-lint-$(GOLANGCI_VERSION):
	@echo 'building golangci-lint $(GOLANGCI_VERSION) into bin/tools (some minutes, once)'
	@mkdir -p $(@D)
	@GOBIN=$(@D) go install \
		github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	@touch $@

# promtool alone: the package that it is in would start a server.
.PHONY: promtool
promtool: $(BIN)/tools/promtool ## fetch what checks metrics and alert rules
$(BIN)/tools/promtool:
	@echo 'fetching promtool, of the package prometheus, into bin/tools'
	@mkdir -p $(@D)
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; cd "$$dir"; \
	get() { apt-get -qq -o APT::Sandbox::User=root download prometheus >/dev/null; }; \
	get 2>/dev/null || { apt-get -qq update && get; }; \
	dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >$@.new; \
	chmod 755 $@.new; mv $@.new $@

# Distribution packages, as command:package or file:package. What is missing is
# installed.
.PHONY: need-netns need-e2e need-demo need-lint need-vm need-bench need-runtimes need-docs
need-docs: NEED := dot:graphviz /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf:fonts-dejavu-core
need-netns: NEED := nft:nftables iptables:iptables
need-e2e: NEED := nft:nftables iptables:iptables iperf3:iperf3 systemd-analyze:systemd \
	tshark:tshark capinfos:wireshark-common curl:curl
need-runtimes: NEED := nft:nftables iptables:iptables busybox:busybox-static nsenter:util-linux \
	ip:iproute2 gcc:gcc /usr/include/stdio.h:libc6-dev
need-demo: NEED := iptables:iptables busybox:busybox-static
need-lint: NEED := gcc:gcc sparse:sparse clang-format-14:clang-format-14 xz:xz-utils
need-vm: NEED := gcc:gcc qemu-system-x86_64:qemu-system-x86 xz:xz-utils \
	nft:nftables iptables:iptables ip:iproute2
need-bench: NEED := nft:nftables iperf3:iperf3 gcc:gcc /usr/include/stdio.h:libc6-dev \
	/usr/include/libnetfilter_queue/libnetfilter_queue.h:libnetfilter-queue-dev
need-netns need-e2e need-demo need-lint need-vm need-bench need-runtimes need-docs:
	@missing=; PATH="$$PATH:/usr/sbin:/sbin"; \
	for n in $(NEED); do [ -f "$${n%%:*}" ] || command -v "$${n%%:*}" >/dev/null \
		|| missing+=" $${n##*:}"; done; \
	[ -z "$$missing" ] && exit 0; \
	echo "installing$$missing"; \
	get() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 \
		install -y --no-install-recommends $$missing >/dev/null; }; \
	get 2>/dev/null || { apt-get -qq update && get; }
