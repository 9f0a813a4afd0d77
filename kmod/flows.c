// SPDX-License-Identifier: GPL-2.0
/* The settled flows of one netns under one generation. */

#include <linux/atomic.h>
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/netfilter.h>
#include <linux/rcupdate.h>
#include <linux/rhashtable.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

#include "flows.h"
#include "packet.h"
#include "params.h"

/*
 * Packets look flows up without a lock. Requests and the sweep change the table
 * under the lock. The table's hash has a random key, and takes a new one when a
 * chain gets long: a pod can choose its ports, but not its buckets.
 */
struct nsq_flows {
	struct rhashtable table;
	struct delayed_work sweep; /* removes expired flows */
	unsigned long timeout; /* of a flow, in jiffies */
	u32 size;
	spinlock_t lock; /* held by whoever changes the table */
	u32 count; /* expired ones too, until they are swept */
};

/* Both directions of one flow. */
struct nsq_flow {
	struct rhash_head node;
	struct nsq_flow_key key;
	/*
	 * When it expires, in jiffies, an even number, and NSQ_FLOW_DROP: one
	 * word, so that no lookup sees a new time with an old verdict.
	 */
	unsigned long state;
	struct rcu_head rcu;
};

#define NSQ_FLOW_DROP 1UL

/* How many flows the sweep looks at in one RCU read section. */
#define NSQ_SWEEP_STEP 1024

static struct kmem_cache *nsq_flow_cache __read_mostly;

/* The flows of all netns that take memory. */
static atomic_t nsq_flows_total = ATOMIC_INIT(0);

static const struct rhashtable_params nsq_flow_params = {
	.head_offset = offsetof(struct nsq_flow, node),
	.key_offset = offsetof(struct nsq_flow, key),
	.key_len = sizeof(struct nsq_flow_key),
	.automatic_shrinking = true,
};

static bool nsq_flow_expired(unsigned long state)
{
	return time_after_eq(jiffies, state);
}

static unsigned long nsq_flow_state(const struct nsq_flows *flows, bool drop)
{
	unsigned long expires = jiffies + flows->timeout + 1;

	return (expires & ~NSQ_FLOW_DROP) | (drop ? NSQ_FLOW_DROP : 0);
}

/*
 * Without an account: a verdict comes in the reader's context, and a pod that
 * opens flows would use up the reader's memory. The bounds of a netns and of the
 * module stand in for it.
 */
static struct nsq_flow *nsq_flow_alloc(void)
{
	struct nsq_flow *flow = NULL;

	if (atomic_inc_return(&nsq_flows_total) <= READ_ONCE(nsq_settle_total))
		flow = kmem_cache_alloc(nsq_flow_cache,
					GFP_ATOMIC | __GFP_NOWARN);
	if (!flow)
		atomic_dec(&nsq_flows_total);
	return flow;
}

static void nsq_flow_free(struct nsq_flow *flow)
{
	kmem_cache_free(nsq_flow_cache, flow);
	atomic_dec(&nsq_flows_total);
}

static void nsq_flow_free_rcu(struct rcu_head *head)
{
	nsq_flow_free(container_of(head, struct nsq_flow, rcu));
}

/* The caller holds rcu_read_lock(). NF_QUEUE: the flow is not settled. */
unsigned int nsq_flows_verdict(struct nsq_flows *flows,
			       const struct nsq_flow_key *key)
{
	const struct nsq_flow *flow;
	unsigned long state;

	flow = rhashtable_lookup(&flows->table, key, nsq_flow_params);
	if (!flow)
		return NF_QUEUE;
	state = READ_ONCE(flow->state);
	if (nsq_flow_expired(state))
		return NF_QUEUE;
	return state & NSQ_FLOW_DROP ? NF_DROP : NF_ACCEPT;
}

/*
 * A full table is not swept sooner: a pod that keeps it full would make the
 * kernel walk it all the time.
 */
static unsigned long nsq_sweep_interval(const struct nsq_flows *flows)
{
	return clamp_t(unsigned long, flows->timeout / 4, HZ / 20, 10 * HZ);
}

static void nsq_sweep_start(struct nsq_flows *flows)
{
	queue_delayed_work(system_power_efficient_wq, &flows->sweep,
			   nsq_sweep_interval(flows));
}

/* If there is no room or no memory, the flow stays queued. */
static void nsq_flow_add(struct nsq_flows *flows,
			 const struct nsq_flow_key *key, bool drop)
{
	struct nsq_flow *flow;

	if (flows->count >= flows->size)
		return;
	flow = nsq_flow_alloc();
	if (!flow)
		return;
	flow->key = *key;
	flow->state = nsq_flow_state(flows, drop);
	if (rhashtable_insert_fast(&flows->table, &flow->node,
				   nsq_flow_params)) {
		nsq_flow_free(flow);
		return;
	}
	if (!flows->count)
		nsq_sweep_start(flows);
	WRITE_ONCE(flows->count, flows->count + 1);
}

