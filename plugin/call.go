// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/cnipod"
)

// maxBackoff is the longest wait between two attempts.
const maxBackoff = 500 * time.Millisecond

// readConfig reads and parses the configuration on stdin.
func (p *process) readConfig() (*config, error) {
	data, err := io.ReadAll(p.stdin)
	if err != nil {
		return nil, types.NewError(types.ErrIOFailure,
			fmt.Sprintf("read network config: %v", err), "")
	}
	c, err := parseConfig(data)
	if c != nil && c.cniVersion != "" {
		p.cniVersion = c.cniVersion
	}
	return c, err
}

// podCall is what ADD and CHECK are about.
type podCall struct {
	cnipod.Decision
	config *config
	key    api.Key
	pod    api.Pod
	netns  *os.File // the caller closes it
}

// readPodCall reads all of the environment and the configuration, and opens
// the netns.
func (p *process) readPodCall(command, firstVersion string) (*podCall, error) {
	key, err := p.key()
	if err != nil {
		return nil, err
	}
	c, err := p.readConfig()
	if err != nil {
		return nil, err
	}
	if err := c.requireVersion(command, firstVersion); err != nil {
		return nil, err
	}
	if err := c.requirePrevResult(); err != nil {
		return nil, err
	}
	netns, err := p.openNetns()
	if err != nil {
		return nil, err
	}
	pod, warnings := cnipod.ParseArgs(p.getenv("CNI_ARGS"))
	d := c.decide(pod.Namespace)
	d.Warnings = api.LimitWarnings(append(d.Warnings, warnings...))
	p.log = p.log.With(keyAttr(key), slog.String("pod", pod.String()))
	for _, w := range d.Warnings {
		p.log.Warn("pod settings", slog.String("warning", w))
	}
	return &podCall{Decision: d, config: c, key: key, pod: pod, netns: netns}, nil
}

// decide joins the configuration with the pod's annotations.
func (c *config) decide(namespace string) cnipod.Decision {
	s := cnipod.Settings{
		Policy: c.FailurePolicy, ExcludeNamespaces: c.ExcludeNamespaces,
		Lowering: c.PodAnnotations, Passing: c.PassAnnotations, Annotations: c.annotations,
	}
	return s.Decide(namespace)
}

// key reads the variables that ADD and CHECK cannot do without.
func (p *process) key() (api.Key, error) {
	var missing []string
	for _, name := range []string{"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"} {
		if p.getenv(name) == "" {
			missing = append(missing, name)
		}
	}
	if missing != nil {
		return api.Key{}, types.NewError(types.ErrInvalidEnvironmentVariables,
			"missing in the environment: "+strings.Join(missing, ", "), "")
	}
	key := api.Key{ContainerID: p.getenv("CNI_CONTAINERID"), Ifname: p.getenv("CNI_IFNAME")}
	if err := key.Validate(); err != nil {
		return api.Key{}, types.NewError(types.ErrInvalidEnvironmentVariables, err.Error(), "")
	}
	return key, nil
}

// callDaemon makes a call within the policy's time. Under Fail it waits for a
// daemon that is not there, which may be starting; under Ignore it does not.
func (p *process) callDaemon(policy api.Policy, call func(context.Context) error) error {
	if policy == api.Fail {
		return p.retry(p.limits.fail, isStarting, call)
	}
	return p.retry(p.limits.ignore, isBusy, call)
}

// retry makes the call until it succeeds, fails for good, or time is up.
func (p *process) retry(
	limit time.Duration, again func(error) bool, call func(context.Context) error,
) error {
	ctx, cancel := p.withTimeout(context.Background(), limit)
	defer cancel()
	var last error
	for wait := p.limits.backoff; ; wait = min(2*wait, maxBackoff) {
		err := call(ctx)
		if ctx.Err() != nil && last != nil {
			return last // it says more than that time is up
		}
		if err == nil || !again(err) {
			return err
		}
		last = err
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}

// isStarting reports errors that end when the daemon has started.
func isStarting(err error) bool {
	return errors.Is(err, api.ErrUnavailable) || api.CodeOf(err) == api.CodeTryAgainLater
}

// isBusy reports that a daemon is there, with too many calls waiting.
func isBusy(err error) bool { return errors.Is(err, syscall.EAGAIN) }
