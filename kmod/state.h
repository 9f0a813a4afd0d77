/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_STATE_H
#define NSQ_STATE_H

#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>

#include "config.h"
#include "stats.h"

struct ctl_table;
struct ctl_table_header;

/* One for each netns, from the load of the module or the netns' creation. */
struct nsq_net {
	struct net *net;
	/*
	 * NULL when the netns or the module goes. Also NULL if memory was short
	 * when the netns was created: such a netns cannot be armed.
	 */
	struct nsq_config __rcu *config;
	struct nsq_config *retired; /* the last one, when the netns goes */
	struct nsq_stats __percpu *stats;
	u32 hash_seed;

	/* Held by writers of config and of what follows. */
	struct mutex lock;
	/*
	 * cleared: the directions in which the queue hook clears request bits
	 * that a pod wrote. heeded: those in which the settle hook obeys
	 * requests; the same ones, a grace period later. Neither shrinks while
	 * the netns lives, because a verdict to drop may come when settling is
	 * off again.
	 */
	u8 cleared;
	u8 heeded;
	/* Hooks are registered: from the first arming to the netns' end. */
	bool hooked;
	/* The netns is one of those that keep the module loaded. */
	bool pinned;
	/* Guards stand behind hooks that are gone, see compat/guard.h. */
	bool guarded;

	struct ctl_table *sysctl;
	struct ctl_table_header *sysctl_header;
	bool proc;
};

extern unsigned int nsq_net_id;

static inline struct nsq_net *nsq_net(const struct net *net)
{
	return net_generic(net, nsq_net_id);
}

#endif
