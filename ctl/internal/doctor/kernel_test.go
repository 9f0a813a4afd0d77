// SPDX-License-Identifier: Apache-2.0

package doctor_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nsqueue/nsqueue/ctl/internal/doctor"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// What nsqueued has found out by trying is told as it says.
func TestKernelFlaws(t *testing.T) {
	p := newPatient(t)
	p.daemon.Change(func(s *api.Status) {
		s.Hook.Flaws = []api.Flaw{{What: "the module is old", Remedy: "Replace it."}}
	})
	p.want("warning kernel : the module is old")
}

const debianConfig = `# CONFIG_COMMENT=y
CONFIG_NETFILTER_NETLINK_QUEUE=m
CONFIG_NF_TABLES=m
CONFIG_NF_TABLES_INET=y
CONFIG_NFT_TPROXY=m
CONFIG_NFT_QUEUE=m
`

// kernelSays returns what is said of the kernel where no daemon answers, so that
// there are only its options.
func (p *patient) kernelSays() string {
	p.t.Helper()
	report := doctor.Examine(p.t.Context(), p.Options)
	for _, f := range report.Findings {
		if f.Check == "kernel" {
			return string(f.Result) + " " + f.What
		}
	}
	p.t.Fatal("nothing is said of the kernel")
	return ""
}

func (p *patient) wantKernel(want string) {
	p.t.Helper()
	if got := p.kernelSays(); got != want {
		p.t.Errorf("%q, want %q", got, want)
	}
}

func TestKernelOptions(t *testing.T) {
	p := newPatient(t)
	config := filepath.Join(p.Root, "boot/config-"+release)
	p.wantKernel("ok Linux 6.12.5-amd64 has what nsqueued needs for its nftables hook")

	p.write(config, strings.ReplaceAll(debianConfig, "CONFIG_NFT_QUEUE=m", "# not set"))
	const lacks = "wrong Linux 6.12.5-amd64 lacks "
	const queue = "CONFIG_NFT_QUEUE (or CONFIG_NFT_COMPAT and CONFIG_NETFILTER_XT_TARGET_NFQUEUE)"
	p.wantKernel(lacks + queue)
	p.write(config, debianConfig+"CONFIG_NFT_COMPAT=y\nCONFIG_NETFILTER_XT_TARGET_NFQUEUE=y\n")
	p.wantKernel("ok Linux 6.12.5-amd64 has what nsqueued needs for its nftables hook")

	// A module that is built and not installed is not there.
	p.write(config, debianConfig)
	dep := filepath.Join(p.Root, "lib/modules", release, "modules.dep")
	p.write(dep, "kernel/net/netfilter/nfnetlink_queue.ko.xz:\nkernel/nf_tables.ko:\n"+
		"kernel/net/netfilter/nft_tproxy.ko: kernel/nf_tables.ko\n")
	p.wantKernel(lacks + queue)

	// nsqueue.ko needs the queue alone.
	if err := os.MkdirAll(filepath.Join(p.Root, "sys/module/nsqueue"), 0o755); err != nil {
		t.Fatal(err)
	}
	p.wantKernel("ok Linux 6.12.5-amd64 has what nsqueued needs, and nsqueue.ko is loaded")
	p.write(config, "CONFIG_NF_TABLES=y\n")
	p.wantKernel(lacks + "CONFIG_NETFILTER_NETLINK_QUEUE")
}

func TestKernelOptionsPacked(t *testing.T) {
	p := newPatient(t)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte("CONFIG_NF_TABLES=y\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	p.write(filepath.Join(p.Proc, "config.gz"), b.String())
	if got := p.kernelSays(); !strings.HasPrefix(got, "wrong ") ||
		strings.Contains(got, "CONFIG_NF_TABLES,") {
		t.Errorf("%q", got)
	}
	p.write(filepath.Join(p.Proc, "config.gz"), "damaged")
	p.wantKernel("unknown not checked: unpack kernel options: unexpected EOF")
}

func TestOldKernel(t *testing.T) {
	p := newPatient(t)
	p.write(filepath.Join(p.Proc, "sys/kernel/osrelease"), "5.10.0-30\n")
	p.wantKernel("wrong Linux 5.10.0-30 is too old: it has no netns cookies")
	p.write(filepath.Join(p.Proc, "sys/kernel/osrelease"), "6.1.0\n") // has NFT_OBJREF as an option
	p.write(filepath.Join(p.Root, "boot/config-6.1.0"), debianConfig)
	p.wantKernel("wrong Linux 6.1.0 lacks CONFIG_NFT_OBJREF")
	p.write(filepath.Join(p.Proc, "sys/kernel/osrelease"), "6.13.0\n") // no file has its options
	if got := p.kernelSays(); !strings.HasPrefix(got, "unknown not checked: open ") {
		t.Errorf("%q", got)
	}
}

func TestBuffers(t *testing.T) {
	p := newPatient(t)
	p.daemon.Change(func(s *api.Status) {
		s.Buffers = api.Buffers{
			Queues: 300, Wanted: 8 << 20, Each: 2 << 20, Total: 1 << 30, Possible: 425984,
		}
	})
	p.write(filepath.Join(p.Proc, "meminfo"), "MemTotal:  1048576 kB\nMemFree: 7 kB\n")
	p.want("warning buffers : the kernel gives each queue 416 KiB instead of 2 MiB: nsqueued may not exceed "+
		"net.core.rmem_max",
		"warning buffers : 300 queues share 1 GiB: each has 2 MiB instead of 8 MiB",
		"warning buffers : queue.receiveBufferTotal (1 GiB) is more than half of the node's memory "+
			"(1 GiB)")
	p.daemon.Change(func(s *api.Status) { s.Buffers = api.Buffers{} })
	p.want("unknown buffers : not checked: this nsqueued does not report them")
}

// Pods that were set up alike are one finding.
func TestMarks(t *testing.T) {
	p := newPatient(t)
	key := func(id string) api.Key { return api.Key{ContainerID: id, Ifname: "eth0"} }
	rule := api.MarkUse{Where: "ip -4 rule 100", Mask: 0xffffffff}
	for _, id := range []string{"a", "b", "c"} {
		rule.Key = key(id)
		p.daemon.Marked.Uses = append(p.daemon.Marked.Uses, rule)
	}
	p.daemon.Marked.Uses = append(p.daemon.Marked.Uses, api.MarkUse{
		Key: key("a"), Pod: api.Pod{Namespace: "default", Name: "web"},
		Where: "nft ip mangle OUTPUT", Sets: true, Mask: 0x01000001,
	})
	p.daemon.Marked.Unreadable = []string{"d/eth0: there are too many rules"}
	p.want("unknown marks : not checked in d/eth0: there are too many rules",
		"warning marks a/eth0 and 2 more: ip -4 rule 100 matches mark bits 0xffffffff, of which "+
			"0xff000000 are in markMask: it does not match packets that the inspector has marked",
		"warning marks default/web, a/eth0: nft ip mangle OUTPUT changes mark bits 0x01000001, of "+
			"which 0x01000000 are in markMask: the marks of the inspector are lost")
}
