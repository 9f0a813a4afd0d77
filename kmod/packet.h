/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_PACKET_H
#define NSQ_PACKET_H

#include <linux/bits.h>
#include <linux/in6.h>
#include <linux/netfilter.h>
#include <linux/skbuff.h>
#include <linux/types.h>

#include "config.h"

/*
 * The bits of a packet's priority in which a verdict requests that the flow be
 * settled: accept or drop, and the generation that the reader knows.
 */
#define NSQ_REQUEST GENMASK(31, 24)
#define NSQ_REQUEST_DROP BIT(31)
#define NSQ_REQUEST_ACCEPT BIT(30)
#define NSQ_REQUEST_SHIFT 24

/* What the headers of a packet say of its transport. */
struct nsq_packet {
	u8 family; /* NFPROTO_IPV4 or NFPROTO_IPV6 */
	bool known; /* false: the headers are cut off or wrong, protocol means nothing */
	bool fragment; /* any fragment, the first one too */
	u8 protocol;
	unsigned int offset; /* of the transport header; not in a fragment */
};

/* One end of a flow: swapping both turns the flow around. */
struct nsq_end {
	struct in6_addr addr;
	__be16 port;
	u8 family; /* this and the next one are the same in both */
	u8 protocol;
};

/* The same for both directions. It has no padding: it is compared as bytes. */
struct nsq_flow_key {
	struct nsq_end end[2];
};

/* What a packet means for a settled flow of the same addresses and ports. */
enum nsq_opening {
	NSQ_OPENS_NOTHING,
	NSQ_OPENS_PERHAPS, /* nothing was decided about this packet */
	NSQ_OPENS, /* nothing was decided about what follows either */
};

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

void nsq_packet_parse(struct nsq_packet *pkt, const struct sk_buff *skb,
		      u8 family);
bool nsq_packet_is_neighbour(const struct nsq_packet *pkt,
			     const struct sk_buff *skb);
bool nsq_packet_flow(const struct nsq_packet *pkt, const struct sk_buff *skb,
		     struct nsq_flow_key *key);
enum nsq_opening nsq_packet_opening(const struct nsq_packet *pkt,
				    const struct sk_buff *skb,
				    const struct nsq_flow_key *key);
u32 nsq_packet_hash(const struct nsq_packet *pkt, const struct sk_buff *skb,
		    u32 seed);

#endif
