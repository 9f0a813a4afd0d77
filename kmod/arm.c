// SPDX-License-Identifier: GPL-2.0
/* Changes the configuration of a netns, and so arms and disarms it. */

#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <net/net_namespace.h>
#include <net/netfilter/ipv4/nf_defrag_ipv4.h>
#include <net/netfilter/ipv6/nf_defrag_ipv6.h>

#include "arm.h"
#include "compat/guard.h"
#include "flows.h"
#include "hook.h"
#include "pin.h"
#include "state.h"

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

static bool nsq_config_pins(const struct nsq_config *cfg)
{
	return cfg && cfg->enabled && !cfg->bypass;
}

static int nsq_net_pin(struct nsq_net *nn, const struct nsq_config *cfg)
{
	int err;

	if (nn->pinned || !nsq_config_pins(cfg))
		return 0;
	err = nsq_pin();
	nn->pinned = !err;
	return err;
}

static void nsq_net_unpin(struct nsq_net *nn, const struct nsq_config *cfg)
{
	if (!nn->pinned || nsq_config_pins(cfg))
		return;
	nsq_unpin();
	nn->pinned = false;
}

/*
 * Makes @cfg the configuration of the netns. A failure leaves the configuration
 * as it was; hooks that are registered already stay, and do nothing.
 */
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
	err = nsq_net_pin(nn, cfg);
	if (err)
		return err;
	nsq_net_heed(nn, cfg);
	nsq_net_publish(nn, cfg);
	nsq_net_unpin(nn, cfg);
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

/*
 * Only when nothing can arm the netns again. Packets may still be using the
 * configuration, and have to be done when the caller frees it.
 */
void nsq_net_retire(struct nsq_net *nn)
{
	mutex_lock(&nn->lock);
	nn->retired = rcu_replace_pointer(nn->config, NULL,
					  lockdep_is_held(&nn->lock));
	nsq_net_unpin(nn, NULL);
	mutex_unlock(&nn->lock);
}

/* Only for a netns that is retired. Drops the packets that wait. */
void nsq_net_unhook(struct nsq_net *nn)
{
	if (!nn->hooked)
		return;
	nn->guarded = nsq_guard_add(nn->net);
	nsq_hooks_unregister(nn->net);
	nf_defrag_ipv6_disable(nn->net);
	nf_defrag_ipv4_disable(nn->net);
	nn->hooked = false;
}
