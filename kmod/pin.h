/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_PIN_H
#define NSQ_PIN_H

#include <linux/types.h>

int nsq_pin(void);
void nsq_unpin(void);
int nsq_pin_bypass(bool on);

#endif
