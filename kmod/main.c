// SPDX-License-Identifier: GPL-2.0
/* nsqueue: sends the packets of chosen network namespaces to their NFQUEUE. */

#include <linux/init.h>
#include <linux/module.h>

#include "flows.h"
#include "netns.h"

static int __init nsq_init(void)
{
	int err;

	err = nsq_flows_setup();
	if (err)
		return err;
	err = nsq_netns_setup();
	if (err) {
		nsq_flows_teardown();
		return err;
	}
	pr_info("version " NSQ_VERSION " loaded\n");
	return 0;
}

static void __exit nsq_exit(void)
{
	nsq_netns_teardown();
	nsq_flows_teardown();
	pr_info("unloaded\n");
}

module_init(nsq_init);
module_exit(nsq_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("NFQUEUE inspection for network namespaces");
MODULE_AUTHOR("The nsqueue authors");
MODULE_VERSION(NSQ_VERSION);
