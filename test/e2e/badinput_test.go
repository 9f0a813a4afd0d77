// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// call is one call of the plugin as a runtime makes it.
type call struct {
	netns, containerID string
	config             map[string]any
	// raw is sent instead of config where it is not empty.
	raw string
}

// outcome is what the runtime gets.
type outcome struct {
	stdout, stderr string
	failed         bool
}

const prevResult = `{"cniVersion":"1.0.0","interfaces":[{"name":"eth0"}],"x-kept":[1, 2]}`

func (r *rig) newCall(netns string) call {
	return call{
		netns: netns, containerID: "bad-input",
		config: map[string]any{
			"cniVersion": "1.0.0", "name": "test", "type": "nsqueue",
			"socket": r.Socket(), "failurePolicy": api.Fail,
			"prevResult": prevResult,
		},
	}
}

// run executes the plugin.
func (c call) run(t *testing.T, command string) outcome {
	t.Helper()
	stdin := []byte(c.raw)
	if c.raw == "" {
		var err error
		if stdin, err = json.Marshal(c.config); err != nil {
			t.Fatal(err)
		}
		// Put in as it is: encoding/json would take the white space out.
		stdin = bytes.Replace(stdin, quoted(t, prevResult), []byte(prevResult), 1)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(binDir(t), "nsqueue"))
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + c.containerID, "CNI_IFNAME=eth0",
		"CNI_NETNS=" + c.netns, "CNI_PATH=" + binDir(t), "PATH=" + os.Getenv("PATH"),
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return outcome{stdout: stdout.String(), stderr: stderr.String(), failed: err != nil}
}

func quoted(t *testing.T, s string) []byte {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// expectCode wants nothing but an error with this code on standard output.
func (o outcome) expectCode(t *testing.T, want api.Code) {
	t.Helper()
	var e api.Error
	dec := json.NewDecoder(strings.NewReader(o.stdout))
	if err := dec.Decode(&e); err != nil || !o.failed {
		t.Fatalf("ADD: want an error with code %d, got failure %t and %q", want, o.failed, o.stdout)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Errorf("standard output has more than the error: %q", o.stdout)
	}
	if e.Code != want || e.Msg == "" {
		t.Errorf("ADD: code %d (%s), want %d", e.Code, e.Error(), want)
	}
}

func TestBadInput(t *testing.T) {
	r := startRig(t, api.Ignore)
	pod, other := nstest.New(t), nstest.New(t)
	file := filepath.Join(t.TempDir(), "no-netns")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*call)
		want   api.Code
	}{
		{"no prevResult", func(c *call) { delete(c.config, "prevResult") }, api.CodeInvalidConfig},
		{"netns is a file", func(c *call) { c.netns = file }, api.CodeInvalidNetns},
		{"netns is not there", func(c *call) { c.netns = file + "-either" }, api.CodeInvalidNetns},
		{"host's netns", func(c *call) { c.netns = "/proc/self/ns/net" }, api.CodeInvalidNetns},
		{"not a netns", func(c *call) { c.netns = "/proc/self/ns/uts" }, api.CodeInvalidNetns},
		{"unknown key", func(c *call) { c.config["policy"] = "Fail" }, api.CodeUnsupportedField},
		{"wrong value", func(c *call) { c.config["failurePolicy"] = "?" }, api.CodeInvalidConfig},
		{"not JSON", func(c *call) { c.raw = `{"cniVersion":"1.0.0","name":` }, api.CodeDecoding},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := r.newCall(pod.Path())
			tt.change(&c)
			c.run(t, "ADD").expectCode(t, tt.want)
			if left := r.list(t); len(left) != 0 {
				t.Errorf("half attached: %v", left)
			}
			if left := strings.TrimSpace(pod.Run(t, "nft", "list", "tables")); left != "" {
				t.Errorf("left in the netns: %s", left)
			}
			if o := c.run(t, "DEL"); o.failed || o.stdout != "" {
				t.Errorf("DEL: %+v, want silent success", o)
			}
		})
	}
	t.Run("attached elsewhere", func(t *testing.T) {
		c := r.newCall(pod.Path())
		if o := c.run(t, "ADD"); o.failed || o.stdout != prevResult {
			t.Fatalf("ADD: %+v, want prevResult", o)
		}
		before := r.list(t)
		elsewhere := c
		elsewhere.netns = other.Path()
		elsewhere.run(t, "ADD").expectCode(t, api.CodeConflict)
		after := r.list(t)
		if len(after) != 1 || after[0].Netns != before[0].Netns {
			t.Errorf("the attachment changed: %v, was %v", after, before)
		}
		if left := strings.TrimSpace(other.Run(t, "nft", "list", "tables")); left != "" {
			t.Errorf("left in the other netns: %s", left)
		}
		if o := c.run(t, "DEL"); o.failed || len(r.list(t)) != 0 {
			t.Errorf("DEL: %+v, %v still attached", o, r.list(t))
		}
	})
}

// TestNoDaemon calls the plugin without a daemon.
func TestNoDaemon(t *testing.T) {
	r := newRig(t, api.Ignore)
	pod := nstest.New(t)
	c := r.newCall(pod.Path())
	c.run(t, "ADD").expectCode(t, api.CodeTryAgainLater)
	if o := c.run(t, "DEL"); o.failed || o.stdout != "" {
		t.Errorf("DEL under Fail: %+v, want silent success", o)
	}
	c.config["failurePolicy"] = api.Ignore
	if o := c.run(t, "ADD"); o.failed || o.stdout != prevResult || o.stderr == "" {
		t.Errorf("ADD under Ignore: %+v, want prevResult and a log line", o)
	}
	if o := c.run(t, "DEL"); o.failed || o.stdout != "" {
		t.Errorf("DEL under Ignore: %+v, want silent success", o)
	}
	if left := strings.TrimSpace(pod.Run(t, "nft", "list", "tables")); left != "" {
		t.Errorf("left in the netns: %s", left)
	}
}

// TestBadRequests sends to the socket what no client of ours would.
func TestBadRequests(t *testing.T) {
	r := startRig(t, api.Ignore)
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", r.Socket())
		},
	}}
	for name, body := range map[string]string{
		"truncated": `{"containerID":"a","ifname":`,
		"10 MB":     `{"containerID":"` + strings.Repeat("a", 10<<20) + `"}`,
	} {
		resp, err := client.Post("http://nsqueued/v1/attachments", "application/json",
			strings.NewReader(body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var e api.Error
		if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || e.Code != api.CodeDecoding {
			t.Errorf("%s: %+v, %v, want code %d", name, e, err, api.CodeDecoding)
		}
		_ = resp.Body.Close()
	}
	if left := r.list(t); len(left) != 0 {
		t.Errorf("half attached: %v", left)
	}
}
