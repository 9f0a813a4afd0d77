/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_PACKET_H
#define NSQ_PACKET_H

#include <linux/in6.h>
#include <linux/skbuff.h>
#include <linux/types.h>

/* What the headers of a packet say of its transport. */
struct nsq_packet {
	u8 family; /* NFPROTO_IPV4 or NFPROTO_IPV6 */
	bool known; /* false: the headers are cut off; protocol means nothing */
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
