// SPDX-License-Identifier: Apache-2.0

// Package without is a line of what `go test ./...` prints, which shows of what
// passes no more than the name. It ran without the tests that have the build tags
// netns, e2e and promtool: they need network namespaces, root, or other programs.
// `make test` runs them too.
package without
