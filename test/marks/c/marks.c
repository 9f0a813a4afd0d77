// SPDX-License-Identifier: Apache-2.0

/*
 * A program as people write them by the manual of libnetfilter_queue: it knows nothing of
 * nsqueue or of network namespaces. It reads one queue, prints the mark that each packet
 * came with and the one that it sets, and accepts the packet. By -p it stamps datagrams of
 * the tests' load, so that their receiver can tell which it has seen.
 *
 * The tests have it misbehave: by -o it answers nothing (hold), takes some milliseconds for
 * a packet (slow=N), ends or lets go of its queue after some packets (exit=N, leave=N), has a child that stays (fork), does not end when asked to (stubborn), binds the
 * next number (other), or takes memory until it is ended (eat).
 */

#include <arpa/inet.h>
#include <errno.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/ip.h>
#include <linux/netfilter.h>
#include <linux/udp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct options {
	uint16_t queue;
	uint32_t mark;		/* that is set */
	bool silent;
	bool stamp;
	bool hold;
	bool eat;
	long slow;		/* milliseconds */
	long exit_after;	/* packets; -1 is never */
	long leave_after;
};

struct state {
	struct options options;
	unsigned long packets;
};

/* The load's datagrams have so many bytes, and the stamp in this one. */
#define LOAD_SIZE 64
#define STAMP_AT 4
#define STAMP 0x5a

/* Returns the length of the packet that was stamped, 0 where it is none of the load's. */
static int stamp(unsigned char *packet, int length)
{
	struct iphdr *ip = (struct iphdr *)packet;
	struct udphdr *udp;
	int header;

	if (length < (int)sizeof(*ip) || ip->version != 4 || ip->protocol != IPPROTO_UDP)
		return 0;
	header = ip->ihl * 4 + sizeof(*udp);
	if (length != header + LOAD_SIZE)
		return 0;
	udp = (struct udphdr *)(packet + ip->ihl * 4);
	udp->check = 0; /* none */
	packet[header + STAMP_AT] = STAMP;
	return length;
}

static void leave(struct nfq_q_handle *queue)
{
	nfq_destroy_queue(queue);
	for (;;)
		pause();
}

static int handle(struct nfq_q_handle *queue, struct nfgenmsg *message,
		  struct nfq_data *packet, void *data)
{
	struct state *state = data;
	struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(packet);
	uint32_t origin = nfq_get_nfmark(packet);
	uint32_t mark = origin | state->options.mark;
	unsigned char *payload = NULL;
	int length = 0;

	(void)message;
	if (!header)
		return 0;
	state->packets++;
	if (state->options.exit_after >= 0 &&
	    state->packets > (unsigned long)state->options.exit_after)
		exit(3);
	if (state->options.leave_after >= 0 &&
	    state->packets > (unsigned long)state->options.leave_after)
		leave(queue);
	if (!state->options.silent)
		printf("packet: %lu, origin mark: 0x%08x, set mark: 0x%08x\n",
		       state->packets, origin, mark);
	if (state->options.hold)
		return 0;
	usleep(state->options.slow * 1000);
	if (state->options.stamp)
		length = nfq_get_payload(packet, &payload);
	if (length > 0)
		length = stamp(payload, length);
	return nfq_set_verdict2(queue, ntohl(header->packet_id), NF_ACCEPT, mark, length, payload);
}

static void eat(void)
{
	const size_t size = 1 << 20;

	for (;;) {
		char *memory = malloc(size);

		if (!memory)
			abort();
		memset(memory, 1, size);
	}
}

static int serve(struct state *state)
{
	static char buffer[65536 + 4096];
	struct nfq_handle *handle_ = nfq_open();
	struct nfq_q_handle *queue;
	ssize_t length;

	if (!handle_) {
		perror("nfq_open");
		return 1;
	}
	queue = nfq_create_queue(handle_, state->options.queue, handle, state);
	if (!queue) {
		fprintf(stderr, "queue %u: %s\n", state->options.queue, strerror(errno));
		return 1;
	}
	if (nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff) < 0) {
		perror("nfq_set_mode");
		return 1;
	}
	printf("reads queue %u\n", state->options.queue);
	fflush(stdout);
	if (state->options.eat)
		eat();
	while ((length = recv(nfq_fd(handle_), buffer, sizeof(buffer), 0)) >= 0)
		nfq_handle_packet(handle_, buffer, length);
	perror("recv");
	return 1;
}

static void stay(void)
{
	if (fork() == 0)
		for (;;)
			pause();
}

static bool misbehave(struct options *options, const char *how)
{
	if (!strcmp(how, "hold"))
		options->hold = true;
	else if (!strncmp(how, "slow=", 5))
		options->slow = atol(how + 5);
	else if (!strncmp(how, "exit=", 5))
		options->exit_after = atol(how + 5);
	else if (!strncmp(how, "leave=", 6))
		options->leave_after = atol(how + 6);
	else if (!strcmp(how, "fork"))
		stay();
	else if (!strcmp(how, "stubborn"))
		signal(SIGTERM, SIG_IGN);
	else if (!strcmp(how, "other"))
		options->queue++;
	else if (!strcmp(how, "eat"))
		options->eat = true;
	else
		return false;
	return true;
}

int main(int argc, char **argv)
{
	struct state state = { .options = { .queue = 80, .exit_after = -1, .leave_after = -1 } };
	int option;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while ((option = getopt(argc, argv, "q:m:spo:")) != -1) {
		switch (option) {
		case 'q':
			state.options.queue = atoi(optarg);
			break;
		case 'm':
			state.options.mark = strtoul(optarg, NULL, 0);
			break;
		case 's':
			state.options.silent = true;
			break;
		case 'p':
			state.options.stamp = true;
			break;
		case 'o':
			if (misbehave(&state.options, optarg))
				break;
			/* fall through */
		default:
			fprintf(stderr, "usage: %s [-q queue] [-m mark] [-s] [-p] [-o how]\n", argv[0]);
			return 2;
		}
	}
	if (state.options.exit_after == 0)
		return 3;
	return serve(&state);
}
