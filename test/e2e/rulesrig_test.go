// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/nsqueue/nsqueue/daemon/api"
	"github.com/nsqueue/nsqueue/test/chain"
	"github.com/nsqueue/nsqueue/test/nstest"
)

// The names that clients ask for.
const (
	goodName = "good.example.org"
	badName  = "bad.example.org"
)

// refusal is a file of rules that refuses a name to pods of a namespace.
const refusal = `apiVersion: nsqueue.io/v1alpha1
kind: RuleSet
metadata: {name: sandbox}
spec:
  pods: {namespaces: [agents]}
  rules:
  - name: unwanted
    when: tls.sni == "%s"
    action: reject
`

const rulesConfig = `apiVersion: nsqueue.io/v1alpha1
kind: DaemonConfiguration
rules: {events: {file: %s}}
`

// rulesRig is a daemon that follows a directory of rules.
type rulesRig struct {
	*rig
	server  *chain.Pod
	network *chain.Network
	tls     *tls.Config
}

// newRulesRig prepares one, whose directory has the file rules.yaml.
func newRulesRig(t *testing.T, policy api.Policy, rules string, wrap ...string) *rulesRig {
	t.Helper()
	r := &rulesRig{rig: newWrappedRig(t, policy, wrap...)}
	config := filepath.Join(r.dir, "nsqueued.yaml")
	nstest.Must(t, os.Mkdir(r.rules(""), 0o700))
	nstest.Must(t, os.WriteFile(config, fmt.Appendf(nil, rulesConfig, r.eventsFile()), 0o600))
	r.write(t, rules)
	r.SetArgs("--config", config, "--rules", r.rules(""))
	r.start(t)
	r.network = r.open(t, bridgeList, "1.1.0", policy)
	r.tls = certified()
	return r
}

// certified is what a server needs that answers to any name.
func certified() *tls.Config {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	return &tls.Config{Certificates: s.TLS.Certificates}
}

func (r *rulesRig) rules(name string) string { return filepath.Join(r.dir, "rules.d", name) }
func (r *rulesRig) eventsFile() string       { return filepath.Join(r.dir, "eve.json") }

// write replaces the file of rules in the way of editors.
func (r *rulesRig) write(t *testing.T, text string) {
	t.Helper()
	file := r.rules("rules.yaml")
	nstest.Must(t, os.WriteFile(file+".new", []byte(text), 0o600))
	nstest.Must(t, os.Rename(file+".new", file))
}

// refusing is a file of rules that refuses the name.
func refusing(name string) string { return fmt.Sprintf(refusal, name) }

// serve has a new pod answer over TLS what it was sent, until the test ends.
func (r *rulesRig) serve(t *testing.T) {
	t.Helper()
	r.server = newPod(t, r.network, "server")
	listener := tls.NewListener(r.server.NetNS.ListenTCP(t, address(r.server.IPv4)), r.tls)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			// One whose client was refused in silence ends with the test.
			end := context.AfterFunc(t.Context(), func() { _ = conn.Close() })
			serving.Go(func() {
				defer end()
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() { // t.Context has ended
		_ = listener.Close()
		serving.Wait()
	})
}

// connect has a pod ask the server for a name.
func (r *rulesRig) connect(t *testing.T, from *chain.Pod, name string) (*tls.Conn, error) {
	t.Helper()
	raw := from.NetNS.DialTCP(t, address(r.server.IPv4))
	expire(t, raw)
	conn := tls.Client(raw, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	t.Cleanup(func() { _ = conn.Close() })
	return conn, conn.HandshakeContext(t.Context())
}

// talk has the server repeat a line.
func talk(t *testing.T, conn *tls.Conn) {
	t.Helper()
	const line = "are you there?"
	if _, err := io.WriteString(conn, line); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(line))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != line {
		t.Fatalf("got %q, %v", got, err)
	}
}

// checkNames expects that a pod reaches one name, and is reset for the other.
func (r *rulesRig) checkNames(t *testing.T, from *chain.Pod, accepted, rejected string) {
	t.Helper()
	conn, err := r.connect(t, from, accepted)
	if err != nil {
		t.Fatalf("%s: %v", accepted, err)
	}
	talk(t, conn)
	if _, err := r.connect(t, from, rejected); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("%s: %v, want a reset", rejected, err)
	}
}

// awaitRules waits for rules in force that are those of the file refusing name.
func (r *rulesRig) awaitRules(t *testing.T, name string) {
	t.Helper()
	nstest.Eventually(t, patience, "rules about "+name+" are in force", func() bool {
		for _, a := range r.list(t) {
			effective, err := r.Client.RulesOf(t.Context(), a.Key)
			nstest.Must(t, err)
			for _, rule := range effective {
				if strings.Contains(rule.When, name) {
					return true
				}
			}
		}
		return false
	})
}

// eve is what the tests read of a line.
type eve struct {
	Alert struct{ Action, Signature string }
	TLS   struct{ SNI string }
	Pod   struct {
		Namespace string
		Pod       struct{ Name, UID string }
	} `json:"kubernetes"`
}

// awaitEvent waits for the line about a name, in the events' file of the moment.
func (r *rulesRig) awaitEvent(t *testing.T, name string) eve {
	t.Helper()
	var found eve
	nstest.Eventually(t, patience, "an event about "+name, func() bool {
		b, _ := os.ReadFile(r.eventsFile())
		for line := range strings.Lines(string(b)) {
			var e eve
			if strings.HasSuffix(line, "\n") {
				nstest.Must(t, json.Unmarshal([]byte(line), &e))
			}
			if e.TLS.SNI == name {
				found = e
				return true
			}
		}
		return false
	})
	return found
}
