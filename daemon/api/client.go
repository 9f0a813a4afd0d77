// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
)

const (
	pathAdopt       = "/v1/adopt"
	pathAttachments = "/v1/attachments"
	pathCollect     = "/v1/collect"
	pathLogLevel    = "/v1/log-level"
	pathMarks       = "/v1/marks"
	pathMetrics     = "/metrics"
	pathRetire      = "/v1/retire"
	pathStatus      = "/v1/status"
	pathEvents      = "/v1/events"
	pathUpgrade     = "/v1/upgrade"
	pathWarnings    = "/v1/warnings"
	pathWatch       = "/v1/watch"

	// paramPodEnded is DetachRequest.PodEnded in the address.
	paramPodEnded = "podEnded"
)

// ErrUnavailable is in the chain of every error that says the daemon could not
// be reached or did not answer in time. Whether it carried out the call is
// unknown then.
var ErrUnavailable = errors.New("nsqueued is not available")

// Client calls the daemon. It is safe for concurrent use. Errors of the daemon
// are [*Error]s; errors on the way to it match [ErrUnavailable].
type Client struct {
	socket string
}

// NewClient returns a client for the daemon at the socket; it connects at each
// call.
func NewClient(socket string) *Client { return &Client{socket: socket} }

// Attach asks for the inspection of the netns, which is passed as a descriptor
// and may be nil where the request names a path.
func (c *Client) Attach(
	ctx context.Context, req AttachRequest, netns *os.File,
) (Attachment, error) {
	var a Attachment
	req.Limit()
	err := c.call(ctx, http.MethodPost, pathAttachments, req, netns, &a)
	return a, err
}

// Detach ends an attachment without losing a packet; an unknown key is success.
func (c *Client) Detach(ctx context.Context, key Key) error {
	return c.callKey(ctx, http.MethodDelete, key, "", nil)
}

// DetachEnded is Detach for a pod that has ended, which is quicker: see
// [DetachRequest].
func (c *Client) DetachEnded(ctx context.Context, key Key) error {
	return c.callKey(ctx, http.MethodDelete, key, "?"+paramPodEnded+"=true", nil)
}

// DetachAll ends all attachments and returns how many there were.
func (c *Client) DetachAll(ctx context.Context) (int, error) {
	var r DetachResult
	err := c.call(ctx, http.MethodDelete, pathAttachments, nil, nil, &r)
	return r.Detached, err
}

// Retire ends all attachments, has nsqueued make no more, and returns how many there
// were. It may be repeated.
func (c *Client) Retire(ctx context.Context) (int, error) {
	var r DetachResult
	err := c.call(ctx, http.MethodPost, pathRetire, nil, nil, &r)
	return r.Detached, err
}

// Check asks whether the attachment's packets are really inspected.
func (c *Client) Check(ctx context.Context, key Key) error {
	return c.callKey(ctx, http.MethodGet, key, "/check", nil)
}

// Collect carries out a CNI GC call.
func (c *Client) Collect(ctx context.Context, req CollectRequest) (DetachResult, error) {
	var r DetachResult
	err := c.call(ctx, http.MethodPost, pathCollect, req, nil, &r)
	return r, err
}

// Warn reports what is wrong with a pod that is not attached. The daemon makes an
// event of it.
func (c *Client) Warn(ctx context.Context, report WarningReport) error {
	report.Warnings = LimitWarnings(report.Warnings)
	return c.call(ctx, http.MethodPost, pathWarnings, report, nil, nil)
}

// Adopt attaches the pods that are older than the daemon, or says which ones it
// would attach. A pod that could not be attached is a result and no error.
func (c *Client) Adopt(ctx context.Context, req AdoptRequest) (AdoptResults, error) {
	var r AdoptResults
	err := c.call(ctx, http.MethodPost, pathAdopt, req, nil, &r)
	return r, err
}

// List returns all attachments.
func (c *Client) List(ctx context.Context) (AttachmentList, error) {
	var l AttachmentList
	err := c.call(ctx, http.MethodGet, pathAttachments, nil, nil, &l)
	return l, err
}

// Status describes the daemon.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, pathStatus, nil, nil, &s)
	return s, err
}

// Events returns what happened of late, the oldest first.
func (c *Client) Events(ctx context.Context) ([]Event, error) {
	var list EventList
	err := c.call(ctx, http.MethodGet, pathEvents, nil, nil, &list)
	return list.Events, err
}

// Upgrade asks the daemon's supervisor to replace itself and the daemon by what
// is installed by now. It returns when that has been asked for: the daemon that
// answers with another process ID is the new one.
func (c *Client) Upgrade(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, pathUpgrade, nil, nil, nil)
}

// SetLogLevel changes what the daemon logs, until it ends, and returns what it
// has been told.
func (c *Client) SetLogLevel(ctx context.Context, level LogLevel) (LogLevel, error) {
	var l logLevelBody
	err := c.call(ctx, http.MethodPut, pathLogLevel, logLevelBody{level}, nil, &l)
	return l.Level, err
}

// callKey makes a call about one attachment. Only a valid key makes the path
// that it should.
func (c *Client) callKey(
	ctx context.Context, method string, k Key, suffix string, out any,
) error {
	k = k.Canonical()
	if err := k.Validate(); err != nil {
		return Errorf(CodeInvalidConfig, "%s", err)
	}
	path := pathAttachments + "/" + url.PathEscape(k.ContainerID) + "/" + url.PathEscape(k.Ifname)
	return c.call(ctx, method, path+suffix, nil, nil, out)
}

func (c *Client) call(
	ctx context.Context, method, path string, in any, fd *os.File, out any,
) error {
	resp, err := c.do(ctx, method, path, in, fd)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("%w: read answer: %w", ErrUnavailable, err)
	}
	return nil
}

// do sends one request over a connection of its own and returns the response
// of a call that succeeded.
func (c *Client) do(
	ctx context.Context, method, path string, in any, fd *os.File,
) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://nsqueued"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.transport(fd).RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrUnavailable, c.socket, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp)
}

func readError(resp *http.Response) error {
	var e Error
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("%w: read answer: %w", ErrUnavailable, err)
	}
	if json.Unmarshal(b, &e) != nil || e.Code == 0 {
		return Errorf(CodeInternal, "nsqueued answered %s: %.200s", resp.Status, bytes.TrimSpace(b))
	}
	return &e
}

func (c *Client) transport(fd *os.File) *http.Transport {
	return &http.Transport{
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", c.socket)
			if err != nil {
				return nil, err
			}
			return &rightsConn{UnixConn: conn.(*net.UnixConn), file: fd}, nil
		},
	}
}
