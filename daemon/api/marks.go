// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"net/http"
)

// MarkUse is something in an attachment's netns that goes by, or changes, bits
// of the packet mark that the inspector may set.
type MarkUse struct {
	Key

	Pod Pod `json:"pod"`
	// Where it is, such as "ip -4 rule 100" or "nft inet mesh prerouting".
	Where string `json:"where"`
	// Sets: it changes the bits. Otherwise it looks at them.
	Sets bool `json:"sets"`
	// Mask are all the bits that it is about.
	Mask uint32 `json:"mask"`
}

// MarkReport says what else uses the inspector's mark bits.
type MarkReport struct {
	MarkMask uint32    `json:"markMask"`
	Uses     []MarkUse `json:"uses"`
	// Netns that were looked into, and why others could not be.
	Netns      int      `json:"netns"`
	Unreadable []string `json:"unreadable,omitempty"`
}

// Marks has the daemon look for uses of the inspector's mark bits.
func (c *Client) Marks(ctx context.Context) (MarkReport, error) {
	var r MarkReport
	err := c.call(ctx, http.MethodGet, pathMarks, nil, nil, &r)
	return r, err
}

func marks(b Backend) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		report, err := b.Marks(r.Context())
		report.Uses = append([]MarkUse{}, report.Uses...) // as in list
		return report, err
	}
}
