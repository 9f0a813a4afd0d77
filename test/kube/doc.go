// SPDX-License-Identifier: Apache-2.0

// Package kube runs nsqueue in a real Kubernetes of two nodes, installs it by its
// chart, and damages it while packets flow. The nodes are namespaces (package
// cluster), one with containerd 1.6 and one with containerd 2; the programs are
// those of `make kube`.
package kube
