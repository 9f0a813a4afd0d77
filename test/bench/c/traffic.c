// SPDX-License-Identifier: Apache-2.0

/*
 * UDP from one netns to another, 64 bytes of payload a packet:
 *
 *   traffic flood FROM TO PACKETS WINDOW   as fast as they are delivered
 *   traffic pace  FROM TO PACKETS RATE     so many a second
 *   traffic ping  FROM TO COUNT RATE       there and back, one at a time
 *
 * FROM and TO are paths of netns, whose addresses are those that the benchmark
 * gives them. It prints one JSON object.
 *
 * A sender also receives, in one thread that never sleeps in a receive, so that
 * no reader is charged for waking the receiver up. Queueing a packet takes the
 * sender longer than the best readers take to answer it; so flood has two
 * senders, which leave no processor of two idle and the reader behind.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SENDER "10.99.0.1"
#define RECEIVER "10.99.0.2"
#define PORT 4242
#define SENDERS 2
#define BATCH 64
#define PAYLOAD 64
#define SECOND 1000000000LL
/* A tick of the paced sender: 5 packets at 50,000 a second. */
#define TICK 100000LL
/* A sender that fell behind by more makes no burst of it: the backlog of a
 * device holds 1,000 packets, and the reader is measured. */
#define LATE_AT_MOST 256
/* Nothing delivered for so long means that what is under way is lost. */
#define PATIENCE (SECOND / 4)

static char payload[BATCH][PAYLOAD];
static struct mmsghdr out[BATCH], in[BATCH];
static struct iovec out_vectors[BATCH], in_vectors[BATCH];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECOND + t.tv_nsec;
}

static void sleep_until(int64_t when)
{
	struct timespec t = { when / SECOND, when % SECOND };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static struct sockaddr_in address(const char *ip, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

/* Opens a socket in the netns, from local to peer, the same port at both. */
static int open_socket(const char *netns, const char *local, const char *peer, int port)
{
	struct sockaddr_in from = address(local, port), to = address(peer, port);
	int size = 32 << 20;
	int ns = open(netns, O_RDONLY | O_CLOEXEC);
	int fd;

	if (ns < 0 || setns(ns, CLONE_NEWNET))
		die(netns);
	close(ns);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&from, sizeof(from)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)))
		die("open UDP socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	return fd;
}

static void prepare(void)
{
	static char sink[BATCH][PAYLOAD];

	for (int i = 0; i < BATCH; i++) {
		out_vectors[i] = (struct iovec){ payload[i], PAYLOAD };
		in_vectors[i] = (struct iovec){ sink[i], PAYLOAD };
		out[i].msg_hdr.msg_iov = &out_vectors[i];
		in[i].msg_hdr.msg_iov = &in_vectors[i];
		out[i].msg_hdr.msg_iovlen = in[i].msg_hdr.msg_iovlen = 1;
	}
}

/* Sends up to n packets, and returns how many it took. */
static long send_some(int fd, long n)
{
	int sent = sendmmsg(fd, out, n > BATCH ? BATCH : (unsigned int)n, 0);

	if (sent < 0 && errno != ENOBUFS && errno != EPERM && errno != EINTR)
		die("sendmmsg");
	return sent < 0 ? 0 : sent;
}

/* Takes everything that has been delivered. */
static long receive_all(int fd)
{
	long total = 0;
	int n;

	while ((n = recvmmsg(fd, in, BATCH, MSG_DONTWAIT, NULL)) > 0)
		total += n;
	return total;
}

/* Waits for what is under way, as long as something of it comes. */
static long receive_rest(int fd, long missing)
{
	int64_t last = now();
	long total = 0;

	while (total < missing && now() - last < PATIENCE) {
		long n = receive_all(fd);

		total += n;
		if (n)
			last = now();
		else
			sleep_until(now() + TICK);
	}
	return total;
}

struct delivery {
	long sent, delivered;
	int64_t took;
};

static void print_delivery(struct delivery d)
{
	printf("{\"sent\": %ld, \"delivered\": %ld, \"seconds\": %.6f}\n", d.sent, d.delivered,
	       (double)d.took / SECOND);
}

/* One sender of a flood, with at most a window of packets under way. */
static struct delivery flood_one(int from, int to, long packets, long window)
{
	int64_t began = now(), last = began, ended;
	long sent = 0, delivered = 0, lost = 0;

	while (sent < packets) {
		long room = window - (sent - delivered - lost);
		long n;

		if (room > packets - sent)
			room = packets - sent;
		if (room > 0)
			sent += send_some(from, room);
		n = receive_all(to);
		delivered += n;
		if (n)
			last = now();
		else if (room <= 0 && now() - last > PATIENCE)
			lost = sent - delivered;
		else if (room <= 0)
			sched_yield();
	}
	delivered += receive_rest(to, sent - delivered - lost);
	ended = now();
	return (struct delivery){ sent, delivered, ended - began };
}

