// SPDX-License-Identifier: Apache-2.0

package pods

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"
)

// program is nsqueuectl in the image.
const program = "/usr/local/bin/nsqueuectl"

// ExitError says how a program ended in a pod.
type ExitError struct{ Status int }

func (e *ExitError) Error() string { return fmt.Sprintf("exit status %d", e.Status) }

// Exec runs nsqueuectl in a pod until it ends or ctx does. Its standard input is empty, and
// ends with the connection. The error is an [ExitError] if the
// program has failed, else one of the way there.
func (c *Cluster) Exec(
	ctx context.Context, p Pod, args []string, stdout, stderr io.Writer,
) error {
	where := c.address(p, "exec", &corev1.PodExecOptions{
		Container: container, Command: append([]string{program}, args...),
		Stdin: true, Stdout: true, Stderr: true,
	})
	executor, err := c.executor(where)
	if err != nil {
		return err
	}
	stdin, end := io.Pipe()
	defer end.Close()
	err = executor.StreamWithContext(ctx, remotecommand.StreamOptions{
		Stdin: stdin, Stdout: stdout, Stderr: stderr,
	})
	if exit, ok := errors.AsType[utilexec.CodeExitError](err); ok {
		return &ExitError{exit.Code}
	}
	return err
}

// address is that of what a pod has below its own.
func (c *Cluster) address(p Pod, below string, options *corev1.PodExecOptions) *url.URL {
	request := c.core.RESTClient().Post().Namespace(p.Namespace).Resource("pods").Name(p.Name).
		SubResource(below)
	if options != nil {
		request = request.VersionedParams(options, scheme.ParameterCodec)
	}
	return request.URL()
}

// executor speaks by WebSocket, and by SPDY where a server or a proxy knows no other way.
func (c *Cluster) executor(where *url.URL) (remotecommand.Executor, error) {
	spdy, err := remotecommand.NewSPDYExecutor(c.config, "POST", where)
	if err != nil {
		return nil, err
	}
	websocket, err := remotecommand.NewWebSocketExecutor(c.config, "GET", where.String())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(websocket, spdy, oldWay)
}

// oldWay reports whether an error says that there is no WebSocket.
func oldWay(err error) bool {
	return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
}
