// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

func found() []api.AdoptResult {
	key := func(id string) api.Key { return api.Key{ContainerID: id, Ifname: "eth0"} }
	netns := api.Netns{Cookie: 1 << 63, Dev: 4, Ino: 4026532000, Path: "/run/netns/cni-a"}
	return []api.AdoptResult{
		{Netns: api.Netns{Path: "/run/netns/vpn"}, Outcome: api.UnknownNetns, Reason: "no cached result"},
		{
			Key: key("0fd31c8e5a2b77aa01"), Pod: api.Pod{Namespace: "default", Name: "web"},
			Network: "cbr0", Netns: netns, Outcome: api.Adopted,
		},
		{Key: key("0fd4"), Network: "cbr0", Outcome: api.AlreadyAttached},
		{Key: key("0fd5"), Network: "cbr0", Outcome: api.AdoptSkipped, Reason: "ambiguous: 10.0.0.1"},
	}
}

const foundTable = `
CONTAINER ID  IFNAME  POD          NETWORK  NETNS             OUTCOME           REASON
-             -       -            -        /run/netns/vpn    unknown           no cached result
0fd31c8e5a2b  eth0    default/web  cbr0     /run/netns/cni-a  adopted           -
0fd4          eth0    -            cbr0     -                 already attached  -
0fd5          eth0    -            cbr0     -                 skipped           ambiguous: 10.0.0.1
`

func TestAdopt(t *testing.T) {
	d := apitest.Daemon{Found: found()}
	socket := d.Start(t)
	summary := "1 adopted, 1 already attached, 1 skipped, 1 unknown\n"
	nsqueuectl(t.Context(), socket, "adopt").want(t, 0, foundTable[1:], summary)
	nsqueuectl(t.Context(), socket, "adopt", "--dry-run").want(t, 0, foundTable[1:], summary)
	if diff := cmp.Diff([]string{"adopt", "adopt dry"}, d.Calls()); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	for format, unmarshal := range map[string]func([]byte, *api.AdoptResults) error{
		"json": func(b []byte, r *api.AdoptResults) error { return json.Unmarshal(b, r) },
		"yaml": func(b []byte, r *api.AdoptResults) error { return yaml.UnmarshalStrict(b, r) },
	} {
		o := nsqueuectl(t.Context(), socket, "adopt", "-o", format)
		var got api.AdoptResults
		if err := unmarshal([]byte(o.stdout), &got); err != nil || o.status != 0 || o.err != "" {
			t.Errorf("%s: %+v: %v", format, o, err)
		}
		if diff := cmp.Diff(api.AdoptResults{Results: found()}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestAdoptNothing(t *testing.T) {
	var d apitest.Daemon
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "adopt").want(t, 0, "", "No pods found.\n")
	nsqueuectl(t.Context(), socket, "adopt", "-o", "json").want(t, 0, "{\n  \"results\": []\n}\n", "")
	nsqueuectl(t.Context(), socket, "adopt", "-o", "yaml").want(t, 0, "results: []\n", "")
}

// One pod that should have been attached is enough for an exit status of 1, in
// each format; the others are shown all the same.
func TestAdoptFails(t *testing.T) {
	d := apitest.Daemon{Found: found()}
	d.Found[3].Outcome = api.AdoptFailed
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, "adopt").want(t, 1,
		strings.Replace(foundTable[1:], "skipped", "failed ", 1),
		"1 adopted, 1 already attached, 1 failed, 1 unknown\nnsqueuectl: 1 pod could not be adopted\n")
	o := nsqueuectl(t.Context(), socket, "adopt", "-o", "json")
	if o.status != 1 || !strings.Contains(o.stdout, `"failed"`) {
		t.Errorf("%+v", o)
	}
}

// slowDaemon adopts when it is told to proceed.
type slowDaemon struct {
	apitest.Daemon
	proceed chan struct{}
}

func (d *slowDaemon) Adopt(ctx context.Context, req api.AdoptRequest) (api.AdoptResults, error) {
	<-d.proceed
	return d.Daemon.Adopt(ctx, req)
}

// onWrite calls a function at the first write.
type onWrite struct {
	strings.Builder
	first func()
}

func (w *onWrite) Write(b []byte) (int, error) {
	w.first()
	return w.Builder.Write(b)
}

// The daemon of this test waits until the command has said that it waits.
func TestAdoptShowsProgress(t *testing.T) {
	d := slowDaemon{proceed: make(chan struct{})}
	adopted := api.Attachment{Origin: api.OriginAdopted, Created: testNow()}
	earlier, byCNI := adopted, adopted
	earlier.Created = testNow().Add(-time.Second)
	byCNI.Origin = api.OriginCNI
	d.Attachments = []api.Attachment{adopted, earlier, byCNI, adopted}
	socket := apitest.SocketPath(t)
	l, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, &d)

	var out strings.Builder
	errs := onWrite{first: sync.OnceFunc(func() { close(d.proceed) })}
	s := &IOStreams{
		out: &out, err: &errs, now: testNow, progressAfter: time.Millisecond,
		getenv: func(string) string { return "" },
	}
	if status := execute(t.Context(), s, []string{"adopt", "--socket", socket}); status != 0 {
		t.Errorf("status %d", status)
	}
	if got := errs.String(); !strings.HasPrefix(got, "still adopting: 2 pods so far\n") {
		t.Errorf("stderr %q", got)
	}
}

// serve serves what the tests have made of a daemon, until the test ends.
func serve(t *testing.T, l *net.UnixListener, b api.Backend) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- api.Serve(ctx, l, b, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
