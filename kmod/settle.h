/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_SETTLE_H
#define NSQ_SETTLE_H

#include <linux/bits.h>
#include <linux/netfilter.h>
#include <linux/skbuff.h>

#include "config.h"

/*
 * The bits of a packet's priority in which a verdict requests that the flow be
 * settled: accept or drop, and the generation that the reader knows.
 */
#define NSQ_REQUEST GENMASK(31, 24)
#define NSQ_REQUEST_DROP BIT(31)
#define NSQ_REQUEST_ACCEPT BIT(30)
#define NSQ_REQUEST_SHIFT 24

static inline void nsq_request_clear(struct sk_buff *skb)
{
	if (skb->priority & NSQ_REQUEST)
		skb->priority &= ~NSQ_REQUEST;
}

static inline u8 nsq_direction(const struct nf_hook_state *state)
{
	switch (state->hook) {
	case NF_INET_LOCAL_IN:
		return NSQ_IN;
	case NF_INET_LOCAL_OUT:
		return NSQ_OUT;
	default:
		return NSQ_FORWARD;
	}
}

unsigned int nsq_settle_hook(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state);

#endif
