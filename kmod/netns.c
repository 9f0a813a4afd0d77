// SPDX-License-Identifier: GPL-2.0
/* The state of each netns: its lifetime, its configuration, arming. */

#include <linux/printk.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <net/netfilter/ipv4/nf_defrag_ipv4.h>
#include <net/netfilter/ipv6/nf_defrag_ipv6.h>
#include <net/netns/generic.h>

#include "flows.h"
#include "hook.h"
#include "netns.h"
#include "params.h"
#include "proc.h"
#include "sysctl.h"

static unsigned int nsq_net_id __read_mostly;

struct nsq_net *nsq_net(const struct net *net)
{
	return net_generic(net, nsq_net_id);
}

/*
 * Defragmentation is enabled first, so that the queue hook never meets a
 * fragment that the netns would have reassembled. Only nsq_net_unhook() undoes
 * this: unregistering any hook of a netns drops every packet that waits there
 * in a queue.
 */
static int nsq_net_hook(struct nsq_net *nn)
{
	int err;

	lockdep_assert_held(&nn->lock);
	if (nn->hooked)
		return 0;
	err = nf_defrag_ipv4_enable(nn->net);
	if (err)
		return err;
	err = nf_defrag_ipv6_enable(nn->net);
	if (err)
		goto err_ipv4;
	err = nsq_hooks_register(nn->net);
	if (err)
		goto err_ipv6;
	WRITE_ONCE(nn->hooked, true);
	return 0;

err_ipv6:
	nf_defrag_ipv6_disable(nn->net);
err_ipv4:
	nf_defrag_ipv4_disable(nn->net);
	return err;
}

static struct nsq_config *nsq_config_locked(struct nsq_net *nn)
{
	return rcu_dereference_protected(nn->config,
					 lockdep_is_held(&nn->lock));
}

/* The settled flows of @cfg, or NULL if @other has the same ones. */
static struct nsq_flows *nsq_config_own_flows(const struct nsq_config *cfg,
					      const struct nsq_config *other)
{
	return cfg->flows != other->flows ? cfg->flows : NULL;
}

/*
 * Swaps the configuration. If packets may be using the old one, waits until
 * they are done: after a write that disarms, nothing more comes into the queue.
 */
static void nsq_net_publish(struct nsq_net *nn, struct nsq_config *cfg)
{
	struct nsq_config *old = nsq_config_locked(nn);
	struct nsq_flows *flows = nsq_config_own_flows(old, cfg);

	rcu_assign_pointer(nn->config, cfg);
	if (old->enabled || flows)
		synchronize_rcu_expedited();
	nsq_flows_free(flows);
	kfree_rcu(old, rcu);
}

/*
 * The settle hook trusts that the queue hook has cleared requests of the pod.
 * So in directions that are new to settling, clearing starts first; this waits
 * for packets that have passed the queue hook uncleared, then requests are
 * heeded. Packets in the queue have always been cleared.
 */
static void nsq_net_heed(struct nsq_net *nn, const struct nsq_config *cfg)
{
	u8 wanted = nn->cleared | nsq_config_settles(cfg);

	if (wanted == nn->cleared)
		return;
	WRITE_ONCE(nn->cleared, wanted);
	synchronize_rcu_expedited();
	WRITE_ONCE(nn->heeded, wanted);
}

/* Gives @cfg a table of flows if it settles flows and has none. */
static int nsq_config_settle(struct nsq_config *cfg)
{
	struct nsq_flows *flows;

	if (!cfg->generation || cfg->flows)
		return 0;
	flows = nsq_flows_alloc(cfg->settle_timeout, cfg->settle_size);
	if (IS_ERR(flows))
		return PTR_ERR(flows);
	cfg->flows = flows;
	return 0;
}

/* Makes @cfg the configuration of the netns; a failure changes nothing. */
static int nsq_net_replace(struct nsq_net *nn, struct nsq_config *cfg)
{
	int err;

	err = nsq_config_settle(cfg);
	if (err)
		return err;
	if (cfg->enabled) {
		err = nsq_net_hook(nn);
		if (err)
			return err;
	}
	nsq_net_heed(nn, cfg);
	nsq_net_publish(nn, cfg);
	return 0;
}

