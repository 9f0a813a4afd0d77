// SPDX-License-Identifier: GPL-2.0
/* Parses packets for the hooks. Only reads, and works on any skb. */

#include <linux/icmpv6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/jhash.h>
#include <linux/netfilter.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <net/ip.h>
#include <net/ipv6.h>
#include <net/ndisc.h>

#include "packet.h"

#define NSQ_QUIC_PORT 443

static void nsq_packet_parse4(struct nsq_packet *pkt, const struct sk_buff *skb)
{
	const struct iphdr *iph = ip_hdr(skb);

	/* A raw socket may send a length that would end inside the header. */
	pkt->known = iph->ihl * 4 >= sizeof(*iph);
	pkt->fragment = ip_is_fragment(iph);
	pkt->protocol = iph->protocol;
	pkt->offset = skb_network_offset(skb) + iph->ihl * 4;
}

static void nsq_packet_parse6(struct nsq_packet *pkt, const struct sk_buff *skb)
{
	unsigned int offset = 0;
	unsigned short fragoff;
	int flags = 0;
	int protocol;

	protocol = ipv6_find_hdr(skb, &offset, -1, &fragoff, &flags);
	pkt->known = protocol >= 0;
	pkt->fragment = flags & IP6_FH_F_FRAG;
	pkt->protocol = protocol;
	pkt->offset = offset;
}

void nsq_packet_parse(struct nsq_packet *pkt, const struct sk_buff *skb,
		      u8 family)
{
	pkt->family = family;
	if (family == NFPROTO_IPV4)
		nsq_packet_parse4(pkt, skb);
	else
		nsq_packet_parse6(pkt, skb);
}

/* The hop limit of ICMPv6 messages of this type on their link, or 0. */
static u8 nsq_neighbour_hop_limit(u8 type)
{
	switch (type) {
	case NDISC_ROUTER_SOLICITATION:
	case NDISC_ROUTER_ADVERTISEMENT:
	case NDISC_NEIGHBOUR_SOLICITATION:
	case NDISC_NEIGHBOUR_ADVERTISEMENT:
	case NDISC_REDIRECT:
		return 255;
	case ICMPV6_MGM_QUERY:
	case ICMPV6_MGM_REPORT:
	case ICMPV6_MGM_REDUCTION:
	case ICMPV6_MLD2_REPORT:
		return 1;
	}
	return 0;
}

/*
 * Neighbour discovery and multicast listener discovery: without them a pod is
 * unreachable, even if all other packets pass. A message with another hop limit
 * may come from another link, one with another code is unknown, and RFC 6980
 * forbids fragments: none of these is exempt, nor is a message whose type
 * cannot be read.
 */
bool nsq_packet_is_neighbour(const struct nsq_packet *pkt,
			     const struct sk_buff *skb)
{
	u8 buffer[2];
	const u8 *icmp; /* type and code */
	u8 limit;

	if (pkt->family != NFPROTO_IPV6 || !pkt->known || pkt->fragment ||
	    pkt->protocol != IPPROTO_ICMPV6)
		return false;
	icmp = skb_header_pointer(skb, pkt->offset, sizeof(buffer), buffer);
	if (!icmp || icmp[1])
		return false;
	limit = nsq_neighbour_hop_limit(icmp[0]);
	return limit && ipv6_hdr(skb)->hop_limit == limit;
}

static bool nsq_has_ports(const struct nsq_packet *pkt)
{
	if (!pkt->known || pkt->fragment)
		return false;
	switch (pkt->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
	case IPPROTO_UDPLITE:
	case IPPROTO_SCTP:
	case IPPROTO_DCCP:
		return true;
	}
	return false;
}

/* Says whether the packet has both ports, whole. */
static bool nsq_packet_ports(const struct nsq_packet *pkt,
			     const struct sk_buff *skb, struct nsq_end *end)
{
	__be16 buffer[2];
	const __be16 *ports;

	if (!nsq_has_ports(pkt))
		return false;
	ports = skb_header_pointer(skb, pkt->offset, sizeof(buffer), buffer);
	if (!ports)
		return false;
	end[0].port = ports[0];
	end[1].port = ports[1];
	return true;
}

