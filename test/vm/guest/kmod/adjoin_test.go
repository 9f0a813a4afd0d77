// SPDX-License-Identifier: Apache-2.0

//go:build vmguest

package kmod

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nsqueue/nsqueue/test/nstest"
)

// crowdChains are what a pod adds in one transaction, each with a hook at
// LOCAL_OUT and of our priority. Together with the hooks of others they are
// below the kernel's limit of 1024.
const crowdChains = 200

// tables sends transactions of nf_tables in the netns where it was opened.
type tables struct{ fd int }

func (n *netns) openTables(t *testing.T) *tables {
	t.Helper()
	b := &tables{}
	n.must(t, func() (err error) {
		b.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC,
			unix.NETLINK_NETFILTER)
		return err
	})
	t.Cleanup(func() { nstest.Must(t, unix.Close(b.fd)) })
	nstest.Must(t, unix.SetsockoptInt(b.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20))
	return b
}

func tablesMessage(kind, flags uint16, attrs ...[]byte) []byte {
	body := slices.Concat(append([][]byte{{unix.AF_INET, 0, 0, 0}}, attrs...)...)
	return message(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_REQUEST|flags, body)
}

func number(kind uint16, n int32) []byte {
	return attr(kind, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

func text(kind uint16, s string) []byte { return attr(kind, append([]byte(s), 0)) }

// crowdTransaction adds the table "crowd" and its chains.
func crowdTransaction() []byte {
	limit := binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, unix.NFNL_SUBSYS_NFTABLES)
	out := message(unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, limit)
	out = append(out, tablesMessage(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE,
		text(unix.NFTA_TABLE_NAME, "crowd"))...)
	hook := slices.Concat(number(unix.NFTA_HOOK_HOOKNUM, hookOut),
		number(unix.NFTA_HOOK_PRIORITY, -199))
	for i := range crowdChains {
		out = append(out, tablesMessage(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE,
			text(unix.NFTA_CHAIN_TABLE, "crowd"),
			text(unix.NFTA_CHAIN_NAME, fmt.Sprint("c", i)),
			attr(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, hook),
			text(unix.NFTA_CHAIN_TYPE, "filter"))...)
	}
	return append(out, message(unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, limit)...)
}

// A pod that adds hooks while it is armed for the first time has none between
// ours: there it could make the reader's verdicts ask for what the pod wants.
func TestArmAmongNewHooks(t *testing.T) {
	const rounds = 10
	unloadAtEnd(t)
	n := newNode(t)
	p := n.newPod(t)
	f := newFlow(t, n, p, false)
	transaction := crowdTransaction()
	b := p.openTables(t)
	var rules strings.Builder
	for i := range crowdChains {
		fmt.Fprintf(&rules, "add rule ip crowd c%d meta priority set %#x\n", i, requestAccept)
	}
	for range rounds {
		nstest.Must(t, insmod("directions=out protocols=udp"))
		p.set(t, "generation", "1")
		added := make(chan error, 1)
		go func() {
			_, err := unix.Write(b.fd, transaction)
			added <- err
		}()
		p.set(t, "enabled", "1")
		nstest.Must(t, <-added)
		p.Run(t, "nft", rules.String())
		testNotBetween(t, f, p)
		nstest.Must(t, rmmod())
		p.Run(t, "nft", "delete table ip crowd")
	}
}

// testNotBetween sends packets whose verdicts ask for nothing.
func testNotBetween(t *testing.T, f *flow, p *pod) {
	t.Helper()
	r, err := p.openQueue(80)
	nstest.Must(t, err)
	stop := r.serve(nil)
	f.out(t, []byte("x"))
	if received(t, f.node, 1) != 1 {
		t.Error("the packet was not delivered")
	}
	nstest.Eventually(t, patience, "the packet has its verdict", func() bool {
		return r.answered.Load() == 1
	})
	stop()
	nstest.Must(t, r.Close())
	if got := p.status(t)["flows"]; got != "0" {
		t.Errorf("the pod has settled %s flows", got)
	}
}
