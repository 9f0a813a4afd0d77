// SPDX-License-Identifier: GPL-2.0
/* /proc/net/nsqueue of each netns: "key: value" lines, new keys at the end. */

#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/seq_file_net.h>
#include <linux/slab.h>

#include "flows.h"
#include "params.h"
#include "proc.h"
#include "state.h"

/* Raised when a key changes its meaning or is removed, not for a new key. */
#define NSQ_INTERFACE 2

#define NSQ_PROC_NAME "nsqueue"

static void nsq_stats_sum(const struct nsq_net *nn, u64 sum[NSQ_OUTCOMES])
{
	const struct nsq_stats *stats;
	u64 one[NSQ_OUTCOMES];
	unsigned int start;
	int cpu, i;

	memset(sum, 0, NSQ_OUTCOMES * sizeof(*sum));
	for_each_possible_cpu(cpu) {
		stats = per_cpu_ptr(nn->stats, cpu);
		do {
			start = u64_stats_fetch_begin(&stats->sync);
			for (i = 0; i < NSQ_OUTCOMES; i++)
				one[i] = u64_stats_read(&stats->count[i]);
		} while (u64_stats_fetch_retry(&stats->sync, start));
		for (i = 0; i < NSQ_OUTCOMES; i++)
			sum[i] += one[i];
	}
}

static void nsq_show_fields(struct seq_file *seq, const struct nsq_config *cfg,
			    char *text, int from, int to)
{
	int i;

	for (i = from; i < to; i++) {
		text[nsq_fields[i].format(cfg, text)] = '\0';
		seq_printf(seq, "%s: %s\n", nsq_fields[i].name, text);
	}
}

static void nsq_show(struct seq_file *seq, const struct nsq_net *nn,
		     const struct nsq_config *cfg, u32 flows, char *text)
{
	u64 sum[NSQ_OUTCOMES];
	u64 queued;

	nsq_stats_sum(nn, sum);
	queued = sum[NSQ_QUEUED] + sum[NSQ_QUEUED_BYPASS];
	seq_printf(seq, "interface: %u\n", NSQ_INTERFACE);
	nsq_show_fields(seq, cfg, text, 0, NSQ_SETTLE_TIMEOUT);
	seq_printf(seq, "hooks: %s\n", READ_ONCE(nn->hooked) ? "yes" : "no");
	seq_printf(seq, "seen: %llu\n",
		   sum[NSQ_EXEMPT] + sum[NSQ_SETTLED] + queued);
	seq_printf(seq, "exempt: %llu\n", sum[NSQ_EXEMPT]);
	seq_printf(seq, "queued: %llu\n", queued);
	seq_printf(seq, "bypassed: %llu\n", sum[NSQ_QUEUED_BYPASS]);
	nsq_show_fields(seq, cfg, text, NSQ_SETTLE_TIMEOUT, NSQ_FIELDS);
	seq_printf(seq, "settled: %llu\n", sum[NSQ_SETTLED]);
	seq_printf(seq, "flows: %u\n", flows);
}

static int nsq_proc_show(struct seq_file *seq, void *v)
{
	const struct nsq_net *nn = nsq_net(seq_file_single_net(seq));
	struct nsq_config cfg;
	char *text;
	u32 flows;

	text = kmalloc(NSQ_TEXT_SIZE, GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	rcu_read_lock();
	cfg = *rcu_dereference(nn->config);
	flows = nsq_flows_count(cfg.flows);
	rcu_read_unlock();
	cfg.bypass = nsq_bypass(&cfg);
	nsq_show(seq, nn, &cfg, flows, text);
	kfree(text);
	return 0;
}

int nsq_proc_init(struct nsq_net *nn)
{
	nn->proc = proc_create_net_single(
		NSQ_PROC_NAME, 0444, nn->net->proc_net, nsq_proc_show, NULL);
	return nn->proc ? 0 : -ENOMEM;
}

/* Waits for running reads; a file that is still open then reads as EIO. */
void nsq_proc_clean(struct nsq_net *nn)
{
	if (nn->proc)
		remove_proc_entry(NSQ_PROC_NAME, nn->net->proc_net);
	nn->proc = false;
}
