// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"os"
	"time"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/external"
	"github.com/nsqueue/nsqueue/daemon/internal/external/server"
	"github.com/nsqueue/nsqueue/daemon/internal/program"
	"github.com/nsqueue/nsqueue/daemon/internal/programs"
)

// DescriptorConfig is about queues that an inspector reads by itself.
type DescriptorConfig struct {
	// Queue is the number that the inspector binds in each netns. nsqueued's own queues begin
	// at 180 then, if they would have the same number. Required.
	Queue *uint16 `json:"queue"`
	// Path is Behind: rules decide first, and the inspector reads what they accept; or
	// Direct: the kernel sends packets straight to the inspector, and no rules are asked.
	Path string `json:"path,omitempty"`
}

func (c *DescriptorConfig) queue() uint16 {
	if c == nil || c.Queue == nil {
		return 0
	}
	return *c.Queue
}

// validateDescriptor says what is wrong with the fields of the transport descriptor.
func (c *InspectorConfig) validateDescriptor(field string) error {
	if c.Transport != TransportDescriptor {
		if c.AllowDescriptor || c.Descriptor != nil {
			return at(field+".transport", errors.New("want descriptor, with allowDescriptor and "+
				"descriptor"))
		}
		return nil
	}
	var errs []error
	if !c.AllowDescriptor {
		errs = append(errs, at(field+".allowDescriptor", errors.New("the transport descriptor "+
			"hands out sockets by which more can be done than judging packets: if the inspector "+
			"may do all of it (docs/inspectors.md), say true")))
	}
	if c.User != "" || c.Group != "" {
		errs = append(errs, at(field, errors.New("want neither user nor group: of the transport "+
			"descriptor, the kernel takes verdicts from root alone")))
	}
	switch d := c.Descriptor; {
	case d == nil || d.Queue == nil:
		errs = append(errs, at(field+".descriptor",
			errors.New("want the number of the queue that the inspector binds: {queue: 80}")))
	case d.Path == PathDirect && c.Pods == nil:
		errs = append(errs, at(field+".descriptor.path", errors.New("the value Direct is for pods "+
			"that the inspector reads whole: give it pods")))
	default:
		errs = append(errs, at(field+".descriptor.path", oneOf(d.Path, PathBehind, PathDirect)))
	}
	return errors.Join(errs...)
}

// How soon another socket is handed out after one that was taken back, and how long a pod
// waits at its start until an inspector that is there reads its queue.
const (
	lendBackoff    = 10 * time.Millisecond
	maxLendBackoff = time.Second
	lendWait       = time.Second
)

// makeDescriptor makes an inspector that reads queues by itself.
func (o *outside) makeDescriptor(one *InspectorConfig, s *server.Server, e *external.Entry) {
	c := &programs.Config{
		Name: one.Name, Spec: program.Spec{Queue: one.Descriptor.queue(), Queues: 1},
		Direct: one.Descriptor.Path == PathDirect, Budget: time.Duration(one.Budget),
		Backoff: lendBackoff, MaxBackoff: maxLendBackoff, Wait: lendWait,
		Away: away(one.OnFailure), Lender: lender{s},
	}
	e.Inspector = borrower{programs.NewInspector(c), s}
	o.programs = append(o.programs, c)
}

// lender hands out sockets by a server.
type lender struct{ *server.Server }

// Lend gives the inspector a socket.
func (l lender) Lend(a *inspect.Attachment, socket *os.File) (programs.Loan, error) {
	loan, err := l.Server.Lend(a, socket)
	if errors.Is(err, server.ErrAway) {
		return nil, programs.ErrAway
	}
	if err != nil {
		return nil, err
	}
	return loan, nil
}

// borrower is an inspector that is connected, and gets packets by queues of its own.
type borrower struct {
	*programs.Inspector
	server *server.Server
}

// Attached tells the server of an attachment.
func (b borrower) Attached(a *inspect.Attachment, whole bool) { b.server.Attached(a, whole) }

// Detached tells it of its end.
func (b borrower) Detached(a *inspect.Attachment) { b.server.Detached(a) }
