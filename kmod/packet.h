/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_PACKET_H
#define NSQ_PACKET_H

#include <linux/skbuff.h>
#include <linux/types.h>

/* The transport of a packet, as far as its headers tell. */
struct nsq_packet {
	u8 family; /* NFPROTO_IPV4 or NFPROTO_IPV6 */
	bool known; /* false: the headers are cut off; protocol means nothing */
	bool fragment; /* any fragment, the first one too */
	u8 protocol;
	unsigned int offset; /* of the transport header; not in a fragment */
};

void nsq_packet_parse(struct nsq_packet *pkt, const struct sk_buff *skb,
		      u8 family);
bool nsq_packet_is_neighbour(const struct nsq_packet *pkt,
			     const struct sk_buff *skb);
u32 nsq_packet_hash(const struct nsq_packet *pkt, const struct sk_buff *skb,
		    u32 seed);

#endif
