/* SPDX-License-Identifier: GPL-2.0 */
/*
 * All differences between the supported kernels are in this directory. probe.sh
 * finds out what a kernel has by compiling, never by the version number: stable
 * and distribution kernels carry later interfaces under an old number.
 */
#ifndef NSQ_COMPAT_H
#define NSQ_COMPAT_H

#include <linux/kconfig.h>
#include <linux/sysctl.h>
#include <net/net_namespace.h>

#include "compat/have.h"

#if !IS_ENABLED(CONFIG_PROC_FS) || !IS_ENABLED(CONFIG_SYSCTL)
#error "nsqueue needs a kernel with CONFIG_PROC_FS and CONFIG_SYSCTL"
#endif

#ifdef HAVE_CONST_CTL_TABLE
#define nsq_ctl_const const
#else
#define nsq_ctl_const
#endif

/* @table has an empty entry behind its @n, for kernels that expect one. */
static inline struct ctl_table_header *
nsq_register_sysctl(struct net *net, const char *path, struct ctl_table *table,
		    size_t n)
{
#ifdef HAVE_REGISTER_NET_SYSCTL_SZ
	return register_net_sysctl_sz(net, path, table, n);
#else
	return register_net_sysctl(net, path, table);
#endif
}

#endif