static void nsq_packet_addrs(const struct nsq_packet *pkt,
			     const struct sk_buff *skb, struct nsq_end *end)
{
	if (pkt->family == NFPROTO_IPV4) {
		end[0].addr.s6_addr32[0] = ip_hdr(skb)->saddr;
		end[1].addr.s6_addr32[0] = ip_hdr(skb)->daddr;
	} else {
		end[0].addr = ipv6_hdr(skb)->saddr;
		end[1].addr = ipv6_hdr(skb)->daddr;
	}
}

/* Fills in what is known of the packet; says whether it has a flow. */
static bool nsq_packet_key(const struct nsq_packet *pkt,
			   const struct sk_buff *skb, struct nsq_flow_key *key)
{
	struct nsq_end *end = key->end;
	bool ports;
	size_t i;

	BUILD_BUG_ON(sizeof(*key) != 2 * (sizeof(end->addr) + sizeof(u32)));
	memset(key, 0, sizeof(*key));
	nsq_packet_addrs(pkt, skb, end);
	ports = nsq_packet_ports(pkt, skb, end);
	for (i = 0; i < ARRAY_SIZE(key->end); i++) {
		end[i].family = pkt->family;
		if (pkt->known)
			end[i].protocol = pkt->protocol;
	}
	if (memcmp(&end[0], &end[1], sizeof(end[0])) > 0)
		swap(end[0], end[1]);
	return ports;
}

/*
 * The key of the packet's flow; says whether that can be settled. An ICMP error
 * is not part of the flow that it refers to.
 */
bool nsq_packet_flow(const struct nsq_packet *pkt, const struct sk_buff *skb,
		     struct nsq_flow_key *key)
{
	return pkt->protocol != IPPROTO_DCCP && nsq_packet_key(pkt, skb, key);
}

static enum nsq_opening nsq_tcp_opening(const struct nsq_packet *pkt,
					const struct sk_buff *skb)
{
	const struct tcphdr *tcp;
	struct tcphdr buffer;

	tcp = skb_header_pointer(skb, pkt->offset, sizeof(buffer), &buffer);
	if (!tcp)
		return NSQ_OPENS_PERHAPS;
	return tcp->syn && !tcp->ack ? NSQ_OPENS : NSQ_OPENS_NOTHING;
}

/* QUIC version 1 sets two bits in a long header, other versions may set one. */
static bool nsq_quic_is_long(u8 first, bool quic_port)
{
	return quic_port ? first & 0x80 : (first & 0xc0) == 0xc0;
}

/*
 * A datagram with a long header may open a QUIC connection. An skb of segments
 * has a datagram every @step bytes.
 */
static enum nsq_opening nsq_udp_opening(const struct nsq_packet *pkt,
					const struct sk_buff *skb,
					const struct nsq_flow_key *key)
{
	bool quic_port = key->end[0].port == htons(NSQ_QUIC_PORT) ||
			 key->end[1].port == htons(NSQ_QUIC_PORT);
	unsigned int at = pkt->offset + sizeof(struct udphdr);
	unsigned int step = skb->len;
	const u8 *first;
	u8 buffer;

	if (skb_is_gso(skb) && skb_shinfo(skb)->gso_size)
		step = skb_shinfo(skb)->gso_size;
	for (; at < skb->len; at += step) {
		first = skb_header_pointer(skb, at, sizeof(buffer), &buffer);
		if (!first || nsq_quic_is_long(*first, quic_port))
			return NSQ_OPENS_PERHAPS;
	}
	return NSQ_OPENS_NOTHING;
}

/* @key is that of the packet's flow. */
enum nsq_opening nsq_packet_opening(const struct nsq_packet *pkt,
				    const struct sk_buff *skb,
				    const struct nsq_flow_key *key)
{
	switch (pkt->protocol) {
	case IPPROTO_TCP:
		return nsq_tcp_opening(pkt, skb);
	case IPPROTO_UDP:
		return nsq_udp_opening(pkt, skb, key);
	}
	return NSQ_OPENS_NOTHING;
}

/* The same for both directions of a flow; fragments go without their ports. */
u32 nsq_packet_hash(const struct nsq_packet *pkt, const struct sk_buff *skb,
		    u32 seed)
{
	struct nsq_flow_key key;

	nsq_packet_key(pkt, skb, &key);
	return jhash2((u32 *)&key, sizeof(key) / sizeof(u32), seed);
}
