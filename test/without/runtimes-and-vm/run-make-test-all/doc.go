// SPDX-License-Identifier: Apache-2.0

// Package without is a line of what `go test ./...` prints, which shows of what
// passes no more than the name. It ran without the tests that have the build tags
// runtimes, vm and vmguest: they need container runtimes and kernels, which are
// fetched, and time. `make test-all` runs them too.
package without
