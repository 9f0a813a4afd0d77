/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_PARAMS_H
#define NSQ_PARAMS_H

#include <linux/compiler.h>

#include "config.h"

enum nsq_default_enabled {
	NSQ_ARM_NONE,
	NSQ_ARM_PODS,
	NSQ_ARM_EVERY,
};

/* What a new netns starts with; written only while the module loads. */
extern struct nsq_config nsq_defaults;
extern u32 nsq_default_enabled;
extern u32 nsq_queue_bypass;
extern u32 nsq_settle_total;

/* Read for each packet: a write works at once, in every netns. */
static inline bool nsq_bypass(const struct nsq_config *cfg)
{
	return cfg->bypass || READ_ONCE(nsq_queue_bypass);
}

#endif
