// SPDX-License-Identifier: Apache-2.0

/*
 * The practical limit of one thread on one queue: netlink without a library,
 * up to 64 packets in one recvmmsg, and their verdicts in one send. With a
 * fifth argument "batch" the verdict is one message for all of them, else one
 * message a packet. It accepts everything.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>

#include "queue.h"

#define BATCH 64
#define KIND(type) (NFNL_SUBSYS_QUEUE << 8 | (type))

struct message {
	struct nlmsghdr nl;
	struct nfgenmsg nf;
};

struct verdict {
	struct message head;
	struct nlattr attr;
	struct nfqnl_msg_verdict_hdr verdict;
};

static struct message head(int kind, int flags, uint16_t number, size_t length)
{
	return (struct message){
		.nl = {
			.nlmsg_len = (uint32_t)length,
			.nlmsg_type = (uint16_t)KIND(kind),
			.nlmsg_flags = (uint16_t)flags,
		},
		.nf = { .version = NFNETLINK_V0, .res_id = htons(number) },
	};
}

static struct verdict accept_packet(int kind, uint16_t number, uint32_t id_be)
{
	return (struct verdict){
		.head = head(kind, NLM_F_REQUEST, number, sizeof(struct verdict)),
		.attr = { sizeof(struct nlattr) + sizeof(struct nfqnl_msg_verdict_hdr),
			  NFQA_VERDICT_HDR },
		.verdict = { htonl(NF_ACCEPT), id_be },
	};
}

/* Binds and configures in one message and dies unless the kernel agrees. */
static void bind_queue(int fd, const struct queue_config *c)
{
	struct {
		struct message head;
		struct nlattr cmd_attr;
		struct nfqnl_msg_config_cmd cmd;
		struct nlattr params_attr;
		struct nfqnl_msg_config_params params;
		uint8_t padding[3];
		struct nlattr length_attr;
		uint32_t length;
		struct nlattr mask_attr;
		uint32_t mask;
		struct nlattr flags_attr;
		uint32_t flags;
	} __attribute__((packed)) m = {
		.head = head(NFQNL_MSG_CONFIG, NLM_F_REQUEST | NLM_F_ACK, (uint16_t)c->number,
			     sizeof(m)),
		.cmd_attr = { sizeof(m.cmd_attr) + sizeof(m.cmd), NFQA_CFG_CMD },
		.cmd = { .command = NFQNL_CFG_CMD_BIND },
		.params_attr = { sizeof(m.params_attr) + sizeof(m.params), NFQA_CFG_PARAMS },
		.params = { htonl(c->copy_range), NFQNL_COPY_PACKET },
		.length_attr = { sizeof(m.length_attr) + 4, NFQA_CFG_QUEUE_MAXLEN },
		.length = htonl(c->length),
		.mask_attr = { sizeof(m.mask_attr) + 4, NFQA_CFG_MASK },
		.mask = htonl(NFQA_CFG_F_GSO),
		.flags_attr = { sizeof(m.flags_attr) + 4, NFQA_CFG_FLAGS },
		.flags = htonl(NFQA_CFG_F_GSO),
	};
	struct {
		struct nlmsghdr nl;
		struct nlmsgerr err;
	} reply;

	if (send(fd, &m, sizeof(m), 0) < 0)
		die("send configuration");
	if (recv(fd, &reply, sizeof(reply), 0) < (ssize_t)NLMSG_LENGTH(sizeof(int)))
		die("receive configuration reply");
	if (reply.nl.nlmsg_type != NLMSG_ERROR || reply.err.error) {
		errno = -reply.err.error;
		die("bind queue");
	}
}

/* Returns the packet's ID as it is on the wire; ok says whether there is one. */
static uint32_t packet_id(const char *buf, unsigned int length, int *ok)
{
	const struct nlmsghdr *nl = (const void *)buf;
	const char *at = buf + sizeof(struct message);
	const char *end = buf + length;
	uint32_t id = 0;

	*ok = 0;
	if (length < sizeof(struct message) || nl->nlmsg_type != KIND(NFQNL_MSG_PACKET))
		return 0;
	while (end - at >= (long)sizeof(struct nlattr)) {
		const struct nlattr *a = (const void *)at;

		if (a->nla_len < sizeof(*a) || a->nla_len > end - at)
			return 0;
		if ((a->nla_type & NLA_TYPE_MASK) == NFQA_PACKET_HDR) {
			id = ((const struct nfqnl_msg_packet_hdr *)(a + 1))->packet_id;
			*ok = 1;
		}
		at += NLA_ALIGN(a->nla_len);
	}
	return id;
}

static void serve(int fd, const struct queue_config *c, int batch)
{
	size_t size = ((size_t)c->copy_range + 512 + 63) & ~(size_t)63;
	char *buffers = malloc(BATCH * size);
	static struct verdict verdicts[BATCH];
	static struct mmsghdr messages[BATCH];
	static struct iovec vectors[BATCH];

	if (!buffers)
		die("malloc");
	for (int i = 0; i < BATCH; i++) {
		vectors[i] = (struct iovec){ buffers + (size_t)i * size, size };
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	for (;;) {
		int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL);
		int n = 0;

		if (got < 0 && errno != EINTR && errno != ENOBUFS)
			die("recvmmsg");
		for (int i = 0; i < got; i++) {
			int ok;
			uint32_t id = packet_id(vectors[i].iov_base, messages[i].msg_len, &ok);

			if (!ok)
				continue;
			/* The last ID stands for all before it. */
			if (batch)
				n = 0;
			verdicts[n++] = accept_packet(
				batch ? NFQNL_MSG_VERDICT_BATCH : NFQNL_MSG_VERDICT,
				(uint16_t)c->number, id);
		}
		if (n && send(fd, verdicts, (size_t)n * sizeof(verdicts[0]), 0) < 0)
			die("send verdicts");
	}
}

int main(int argc, char **argv)
{
	struct queue_config c = queue_arguments(argc, argv);
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct sockaddr_nl local = { .nl_family = AF_NETLINK };

	if (fd < 0)
		die("socket");
	if (bind(fd, (struct sockaddr *)&local, sizeof(local)))
		die("bind");
	tune(fd, &c);
	bind_queue(fd, &c);
	ready();
	serve(fd, &c, argc > 5 && !strcmp(argv[5], "batch"));
}
