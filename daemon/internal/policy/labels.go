// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"log/slog"
)

// SetLabels tells the labels of a pod by the container ID of its sandbox. When it returns
// without an error, the rules that they ask for are in force.
func (p *Policy) SetLabels(ctx context.Context, containerID string, of map[string]string) error {
	_, err := p.inspector.SetLabels(ctx, containerID, of)
	return err
}

// ForgetLabels tells that there is no such pod any more.
func (p *Policy) ForgetLabels(containerID string) { p.inspector.ForgetLabels(containerID) }

// Warn tells operators of something that keeps rules from a pod.
func (p *Policy) Warn(message string) { p.report(slog.LevelWarn, message) }

// Follow has the caller carry out changes of rules before any is in force: see
// [inspect.AttachmentChanger].
func (p *Policy) Follow() { p.inspector.AttachmentChanges() }

// knowsLabels reports whether rules may ask for labels.
func (p *Policy) knowsLabels() bool { return p.config.Labels != nil && p.config.Labels() }
