// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package damage

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

const suricataYAML = `%%YAML 1.1
---
vars: {address-groups: {HOME_NET: any, EXTERNAL_NET: any}, port-groups: {}}
classification-file: %[1]s/etc/suricata/classification.config
reference-config-file: %[1]s/etc/suricata/reference.config
stats: {enabled: no}
logging: {default-log-level: notice, outputs: [{console: {enabled: yes}}]}
outputs: []
`

const suricataRule = `drop udp any any -> any any (msg:"x"; content:"for suricata"; sid:1; rev:1;)
`

const suricataSet = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: first}
spec:
  rules:
  - {name: refused, when: flow.protocol == "udp" && server.port == 7001, action: drop}
`

const suricataDaemon = `
rules: {directory: %[1]s/rules.d}
inspectors:
- name: suricata
  pods: {}
  budget: 10s
  exec:
    command: [%[2]s/usr/bin/suricata, -c, %[1]s/suricata.yaml, -S, %[1]s/suricata.rules, -l, %[1]s,
      -k, none, -q, "${QUEUE}"]
    env: {LD_LIBRARY_PATH: "%[3]s"}
    queue: 80
    startup: Background
    user: {uid: 0}
    restart: {backoff: 50ms, max: 1s}
`

// suricataRoot is where Suricata was unpacked.
func suricataRoot(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a short run does not fetch Suricata; make test-damage does")
	}
	dir := filepath.Join(chain.BinDir(t), "rivals", "suricata")
	if why, err := os.ReadFile(dir + ".missing"); err == nil {
		t.Skipf("Suricata cannot be had: %s", why)
	}
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err != nil {
		t.Fatalf("make test-damage gets Suricata first, by test/bench/rivals/fetch.sh: %v", err)
	}
	return filepath.Join(dir, "root")
}

// TestSuricata has Suricata read what rules accept, in its default configuration: what
// rules drop it does not see, and what it drops does not arrive. It is started again when
// it is killed.
func TestSuricata(t *testing.T) {
	root := suricataRoot(t)
	r := newRig(t, api.Fail)
	r.inspector = nsqueued
	libraries, _ := filepath.Glob(filepath.Join(root, "usr/lib/*-linux-gnu"))
	more, _ := filepath.Glob(filepath.Join(root, "lib/*-linux-gnu"))
	r.more = fmt.Sprintf(suricataDaemon, r.dir, root, strings.Join(append(libraries, more...), ":"))
	nstest.Must(t, os.Mkdir(filepath.Join(r.dir, "rules.d"), 0o755))
	for name, text := range map[string]string{
		"suricata.yaml": fmt.Sprintf(suricataYAML, root), "suricata.rules": suricataRule,
		"rules.d/first.yaml": suricataSet,
	} {
		nstest.Must(t, os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644))
	}
	r.start()
	p := r.attach("one")
	before := r.program(p, 0)
	r.wantFiltered(p)
	nstest.Must(t, syscall.Kill(before, syscall.SIGKILL))
	r.program(p, before)
	r.wantFiltered(p)
}

// wantFiltered sends datagrams of which only the last one of each round may arrive.
func (r *rig) wantFiltered(p *pod) {
	r.t.Helper()
	refused := p.ListenUDP(r.t, netip.AddrPortFrom(p.IPv4(), 7001).String())
	defer refused.Close()
	to := p.ListenUDP(r.t, netip.AddrPortFrom(p.IPv4(), 7002).String())
	defer to.Close()
	for _, send := range []struct{ to, text string }{
		{refused.LocalAddr().String(), "for the rules"},
		{to.LocalAddr().String(), "this is for suricata"},
		{to.LocalAddr().String(), "hello"},
	} {
		from := p.peer.DialUDP(r.t, send.to)
		_, err := from.Write([]byte(send.text))
		nstest.Must(r.t, err)
		nstest.Must(r.t, from.Close())
	}
	buf := make([]byte, 100)
	nstest.Must(r.t, to.SetReadDeadline(time.Now().Add(patience)))
	n, err := to.Read(buf)
	nstest.Must(r.t, err)
	if got := string(buf[:n]); got != "hello" {
		r.t.Errorf("%q arrives, want what nothing refuses", got)
	}
	nstest.Must(r.t, refused.SetReadDeadline(time.Now()))
	if n, err := refused.Read(buf); err == nil {
		r.t.Errorf("%q arrives past the rules", buf[:n])
	}
}
