// SPDX-License-Identifier: GPL-2.0
/* The text form of a configuration, which is parsed strictly. */

#include <linux/bitmap.h>
#include <linux/ctype.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/kernel.h>
#include <linux/limits.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "config.h"

struct nsq_name {
	const char *name;
	unsigned int value;
};

static const struct nsq_name nsq_direction_names[] = {
	{ "in", NSQ_IN },
	{ "out", NSQ_OUT },
	{ "forward", NSQ_FORWARD },
};

static const struct nsq_name nsq_protocol_names[] = {
	{ "icmp", IPPROTO_ICMP }, { "tcp", IPPROTO_TCP },
	{ "udp", IPPROTO_UDP },	  { "icmpv6", IPPROTO_ICMPV6 },
	{ "sctp", IPPROTO_SCTP },
};

/*
 * Digits only: no sign, no space, no other base. kstrtouint() would accept
 * a leading plus and a trailing newline. A value beyond 32 bits is an error.
 */
int nsq_parse_number(const char *text, u32 max, u32 *number)
{
	unsigned int value;

	if (!isdigit(*text) || kstrtouint(text, 10, &value) || value > max ||
	    strchr(text, '\n'))
		return -EINVAL;
	*number = value;
	return 0;
}

static int nsq_parse_range(const char *text, u32 min, u32 max, u32 *number)
{
	u32 value;
	int err;

	err = nsq_parse_number(text, max, &value);
	if (err)
		return err;
	if (value < min)
		return -EINVAL;
	*number = value;
	return 0;
}

static int nsq_parse_flag(const char *text, bool *flag)
{
	u32 value;
	int err;

	err = nsq_parse_number(text, 1, &value);
	if (!err)
		*flag = value;
	return err;
}

static int nsq_parse_name(const char *word, const struct nsq_name *names,
			  size_t n, unsigned int *value)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (!strcmp(word, names[i].name)) {
			*value = names[i].value;
			return 0;
		}
	}
	return -EINVAL;
}

static int nsq_parse_protocol(const char *word, unsigned int *protocol)
{
	if (isdigit(*word))
		return nsq_parse_number(word, NSQ_PROTOCOLS - 1, protocol);
	return nsq_parse_name(word, nsq_protocol_names,
			      ARRAY_SIZE(nsq_protocol_names), protocol);
}

static int nsq_parse_direction(const char *word, unsigned int *direction)
{
	return nsq_parse_name(word, nsq_direction_names,
			      ARRAY_SIZE(nsq_direction_names), direction);
}

/* Calls @add for each word between commas; @add refuses an empty word. */
static int nsq_parse_list(struct nsq_config *cfg, const char *text,
			  int (*add)(struct nsq_config *cfg, const char *word))
{
	char *copy, *rest, *word;
	int err = -EINVAL;

	copy = kstrdup(text, GFP_KERNEL);
	if (!copy)
		return -ENOMEM;
	rest = copy;
	while ((word = strsep(&rest, ","))) {
		err = add(cfg, word);
		if (err)
			break;
	}
	kfree(copy);
	return err;
}

static int nsq_add_direction(struct nsq_config *cfg, const char *word)
{
	unsigned int direction;
	int err;

	err = nsq_parse_direction(word, &direction);
	if (!err)
		cfg->directions |= direction;
	return err;
}

static int nsq_add_protocol(struct nsq_config *cfg, const char *word)
{
	unsigned int protocol;
	int err;

	err = nsq_parse_protocol(word, &protocol);
	if (!err)
		__set_bit(protocol, cfg->protocols);
	return err;
}

static int nsq_parse_enabled(struct nsq_config *cfg, const char *text)
{
	return nsq_parse_flag(text, &cfg->enabled);
}

static int nsq_parse_queue_num(struct nsq_config *cfg, const char *text)
{
	return nsq_parse_number(text, U16_MAX, &cfg->queue_num);
}

static int nsq_parse_queue_count(struct nsq_config *cfg, const char *text)
{
	return nsq_parse_number(text, U16_MAX + 1, &cfg->queue_count);
}

static int nsq_parse_bypass(struct nsq_config *cfg, const char *text)
{
	return nsq_parse_flag(text, &cfg->bypass);
}

static int nsq_parse_directions(struct nsq_config *cfg, const char *text)
{
	cfg->directions = NSQ_ANYWHERE;
	if (!strcmp(text, "all"))
		return 0;
	cfg->directions = 0;
	return nsq_parse_list(cfg, text, nsq_add_direction);
}

static int nsq_parse_protocols(struct nsq_config *cfg, const char *text)
{
	bitmap_fill(cfg->protocols, NSQ_PROTOCOLS);
	if (!strcmp(text, "all"))
		return 0;
	bitmap_zero(cfg->protocols, NSQ_PROTOCOLS);
	return nsq_parse_list(cfg, text, nsq_add_protocol);
}

