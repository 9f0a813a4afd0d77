// SPDX-License-Identifier: Apache-2.0

package shown

import "strings"

// Elsewhere is what test/e2e does not run of the commands that are shown.
type Elsewhere struct {
	// Line is the command; one with a space at its end stands for all that begin
	// with it.
	Line string
	// Why it is not run there.
	Why string
	// Test is what shows that it works, as "dir: TestName"; empty where nothing
	// here can.
	Test string
}

// FindElsewhere says whether, and why, a command is not run by test/e2e.
func FindElsewhere(line string) (Elsewhere, bool) {
	for _, e := range AllElsewhere() {
		if line == e.Line || strings.HasSuffix(e.Line, " ") && strings.HasPrefix(line, e.Line) {
			return e, true
		}
	}
	return Elsewhere{}, false
}

// AllElsewhere returns what test/e2e does not run.
func AllElsewhere() []Elsewhere {
	const (
		builds   = "it builds, or starts all tests of a kind, of which this is one"
		machine  = "it wants a machine with systemd"
		kernel   = "it wants a kernel for the module, which a virtual machine has"
		mention  = "it has a placeholder, or is the name of a command in a sentence"
		firmware = "it wants the machine's firmware"
		restored = "daemon/internal/registry: TestRulesetIsRestoredByTable"
		ruleset  = "it is run in a pod, which has rules of its own"
		release  = "it changes the repository of the project"
		debug    = "it is for the machine of a developer, and goes on"
		ruled    = "it wants rules, which that node has none of"
		runtime  = "it wants a runtime that has Kubernetes' pods"
		registry = "it wants a registry, which these tests have none of"
		cluster  = "it wants Kubernetes, which these tests have none of"
		perf     = "it wants perf, and a kernel that lets it trace"
	)
	return []Elsewhere{
		{"make ", builds, ""},
		{"NSQUEUE_BIN=$PWD/bin go ", builds, "test/damage: TestKilledWorker"},
		{`NSQUEUE_VM_QEMU="-icount shift=0" `, kernel, "test/vm/guest/kmod: TestCost"},
		{"perf ", perf, ""},
		{"ctr -n k8s.io images import ", runtime, "test/runtimes: TestRuntimes"},
		{"skopeo copy --all ", registry, "test/release: TestRelease"},
		{"kubectl -n kube-system exec ", cluster, "test/runtimes: TestRuntimes"},
		{"helm ", cluster, "test/chart: TestProfiles"},
		{"kubectl -n nsqueue-system exec ", cluster, "test/runtimes: TestRuntimes"},
		{"kubectl apply -k OVERLAY", mention, "test/chart: TestComponents"},
		{"kubectl nsqueue ", cluster, "ctl/kubectl: TestWatchInOrder"},
		{"kubectl krew ", cluster, "ctl/kubectl: TestKrew"},
		{"tar -xzf kubectl-nsqueue-VERSION-OS-ARCH.tar.gz ", mention, "ctl/kubectl: TestKrew"},
		{"kubectl ", cluster, "test/chart: TestGeneratedFiles"},
		{"nsqueuectl await-nodes ", cluster, "ctl: TestAwaitNodes"},
		{"nsqueued retire", "it ends what other commands look at", "test/e2e: TestRetire"},
		{
			"nsqueuectl uninstall --wait-lock", "a watch goes on there",
			"ctl: TestWatchEndsWhenRetired",
		},
		{"systemctl ", machine, "test/systemd: TestUnit"},
		{"sudo modprobe nsqueue", kernel, "daemon/internal/hook/kmod: TestLoad"},
		{"sudo nsenter --net=/run/netns/pod1 ", kernel, "test/vm/guest/kmod: TestDirections"},
		{"insmod nsqueue.ko ", kernel, "test/vm/guest/kmod: TestArticle"},
		{
			"echo 1 > /sys/module/nsqueue/parameters/queue_bypass", kernel,
			"test/vm/guest/kmod: TestUnloadRefused",
		},
		{"rmmod nsqueue", kernel, "test/vm/guest/kmod: TestUnloadRefused"},
		{"sudo mokutil ", firmware, ""},
		{"/usr/lib/linux-kbuild-*/scripts/sign-file ", firmware, ""},
		{"nsqueued --rules ", "it goes on, and the node of these tests has a nsqueued", ""},
		{"nsqueued --config FILE", mention, "test/e2e: TestAdopt"},
		{"nsqueued supervise -- FLAGS", mention, "test/damage: TestKilledWorker"},
		{"nsqueued supervise", mention, "test/damage: TestKilledWorker"},
		{
			"nsqueued supervise --runtime-dir=/run/nsqueue-pod ", "it goes on in a container",
			"daemon/internal/supervise: TestTakeAndGiveBack",
		},
		{"nsqueued --adopt-existing", "a second daemon is refused", "test/e2e: TestAdoptExisting"},
		{"nsqueuectl watch --verdict reject --rule ", ruled, "test/e2e: TestRefusalShown"},
		{"nsqueuectl events --verdict reject", ruled, "test/e2e: TestRefusalShown"},
		{"nsqueuectl events --rule ", ruled, "test/e2e: TestRefusalShown"},
		{"nsqueuectl rules list", ruled, "ctl: TestRulesList"},
		{"nsqueuectl rules reload", ruled, "ctl: TestRulesReload"},
		{"nsqueuectl rules check ", ruled, "ctl: TestRulesCheck"},
		{"nsqueuectl rules try ", ruled, "ctl: TestRulesTry"},
		{"nsqueuectl rules test ", ruled, "ctl: TestRulesTest"},
		{"nsqueuectl rules suggest ", ruled, "ctl: TestRulesSuggest"},
		{"nsqueuectl describe", mention, "test/e2e: TestOperatorLooks"},
		{"nsqueuectl watch", mention, "test/e2e: TestOperatorLooks"},
		{"nsqueuectl capture", mention, "test/e2e: TestCapture"},
		{"nsqueuectl attach", mention, "ctl: TestAttach"},
		{"nsqueuectl detach", mention, "ctl: TestDetach"},
		{"nsqueuectl watch --pod NAMESPACE/NAME", mention, "test/e2e: TestOperatorLooks"},
		{"iperf3 -c ADDRESS_OF_THE_OTHER_POD -t 10", mention, ""},
		{"git ", release, ""},
		{"gpg ", release, ""},
		{"go test -run TestFlow ", builds, "daemon/inspect: TestFlow"},
		{"go test -tags netns ", builds, "test/examples: TestDNSOnly"},
		{"sudo bin/nsqueued --socket ", debug, "test/damage: TestKilledWorker"},
		{"sudo bin/nsqueuectl --socket ", debug, "ctl: TestAttach"},
		{"sudo ip netns ", debug, ""},
		{"sudo nsenter --target ", debug, ""},
		{"{ echo 'flush ruleset ip'; ", ruleset, restored},
		{"nft -f rules", ruleset, restored},
	}
}
