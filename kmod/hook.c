// SPDX-License-Identifier: GPL-2.0
/* The packet path. */

#include <linux/bitmap.h>
#include <linux/netdevice.h>
#include <linux/netfilter.h>
#include <linux/netfilter_ipv4.h>
#include <linux/netfilter_ipv6.h>

#include "compat/guard.h"
#include "flows.h"
#include "hook.h"
#include "packet.h"
#include "params.h"
#include "settle.h"
#include "state.h"

/* One step after conntrack, where a queued packet keeps its connection. */
#define NSQ_PRIORITY (NF_IP_PRI_CONNTRACK + 1)

static bool nsq_on_loopback(const struct nf_hook_state *state)
{
	const struct net_device *dev;

	dev = state->hook == NF_INET_LOCAL_IN ? state->in : state->out;
	return dev && dev->flags & IFF_LOOPBACK;
}

/* ICMP belongs to IPv4 only, ICMPv6 to IPv6 only. */
static bool nsq_protocol_selected(const struct nsq_config *cfg, u8 family,
				  unsigned int protocol)
{
	if (protocol == IPPROTO_ICMP && family != NFPROTO_IPV4)
		return false;
	if (protocol == IPPROTO_ICMPV6 && family != NFPROTO_IPV6)
		return false;
	return test_bit(protocol, cfg->protocols);
}

/*
 * A packet whose headers are cut off could have any protocol. It is selected if
 * any protocol of its family is: better inspected twice than uninspected.
 */
static bool nsq_unknown_selected(const struct nsq_config *cfg, u8 family)
{
	unsigned int protocol;

	for_each_set_bit(protocol, cfg->protocols, NSQ_PROTOCOLS)
		if (nsq_protocol_selected(cfg, family, protocol))
			return true;
	return false;
}

static bool nsq_packet_selected(const struct nsq_config *cfg,
				const struct nsq_packet *pkt)
{
	if (bitmap_full(cfg->protocols, NSQ_PROTOCOLS))
		return true;
	if (!pkt->known)
		return nsq_unknown_selected(cfg, pkt->family);
	return nsq_protocol_selected(cfg, pkt->family, pkt->protocol);
}

/* Neighbours are on the same link: what is forwarded is never exempt. */
static bool nsq_packet_exempt(const struct nsq_packet *pkt,
			      const struct sk_buff *skb, u8 direction)
{
	return direction != NSQ_FORWARD && nsq_packet_is_neighbour(pkt, skb);
}

/* The number of a flow changes only with the netns or its queues. */
static u32 nsq_queue_number(const struct nsq_net *nn,
			    const struct nsq_config *cfg,
			    const struct nsq_packet *pkt,
			    const struct sk_buff *skb)
{
	u32 hash;

	if (cfg->queue_count == 1)
		return cfg->queue_num;
	hash = nsq_packet_hash(pkt, skb, nn->hash_seed);
	return cfg->queue_num + reciprocal_scale(hash, cfg->queue_count);
}

/*
 * Clears requests that the pod wrote: settling may be switched on while the
 * packet waits.
 */
static unsigned int nsq_queue(struct nsq_net *nn, const struct nsq_config *cfg,
			      const struct nsq_packet *pkt, struct sk_buff *skb)
{
	unsigned int verdict;

	nsq_request_clear(skb);
	verdict = NF_QUEUE_NR(nsq_queue_number(nn, cfg, pkt, skb));
	if (!nsq_bypass(cfg)) {
		nsq_count(nn->stats, NSQ_QUEUED);
		return verdict;
	}
	nsq_count(nn->stats, NSQ_QUEUED_BYPASS);
	return verdict | NF_VERDICT_FLAG_QUEUE_BYPASS;
}

/* Returns NF_QUEUE if the packet's flow is not settled. */
static unsigned int nsq_settled(const struct nsq_config *cfg,
				const struct nsq_packet *pkt,
				const struct sk_buff *skb)
{
	struct nsq_flow_key key;

	if (!cfg->flows || !nsq_packet_flow(pkt, skb, &key))
		return NF_QUEUE;
	switch (nsq_packet_opening(pkt, skb, &key)) {
	case NSQ_OPENS:
		nsq_flows_end(cfg->flows, &key);
		return NF_QUEUE;
	case NSQ_OPENS_PERHAPS:
		return NF_QUEUE;
	default:
		return nsq_flows_verdict(cfg->flows, &key);
	}
}

/*
 * The caller holds rcu_read_lock(). The hook changes nothing in the packet but
 * the request bits of its priority, which it clears.
 */
