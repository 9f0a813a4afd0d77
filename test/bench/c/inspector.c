/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An inspector on a socket that looks at the first bytes of each packet and accepts it:
 * inspector SOCKET BATCH messages|memfd. It says "ready" when nsqueued has let it in.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "queue.h"

enum { HELLO = 1, WELCOME = 2, BATCH = 5, VERDICTS = 6, ACCEPT = 1, MEMORY = 1, MAX_BATCH = 64 };

struct head {
	uint16_t type, flags;
	uint32_t length;
};

struct hello {
	struct head head;
	char magic[4];
	uint16_t version, in_flight;
	uint32_t features, copy_range;
	uint16_t batch, name_length;
	uint32_t reserved;
};

struct batch {
	struct head head;
	uint32_t sequence;
	uint16_t count, in_memory;
	uint32_t attachment, reserved;
};

struct packet {
	uint32_t id, length, captured, offset;
	uint8_t rest[48];
};

struct verdicts {
	struct head head;
	uint32_t sequence;
	uint16_t count, reserved;
	struct {
		uint32_t id;
		uint8_t action, reserved[3];
		uint32_t mark, mask;
	} of[MAX_BATCH];
};

/* What the answers depend on, so that the packets are read. */
static volatile unsigned int seen;

static int join(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	if (fd < 0)
		die("socket");
	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		die("connect");
	return fd;
}

/* Returns the shared memory, or NULL where there is none. */
static const uint8_t *welcome(int fd)
{
	static uint8_t message[64];
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec part = { message, sizeof(message) };
	struct msghdr m = {
		.msg_iov = &part, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	uint64_t size;
	void *memory;

	if (recvmsg(fd, &m, 0) != sizeof(message) || message[0] != WELCOME)
		die("no WELCOME");
	c = CMSG_FIRSTHDR(&m);
	if (!c)
		return NULL;
	memcpy(&size, message + 40, sizeof(size));
	memory = mmap(NULL, size, PROT_READ, MAP_SHARED, *(int *)CMSG_DATA(c), 0);
	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static void answer(int fd, const uint8_t *message, const uint8_t *memory)
{
	static struct verdicts v = { .head.type = VERDICTS };
	const struct batch *batch = (const struct batch *)message;
	const struct packet *packets = (const struct packet *)(batch + 1);
	const uint8_t *base = batch->in_memory ? memory : message;
	size_t length = offsetof(struct verdicts, of) + batch->count * sizeof(v.of[0]);

	v.head.length = (uint32_t)length;
	v.sequence = batch->sequence;
	v.count = batch->count;
	for (unsigned int i = 0; i < batch->count; i++) {
		seen += base[packets[i].offset];
		v.of[i].id = packets[i].id;
		v.of[i].action = ACCEPT;
	}
	if (send(fd, &v, length, MSG_NOSIGNAL) != (ssize_t)length)
		die("send");
}

int main(int argc, char **argv)
{
	static uint8_t message[131072];
	struct hello hello = {
		.head = { HELLO, 0, sizeof(hello) }, .magic = { 'n', 's', 'q', 'I' }, .version = 1,
	};
	const uint8_t *memory;
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: %s SOCKET BATCH messages|memfd\n", argv[0]);
		return 2;
	}
	hello.batch = (uint16_t)atoi(argv[2]);
	hello.features = strcmp(argv[3], "memfd") ? 0 : MEMORY;
	fd = join(argv[1]);
	if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello))
		die("send HELLO");
	memory = welcome(fd);
	if (hello.features && !memory)
		die("no shared memory");
	ready();
	while (recv(fd, message, sizeof(message), 0) > 0)
		if (message[0] == BATCH)
			answer(fd, message, memory);
	die("recv");
}
