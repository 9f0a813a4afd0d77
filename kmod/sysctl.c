// SPDX-License-Identifier: GPL-2.0
/* /proc/sys/net/nsqueue of each netns. */

#include <linux/capability.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysctl.h>

#include "arm.h"
#include "compat/compat.h"
#include "state.h"
#include "sysctl.h"

/* A write is one whole value: no offset, no NUL inside, one newline at most. */
static int nsq_sysctl_write(nsq_ctl_const struct ctl_table *table, char *text,
			    size_t len, loff_t pos)
{
	/*
	 * The mode of the file cannot express this: root of the user namespace
	 * that owns the netns, and CAP_NET_ADMIN in the netns, count as its
	 * owner.
	 */
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (pos || strlen(text) != len || len >= NSQ_TEXT_SIZE)
		return -EINVAL;
	if (len && text[len - 1] == '\n')
		text[len - 1] = '\0';
	return nsq_net_set(table->data, table->extra1, text);
}

static void nsq_sysctl_format(nsq_ctl_const struct ctl_table *table, char *text)
{
	const struct nsq_field *field = table->extra1;
	struct nsq_net *nn = table->data;

	rcu_read_lock();
	field->format(rcu_dereference(nn->config), text);
	rcu_read_unlock();
}

static int nsq_sysctl_read(nsq_ctl_const struct ctl_table *table, char *buffer,
			   size_t *len, loff_t *pos)
{
	struct ctl_table shown = { .maxlen = NSQ_TEXT_SIZE };
	int err;

	shown.data = kzalloc(NSQ_TEXT_SIZE, GFP_KERNEL);
	if (!shown.data)
		return -ENOMEM;
	nsq_sysctl_format(table, shown.data);
	err = proc_dostring(&shown, 0, buffer, len, pos);
	kfree(shown.data);
	return err;
}

static int nsq_sysctl(nsq_ctl_const struct ctl_table *table, int write,
		      void *buffer, size_t *len, loff_t *pos)
{
	int err;

	if (!write)
		return nsq_sysctl_read(table, buffer, len, pos);
	err = nsq_sysctl_write(table, buffer, *len, *pos);
	if (!err)
		*pos += *len;
	return err;
}

int nsq_sysctl_init(struct nsq_net *nn)
{
	struct ctl_table *table;
	int i;

	/* One more entry: older kernels expect an empty one at the end. */
	table = kcalloc(NSQ_FIELDS + 1, sizeof(*table), GFP_KERNEL_ACCOUNT);
	if (!table)
		return -ENOMEM;
	for (i = 0; i < NSQ_FIELDS; i++) {
		table[i].procname = nsq_fields[i].name;
		table[i].mode = 0644;
		table[i].proc_handler = nsq_sysctl;
		table[i].data = nn;
		table[i].extra1 = (void *)&nsq_fields[i];
	}
	nn->sysctl_header =
		nsq_register_sysctl(nn->net, "net/nsqueue", table, NSQ_FIELDS);
	if (!nn->sysctl_header) {
		kfree(table);
		return -ENOMEM;
	}
	nn->sysctl = table;
	return 0;
}

/* Waits for running handlers; a file that is still open then gives ENOENT. */
void nsq_sysctl_clean(struct nsq_net *nn)
{
	if (!nn->sysctl_header)
		return;
	unregister_net_sysctl_table(nn->sysctl_header);
	nn->sysctl_header = NULL;
	kfree(nn->sysctl);
}
