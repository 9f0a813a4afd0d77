/* SPDX-License-Identifier: Apache-2.0 */

/* What the two readers in C share: their arguments and their last words. */

#ifndef BENCH_QUEUE_H
#define BENCH_QUEUE_H

#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

struct queue_config {
	unsigned int number;
	unsigned int length;
	unsigned int copy_range;
	int receive_buffer;
};

static inline void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Reads NUMBER LENGTH COPYRANGE RECEIVEBUFFER. */
static inline struct queue_config queue_arguments(int argc, char **argv)
{
	struct queue_config c;

	if (argc < 5) {
		fprintf(stderr, "usage: %s NUMBER LENGTH COPYRANGE RECEIVEBUFFER\n", argv[0]);
		exit(2);
	}
	c.number = (unsigned int)atoi(argv[1]);
	c.length = (unsigned int)atoi(argv[2]);
	c.copy_range = (unsigned int)atoi(argv[3]);
	c.receive_buffer = atoi(argv[4]);
	return c;
}

/* Gives the socket what nsqueued's has, so that no reader loses for its buffer. */
static inline void tune(int fd, const struct queue_config *c)
{
	int one = 1;

	if (setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &one, sizeof(one)))
		die("setsockopt NETLINK_NO_ENOBUFS");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &c->receive_buffer,
		       sizeof(c->receive_buffer)) &&
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &c->receive_buffer,
		       sizeof(c->receive_buffer)))
		die("setsockopt SO_RCVBUF");
}

/* Tells the parent process that packets may come. */
static inline void ready(void)
{
	puts("ready");
	fflush(stdout);
}

#endif
