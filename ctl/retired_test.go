// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/internal/apitest"
)

// The watch of an installation that leaves the node ends, and uninstall waits for that.
func TestWatchEndsWhenRetired(t *testing.T) {
	m := newMachine(t)
	before := content(t, m.list)
	d := apitest.Daemon{Found: found()}
	socket := d.Start(t)
	watch := startInstall(t, socket, m.install("--watch"))
	watch.says(t, "repaired: "+m.list)
	o := nsqueuectl(t.Context(), socket, m.uninstall("--wait-lock", "--timeout", "1ms")...)
	if o.status != 1 || !strings.Contains(o.err, "in vain") {
		t.Errorf("beside the watch: %+v", o)
	}
	removal := startInstall(t, socket, m.uninstall("--wait-lock", "--timeout", "0s"))
	removal.says(t, "waiting for the end of nsqueuectl install --watch")
	d.Change(func(s *api.Status) { s.Retired = true })
	if status := <-watch.ended; status != 0 {
		t.Errorf("the watch: %d, %s", status, watch.err.String())
	}
	if status := <-removal.ended; status != 0 || content(t, m.list) != before {
		t.Errorf("uninstall: %d, %s\n%s", status, removal.err.String(), content(t, m.list))
	}
}

// In a container, which would be started again, the watch gives its locks back, changes
// nothing any more, and goes on until it is stopped. So does the next start of it.
func TestRetiredContainer(t *testing.T) {
	m := newMachine(t)
	before := content(t, m.list)
	d := apitest.Daemon{Found: found()}
	var answer atomic.Value
	answer.Store(`{"role":"active","worker":{"pid":7,"ready":true}}`)
	dir := supervisorWith(t, func(to io.Writer) error {
		_, _ = io.WriteString(to, answer.Load().(string)) // who asks may not wait for it
		return nil
	})
	args := m.install("--watch", "--wait-lock", "--after-ready", dir, "--timeout", "0s")
	socket := d.Start(t)
	watch := startInstall(t, socket, args)
	watch.says(t, "repaired: "+m.list)
	answer.Store(`{"role":"active","retired":true,"worker":{"pid":7,"ready":true}}`)
	watch.says(t, "the watch ends")
	o := nsqueuectl(t.Context(), socket, m.uninstall("--wait-lock", "--timeout", "1m")...)
	if o.status != 0 || content(t, m.list) != before {
		t.Errorf("%+v\n%s", o, content(t, m.list))
	}
	again := startInstall(t, socket, args)
	again.says(t, "nsqueue leaves this node")
	for _, r := range []*running{watch, again} {
		r.end()
	}
	if content(t, m.list) != before {
		t.Errorf("it has come back:\n%s", content(t, m.list))
	}
}

// uninstall --watch takes away what comes back.
func TestUninstallWatch(t *testing.T) {
	m := newMachine(t)
	before := content(t, m.list)
	d := apitest.Daemon{Found: found()}
	socket := d.Start(t)
	keep := startInstall(t, socket, m.uninstall("--watch"))
	keep.says(t, "is back: 0 attachments detached")
	o := nsqueuectl(t.Context(), socket, m.install()...)
	if o.status != 0 {
		t.Fatalf("%+v", o)
	}
	keep.says(t, m.list+": ")
	d.Change(func(s *api.Status) { s.Retired, s.Version = false, "2" })
	keep.says(t, "nsqueued of version 2 is back")
	if status := keep.end(); status != 0 || content(t, m.list) != before {
		t.Errorf("%d, %s\n%s", status, keep.err.String(), content(t, m.list))
	}
}

// Of another installation nothing is removed.
func TestUninstallSparesOthers(t *testing.T) {
	m := newMachine(t)
	d := apitest.Daemon{Found: found(), Info: api.Status{
		Supervisor: api.Supervisor{Handover: &api.Handover{Instance: "a/nsqueue"}},
	}}
	socket := d.Start(t)
	nsqueuectl(t.Context(), socket, m.install()...)
	installed := content(t, m.list)
	o := nsqueuectl(t.Context(), socket, m.uninstall("--instance", "b/nsqueue")...)
	if o.status != 0 || o.err != "nothing is done: the installation here is a/nsqueue\n" ||
		content(t, m.list) != installed {
		t.Errorf("%+v\n%s", o, content(t, m.list))
	}
	o = nsqueuectl(t.Context(), socket, m.uninstall("--instance", "a/nsqueue")...)
	if o.status != 0 || content(t, m.list) == installed {
		t.Errorf("its own: %+v\n%s", o, content(t, m.list))
	}
}

// Of the plugin's calls that nobody has heard nothing is left with the plugin, unless a
// nsqueued may still carry them out.
func TestUninstallDiscardsCalls(t *testing.T) {
	for _, serving := range []bool{false, true} {
		m := newMachine(t)
		d := apitest.Daemon{Found: found()}
		socket := filepath.Join(t.TempDir(), "nsqueued.sock")
		if serving {
			socket = d.Start(t)
		}
		nsqueuectl(t.Context(), socket, m.install()...)
		calls := filepath.Join(filepath.Dir(socket), "spool")
		if err := os.Mkdir(calls, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, calls+"/a@eth0.json", "{}")
		o := nsqueuectl(t.Context(), socket, m.uninstall()...)
		_, err := os.Stat(calls + "/a@eth0.json")
		if o.status != 0 || (err == nil) != serving {
			t.Errorf("serving %t: %+v, %v", serving, o, err)
		}
	}
}

func TestUninstallWatchUsage(t *testing.T) {
	o := nsqueuectl(t.Context(), "", "uninstall", "--watch", "--dry-run")
	if o.status != 2 || !strings.Contains(o.err, "exclude each other") {
		t.Errorf("%+v", o)
	}
}
