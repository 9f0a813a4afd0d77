// SPDX-License-Identifier: Apache-2.0

//go:build runtimes

package runtimes

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/nsqueue/nsqueue/test/runtimes/record"
)

// The runtime handlers, each with CNI configurations of its own.
const (
	// recorded is the default: flannel's stock list with nsqueue at its end, as
	// conflist/ has it, and the recording plugin in nsqueue's place.
	recorded = ""
	// direct is the same without the recording plugin, stock without nsqueue.
	direct = "direct"
	stock  = "stock"
	// strict and lenient have failure policy Fail; strict lets no annotation ask
	// for less.
	strict  = "strict"
	lenient = "lenient"
	// broken has a misspelt field.
	broken = "broken"
	// shaped has the bandwidth plugin too.
	shaped = "shaped"
	// dual is a bridge with IPv4 and IPv6, at the specification's newest
	// version that the runtime takes.
	dual = "dual"
	// labeled has a nsqueued of its own, with rules that ask for labels.
	labeled = "labeled"
)

// handlers are those that are not the default.
func handlers() []string {
	all := []string{direct, stock, strict, lenient, broken, shaped, dual, labeled}
	for _, h := range hiddens() {
		all = append(all, h.name)
	}
	return all
}

// netDir is where a handler's CNI configurations are.
func netDir(handler string) string {
	if handler == recorded {
		return "/etc/cni/net.d"
	}
	return "/etc/cni/" + handler
}

// entry is a plugin's entry in a conflist.
type entry = map[string]any

// furnish puts programs and configurations where they belong.
func (n *node) furnish(bin string) error {
	const plugins = "/opt/cni/bin"
	for program, path := range map[string]string{
		"nsqueued":             "/usr/local/sbin/nsqueued",
		"nsqueue":              plugins + "/nsqueue" + record.RealSuffix,
		"test/recorder":        plugins + "/nsqueue",
		"runtimes/bin/flannel": "/usr/local/sbin/flanneld",
	} {
		if err := n.Copy(filepath.Join(bin, program), path); err != nil {
			return err
		}
	}
	programs, err := filepath.Glob(filepath.Join(bin, "cni/[a-z]*"))
	if err != nil {
		return err
	}
	for _, p := range programs {
		if err := os.Symlink(p, n.File(filepath.Join(plugins, filepath.Base(p)))); err != nil {
			return err
		}
	}
	if err := n.configureNetworks(); err != nil {
		return err
	}
	return n.Write("/etc/containerd/config.toml", n.runtimeConfig())
}

// configureNetworks writes each handler's conflist.
func (n *node) configureNetworks() error {
	file, err := os.ReadFile("../../conflist/10-flannel.conflist")
	if err != nil {
		return err
	}
	changes := map[string]func(list map[string]any){
		recorded: func(map[string]any) {},
		direct: func(l map[string]any) {
			last(l)["type"] = "nsqueue" + record.RealSuffix
		},
		stock: func(l map[string]any) {
			l["plugins"] = l["plugins"].([]any)[:2]
		},
		strict: func(l map[string]any) {
			delete(last(l), "podAnnotations")
			last(l)["failurePolicy"] = "Fail"
		},
		lenient: func(l map[string]any) {
			last(l)["failurePolicy"] = "Fail"
		},
		broken: func(l map[string]any) {
			last(l)["failurePolcy"] = "Fail"
		},
		shaped: func(l map[string]any) {
			all := l["plugins"].([]any)
			l["plugins"] = []any{all[0], all[1], entry{
				"type": "bandwidth", "capabilities": map[string]bool{"bandwidth": true},
			}, all[2]}
		},
		dual: n.makeDualStack,
		labeled: func(l map[string]any) {
			last(l)["type"] = "nsqueue" + record.RealSuffix
			last(l)["socket"], last(l)["failurePolicy"] = labeledDir+"/nsqueued.sock", "Fail"
		},
	}
	for _, h := range hiddens() {
		changes[h.name] = func(l map[string]any) {
			last(l)["type"] = "nsqueue" + record.RealSuffix
			last(l)["socket"] = h.dir() + "/nsqueued.sock"
		}
	}
	for handler, change := range changes {
		var list map[string]any
		if err := json.Unmarshal(file, &list); err != nil {
			return err
		}
		change(list)
		b, err := json.MarshalIndent(list, "", "  ")
		if err != nil {
			return err
		}
		if err := n.Write(netDir(handler)+"/10-flannel.conflist", string(b)); err != nil {
			return err
		}
	}
	return nil
}

