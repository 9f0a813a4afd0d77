/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_STATS_H
#define NSQ_STATS_H

#include <linux/bottom_half.h>
#include <linux/percpu.h>
#include <linux/u64_stats_sync.h>

/* What became of a packet at the queue hook. Each packet counts once. */
enum nsq_outcome {
	NSQ_EXEMPT,
	NSQ_SETTLED, /* passed or dropped with its flow, not queued */
	NSQ_QUEUED, /* without the bypass flag: no reader means drop */
	NSQ_QUEUED_BYPASS, /* with it: no reader means pass */
	NSQ_OUTCOMES,
};

struct nsq_stats {
	u64_stats_t count[NSQ_OUTCOMES];
	struct u64_stats_sync sync;
};

/*
 * The hook runs in softirq. It also runs in process context with bottom halves
 * on (in a local sender, or in the reader whose verdict puts a packet back),
 * where it could interrupt itself or move to another CPU.
 */
static inline void nsq_count(struct nsq_stats __percpu *percpu,
			     enum nsq_outcome outcome)
{
	struct nsq_stats *stats;

	local_bh_disable();
	stats = this_cpu_ptr(percpu);
	u64_stats_update_begin(&stats->sync);
	u64_stats_inc(&stats->count[outcome]);
	u64_stats_update_end(&stats->sync);
	local_bh_enable();
}

#endif
