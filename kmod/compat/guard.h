/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A packet in a queue remembers the number of its hook. When hooks go, the
 * kernel drops what waits. Kernels that export nf_reinject() do so when the
 * hooks are already gone, and warn if a packet has a number that no hook has any
 * more. (Others drop it in silence.) So on these, guards come to stand behind
 * all hooks that can queue, as many as there are hooks to go: every number stays
 * one of a hook's. When no packet can have an old number any more, they go too:
 *
 *	nsq_guard_add(), unregister hooks, a grace period, nsq_guard_flush(),
 *	nsq_guard_barrier(), nsq_guard_remove()
 *
 * One grace period and one barrier are enough for many netns.
 */
#ifndef NSQ_GUARD_H
#define NSQ_GUARD_H

#include <linux/types.h>

#include "compat/have.h"

struct net;

#ifdef HAVE_NF_REINJECT
bool nsq_guard_add(struct net *net);
void nsq_guard_flush(struct net *net);
void nsq_guard_barrier(void);
void nsq_guard_remove(struct net *net);
#else
/* Says whether there are guards, for which the other calls are to be made. */
static inline bool nsq_guard_add(struct net *net)
{
	return false;
}

static inline void nsq_guard_flush(struct net *net)
{
}

static inline void nsq_guard_barrier(void)
{
}

static inline void nsq_guard_remove(struct net *net)
{
}
#endif

#endif
