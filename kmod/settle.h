/* SPDX-License-Identifier: GPL-2.0 */
#ifndef NSQ_SETTLE_H
#define NSQ_SETTLE_H

struct nf_hook_state;
struct sk_buff;

unsigned int nsq_settle_hook(void *priv, struct sk_buff *skb,
			     const struct nf_hook_state *state);

#endif
