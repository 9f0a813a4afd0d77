// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/nsqueue/nsqueue/ctl/kubectl/internal/pods"
)

func attachment(id, pod string) string {
	return fmt.Sprintf(`{"containerID":%q,"ifname":"eth0","pod":{"namespace":"default","name":%q},`+
		`"hook":"nft","state":"active","failurePolicy":"Ignore","queues":[{"number":80}],`+
		`"created":"2026-01-02T03:03:05Z","new":1}`, id, pod)
}

func attached(list ...string) string {
	return `{"attachments":[` + strings.Join(list, ",") + "]}\n"
}

func TestList(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{
		"node1": says(attached(attachment("aa", "a1"), attachment("ab", "a2"))),
		"node2": says(attached()),
		"node3": says(attached(attachment("ca", "c1"))),
	})
	plugin(t, c, "list").want(t, 0, ""+
		"NODE   CONTAINER ID  IFNAME  POD         HOOK  POLICY  STATE   QUEUE  PACKETS  DROPPED  AGE  READER\n"+
		"node1  aa            eth0    default/a1  nft   Ignore  active  80     0        0        60s  -\n"+
		"node1  ab            eth0    default/a2  nft   Ignore  active  80     0        0        60s  -\n"+
		"node3  ca            eth0    default/c1  nft   Ignore  active  80     0        0        60s  -\n", "")
	o := plugin(t, c, "list", "--node", "node3", "-o", "json")
	o.want(t, 0, `{
  "attachments": [
    {
      "node": "node3",
      "containerID": "ca",
      "ifname": "eth0",
      "pod": {
        "namespace": "default",
        "name": "c1"
      },
      "hook": "nft",
      "state": "active",
      "failurePolicy": "Ignore",
      "queues": [
        {
          "number": 80
        }
      ],
      "created": "2026-01-02T03:03:05Z",
      "new": 1
    }
  ]
}
`, "")
	plugin(t, c, "list", "--node", "node2").want(t, 0, "", "No attachments.\n")
	plugin(t, c, "list", "--node", "node2", "-o", "yaml").want(t, 0, "attachments: []\n", "")
}

// Those that do not answer are named, by why, and what others say is shown.
func TestUnanswered(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{
		"node1": says(attached(attachment("aa", "a1"))),
		"node2": lost("no route to host"),
		"node3": refuses(3, "nsqueuectl: list: dial unix /run/nsqueue/nsqueued.sock: no such file\nIs nsqueued running?\n"),
		"node4": lost("no route to host"),
		"node5": says("nonsense"),
		"node6": says("{}"),
	})
	c.found[5].Problem = "pod pod-node6 does not run: Pending"
	o := plugin(t, c, "list", "--node", "node1,node2,node3,node4,node5,node6,node7")
	if !strings.Contains(o.stdout, "node1  aa ") || strings.Count(o.stdout, "\n") != 2 {
		t.Errorf("%q", o.stdout)
	}
	o.want(t, 1, o.stdout, "kubectl nsqueue: 6 of 7 nodes did not answer:\n"+
		"  node2, node4: no route to host\n"+
		"  node3: list: dial unix /run/nsqueue/nsqueued.sock: no such file Is nsqueued running?\n"+
		"  node6: pod pod-node6 does not run: Pending\n"+
		"  node7: it has no pod of nsqueue\n"+
		"  node5: read the answer: invalid character 'o' in literal null (expecting 'u')\n")
	o = plugin(t, c, "list", "--node", "node2", "-o", "json")
	o.want(t, 1, `{
  "attachments": [],
  "unanswered": [
    {
      "node": "node2",
      "error": "no route to host"
    }
  ]
}
`, "kubectl nsqueue: 1 of 1 node did not answer:\n  node2: no route to host\n")
}

// A node that says nothing has not answered.
func TestSilence(t *testing.T) {
	c := newCluster(map[string]nsqueuectl{
		"n1": func(ctx context.Context, _ []string, _, _ io.Writer) error {
			<-ctx.Done()
			return ctx.Err()
		},
	})
	plugin(t, c, "list", "--timeout", "1s").want(t, 1, "",
		"kubectl nsqueue: 1 of 1 node did not answer:\n  n1: no answer within 1s\n")
}

