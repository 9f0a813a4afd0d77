#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# probe.sh KDIR OUT: compiles one tiny file for each question against the
# kernel in KDIR and writes the answers to OUT as "#define HAVE_...".
#
# A probe may fail for one reason only: the kernel lacks what it names. What the
# compiler says about it is for people, so no answer depends on its words:
#   - the control file must compile, or there is no answer at all;
#   - a required probe must compile, or the kernel is not supported;
#   - for each other question there is a file for either answer, and exactly
#     one of the two must compile.
# Everything else ends the build, with the compiler's words.
set -eu

kdir=$1
out=$2
dir=$(mktemp -d "${TMPDIR:-/tmp}/nsqueue-probe.XXXXXX")
trap 'rm -rf "$dir"' EXIT

die() {
	echo "probe.sh: $*" >&2
	[ ! -s "$dir/log" ] || sed 's/^/    /' "$dir/log" >&2
	exit 1
}

# file NAME: the program of a probe comes from standard input.
file() {
	cat >"$dir/$1.c"
	echo "obj-m += $1.o" >>"$dir/Kbuild"
}

compiles() {
	[ -e "$dir/$1.o" ]
}

# required NAME THING
required() {
	compiles "$1" || die "this kernel has no $2: not supported"
}

# choice YES NO DEFINE THING: YES compiles where DEFINE is to be set, else NO.
choice() {
	if compiles "$1" && compiles "$2"; then
		die "both forms of $4 compile: the probe says nothing"
	elif compiles "$1"; then
		echo "#define $3 1"
	elif ! compiles "$2"; then
		die "this kernel has no known form of $4: not supported"
	fi
}

file control <<'END'
#include <linux/module.h>
#include <linux/sysctl.h>
#include <net/net_namespace.h>
MODULE_LICENSE("GPL");
END

file hooks <<'END'
#include <linux/netfilter.h>
static unsigned int hook(void *priv, struct sk_buff *skb,
			 const struct nf_hook_state *state)
{
	return NF_ACCEPT;
}
static const struct nf_hook_ops ops[1] = { { .hook = hook } };
int use(struct net *net);
int use(struct net *net)
{
	return nf_register_net_hooks(net, ops, 1);
}
END

file defrag <<'END'
#include <net/net_namespace.h>
#include <net/netfilter/ipv4/nf_defrag_ipv4.h>
#include <net/netfilter/ipv6/nf_defrag_ipv6.h>
#if !IS_ENABLED(CONFIG_NF_DEFRAG_IPV4) || !IS_ENABLED(CONFIG_NF_DEFRAG_IPV6)
#error "no defragmentation"
#endif
int use(struct net *net);
int use(struct net *net)
{
	return nf_defrag_ipv4_enable(net) + nf_defrag_ipv6_enable(net);
}
END

file defrag_end <<'END'
#include <net/net_namespace.h>
#include <net/netfilter/ipv4/nf_defrag_ipv4.h>
#include <net/netfilter/ipv6/nf_defrag_ipv6.h>
void use(struct net *net);
void use(struct net *net)
{
	nf_defrag_ipv4_disable(net);
	nf_defrag_ipv6_disable(net);
}
END

file pre_exit <<'END'
#include <net/net_namespace.h>
static void pre_exit(struct net *net)
{
}
struct pernet_operations ops;
struct pernet_operations ops = { .pre_exit = pre_exit };
END

file ctl_const <<'END'
#include <linux/sysctl.h>
static int handler(const struct ctl_table *table, int write, void *buffer,
		   size_t *len, loff_t *pos)
{
	return 0;
}
struct ctl_table table;
struct ctl_table table = { .proc_handler = handler };
END

file ctl_plain <<'END'
#include <linux/sysctl.h>
static int handler(struct ctl_table *table, int write, void *buffer,
		   size_t *len, loff_t *pos)
{
	return 0;
}
struct ctl_table table;
struct ctl_table table = { .proc_handler = handler };
END

file sysctl_sz <<'END'
#include <net/net_namespace.h>
void *use(struct net *net, struct ctl_table *table);
void *use(struct net *net, struct ctl_table *table)
{
	return register_net_sysctl_sz(net, "net/probe", table, 1);
}
END

# A name that the kernel declares cannot be declared as something else.
file sysctl_no_sz <<'END'
#include <net/net_namespace.h>
extern int register_net_sysctl_sz;
void *use(struct net *net, struct ctl_table *table);
void *use(struct net *net, struct ctl_table *table)
{
	return register_net_sysctl(net, "net/probe", table);
}
END

file reinject <<'END'
#include <linux/netfilter.h>
#include <net/netfilter/nf_queue.h>
void use(struct nf_queue_entry *entry);
void use(struct nf_queue_entry *entry)
{
	nf_reinject(entry, NF_DROP);
}
END

file no_reinject <<'END'
#include <linux/netfilter.h>
#include <net/netfilter/nf_queue.h>
extern int nf_reinject;
END

# shellcheck disable=SC2046 # one word for each object
LC_ALL=C make -k -C "$kdir" M="$dir" \
	$(sed 's/^obj-m += //' "$dir/Kbuild") >"$dir/log" 2>&1 || :

compiles control ||
	die "the compiler does not work against $kdir, so nothing can be probed"
required hooks nf_register_net_hooks
required defrag nf_defrag_ipv4_enable/nf_defrag_ipv6_enable
required defrag_end nf_defrag_ipv4_disable/nf_defrag_ipv6_disable
required pre_exit pernet_operations.pre_exit
{
	echo "/* Made by probe.sh. */"
	choice ctl_const ctl_plain HAVE_CONST_CTL_TABLE ctl_table.proc_handler
	choice sysctl_sz sysctl_no_sz HAVE_REGISTER_NET_SYSCTL_SZ register_net_sysctl
	choice reinject no_reinject HAVE_NF_REINJECT nf_reinject
} >"$dir/have"
# Unchanged answers keep their date, and what was built stays built.
cmp -s "$dir/have" "$out" || cp "$dir/have" "$out"