static int nsq_net_set_locked(struct nsq_net *nn, const struct nsq_field *field,
			      const char *text)
{
	struct nsq_config *cfg;
	int err;

	cfg = kmemdup(nsq_config_locked(nn), sizeof(*cfg), GFP_KERNEL);
	if (!cfg)
		return -ENOMEM;
	err = nsq_config_parse(cfg, field, text);
	if (!err)
		err = nsq_net_replace(nn, cfg);
	if (err) {
		nsq_flows_free(
			nsq_config_own_flows(cfg, nsq_config_locked(nn)));
		kfree(cfg);
	}
	return err;
}

int nsq_net_set(struct nsq_net *nn, const struct nsq_field *field,
		const char *text)
{
	int err;

	mutex_lock(&nn->lock);
	err = nsq_net_set_locked(nn, field, text);
	mutex_unlock(&nn->lock);
	return err;
}

/* Only when nothing can arm the netns again. Drops the packets that wait. */
static void nsq_net_unhook(struct nsq_net *nn)
{
	struct nsq_config *old;

	if (!nn->hooked)
		return;
	old = rcu_replace_pointer(nn->config, NULL, true);
	synchronize_rcu_expedited();
	nsq_flows_free(old->flows);
	kfree(old);
	nsq_hooks_unregister(nn->net);
	nf_defrag_ipv6_disable(nn->net);
	nf_defrag_ipv4_disable(nn->net);
	nn->hooked = false;
}

static bool nsq_net_armed_at_birth(const struct net *net)
{
	if (net_eq(net, &init_net))
		return nsq_default_enabled == NSQ_ARM_EVERY;
	return nsq_default_enabled != NSQ_ARM_NONE;
}

static int nsq_net_alloc(struct nsq_net *nn)
{
	struct nsq_config *cfg;
	int cpu;

	nn->stats = alloc_percpu(struct nsq_stats);
	if (!nn->stats)
		return -ENOMEM;
	for_each_possible_cpu(cpu)
		u64_stats_init(&per_cpu_ptr(nn->stats, cpu)->sync);
	cfg = kmemdup(&nsq_defaults, sizeof(*cfg), GFP_KERNEL);
	if (!cfg)
		return -ENOMEM;
	RCU_INIT_POINTER(nn->config, cfg);
	return 0;
}

static int nsq_net_start(struct nsq_net *nn)
{
	int err;

	err = nsq_net_alloc(nn);
	if (err)
		return err;
	err = nsq_proc_init(nn);
	if (err)
		return err;
	err = nsq_sysctl_init(nn);
	if (err)
		return err;
	if (!nsq_net_armed_at_birth(nn->net))
		return 0;
	return nsq_net_set(nn, &nsq_fields[NSQ_ENABLED], "1");
}

/*
 * Never fails: an error would fail the clone() that creates the netns of a pod.
 * What could not be set up is missing in /proc, where it can be seen.
 */
static int __net_init nsq_net_init(struct net *net)
{
	struct nsq_net *nn = nsq_net(net);
	int err;

	nn->net = net;
	nn->hash_seed = get_random_u32();
	mutex_init(&nn->lock);
	err = nsq_net_start(nn);
	if (err)
		pr_err_ratelimited("netns %u not set up: error %d\n",
				   net->ns.inum, err);
	return 0;
}

/*
 * The files by which the netns could be armed are removed first; both removals
 * wait for calls that are running. The caller lets a grace period pass before
 * nsq_net_exit(), so no packet is in the hook when the memory is freed.
 */
static void __net_exit nsq_net_pre_exit(struct net *net)
{
	struct nsq_net *nn = nsq_net(net);

	nsq_sysctl_clean(nn);
	nsq_proc_clean(nn);
	nsq_net_unhook(nn);
}

static void __net_exit nsq_net_exit(struct net *net)
{
	struct nsq_net *nn = nsq_net(net);
	struct nsq_config *cfg = rcu_dereference_protected(nn->config, true);

	if (cfg)
		nsq_flows_free(cfg->flows);
	kfree(cfg);
	free_percpu(nn->stats);
	mutex_destroy(&nn->lock);
}

static struct pernet_operations nsq_net_ops = {
	.init = nsq_net_init,
	.pre_exit = nsq_net_pre_exit,
	.exit = nsq_net_exit,
	.id = &nsq_net_id,
	.size = sizeof(struct nsq_net),
};

int nsq_netns_setup(void)
{
	return register_pernet_subsys(&nsq_net_ops);
}

void nsq_netns_teardown(void)
{
	unregister_pernet_subsys(&nsq_net_ops);
}
