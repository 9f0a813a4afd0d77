// SPDX-License-Identifier: Apache-2.0

// Package chart tests the chart, and what is made of it, without a cluster.
package chart
