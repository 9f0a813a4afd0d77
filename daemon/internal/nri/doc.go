// SPDX-License-Identifier: Apache-2.0

// Package nri is a plugin of a container runtime's Node Resource Interface: it asks the
// runtime to be told of pods, and of nothing else. Containerd and CRI-O have the interface.
//
// The runtime calls the plugin over the plugin's own connection, in protobuf messages of
// ttrpc, both of which need a few hundred lines for what is asked here. So the daemon has
// neither of the libraries that also serve other purposes.
package nri
