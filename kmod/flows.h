/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_FLOWS_H
#define NSQ_FLOWS_H

#include <linux/types.h>

struct nsq_flow_key;
struct nsq_flows;

struct nsq_flows *nsq_flows_alloc(u32 timeout_ms, u32 size);
void nsq_flows_free(struct nsq_flows *flows);
unsigned int nsq_flows_verdict(struct nsq_flows *flows,
			       const struct nsq_flow_key *key);
void nsq_flows_settle(struct nsq_flows *flows, const struct nsq_flow_key *key,
		      bool drop);
void nsq_flows_end(struct nsq_flows *flows, const struct nsq_flow_key *key);
u32 nsq_flows_count(const struct nsq_flows *flows);
int nsq_flows_setup(void);
void nsq_flows_teardown(void);

#endif
