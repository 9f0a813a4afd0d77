// SPDX-License-Identifier: Apache-2.0

/*
 * The loop that most NFQUEUE programs have: libnetfilter_queue, one recv and
 * one verdict a packet. It accepts everything.
 */

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <libnetfilter_queue/libnetfilter_queue.h>

#include "queue.h"

static int on_packet(struct nfq_q_handle *queue, struct nfgenmsg *msg, struct nfq_data *data,
		     void *unused)
{
	struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(data);
	unsigned char *payload;

	(void)msg;
	(void)unused;
	if (!header || nfq_get_payload(data, &payload) < 0)
		return 0;
	return nfq_set_verdict(queue, ntohl(header->packet_id), NF_ACCEPT, 0, NULL);
}

static struct nfq_handle *bind_queue(const struct queue_config *c)
{
	struct nfq_handle *handle = nfq_open();
	struct nfq_q_handle *queue;

	if (!handle)
		die("nfq_open");
	queue = nfq_create_queue(handle, (uint16_t)c->number, on_packet, NULL);
	if (!queue)
		die("nfq_create_queue");
	if (nfq_set_mode(queue, NFQNL_COPY_PACKET, c->copy_range) < 0)
		die("nfq_set_mode");
	if (nfq_set_queue_maxlen(queue, c->length) < 0)
		die("nfq_set_queue_maxlen");
	if (nfq_set_queue_flags(queue, NFQA_CFG_F_GSO, NFQA_CFG_F_GSO) < 0)
		die("nfq_set_queue_flags");
	return handle;
}

int main(int argc, char **argv)
{
	static char buf[0xffff + 4096] __attribute__((aligned));
	struct queue_config c = queue_arguments(argc, argv);
	struct nfq_handle *handle = bind_queue(&c);
	int fd = nfq_fd(handle);

	tune(fd, &c);
	ready();
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n < 0 && errno != EINTR && errno != ENOBUFS)
			die("recv");
		if (n > 0)
			nfq_handle_packet(handle, buf, (int)n);
	}
}
