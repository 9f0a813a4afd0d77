/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_CONFIG_H
#define NSQ_CONFIG_H

#include <linux/bits.h>
#include <linux/types.h>

#define NSQ_PROTOCOLS 256
/* Longest text of any field: every protocol by number, and a newline. */
#define NSQ_TEXT_SIZE (NSQ_PROTOCOLS * 8)

enum nsq_direction {
	NSQ_IN = BIT(0),
	NSQ_OUT = BIT(1),
	NSQ_FORWARD = BIT(2),
	NSQ_ANYWHERE = NSQ_IN | NSQ_OUT | NSQ_FORWARD,
};

/*
 * What one netns is told to do. Never changed once a packet can see it: a
 * change makes a copy and swaps the pointer, so a packet is judged by one
 * whole configuration.
 */
struct nsq_config {
	struct rcu_head rcu;
	bool enabled;
	bool bypass;
	u8 directions;
	u32 queue_num;
	u32 queue_count;
	u32 generation;
	DECLARE_BITMAP(protocols, NSQ_PROTOCOLS);
};

/*
 * One named value in the form in which people and programs write it. The same
 * table serves the sysctls, the module parameters and /proc/net/nsqueue.
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
	NSQ_FIELDS,
};

extern const struct nsq_field nsq_fields[NSQ_FIELDS];

int nsq_config_parse(struct nsq_config *cfg, const struct nsq_field *field,
		     const char *text);
int nsq_parse_number(const char *text, u32 max, u32 *number);

#endif