func last(list map[string]any) entry {
	all := list["plugins"].([]any)
	return all[len(all)-1].(entry)
}

// makeDualStack puts a bridge with two address families in flannel's place.
func (n *node) makeDualStack(list map[string]any) {
	list["name"], list["cniVersion"] = "dual", n.newestSpec()
	list["plugins"].([]any)[0] = entry{
		"type": "bridge", "bridge": "cni1", "isGateway": true, "hairpinMode": true,
		"ipam": entry{
			"type": "host-local",
			"ranges": [][]entry{
				{{"subnet": fmt.Sprintf("10.245.%d.0/24", n.number)}},
				{{"subnet": fmt.Sprintf("fd45:%d::/64", n.number)}},
			},
			"routes": []entry{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
		},
	}
}

// newestSpec is the newest version of the CNI specification that the runtime
// takes; what it is told beyond that, it refuses at each ADD.
func (n *node) newestSpec() string {
	if n.isOld() {
		return "1.0.0"
	}
	return "1.1.0"
}

// isOld tells containerd 1, whose configuration is another.
func (n *node) isOld() bool { return strings.HasPrefix(n.version, "1.") }

// runtimeConfig is containerd's configuration.
func (n *node) runtimeConfig() string {
	var b bytes.Buffer
	runtime := `"io.containerd.grpc.v1.cri"`
	b.WriteString("root = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\n")
	if n.isOld() {
		fmt.Fprintf(&b, "version = 2\n[plugins.%s]\nsandbox_image = %q\n", runtime, podImage)
	} else {
		const images = `"io.containerd.cri.v1.images"`
		runtime = `"io.containerd.cri.v1.runtime"`
		fmt.Fprintf(&b, "version = 3\n[plugins.%s]\nsnapshotter = \"overlayfs\"\n", images)
		fmt.Fprintf(&b, "[plugins.%s.pinned_images]\nsandbox = %q\n", images, podImage)
		fmt.Fprintf(&b, "[plugins.%s]\n", runtime)
	}
	// Without CAP_SYS_RESOURCE nothing can be protected from the OOM killer.
	b.WriteString("restrict_oom_score_adj = true\ndisable_apparmor = true\n")
	bins := `bin_dir = "/opt/cni/bin"`
	if !n.isOld() {
		bins = `bin_dirs = ["/opt/cni/bin"]`
	}
	fmt.Fprintf(&b, "[plugins.%s.cni]\n%s\nconf_dir = %q\n", runtime, bins, netDir(recorded))
	fmt.Fprintf(&b, "[plugins.%s.containerd]\ndefault_runtime_name = \"runc\"\n", runtime)
	for _, h := range append([]string{"runc"}, handlers()...) {
		fmt.Fprintf(&b, "[plugins.%s.containerd.runtimes.%s]\n", runtime, h)
		b.WriteString("runtime_type = \"io.containerd.runc.v2\"\n")
		if h != "runc" {
			fmt.Fprintf(&b, "cni_conf_dir = %q\n", netDir(h))
		}
		fmt.Fprintf(&b, "[plugins.%s.containerd.runtimes.%s.options]\nSystemdCgroup = false\n",
			runtime, h)
	}
	return b.String()
}

// timeout bounds one call.
func timeout() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