// No more nodes than that are asked at a time, and as many as that.
func TestParallel(t *testing.T) {
	const parallel, nodes = 3, 12
	var mu sync.Mutex
	var together sync.WaitGroup
	together.Add(parallel)
	now, most, begun := 0, 0, 0
	ask := func(context.Context, []string, io.Writer, io.Writer) error {
		mu.Lock()
		now++
		begun++
		most = max(most, now)
		first := begun <= parallel
		mu.Unlock()
		if first { // so many must come together
			together.Done()
			together.Wait()
		}
		mu.Lock()
		now--
		mu.Unlock()
		return nil
	}
	all := map[string]nsqueuectl{}
	for i := range nodes {
		all[fmt.Sprint("n", i)] = ask
	}
	plugin(t, newCluster(all), "list", "--parallel", fmt.Sprint(parallel))
	if most != parallel || begun != nodes {
		t.Errorf("%d at a time, want %d; %d were asked of %d", most, parallel, begun, nodes)
	}
}

// What nodes say cannot reach the terminal as anything but text.
func TestEscaped(t *testing.T) {
	const bad = "\x1b]0;evil\x07"
	c := newCluster(map[string]nsqueuectl{
		"n1": func(_ context.Context, args []string, stdout, stderr io.Writer) error {
			if args[0] == "list" {
				_, err := io.WriteString(stdout, attached(
					`{"containerID":"aa","pod":{"namespace":"d","name":"\u001b]0;evil\u0007"}}`))
				return err
			}
			_, _ = io.WriteString(stdout, "Pod:  "+bad+"\n")
			_, _ = io.WriteString(stderr, bad+"\n")
			return nil
		},
		"n2": func(_ context.Context, _ []string, _, stderr io.Writer) error {
			_, _ = io.WriteString(stderr, "nsqueuectl: "+bad+"\n")
			return &pods.ExitError{Status: 1}
		},
		"n\x1b[2J3": lost(bad),
	})
	outcomes := []outcome{plugin(t, c, "describe", "aa")}
	for _, line := range []string{"list", "list -o json", "watch", "events -f", "status -w"} {
		outcomes = append(outcomes, untilSaid(t, c, "not answer", strings.Fields(line)...))
	}
	for _, o := range outcomes {
		if strings.ContainsAny(o.stdout+o.err, "\x1b\x07") {
			t.Errorf("%q %q", o.stdout, o.err)
		}
	}
}

func TestDescribe(t *testing.T) {
	node := func(list, described string) nsqueuectl {
		return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
			if args[0] == "list" {
				return says(list)(ctx, args, stdout, stderr)
			}
			return says(described)(ctx, args, stdout, stderr)
		}
	}
	c := newCluster(map[string]nsqueuectl{
		"node1": node(attached(attachment("aa", "a1")), ""),
		"node2": node(attached(attachment("bb", "b1")), "Container ID:  bb\n"),
	})
	plugin(t, c, "describe", "default/b1").want(t, 0, "Node:  node2\nContainer ID:  bb\n", "")
	if got := strings.Join(c.asked["node1"], "; "); got != "list -o json" {
		t.Errorf("node1 was asked %q", got)
	}
	if got := c.asked["node2"][1]; got != "describe -- default/b1" {
		t.Errorf("node2 was asked %q", got)
	}
	plugin(t, c, "describe", "default/x").want(t, 1, "",
		"kubectl nsqueue: no node that answers has \"default/x\" attached\n")
	c.nodes["node2"] = node(attached(attachment("bb", "b1")), attached(`{"problem":"p"}`))
	plugin(t, c, "describe", "bb", "-o", "yaml").want(t, 0,
		"attachments:\n- node: node2\n  problem: p\n", "")
}

