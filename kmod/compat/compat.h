/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The differences between the kernels we build for, all of them. What a kernel
 * has is found by compiling (probe.sh), never by its version number: stable
 * and distribution kernels carry later interfaces under an old number.
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

/* @table has one empty entry behind its @n, for kernels that look for it. */
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
 * To be called before the hooks of a netns go, when they queue nothing any
 * more. Unregistering drops what waits; where nf_reinject() is a function of
 * its own it does so with the hook already gone, and the kernel warns about
 * that. So they are dropped while the hook is there: first those of queues that
 * were closed a moment ago, whose turn comes in an RCU callback.
 */
static inline void nsq_drop_waiting(struct net *net)
{
#ifdef HAVE_NF_REINJECT
	rcu_barrier();
	nf_queue_nf_hook_drop(net);
#endif
}

#endif
