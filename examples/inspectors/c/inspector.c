// SPDX-License-Identifier: Apache-2.0
// Drops DNS questions for blocked.example, marks those for marked.example, accepts the rest.
#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { HELLO = 1, WELCOME = 2, BATCH = 5, VERDICTS = 6, ACCEPT = 1, DROP = 2, MARK = 0x01000000 };

// The messages as they are on a little-endian machine.
struct hello { uint16_t type, flags; uint32_t length; char magic[4]; uint16_t version, in_flight;
	uint32_t features, copy_range; uint16_t batch, name_length; uint32_t reserved; char name[9]; };
struct head { uint16_t type, flags; uint32_t length, sequence; uint16_t count, memory; };
struct batch { struct head head; uint32_t attachment, reserved; };
struct packet { uint32_t id, length, captured, offset, mark; uint8_t direction, protocol;
	uint16_t flags; uint64_t flow, time; uint32_t in, out; uint8_t reserved[16]; };
struct verdict { uint32_t id; uint8_t action, reserved[3]; uint32_t mark, mask; };
struct verdicts { struct head head; struct verdict of[64]; };

// question writes the name that a packet asks DNS for, in lower case, or nothing.
static void question(const uint8_t *p, size_t n, char name[256])
{
	size_t at = 0, to = 0;
	name[0] = 0;
	if (n < 28 || (p[0] >> 4 != 4 && (p[0] >> 4 != 6 || n < 48)))
		return;
	int v4 = p[0] >> 4 == 4;
	at = v4 ? (p[0] & 15) * 4 : 40;
	if ((v4 ? p[9] : p[6]) != 17 || at + 20 > n || p[at + 2] != 0 || p[at + 3] != 53)
		return;
	for (at += 20; at < n && p[at] > 0 && p[at] < 64; at += 1 + p[at]) {
		if (at + 1 + p[at] > n || to + p[at] + 2 > 256)
			break;
		if (to > 0)
			name[to++] = '.';
		for (size_t i = 1; i <= p[at]; i++)
			name[to++] = (char)tolower(p[at + i]);
	}
	name[to] = 0;
}

static void judge(const uint8_t *p, size_t n, struct verdict *v)
{
	char name[256];
	question(p, n, name);
	v->action = strcmp(name, "blocked.example") ? ACCEPT : DROP;
	if (!strcmp(name, "marked.example"))
		v->mark = v->mask = MARK;
}

static void serve(int fd)
{
	static uint8_t m[131072];
	struct hello hello = { HELLO, 0, 32 + 9, "nsqI", 1, 0, 0, 0, 0, 9, 0, "c example" };
	ssize_t n;
	send(fd, &hello, 32 + 9, MSG_NOSIGNAL);
	while ((n = recv(fd, m, sizeof m, 0)) > 0) {
		struct batch *b = (struct batch *)m;
		struct packet *p = (struct packet *)(b + 1);
		struct verdicts v = { { VERDICTS, 0, 16 + 16 * b->head.count, b->head.sequence,
			b->head.count, 0 }, { { 0 } } };
		if (b->head.type == WELCOME && puts("connected") >= 0)
			fflush(stdout);
		if (b->head.type != BATCH)
			continue;
		for (int i = 0; i < b->head.count; i++) {
			v.of[i].id = p[i].id;
			judge(m + p[i].offset, p[i].captured, &v.of[i]);
		}
		send(fd, &v, v.head.length, MSG_NOSIGNAL);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	if (argc != 2 || strlen(argv[1]) >= sizeof to.sun_path)
		return fprintf(stderr, "usage: inspector SOCKET\n"), 2;
	strcpy(to.sun_path, argv[1]);
	for (;; usleep(100000)) { // nsqueued may start later, and start again
		int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
		if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0)
			serve(fd);
		close(fd);
	}
}