func TestStatus(t *testing.T) {
	const state = `{"version":"1","started":"2026-01-02T03:00:05Z","failurePolicy":"Fail",` +
		`"hook":{"kind":"nft"},"attachments":2,"counters":{"packets":7},"problems":[],` +
		`"supervisor":{"kind":"supervise"}}`
	c := newCluster(map[string]nsqueuectl{
		"node1": says(state),
		"node2": says(strings.Replace(state, `"problems":[]`,
			`"problems":[{"pod":{"namespace":"a","name":"p"},"containerID":"aa","ifname":"eth0","message":"no reader"}],`+
				`"rules":{"sets":2,"problem":"x.yaml:1: wrong"}`, 1)),
	})
	plugin(t, c, "status").want(t, 0, ""+
		"NODE   VERSION  AGE  POLICY  HOOK  RULES            ATTACHMENTS  PACKETS  DROPPED  REJECTED  UNDELIVERED  PROBLEMS\n"+
		"node1  1        4m   Fail    nft   -                2            7        0        0         0            0\n"+
		"node2  1        4m   Fail    nft   2 (wrong files)  2            7        0        0         0            1\n"+
		"node2: a/p, aa/eth0: no reader; packets pass uninspected\n"+
		"node2: rules: x.yaml:1: wrong\n", "")
	o := plugin(t, c, "status", "--node", "node1", "-o", "json")
	if !strings.HasPrefix(o.stdout, "{\n  \"nodes\": [\n    {\n      \"node\": \"node1\",\n      \"version\": \"1\",") {
		t.Errorf("%q", o.stdout)
	}
}

func TestDoctor(t *testing.T) {
	finding := func(result string) string {
		return fmt.Sprintf(`{"check":"kernel","result":%q,"where":"/w","what":"found","remedy":"mend"}`, result)
	}
	wrong := func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		_ = says(`{"findings":[`+finding("wrong")+","+finding("ok")+`]}`)(ctx, args, stdout, stderr)
		return refuses(1, "nsqueuectl: doctor found 1 problem\n")(ctx, args, stdout, stderr)
	}
	c := newCluster(map[string]nsqueuectl{
		"node1": says(`{"findings":[` + finding("ok") + `]}`), "node2": wrong,
	})
	const head = "NODE   RESULT  CHECK   FINDING\n"
	plugin(t, c, "doctor").want(t, 1, head+"node2  wrong   kernel  /w: found -> mend\n",
		"1 wrong, 2 ok on 2 nodes\nkubectl nsqueue: doctor found 1 problem on 1 node\n")
	plugin(t, c, "doctor", "--node", "node1", "-o", "wide").want(t, 0,
		head+"node1  ok      kernel  /w: found -> mend\n", "1 ok on 1 node\n")
	o := plugin(t, c, "doctor", "-o", "json")
	if o.status != 1 || strings.Count(o.stdout, `"check"`) != 3 {
		t.Errorf("%+v", o)
	}
}

func TestRulesList(t *testing.T) {
	const rules = `{"directory":"/r","sets":[{"name":"s","mode":"Enforce","file":"/r/s.yaml",` +
		`"attachments":1,"rules":[{"name":"r","action":"accept","hits":3}]}],` +
		`"errors":[{"file":"/r/x.yaml","line":2,"column":1,"message":"wrong"}]}`
	c := newCluster(map[string]nsqueuectl{"node1": says(rules), "node2": says(`{"directory":""}`)})
	plugin(t, c, "rules", "list").want(t, 0, ""+
		"NODE   SET  RULE  ACTION  MODE     HITS  LAST HIT  PODS\n"+
		"node1  s    r     accept  Enforce  3     -         1\n"+
		"node1: refused: /r/x.yaml:2:1: wrong\n", "")
	plugin(t, c, "rules", "list", "--node", "node2").want(t, 0, "", "No rules in force.\n")
}

func TestStatsOnce(t *testing.T) {
	loads := func(id string, rate int) string {
		return fmt.Sprintf(`{"time":"2026-01-02T03:04:05Z","seconds":1,"attachments":[{"containerID":%q,`+
			`"ifname":"eth0","pod":{"namespace":"d","name":%q},"packetsPerSecond":%d}]}`, id, id, rate)
	}
	c := newCluster(map[string]nsqueuectl{
		"node1": says(loads("a", 5)), "node2": says(loads("b", 500)), "node3": says(loads("c", 50)),
	})
	plugin(t, c, "stats", "--once", "--limit", "2").want(t, 0, ""+
		"2026-01-02T03:04:05Z  3 nodes, 2 attachments shown\n"+
		"NODE   POD  PACKETS/S  BIT/S  DROP/S  SETTLE/S  US/PKT  WAITING  LOST\n"+
		"node2  d/b  500        0      0       0         0       0        0\n"+
		"node3  d/c  50.0       0      0       0         0       0        0\n", "")
	o := plugin(t, c, "stats", "--once", "-o", "json")
	if o.status != 0 || !strings.Contains(o.stdout, `"node": "node1"`) {
		t.Errorf("%+v", o)
	}
}
