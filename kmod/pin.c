// SPDX-License-Identifier: GPL-2.0
/*
 * Keeps the module loaded while a netns is armed without bypass: unloading
 * would let packets pass that no program has inspected.
 */

#include <linux/errno.h>
#include <linux/lockdep.h>
#include <linux/module.h>
#include <linux/mutex.h>

#include "pin.h"

static DEFINE_MUTEX(nsq_pin_lock);
static unsigned int nsq_pins; /* netns that are armed without bypass */
static bool nsq_pin_bypassed; /* in all of them, by the parameter */
static bool nsq_pinned; /* holds a reference to the module */

/* Returns -EBUSY if the module is already being unloaded; nothing changed. */
static int nsq_pin_update(unsigned int pins, bool bypassed)
{
	bool wanted = pins && !bypassed;

	lockdep_assert_held(&nsq_pin_lock);
	if (wanted && !nsq_pinned && !try_module_get(THIS_MODULE))
		return -EBUSY;
	if (!wanted && nsq_pinned)
		module_put(THIS_MODULE);
	nsq_pins = pins;
	nsq_pin_bypassed = bypassed;
	nsq_pinned = wanted;
	return 0;
}

/* One more netns is armed without bypass. */
int nsq_pin(void)
{
	int err;

	mutex_lock(&nsq_pin_lock);
	err = nsq_pin_update(nsq_pins + 1, nsq_pin_bypassed);
	mutex_unlock(&nsq_pin_lock);
	return err;
}

void nsq_unpin(void)
{
	mutex_lock(&nsq_pin_lock);
	nsq_pin_update(nsq_pins - 1, nsq_pin_bypassed);
	mutex_unlock(&nsq_pin_lock);
}

int nsq_pin_bypass(bool on)
{
	int err;

	mutex_lock(&nsq_pin_lock);
	err = nsq_pin_update(nsq_pins, on);
	mutex_unlock(&nsq_pin_lock);
	return err;
}
