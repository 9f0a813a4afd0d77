// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"testing"

	"github.com/nsqueue/nsqueue/daemon/inspect"
	"github.com/nsqueue/nsqueue/daemon/internal/hook"
)

// contract is what every hook must keep.
type contract struct {
	name string
	test func(*testing.T, hook.Hook)
}

// Run runs the contract on h.
func Run(t *testing.T, h hook.Hook) {
	run(t, h, []contract{
		{"no reader drops, bypass passes", testNoReader},
		{"every direction and family is seen", testDirections},
		{"selected directions only", testSelectedDirections},
		{"selected protocols only", testSelectedProtocols},
		{"loopback is never queued", testLoopback},
		{"neighbour discovery is never queued", testNeighbourDiscovery},
		{"ICMPv6 over IPv4 is no neighbour discovery", testSpoofedDiscovery},
		{"disarming loses no waiting packet", testDisarmKeepsWaiting},
		{"re-arming loses no waiting packet", testRearmKeepsWaiting},
		{"fragments are seen once, whole", testFragments},
		{"an origin mark stays", testOriginMark},
		{"who is rejected is told", testReject},
		{"a pod that routes by mark keeps working", testMarkRouting},
		{"a pod with NET_ADMIN cannot remove it", testNetAdmin},
		{"verifying tells the truth", testVerify},
		{"verifying on a tour tells the truth", testVerifyOnTour},
		{"several netns at once", testConcurrent},
		{"closing leaves a persistent hook armed", testClose},
		{"a bad selector changes nothing", testBadSelector},
		{"counters count", testCounters},
		{"removing leaves nothing", testRemove},

		{"neighbour messages are exempt on their link only", testNeighbourMessages},
		{"no forwarded neighbour message is exempt", testNeighbourForward},
		{"multicast listeners report while there is no reader", testListenerReport},

		{"a flow is in one of several queues", testBalance},
		{"packets of a flow stay in order", testBalanceOrder},
		{"fragments are in the queue of their flow", testBalanceFragments},
		{"more and fewer queues lose no waiting packet", testBalanceKeepsWaiting},
		{"queues beyond the last number are refused", testBalanceLimit},
	})
}

// RunSettle runs the part of the contract that is about settled flows on h.
func RunSettle(t *testing.T, h hook.Hook) {
	run(t, h, []contract{
		{"a settled flow passes uninspected", testSettleAccept},
		{"a settled connection passes uninspected", testSettleTCP},
		{"a flow settled by drop is silent", testSettleDrop},
		{"drop wins over accept", testDropWins},
		{"who is rejected is told, though its flow is settled", testRejectSettled},
		{"a settled flow comes back", testSettleTimeout},
		{"another generation sees settled flows again", testGeneration},
		{"another generation loses no waiting packet", testGenerationKeepsWaiting},
		{"a successor keeps flows settled if it is told to", testKeepSettled},
		{"a full table of flows loses nothing", testSettleFull},
		{"an ICMP error settles nothing and is seen", testSettleICMP},
		{"a settled pod that routes by mark keeps working", testSettleMarkRouting},
		{"an origin priority stays", testOriginPriority},
		{"verifying sees how flows are settled", testVerifySettle},

		{"a settled flow of UDP-Lite passes uninspected", settleProtocol(inspect.ProtoUDPLite)},
		{"a settled flow of SCTP passes uninspected", settleProtocol(inspect.ProtoSCTP)},
		{"a settled flow that is forwarded passes uninspected", testSettleForward},

		{"a second connection of a settled flow is seen", testOpenAgain},
		{"a connection of a dropped flow is seen", testOpenDropped},
		{"a SYN is seen and ends its settled flow", testOpenTCP},
		{"what waits before a SYN settles nothing behind it", testOpenWaited},
		{"TCP without its flags is seen", testOpenCutOff},
		{"QUIC's long headers of a settled flow are seen", testOpenQUIC},

		{"a packet to drop is dropped while settling goes off", testGoingOff},
		{"a pod's priority drops nothing while settling is off", testGoneOff},

		{"a pod cannot settle by its sockets", testForgeSocket},
		{"a pod cannot settle by its rules", testForgeRules},
		{"a pod cannot settle by rules that were there first", testForgeEarlyRules},
		{"a pod cannot settle from an unselected direction", testForgeDirection},
		{"a pod cannot settle by what waits", testForgeWaiting},
		{"a pod cannot keep its flow settled", testForgeSettled},
	})
}

func run(t *testing.T, h hook.Hook, tests []contract) {
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, h) })
	}
}
