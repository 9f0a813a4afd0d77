# SPDX-License-Identifier: Apache-2.0

# The default target prints the others. Everything that is built or fetched goes to bin/, except
# for what `make install` is told. What is longer than some lines is a script in hack/.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory
export MAKE

VERSION = $(shell hack/version.sh)

# Where hack/install.sh puts things; an empty SYSTEMD_UNIT_DIR is none.
export DESTDIR :=
export PREFIX := /usr/local
export CNI_BIN_DIR := /opt/cni/bin
export SYSTEMD_UNIT_DIR :=
# Headers that `make kmod` builds the module for.
KDIR := /lib/modules/$(shell uname -r)/build
# What `make test-busy` makes, and how often.
BUSY := test
ROUNDS := 3

help: ## print the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: help build build-tests cni-plugins demo kubectl-plugin
build: ## build nsqueue, nsqueued and nsqueuectl into bin/
	@echo 'building nsqueue, nsqueued, nsqueuectl into bin/'
	@hack/build.sh bin '$(VERSION)'

build-tests: build
	@hack/build-tests.sh

cni-plugins:
	@hack/fetch.sh cni

kubectl-plugin: ## build kubectl-nsqueue, the plugin of kubectl, into bin/
	@echo 'building kubectl-nsqueue into bin/ (some minutes the first time)'
	@hack/build-kubectl.sh bin '$(VERSION)'

demo: cni-plugins build ## show the problem and its end on this machine (root)
	@hack/need.sh demo
	@go build -o bin/test/demo ./test/demo
	@bin/test/demo

# The tests of a tier have its name as their build tag. What has no tag needs no
# privilege, and no program but Go, git and a C compiler.
test: ## a short run of the tiers unit, chart, netns, e2e and damage (root, 10 minutes)
	@hack/tiers.sh test

test-all: ## run all tiers in full: those of test, ui, release, runtimes and vm (root)
	@hack/tiers.sh test-all

test-busy: ## run BUSY (test) ROUNDS times (3) on a machine that is kept busy (root)
	@hack/busy.sh '$(BUSY)' '$(ROUNDS)'

.PHONY: test test-all test-busy test-unit test-chart test-netns test-e2e test-damage \
	test-release test-handover test-ui test-runtimes test-vm test-kernels test-arm64 \
	test-vm-debug test-dkms
test-unit: ## run the tests that need no privilege (in full: with the race detector)
	@hack/tier.sh unit

test-chart: ## render the chart, and read it as an API server does
	@hack/tier.sh chart

test-netns: ## run the tests that need network namespaces
	@hack/tier.sh netns

test-e2e: cni-plugins build-tests ## run the built programs in a real CNI chain (root)
	@hack/tier.sh e2e

test-damage: cni-plugins build-tests ## damage the built programs while packets flow (root)
	@hack/tier.sh damage

test-handover: cni-plugins build-tests ## let daemons and supervisors follow each other, ten times each way (root)
	@hack/tier.sh handover

test-ui: cni-plugins build-tests ## look at the page of nsqueuectl ui in a browser (root)
	@hack/tier.sh ui

test-release: build ## make a release and an image twice, and read them with other programs
	@hack/tier.sh release

test-runtimes: cni-plugins build-tests image ## run it under containerd 1.6 and 2, flanneld, podman (root)
	@hack/tier.sh runtimes

test-vm: cni-plugins build-tests ## try the module in Debian's kernels 6.1, 6.12 and newest, in QEMU
	@hack/tier.sh vm

test-kernels: cni-plugins build-tests ## try it in these, PREEMPT_RT and arm64, with all tests
	@hack/tier.sh kernels

test-arm64: cni-plugins build-tests ## try it on arm64, in QEMU
	@hack/tier.sh arm64

test-vm-debug: cni-plugins build-tests ## try it in a kernel with KASAN, lockdep, kmemleak (builds that first)
	@hack/tier.sh vm-debug

test-dkms: ## install, upgrade and remove the DKMS package in a chroot of Debian (root)
	@hack/tier.sh dkms

.PHONY: kube test-kube test-kube-short test-kube-long
kube: ## build Kubernetes, CoreDNS and helm (20 minutes, once per machine)
	@hack/kube.sh

test-kube: cni-plugins build-tests image kube kubectl-plugin ## damage it in a cluster of two nodes (root)
	@hack/tier.sh kube

test-kube-short: cni-plugins build-tests image kube ## some steps of test-kube, in 3 minutes
	@hack/tier.sh kube-short

test-kube-long: cni-plugins build-tests image kube kubectl-plugin ## the same with repetitions
	@hack/tier.sh kube-long

.PHONY: lint kmod deb-dkms coccicheck
lint: ## check style, dependencies, scripts, the module
	@hack/need.sh lint
	@hack/fetch.sh golangci-lint apidiff
	@hack/timed.sh $@ hack/lint.sh

kmod: ## build nsqueue.ko for the running kernel, or for the headers in KDIR
	@$(MAKE) -C kmod KDIR=$(KDIR)

coccicheck: ## run the kernel's semantic checks on the module (some minutes)
	@hack/need.sh coccicheck
	@hack/timed.sh $@ hack/coccicheck.sh

deb-dkms: ## make the Debian package that builds the module on each node
	@$(MAKE) -C kmod deb-dkms

.PHONY: bench bench-smoke bench-docs bench-rivals bench-build
bench: bench-build ## measure nsqueued beside other readers (root, 15 minutes, quiet machine)
	@hack/timed.sh $@ bin/test/bench $(BENCHFLAGS)

bench-smoke: bench-build ## run every part of the benchmark once, shortly (root)
	@hack/timed.sh $@ bin/test/bench --quick --json bin/test/bench-smoke.json
	@bin/test/bench-plot --json bin/test/bench-smoke.json --svg bin/test/bench-smoke.svg

bench-docs: bench-build ## run the benchmark and write docs/performance.{md,svg} from it (root)
	@hack/timed.sh $@ bin/test/bench --json bin/test/bench.json $(BENCHFLAGS)
	@bin/test/bench-plot --json bin/test/bench.json \
		--svg docs/performance.svg --markdown docs/performance.md

bench-rivals: ## compare the rule engine alone with Suricata, which it downloads
	@hack/timed.sh $@ hack/bench-rivals.sh $(BENCHFLAGS)

bench-build: build
	@hack/need.sh bench
	@hack/bench-build.sh

.PHONY: docs install image release clean
docs: ## write what is made of the code, of docs/*.dot and of the chart
	@hack/need.sh docs
	@hack/docs.sh

install: ## install what is built below DESTDIR (PREFIX, CNI_BIN_DIR, SYSTEMD_UNIT_DIR)
	@hack/install.sh

image: ## make the container image in bin/image/ (amd64 and arm64; IMAGE is its name)
	@hack/timed.sh $@ hack/image.sh '$(VERSION)' 'bin/image/nsqueue-$(VERSION).tar'

release: ## make the files of release VERSION in bin/release/VERSION/
	@hack/release.sh $(if $(filter command%,$(origin VERSION)),'$(VERSION)')

clean: ## remove everything that was built or fetched
	@rm -rf bin kmod/build
