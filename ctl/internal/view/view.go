// SPDX-License-Identifier: Apache-2.0

// Package view is how programs show what nsqueued tells: attachments, packets, events,
// loads and rules, as tables and lines. It writes to nothing, and keeps nothing.
package view

// shortIDLength is how much of a container ID the tools of runtimes show.
const shortIDLength = 12

// ShortID is the beginning of a container ID.
func ShortID(id string) string {
	if len(id) > shortIDLength {
		return id[:shortIDLength]
	}
	return id
}
