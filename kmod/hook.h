/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_HOOK_H
#define NSQ_HOOK_H

struct net;

int nsq_hooks_register(struct net *net);
void nsq_hooks_unregister(struct net *net);

#endif
