/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_PROC_H
#define NSQ_PROC_H

struct nsq_net;

int nsq_proc_init(struct nsq_net *nn);
void nsq_proc_clean(struct nsq_net *nn);

#endif
