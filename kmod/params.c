// SPDX-License-Identifier: GPL-2.0
/* Module parameters. queue_bypass and settle_total can be changed, others not. */

#include <linux/bitmap.h>
#include <linux/capability.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>

#include "params.h"
#include "pin.h"

struct nsq_config nsq_defaults = {
	.directions = NSQ_ANYWHERE,
	.queue_num = 80,
	.queue_count = 1,
	.settle_timeout = 60 * 1000,
	.settle_size = 1 << 16,
	.protocols = { [0 ... BITS_TO_LONGS(NSQ_PROTOCOLS) - 1] = ~0UL },
};

u32 nsq_default_enabled;
u32 nsq_queue_bypass;
u32 nsq_settle_total = 1 << 20;

static int nsq_set_field(const char *text, const struct kernel_param *kp)
{
	const struct nsq_field *field = kp->arg;
	struct nsq_config cfg = nsq_defaults;
	int err;

	err = nsq_config_parse(&cfg, field, text);
	if (err)
		pr_err("parameter %s: bad value \"%s\"\n", field->name, text);
	else
		nsq_defaults = cfg;
	return err;
}

static int nsq_get_field(char *text, const struct kernel_param *kp)
{
	const struct nsq_field *field = kp->arg;
	int len;

	len = field->format(&nsq_defaults, text);
	text[len++] = '\n';
	return len;
}

static int nsq_set_default_enabled(const char *text,
				   const struct kernel_param *kp)
{
	int err;

	err = nsq_parse_number(text, NSQ_ARM_EVERY, kp->arg);
	if (err)
		pr_err("parameter default_enabled: bad value \"%s\"\n", text);
	return err;
}

/*
 * Called at load too, hence CAP_SYS_MODULE. The mode of the file is not enough:
 * root in a container without a user namespace is uid 0 of the host.
 */
static int nsq_parse_live(const char *text, const char *name, u32 max,
			  u32 *number)
{
	char word[12];
	int err;

	if (!capable(CAP_SYS_MODULE) && !capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (strscpy(word, text, sizeof(word)) < 0)
		word[0] = '\0';
	err = nsq_parse_number(strim(word), max, number);
	if (err)
		pr_err_ratelimited("parameter %s: bad value \"%.*s\"\n", name,
				   (int)strcspn(text, "\n"), text);
	return err;
}

static int nsq_set_queue_bypass(const char *text, const struct kernel_param *kp)
{
	u32 on;
	int err;

	err = nsq_parse_live(text, "queue_bypass", 1, &on);
	if (err)
		return err;
	err = nsq_pin_bypass(on);
	if (!err)
		WRITE_ONCE(nsq_queue_bypass, on);
	return err;
}

static int nsq_set_settle_total(const char *text, const struct kernel_param *kp)
{
	u32 total;
	int err;

	err = nsq_parse_live(text, "settle_total", NSQ_SETTLE_TOTAL_MAX,
			     &total);
	if (!err)
		WRITE_ONCE(nsq_settle_total, total);
	return err;
}

static int nsq_get_number(char *text, const struct kernel_param *kp)
{
	return sysfs_emit(text, "%u\n", READ_ONCE(*(u32 *)kp->arg));
}

static const struct kernel_param_ops nsq_field_ops = {
	.set = nsq_set_field,
	.get = nsq_get_field,
};

static const struct kernel_param_ops nsq_default_enabled_ops = {
	.set = nsq_set_default_enabled,
	.get = nsq_get_number,
};

static const struct kernel_param_ops nsq_queue_bypass_ops = {
	.set = nsq_set_queue_bypass,
	.get = nsq_get_number,
};

static const struct kernel_param_ops nsq_settle_total_ops = {
	.set = nsq_set_settle_total,
	.get = nsq_get_number,
};

#define NSQ_FIELD_PARAM(name, id) \
	module_param_cb(name, &nsq_field_ops, (void *)&nsq_fields[id], 0444)

NSQ_FIELD_PARAM(queue_num, NSQ_QUEUE_NUM);
MODULE_PARM_DESC(queue_num, "first queue number of a new netns (80)");
NSQ_FIELD_PARAM(protocols, NSQ_PROTOCOL_LIST);
MODULE_PARM_DESC(protocols, "protocols of a new netns, names or numbers (all)");
NSQ_FIELD_PARAM(directions, NSQ_DIRECTIONS);
MODULE_PARM_DESC(directions,
		 "directions of a new netns, of in,out,forward (all)");
module_param_cb(default_enabled, &nsq_default_enabled_ops, &nsq_default_enabled,
		0444);
MODULE_PARM_DESC(
	default_enabled,
	"arm from the start: 0 none, 1 every netns but the initial, 2 all");
module_param_cb(queue_bypass, &nsq_queue_bypass_ops, &nsq_queue_bypass, 0644);
MODULE_PARM_DESC(
	queue_bypass,
	"1: packets of queues without a reader pass, in every netns (0)");
module_param_cb(settle_total, &nsq_settle_total_ops, &nsq_settle_total, 0644);
MODULE_PARM_DESC(
	settle_total,
	"how many flows can be settled in all netns together (1048576)");
