/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All differences between the supported kernels. probe.sh finds out what a
 * kernel has by compiling, never by the version number: stable and distribution
 * kernels carry later interfaces under an old number.
 */
#ifndef NSQ_COMPAT_H
#define NSQ_COMPAT_H

#include <linux/rcupdate.h>
#include <linux/sysctl.h>
#include <net/net_namespace.h>

#include "compat/have.h"

#ifdef HAVE_CONST_CTL_TABLE
typedef const struct ctl_table nsq_ctl_table;
#else
typedef struct ctl_table nsq_ctl_table;
#endif

/* @table has an empty entry behind its @n, for kernels that expect one. */
static inline struct ctl_table_header *
nsq_register_sysctl(struct net *net, const char *path, struct ctl_table *table,
		    size_t n)
{
#ifdef HAVE_REGISTER_NET_SYSCTL_SZ
	return register_net_sysctl_sz(net, path, table, n);
#else
	return register_net_sysctl(net, path, table);
#endif
}

#ifdef HAVE_NF_REINJECT
/* Exported, and declared only inside net/netfilter. */
void nf_queue_nf_hook_drop(struct net *net);
#endif

/*
 * Call this before unregistering the hooks of a netns, when they queue nothing.
 * Unregistering drops the packets that wait. Kernels that export nf_reinject()
 * do so when the hook is already gone, and warn about it. So on these the
 * packets are dropped while the hook is there: first those of queues that were
 * just closed, which an RCU callback drops.
 */
static inline void nsq_drop_waiting(struct net *net)
{
#ifdef HAVE_NF_REINJECT
	rcu_barrier();
	nf_queue_nf_hook_drop(net);
#endif
}

#endif