static unsigned int nsq_queue_hook(void *priv, struct sk_buff *skb,
				   const struct nf_hook_state *state)
{
	struct nsq_net *nn = nsq_net(state->net);
	const struct nsq_config *cfg = rcu_dereference(nn->config);
	u8 direction = nsq_direction(state);
	struct nsq_packet pkt;
	unsigned int verdict;

	if (READ_ONCE(nn->cleared) & direction)
		nsq_request_clear(skb);
	/* NULL: the hooks of the netns are being unregistered. */
	if (!cfg || !cfg->enabled)
		return NF_ACCEPT;
	if (!(cfg->directions & direction) || nsq_on_loopback(state))
		goto exempt;
	nsq_packet_parse(&pkt, skb, state->pf);
	if (!nsq_packet_selected(cfg, &pkt) ||
	    nsq_packet_exempt(&pkt, skb, direction))
		goto exempt;
	verdict = nsq_settled(cfg, &pkt, skb);
	if (verdict == NF_QUEUE)
		return nsq_queue(nn, cfg, &pkt, skb);
	nsq_count(nn->stats, NSQ_SETTLED);
	return verdict;
exempt:
	nsq_count(nn->stats, NSQ_EXEMPT);
	return NF_ACCEPT;
}

#define NSQ_HOOK(function, family, where)                         \
	{                                                         \
		.hook = function, .pf = family, .hooknum = where, \
		.priority = NSQ_PRIORITY,                         \
	}

#define NSQ_HOOKS(family, where)                  \
	NSQ_HOOK(nsq_settle_hook, family, where), \
		NSQ_HOOK(nsq_queue_hook, family, where)

/*
 * Of two hooks with the same priority, the one registered later runs first: a
 * packet meets the queue hook, then the settle hook, which trusts the verdict.
 * Nothing that the netns registers afterwards can come between the two.
 */
static const struct nf_hook_ops nsq_hook_ops[] = {
	NSQ_HOOKS(NFPROTO_IPV4, NF_INET_LOCAL_IN),
	NSQ_HOOKS(NFPROTO_IPV4, NF_INET_LOCAL_OUT),
	NSQ_HOOKS(NFPROTO_IPV4, NF_INET_FORWARD),
	NSQ_HOOKS(NFPROTO_IPV6, NF_INET_LOCAL_IN),
	NSQ_HOOKS(NFPROTO_IPV6, NF_INET_LOCAL_OUT),
	NSQ_HOOKS(NFPROTO_IPV6, NF_INET_FORWARD),
};

/* How often to try to register the hooks without another between them. */
#define NSQ_TRIES 5

/* The caller holds rcu_read_lock(). */
static bool nsq_pair_adjoins(const struct net *net,
			     const struct nf_hook_ops *op)
{
	const struct nf_hook_entries *entries;
	int i;

	if (op->pf == NFPROTO_IPV4)
		entries = rcu_dereference(net->nf.hooks_ipv4[op->hooknum]);
	else
		entries = rcu_dereference(net->nf.hooks_ipv6[op->hooknum]);
	for (i = 0; i < entries->num_hook_entries - 1; i++)
		if (entries->hooks[i].hook == nsq_queue_hook)
			return entries->hooks[i + 1].hook == nsq_settle_hook;
	return false;
}

/*
 * Says whether no other hook is between ours. A hook that the netns registers
 * at the same time, with the same priority, may be; a later one cannot.
 */
static bool nsq_hooks_adjoin(const struct net *net)
{
	bool adjoin = true;
	size_t i;

	rcu_read_lock();
	for (i = 0; i < ARRAY_SIZE(nsq_hook_ops) && adjoin; i += 2)
		adjoin = nsq_pair_adjoins(net, &nsq_hook_ops[i]);
	rcu_read_unlock();
	return adjoin;
}

/* In a netns that lives on, so it waits for the guards' end itself. */
static void nsq_hooks_take_back(struct net *net)
{
	bool guarded = nsq_guard_add(net);

	nsq_hooks_unregister(net);
	if (!guarded)
		return;
	synchronize_rcu_expedited();
	nsq_guard_flush(net);
	nsq_guard_barrier();
	nsq_guard_remove(net);
}

/* Returns -EAGAIN if the netns kept registering hooks between ours. */
int nsq_hooks_register(struct net *net)
{
	int err, i;

	for (i = 0; i < NSQ_TRIES; i++) {
		err = nf_register_net_hooks(net, nsq_hook_ops,
					    ARRAY_SIZE(nsq_hook_ops));
		if (err)
			return err;
		if (nsq_hooks_adjoin(net))
			return 0;
		nsq_hooks_take_back(net);
	}
	return -EAGAIN;
}

/* Drops the packets that wait. Takes no longer than the kernel does. */
void nsq_hooks_unregister(struct net *net)
{
	nf_unregister_net_hooks(net, nsq_hook_ops, ARRAY_SIZE(nsq_hook_ops));
}