/*
 * A write to one of the settle fields, be it of the same value, starts with no
 * settled flows: the configuration gets a new table.
 */
static int nsq_parse_generation(struct nsq_config *cfg, const char *text)
{
	cfg->flows = NULL;
	return nsq_parse_number(text, NSQ_GENERATIONS - 1, &cfg->generation);
}

static int nsq_parse_settle_timeout(struct nsq_config *cfg, const char *text)
{
	cfg->flows = NULL;
	return nsq_parse_range(text, NSQ_SETTLE_TIMEOUT_MIN,
			       NSQ_SETTLE_TIMEOUT_MAX, &cfg->settle_timeout);
}

static int nsq_parse_settle_size(struct nsq_config *cfg, const char *text)
{
	cfg->flows = NULL;
	return nsq_parse_range(text, 1, NSQ_SETTLE_SIZE_MAX, &cfg->settle_size);
}

static int nsq_format_number(char *text, u32 number)
{
	return scnprintf(text, NSQ_TEXT_SIZE, "%u", number);
}

static int nsq_format_enabled(const struct nsq_config *cfg, char *text)
{
	return nsq_format_number(text, cfg->enabled);
}

static int nsq_format_queue_num(const struct nsq_config *cfg, char *text)
{
	return nsq_format_number(text, cfg->queue_num);
}

static int nsq_format_queue_count(const struct nsq_config *cfg, char *text)
{
	return nsq_format_number(text, cfg->queue_count);
}

static int nsq_format_bypass(const struct nsq_config *cfg, char *text)
{
	return nsq_format_number(text, cfg->bypass);
}

static int nsq_format_generation(const struct nsq_config *cfg, char *text)
{
	return nsq_format_number(text, cfg->generation);
}

static int nsq_format_settle_timeout(const struct nsq_config *cfg, char *text)
{
	return nsq_format_number(text, cfg->settle_timeout);
}

static int nsq_format_settle_size(const struct nsq_config *cfg, char *text)
{
	return nsq_format_number(text, cfg->settle_size);
}

static int nsq_format_directions(const struct nsq_config *cfg, char *text)
{
	const struct nsq_name *d;
	int len = 0;
	size_t i;

	if (cfg->directions == NSQ_ANYWHERE)
		return scnprintf(text, NSQ_TEXT_SIZE, "all");
	for (i = 0; i < ARRAY_SIZE(nsq_direction_names); i++) {
		d = &nsq_direction_names[i];
		if (cfg->directions & d->value)
			len += scnprintf(text + len, NSQ_TEXT_SIZE - len,
					 "%s%s", len ? "," : "", d->name);
	}
	return len;
}

static int nsq_format_protocol(char *text, size_t size, unsigned int protocol)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(nsq_protocol_names); i++)
		if (nsq_protocol_names[i].value == protocol)
			return scnprintf(text, size, "%s",
					 nsq_protocol_names[i].name);
	return scnprintf(text, size, "%u", protocol);
}

static int nsq_format_protocols(const struct nsq_config *cfg, char *text)
{
	unsigned int bit;
	int len = 0;

	if (bitmap_full(cfg->protocols, NSQ_PROTOCOLS))
		return scnprintf(text, NSQ_TEXT_SIZE, "all");
	for_each_set_bit(bit, cfg->protocols, NSQ_PROTOCOLS) {
		if (len)
			len += scnprintf(text + len, NSQ_TEXT_SIZE - len, ",");
		len += nsq_format_protocol(text + len, NSQ_TEXT_SIZE - len,
					   bit);
	}
	return len;
}

#define NSQ_FIELD(id, label) \
	[id] = { #label, nsq_parse_##label, nsq_format_##label }

const struct nsq_field nsq_fields[NSQ_FIELDS] = {
	NSQ_FIELD(NSQ_ENABLED, enabled),
	NSQ_FIELD(NSQ_QUEUE_NUM, queue_num),
	NSQ_FIELD(NSQ_QUEUE_COUNT, queue_count),
	NSQ_FIELD(NSQ_BYPASS, bypass),
	NSQ_FIELD(NSQ_DIRECTIONS, directions),
	NSQ_FIELD(NSQ_PROTOCOL_LIST, protocols),
	NSQ_FIELD(NSQ_GENERATION, generation),
	NSQ_FIELD(NSQ_SETTLE_TIMEOUT, settle_timeout),
	NSQ_FIELD(NSQ_SETTLE_SIZE, settle_size),
};

/* An error leaves @cfg half changed: parse into a copy. */
int nsq_config_parse(struct nsq_config *cfg, const struct nsq_field *field,
		     const char *text)
{
	int err;

	err = field->parse(cfg, text);
	if (err)
		return err;
	/* All queues of the netns must have 16-bit numbers. */
	if (!cfg->queue_count ||
	    cfg->queue_num + cfg->queue_count > U16_MAX + 1)
		return -EINVAL;
	return 0;
}
