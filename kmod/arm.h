/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_ARM_H
#define NSQ_ARM_H

struct nsq_field;
struct nsq_net;

int nsq_net_set(struct nsq_net *nn, const struct nsq_field *field,
		const char *text);
void nsq_net_retire(struct nsq_net *nn);
void nsq_net_unhook(struct nsq_net *nn);

#endif