/* Drop wins over accept, in whichever order the requests come. */
static void nsq_flow_renew(const struct nsq_flows *flows, struct nsq_flow *flow,
			   bool drop)
{
	if (!drop && flow->state & NSQ_FLOW_DROP &&
	    !nsq_flow_expired(flow->state))
		return;
	WRITE_ONCE(flow->state, nsq_flow_state(flows, drop));
}

/* The caller holds rcu_read_lock(). */
void nsq_flows_settle(struct nsq_flows *flows, const struct nsq_flow_key *key,
		      bool drop)
{
	struct nsq_flow *flow;

	spin_lock_bh(&flows->lock);
	flow = rhashtable_lookup(&flows->table, key, nsq_flow_params);
	if (flow)
		nsq_flow_renew(flows, flow, drop);
	else
		nsq_flow_add(flows, key, drop);
	spin_unlock_bh(&flows->lock);
}

static void nsq_flow_remove(struct nsq_flows *flows, struct nsq_flow *flow)
{
	lockdep_assert_held(&flows->lock);
	if (rhashtable_remove_fast(&flows->table, &flow->node, nsq_flow_params))
		return; /* it is already removed */
	WRITE_ONCE(flows->count, flows->count - 1);
	call_rcu(&flow->rcu, nsq_flow_free_rcu);
}

/*
 * From now on the flow is queued again. The caller holds rcu_read_lock(). Most
 * packets that come here have no settled flow, and take no lock.
 */
void nsq_flows_end(struct nsq_flows *flows, const struct nsq_flow_key *key)
{
	struct nsq_flow *flow;

	if (!rhashtable_lookup(&flows->table, key, nsq_flow_params))
		return;
	spin_lock_bh(&flows->lock);
	flow = rhashtable_lookup(&flows->table, key, nsq_flow_params);
	if (flow)
		nsq_flow_remove(flows, flow);
	spin_unlock_bh(&flows->lock);
}

/* A request may have renewed the flow since the look without the lock. */
static void nsq_flow_remove_expired(struct nsq_flows *flows,
				    struct nsq_flow *flow)
{
	spin_lock_bh(&flows->lock);
	if (nsq_flow_expired(flow->state))
		nsq_flow_remove(flows, flow);
	spin_unlock_bh(&flows->lock);
}

/* Says whether there may be more. A walk restarts when the table grows. */
static bool nsq_sweep_some(struct nsq_flows *flows,
			   struct rhashtable_iter *iter)
{
	struct nsq_flow *flow;
	int i;

	for (i = 0; i < NSQ_SWEEP_STEP; i++) {
		flow = rhashtable_walk_next(iter);
		if (!flow)
			return false;
		if (IS_ERR(flow))
			continue;
		if (nsq_flow_expired(READ_ONCE(flow->state)))
			nsq_flow_remove_expired(flows, flow);
	}
	return true;
}

static void nsq_sweep(struct work_struct *work)
{
	struct nsq_flows *flows =
		container_of(to_delayed_work(work), struct nsq_flows, sweep);
	struct rhashtable_iter iter;
	bool more;

	rhashtable_walk_enter(&flows->table, &iter);
	do {
		rhashtable_walk_start(&iter);
		more = nsq_sweep_some(flows, &iter);
		rhashtable_walk_stop(&iter);
		cond_resched();
	} while (more);
	rhashtable_walk_exit(&iter);

	spin_lock_bh(&flows->lock);
	if (flows->count)
		nsq_sweep_start(flows);
	spin_unlock_bh(&flows->lock);
}

u32 nsq_flows_count(const struct nsq_flows *flows)
{
	return flows ? READ_ONCE(flows->count) : 0;
}

struct nsq_flows *nsq_flows_alloc(u32 timeout_ms, u32 size)
{
	struct nsq_flows *flows;
	int err;

	flows = kzalloc(sizeof(*flows), GFP_KERNEL);
	if (!flows)
		return ERR_PTR(-ENOMEM);
	err = rhashtable_init(&flows->table, &nsq_flow_params);
	if (err) {
		kfree(flows);
		return ERR_PTR(err);
	}
	flows->timeout = msecs_to_jiffies(timeout_ms);
	flows->size = size;
	spin_lock_init(&flows->lock);
	INIT_DELAYED_WORK(&flows->sweep, nsq_sweep);
	return flows;
}

static void nsq_flow_destroy(void *flow, void *unused)
{
	nsq_flow_free(flow);
}

/* Only when no packet can find @flows, and a grace period after that. */
void nsq_flows_free(struct nsq_flows *flows)
{
	if (!flows)
		return;
	cancel_delayed_work_sync(&flows->sweep);
	rhashtable_free_and_destroy(&flows->table, nsq_flow_destroy, NULL);
	kfree(flows);
}

int __init nsq_flows_setup(void)
{
	nsq_flow_cache = KMEM_CACHE(nsq_flow, 0);
	return nsq_flow_cache ? 0 : -ENOMEM;
}

/* Only when all netns have freed their flows. */
void nsq_flows_teardown(void)
{
	rcu_barrier(); /* of nsq_flow_free_rcu() */
	kmem_cache_destroy(nsq_flow_cache);
}