/* All senders of a flood share the packets and the window. */
static void flood(const int *from, const int *to, long packets, long window)
{
	struct delivery d, total = { 0 };
	int results[2];

	if (pipe(results))
		die("pipe");
	for (int i = 0; i < SENDERS; i++) {
		pid_t child = fork();

		if (child < 0)
			die("fork");
		if (child == 0) {
			d = flood_one(from[i], to[i], packets / SENDERS, window / SENDERS);
			_exit(write(results[1], &d, sizeof(d)) != sizeof(d));
		}
	}
	close(results[1]);
	for (int i = 0; i < SENDERS; i++) {
		if (read(results[0], &d, sizeof(d)) != sizeof(d))
			die("read the result of a sender");
		total.sent += d.sent;
		total.delivered += d.delivered;
		if (d.took > total.took)
			total.took = d.took;
	}
	print_delivery(total);
}

static void pace(int from, int to, long packets, long rate)
{
	int64_t began = now(), first = began, tick = began, ended;
	long sent = 0, delivered = 0;

	prctl(PR_SET_TIMERSLACK, 1);
	while (sent < packets) {
		long due = (long)((double)(now() - began) * (double)rate / SECOND) + 1;

		if (due - sent > LATE_AT_MOST) {
			began += (due - sent - LATE_AT_MOST) * SECOND / rate;
			due = sent + LATE_AT_MOST;
		}
		if (due > packets)
			due = packets;
		while (sent < due)
			sent += send_some(from, due - sent);
		delivered += receive_all(to);
		tick += TICK;
		if (tick > now())
			sleep_until(tick);
	}
	ended = now();
	delivered += receive_rest(to, sent - delivered);
	print_delivery((struct delivery){ sent, delivered, ended - first });
}

static void echo(int fd)
{
	char buf[PAYLOAD];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n > 0 && send(fd, buf, (size_t)n, 0) < 0)
			continue; /* a loss, which the sender counts */
	}
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* Sends one packet and returns how long its echo took, 0 where none came. */
static int64_t round_trip(int fd, int64_t number)
{
	int64_t buf[PAYLOAD / 8] = { number };
	int64_t began = now();

	if (send(fd, buf, sizeof(buf), 0) < 0)
		return 0;
	for (;;) {
		if (recv(fd, buf, sizeof(buf), 0) < 0)
			return 0;
		if (buf[0] == number)
			return now() - began;
	}
}

static void ping(int from, int to, long count, long rate)
{
	int64_t *took = calloc((size_t)count, sizeof(*took));
	struct timeval timeout = { .tv_usec = PATIENCE / 1000 };
	int64_t began;
	long n = 0;
	pid_t child = fork();

	if (!took || child < 0)
		die("prepare ping");
	if (child == 0)
		echo(to);
	prctl(PR_SET_TIMERSLACK, 1);
	setsockopt(from, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	round_trip(from, -1); /* the neighbours have found each other then */
	began = now();
	for (long i = 0; i < count; i++) {
		int64_t t;

		sleep_until(began + (i + 1) * SECOND / rate);
		t = round_trip(from, i);
		if (t)
			took[n++] = t;
	}
	kill(child, SIGKILL);
	qsort(took, (size_t)n, sizeof(*took), by_value);
	printf("{\"sent\": %ld, \"delivered\": %ld, \"p50us\": %.3f, \"p99us\": %.3f}\n", count, n,
	       n ? (double)took[n / 2] / 1000 : 0, n ? (double)took[n * 99 / 100] / 1000 : 0);
}

int main(int argc, char **argv)
{
	int from[SENDERS], to[SENDERS];
	long count, rate;

	if (argc != 6) {
		fprintf(stderr, "usage: %s flood|pace|ping FROM TO COUNT WINDOW|RATE\n", argv[0]);
		return 2;
	}
	for (int i = 0; i < SENDERS; i++) {
		from[i] = open_socket(argv[2], SENDER, RECEIVER, PORT + i);
		to[i] = open_socket(argv[3], RECEIVER, SENDER, PORT + i);
	}
	count = atol(argv[4]);
	rate = atol(argv[5]);
	prepare();
	if (!strcmp(argv[1], "flood"))
		flood(from, to, count, rate);
	else if (!strcmp(argv[1], "pace"))
		pace(from[0], to[0], count, rate);
	else if (!strcmp(argv[1], "ping"))
		ping(from[0], to[0], count, rate);
	else
		return 2;
	return 0;
}
