// SPDX-License-Identifier: GPL-2.0
/* The hook behind the queue: it settles flows as verdicts request. */

#include <linux/capability.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/user_namespace.h>

#include "flows.h"
#include "packet.h"
#include "settle.h"
#include "state.h"

/*
 * A verdict puts its packet back in the context of the reader that gave it.
 * The queue hook has cleared the request bits that a pod wrote, but a pod has
 * one way around that hook. While a packet waits in a queue of the pod's, the
 * pod adds hooks, which moves all later ones; the packet then continues at the
 * same index, which is now the settle hook's. This happens in the pod's
 * context, in a softirq, or in a kernel thread that may do anything. So a
 * request counts only from a program that may write the sysctls.
 */
static bool nsq_reader_trusted(void)
{
	return in_task() && !(current->flags & PF_KTHREAD) &&
	       ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
}

static u32 nsq_request(const struct nsq_config *cfg, bool drop)
{
	return (drop ? NSQ_REQUEST_DROP : NSQ_REQUEST_ACCEPT) |
	       cfg->generation << NSQ_REQUEST_SHIFT;
}

/* Says whether @request settles flows of this direction now. */
static bool nsq_request_counts(const struct nsq_config *cfg, u32 request,
			       u8 direction)
{
	if (!cfg || !(nsq_config_settles(cfg) & direction))
		return false;
	return request == nsq_request(cfg, request & NSQ_REQUEST_DROP) &&
	       nsq_reader_trusted();
}

static void nsq_settle(const struct nsq_config *cfg, const struct sk_buff *skb,
		       u8 family, bool drop)
{
	struct nsq_flow_key key;
	struct nsq_packet pkt;

	nsq_packet_parse(&pkt, skb, family);
	if (nsq_packet_flow(&pkt, skb, &key))
		nsq_flows_settle(cfg->flows, &key, drop);
}

/*
 * The queue hook has ended the flow of a packet that opens a connection. While
 * the packet waited, the verdict of an earlier connection's packet may have
 * settled the flow again. It was not about the new connection, so end it again.
 */
static void nsq_settle_anew(const struct nsq_config *cfg,
			    const struct sk_buff *skb, u8 family)
{
	struct nsq_flow_key key;
	struct nsq_packet pkt;

	nsq_packet_parse(&pkt, skb, family);
	if (pkt.protocol == IPPROTO_TCP && nsq_packet_flow(&pkt, skb, &key) &&
	    nsq_packet_opening(&pkt, skb, &key) == NSQ_OPENS)
		nsq_flows_end(cfg->flows, &key);
}

/*
 * The caller holds rcu_read_lock(). A request to drop comes with a verdict that
 * accepts, so this hook drops the packet, whether the request settles its flow
 * or not.
 */
unsigned int nsq_settle_hook(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state)
{
	struct nsq_net *nn = nsq_net(state->net);
	const struct nsq_config *cfg = rcu_dereference(nn->config);
	u8 direction = nsq_direction(state);
	u32 request;
	bool drop;

	if (!(READ_ONCE(nn->heeded) & direction))
		return NF_ACCEPT;
	if (cfg && nsq_config_settles(cfg) & direction)
		nsq_settle_anew(cfg, skb, state->pf);
	request = skb->priority & NSQ_REQUEST;
	if (likely(!request))
		return NF_ACCEPT;
	nsq_request_clear(skb);
	drop = request & NSQ_REQUEST_DROP;
	if (nsq_request_counts(cfg, request, direction))
		nsq_settle(cfg, skb, state->pf, drop);
	return drop ? NF_DROP : NF_ACCEPT;
}
