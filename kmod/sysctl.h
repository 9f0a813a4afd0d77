/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_SYSCTL_H
#define NSQ_SYSCTL_H

struct nsq_net;

int nsq_sysctl_init(struct nsq_net *nn);
void nsq_sysctl_clean(struct nsq_net *nn);

#endif
