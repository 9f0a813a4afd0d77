// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"math"
	"os"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/api/spool"
)

// always is later than every call.
const always time.Duration = math.MaxInt64

// Attach makes the attachment, called for now. See [api.Backend].
func (r *Registry) Attach(
	ctx context.Context, req api.AttachRequest, file *os.File,
) (api.Attachment, error) {
	return r.AttachCalled(ctx, req, file, spool.SinceBoot())
}

// Detach ends an attachment; an unknown key is success.
func (r *Registry) Detach(ctx context.Context, key api.Key) error {
	return r.DetachOlder(ctx, key, always)
}
