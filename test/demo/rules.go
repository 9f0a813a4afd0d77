// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const (
	rulesDir    = "/run/demo/rules.d"
	rulesConfig = "/run/demo/nsqueued.yaml"
	eventsFile  = "/run/demo/events.json"

	allowedName = "packages.example.org"
	refusedName = "tracker.example.net"
	greeting    = "hello from busybox1"
	wasReset    = "reset by peer"
)

const allowList = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: allow-list}
spec:
  pods: {when: pod.name == "busybox2"}
  default: reject
  sets:
    allowed: {domains: [` + allowedName + `]}
  rules:
  - {name: allowed, when: sets.allowed.contains(tls.sni), action: accept}
`

const daemonConfig = "apiVersion: nsqueue.io/v1alpha1\nkind: DaemonConfiguration\n" +
	"rules: {directory: " + rulesDir + ", events: {file: " + eventsFile + "}}\n"

// rulesDecide is step 5: nsqueued decides by rules what a pod may reach.
func (d *demo) rulesDecide(ctx context.Context) error {
	d.screen.title(5, "busybox2 may connect to "+allowedName+", and to nothing else")
	if err := d.startWithRules(ctx); err != nil {
		return err
	}
	server, err := d.serveTLS()
	if err != nil {
		return err
	}
	defer server.Close()
	out, err := d.connect(allowedName)
	if err == nil {
		err = errIf(!strings.Contains(out, greeting), "the server does not answer")
	}
	if err != nil {
		return err
	}
	// That the command fails is part of the show.
	out, err = d.connect(refusedName)
	err = errIf(err == nil || !strings.Contains(out, wasReset), "the connection is not reset")
	if err != nil {
		return err
	}
	if err := d.showEvent(); err != nil {
		return err
	}
	d.screen.shown("busybox1 answers to the name that is allowed. The other connection is reset\n" +
		"   before busybox1 knows which name it is for, and the event says why.")
	return nil
}

// startWithRules starts nsqueued again, with rules for busybox2.
func (d *demo) startWithRules(ctx context.Context) error {
	if err := os.MkdirAll(rulesDir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(rulesDir, "busybox2.yaml")
	if err := os.WriteFile(file, []byte(allowList), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(rulesConfig, []byte(daemonConfig), 0o644); err != nil {
		return err
	}
	if _, err := d.screen.run("cat", file); err != nil {
		return err
	}
	return d.restart(ctx, rulesConfig)
}

// restart starts nsqueued again with a configuration, and returns when all pods are
// inspected.
func (d *demo) restart(ctx context.Context, config string) error {
	if err := d.daemon.Stop(); err != nil {
		return err
	}
	d.daemon.SetArgs("--config", config)
	if err := d.daemon.Start(ctx); err != nil {
		return err
	}
	active := func() bool {
		list, err := d.daemon.Client.List(ctx)
		if err != nil || len(list.Attachments) != len(d.pods) {
			return false
		}
		for _, a := range list.Attachments {
			if a.State != api.Active {
				return false
			}
		}
		return true
	}
	if !nstest.Poll(patience, active) {
		return fmt.Errorf("the pods are not inspected again\n%s", d.daemon.Log.String())
	}
	d.screen.note("nsqueued runs with --config %s (PID %d)", config, d.daemon.PID())
	return nil
}

// serveTLS has busybox1 answer to any name.
func (d *demo) serveTLS() (*httptest.Server, error) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, greeting) }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	address := net.JoinHostPort(d.pods[0].IPv4.String(), "443")
	err := d.pods[0].NetNS.Try(func() (err error) {
		listener, err := net.Listen("tcp", address)
		if err == nil {
			_ = server.Listener.Close()
			server.Listener = listener
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("serve TLS in busybox1: %w", err)
	}
	server.StartTLS()
	return server, nil
}

// connect has busybox2 ask busybox1 by a name.
func (d *demo) connect(name string) (string, error) {
	return d.screen.run("nsenter", "--net="+d.pods[1].NetNS.Path(),
		"curl", "-sSk", "--max-time", "60", "--resolve", name+":443:"+d.pods[0].IPv4.String(),
		"-w", `after %{time_total} s\n`, "https://"+name+"/")
}

// showEvent shows what nsqueued has written about the connection that was refused.
func (d *demo) showEvent() error {
	written := func() bool {
		b, err := os.ReadFile(eventsFile)
		return err == nil && bytes.HasSuffix(b, []byte("\n")) &&
			bytes.Contains(b, []byte(refusedName))
	}
	if !nstest.Poll(patience, written) {
		return fmt.Errorf("no event names %s\n%s", refusedName, d.daemon.Log.String())
	}
	_, err := d.screen.run("tail", "-n", "1", eventsFile)
	return err
}
