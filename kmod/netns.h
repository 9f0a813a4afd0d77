/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_NETNS_H
#define NSQ_NETNS_H

#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <net/net_namespace.h>

#include "config.h"
#include "stats.h"

struct ctl_table;
struct ctl_table_header;

/* One for each netns, from the load of the module or the netns' creation. */
struct nsq_net {
	struct net *net;
	/*
	 * NULL while the hooks are unregistered. Also NULL if memory was short
	 * when the netns was created: such a netns cannot be armed.
	 */
	struct nsq_config __rcu *config;
	struct nsq_stats __percpu *stats;
	u32 hash_seed;

	/* Held by writers of config, cleared, heeded and hooked. */
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

	struct ctl_table *sysctl;
	struct ctl_table_header *sysctl_header;
	bool proc;
};

struct nsq_net *nsq_net(const struct net *net);
int nsq_net_set(struct nsq_net *nn, const struct nsq_field *field,
		const char *text);
int nsq_netns_setup(void);
void nsq_netns_teardown(void);

#endif
