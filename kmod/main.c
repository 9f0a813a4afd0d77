// SPDX-License-Identifier: GPL-2.0
/*
 * nsqueue: sends the packets of chosen network namespaces to their NFQUEUE.
 * This file has the lives of the module and of what it has in each netns. Each
 * other file uses only those before it: pin, config, params, packet, flows,
 * state and stats, settle, hook, arm, sysctl, proc.
 */

#include <linux/init.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/printk.h>
#include <linux/random.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <net/net_namespace.h>

#include "arm.h"
#include "compat/guard.h"
#include "flows.h"
#include "params.h"
#include "proc.h"
#include "state.h"
#include "sysctl.h"

unsigned int nsq_net_id __read_mostly;

/*
 * An error would fail the clone() that creates the netns of a pod. What could
 * not be set up is missing in /proc, where it can be seen.
 */
static void __net_init nsq_net_report(const struct net *net, int err)
{
	if (err)
		pr_err_ratelimited("netns %u not set up: error %d\n",
				   net->ns.inum, err);
}

/* Charged to the creator: any user may create a netns in a user namespace. */
static int __net_init nsq_net_alloc(struct nsq_net *nn)
{
	struct nsq_config *cfg;
	int cpu;

	nn->stats = alloc_percpu_gfp(struct nsq_stats, GFP_KERNEL_ACCOUNT);
	if (!nn->stats)
		return -ENOMEM;
	for_each_possible_cpu(cpu)
		u64_stats_init(&per_cpu_ptr(nn->stats, cpu)->sync);
	cfg = kmemdup(&nsq_defaults, sizeof(*cfg), GFP_KERNEL_ACCOUNT);
	if (!cfg)
		return -ENOMEM;
	RCU_INIT_POINTER(nn->config, cfg);
	return 0;
}

static int __net_init nsq_state_init(struct net *net)
{
	struct nsq_net *nn = nsq_net(net);

	nn->net = net;
	nn->hash_seed = get_random_u32();
	mutex_init(&nn->lock);
	nsq_net_report(net, nsq_net_alloc(nn));
	return 0;
}

static void __net_exit nsq_state_pre_exit(struct net *net)
{
	nsq_net_unhook(nsq_net(net));
}

static void __net_exit nsq_net_free(struct nsq_net *nn)
{
	if (nn->guarded)
		nsq_guard_remove(nn->net);
	if (nn->retired)
		nsq_flows_free(nn->retired->flows);
	kfree(nn->retired);
	free_percpu(nn->stats);
	mutex_destroy(&nn->lock);
}

/* The caller has let a grace period pass since the hooks went. */
static void __net_exit nsq_state_exit(struct list_head *nets)
{
	bool guarded = false;
	struct net *net;

	list_for_each_entry(net, nets, exit_list) {
		if (!nsq_net(net)->guarded)
			continue;
		nsq_guard_flush(net);
		guarded = true;
	}
	if (guarded)
		nsq_guard_barrier();
	list_for_each_entry(net, nets, exit_list)
		nsq_net_free(nsq_net(net));
}

static struct pernet_operations nsq_state_ops = {
	.init = nsq_state_init,
	.pre_exit = nsq_state_pre_exit,
	.exit_batch = nsq_state_exit,
	.id = &nsq_net_id,
	.size = sizeof(struct nsq_net),
};

static bool __net_init nsq_net_armed_at_birth(const struct net *net)
{
	if (net_eq(net, &init_net))
		return nsq_default_enabled == NSQ_ARM_EVERY;
	return nsq_default_enabled != NSQ_ARM_NONE;
}

static int __net_init nsq_net_open(struct nsq_net *nn)
{
	int err;

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

static int __net_init nsq_files_init(struct net *net)
{
	struct nsq_net *nn = nsq_net(net);

	if (rcu_access_pointer(nn->config))
		nsq_net_report(net, nsq_net_open(nn));
	return 0;
}

/* The removal of a file waits for calls that are running. */
static void __net_exit nsq_files_pre_exit(struct net *net)
{
	struct nsq_net *nn = nsq_net(net);

	nsq_sysctl_clean(nn);
	nsq_proc_clean(nn);
	nsq_net_retire(nn);
}

static struct pernet_operations nsq_files_ops = {
	.init = nsq_files_init,
	.pre_exit = nsq_files_pre_exit,
};

/*
 * The files come last and go first. When the module goes, the kernel lets a
 * grace period pass between the two, so that no packet is in a hook of ours when
 * that is unregistered. When a netns goes, the first grace period is the one
 * before nsq_state_exit(): there may be packets in the hook, but a reader keeps
 * its netns, so no queue takes them.
 */
static int __init nsq_netns_setup(void)
{
	int err;

	err = register_pernet_subsys(&nsq_state_ops);
	if (err)
		return err;
	err = register_pernet_subsys(&nsq_files_ops);
	if (err)
		unregister_pernet_subsys(&nsq_state_ops);
	return err;
}

static int __init nsq_init(void)
{
	int err;

	err = nsq_flows_setup();
	if (err)
		return err;
	err = nsq_netns_setup();
	if (err) {
		nsq_flows_teardown();
		return err;
	}
	pr_info("version " NSQ_VERSION " loaded\n");
	return 0;
}

/* The guards go last: packets may be in them until a grace period has passed. */
static void __exit nsq_exit(void)
{
	unregister_pernet_subsys(&nsq_files_ops);
	unregister_pernet_subsys(&nsq_state_ops);
	synchronize_rcu();
	nsq_flows_teardown();
	pr_info("unloaded\n");
}

module_init(nsq_init);
module_exit(nsq_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("NFQUEUE inspection for network namespaces");
MODULE_AUTHOR("The nsqueue authors");
MODULE_VERSION(NSQ_VERSION);
