// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/daemon/internal/succession"
	"github.com/nsqueue/nsqueue/daemon/node"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// retireFrom runs the command for an instance, and returns what it prints.
func retireFrom(
	ctx context.Context, t *testing.T, socket, shared, instance string,
) (string, error) {
	t.Helper()
	c := node.DefaultConfig()
	c.Socket, c.StateDir = socket, t.TempDir()
	var out bytes.Buffer
	r := retirer{config: &c, shared: shared, instance: instance, out: &out, err: io.Discard}
	err := r.run(ctx)
	return out.String(), err
}

// A daemon retires for its own installation, and for no other one.
func TestRetireAsksTheDaemon(t *testing.T) {
	d := apitest.Daemon{Info: api.Status{
		Supervisor: api.Supervisor{Handover: &api.Handover{Instance: "a/nsqueue"}},
	}}
	socket := d.Start(t)
	out, err := retireFrom(t.Context(), t, socket, t.TempDir(), "b/nsqueue")
	if err != nil || !strings.Contains(out, `nothing is done: the installation here is "a/nsqueue"`) ||
		slices.Contains(d.Calls(), "retire") {
		t.Errorf("%q, %v, calls %v", out, err, d.Calls())
	}
	for _, instance := range []string{"a/nsqueue", ""} {
		out, err = retireFrom(t.Context(), t, socket, t.TempDir(), instance)
		if err != nil || !strings.Contains(out, "retired: 0 attachments") {
			t.Errorf("%q, %v", out, err)
		}
	}
	if got := slices.Index(d.Calls(), "retire"); got < 0 {
		t.Errorf("calls %v", d.Calls())
	}
}

// While the daemon of another installation does not answer, nothing is done either.
func TestRetireSparesOthers(t *testing.T) {
	shared := t.TempDir()
	l, err := succession.TryLock(shared)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Name("a/nsqueue"); err != nil {
		t.Fatal(err)
	}
	out, err := retireFrom(t.Context(), t, shared+"/nsqueued.sock", shared, "b/nsqueue")
	if err != nil || !strings.Contains(out, "nothing is done") {
		t.Errorf("%q, %v", out, err)
	}
}

// It tries until the time is over, and says why that was in vain.
func TestRetireInVain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tries := 0
	d := apitest.Daemon{Err: func(call string) error {
		if call != "retire" {
			return nil
		}
		if tries++; tries == 2 {
			cancel()
		}
		return api.Errorf(api.CodeInternal, "no memory")
	}}
	_, err := retireFrom(ctx, t, d.Start(t), t.TempDir(), "")
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "no memory") {
		t.Error(err)
	}
}
