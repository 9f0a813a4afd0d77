// SPDX-License-Identifier: GPL-2.0

#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/netfilter.h>
#include <linux/rcupdate.h>
#include <net/net_namespace.h>

#include "compat/guard.h"

#ifdef HAVE_NF_REINJECT

/* Exported, and declared only inside net/netfilter. */
void nf_queue_nf_hook_drop(struct net *net);

static unsigned int nsq_guard(void *priv, struct sk_buff *skb,
			      const struct nf_hook_state *state)
{
	return NF_ACCEPT;
}

#define NSQ_GUARD(family, where)                                   \
	{                                                          \
		.hook = nsq_guard, .pf = family, .hooknum = where, \
		.priority = INT_MAX,                               \
	}

/* The queue hook, the settle hook and defragmentation go: three at most. */
#define NSQ_GUARDS(family, where)                           \
	NSQ_GUARD(family, where), NSQ_GUARD(family, where), \
		NSQ_GUARD(family, where)

static const struct nf_hook_ops nsq_guard_ops[] = {
	NSQ_GUARDS(NFPROTO_IPV4, NF_INET_PRE_ROUTING),
	NSQ_GUARDS(NFPROTO_IPV4, NF_INET_LOCAL_IN),
	NSQ_GUARDS(NFPROTO_IPV4, NF_INET_LOCAL_OUT),
	NSQ_GUARDS(NFPROTO_IPV4, NF_INET_FORWARD),
	NSQ_GUARDS(NFPROTO_IPV6, NF_INET_PRE_ROUTING),
	NSQ_GUARDS(NFPROTO_IPV6, NF_INET_LOCAL_IN),
	NSQ_GUARDS(NFPROTO_IPV6, NF_INET_LOCAL_OUT),
	NSQ_GUARDS(NFPROTO_IPV6, NF_INET_FORWARD),
};

/* Without memory there are none, and the kernel may warn. */
bool nsq_guard_add(struct net *net)
{
	return !nf_register_net_hooks(net, nsq_guard_ops,
				      ARRAY_SIZE(nsq_guard_ops));
}

/* Drops the packets that wait: some have an old number. */
void nsq_guard_flush(struct net *net)
{
	nf_queue_nf_hook_drop(net);
}

/* A queue that its reader has closed is emptied by an RCU callback. */
void nsq_guard_barrier(void)
{
	rcu_barrier();
}

void nsq_guard_remove(struct net *net)
{
	nf_unregister_net_hooks(net, nsq_guard_ops, ARRAY_SIZE(nsq_guard_ops));
}

#endif
