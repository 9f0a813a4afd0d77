/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_CONFIG_H
#define NSQ_CONFIG_H

#include <linux/bits.h>
#include <linux/types.h>

#define NSQ_PROTOCOLS 256
/* Longest text of any field: every protocol by number, and a newline. */
#define NSQ_TEXT_SIZE (NSQ_PROTOCOLS * 8)

/* The bits of a request have room for as many generations. */
#define NSQ_GENERATIONS 64
#define NSQ_SETTLE_TIMEOUT_MIN 10 /* ms */
#define NSQ_SETTLE_TIMEOUT_MAX (24 * 60 * 60 * 1000)
/* Bounds the memory: a settled flow takes about 100 bytes. */
#define NSQ_SETTLE_SIZE_MAX (1 << 20)
#define NSQ_SETTLE_TOTAL_MAX (1 << 26)

struct nsq_flows;

enum nsq_direction {
	NSQ_IN = BIT(0),
	NSQ_OUT = BIT(1),
	NSQ_FORWARD = BIT(2),
	NSQ_ANYWHERE = NSQ_IN | NSQ_OUT | NSQ_FORWARD,
};

/*
 * The configuration of one netns. It never changes once packets can see it: a
 * write makes a copy and swaps the pointer, so that each packet is judged by
 * one whole configuration.
 */
struct nsq_config {
	struct rcu_head rcu;
	bool enabled;
	bool bypass;
	u8 directions;
	u32 queue_num;
	u32 queue_count;
	u32 generation;
	u32 settle_timeout; /* ms */
	u32 settle_size;
	/*
	 * The settled flows; NULL while the generation is 0. The next
	 * configuration takes them over, unless it changes how flows are
	 * settled.
	 */
	struct nsq_flows *flows;
	DECLARE_BITMAP(protocols, NSQ_PROTOCOLS);
};

/* The directions in which verdicts may settle flows. */
static inline u8 nsq_config_settles(const struct nsq_config *cfg)
{
	return cfg->enabled && cfg->flows ? cfg->directions : 0;
}

/*
 * One named value in its text form. The same table serves the sysctls, the
 * module parameters and /proc/net/nsqueue.
 */
struct nsq_field {
	const char *name;
	int (*parse)(struct nsq_config *cfg, const char *text);
	int (*format)(const struct nsq_config *cfg, char *text);
};

enum nsq_field_id {
	NSQ_ENABLED,
	NSQ_QUEUE_NUM,
	NSQ_QUEUE_COUNT,
	NSQ_BYPASS,
	NSQ_DIRECTIONS,
	NSQ_PROTOCOL_LIST,
	NSQ_GENERATION,
	NSQ_SETTLE_TIMEOUT,
	NSQ_SETTLE_SIZE,
	NSQ_FIELDS,
};

extern const struct nsq_field nsq_fields[NSQ_FIELDS];

int nsq_config_parse(struct nsq_config *cfg, const struct nsq_field *field,
		     const char *text);
int nsq_parse_number(const char *text, u32 max, u32 *number);

#endif
